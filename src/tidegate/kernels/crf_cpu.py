"""The conditional random field on a CPU: the native kernels, registered as ops of torch and joined to autograd.

The floors are those of ``cpu.py``: the extension; the ops ``tidegate::crf_*`` with rules for fake tensors and vmap; two
autograd Functions; the functions that ``crf.py`` calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tidegate import native
from tidegate.kernels import crf_reference
from tidegate.kernels.fakes import fake_rule

__all__ = ["best_paths", "k_best_paths", "likelihood_steps", "marginal_steps", "refusal"]

_DTYPES = (torch.float32, torch.float64)


def refusal(device: str, dtype: torch.dtype) -> str | None:
    """Why the native kernels cannot serve, or None."""
    if device not in ("cpu", "meta"):
        return f"it runs on the CPU; the tensors are on {device}"
    if dtype not in _DTYPES:
        return f"it computes in float32 and float64; the tensors are of {dtype}"
    return None


def likelihood_steps(
    emissions: Tensor,
    transitions: Tensor,
    start: Tensor,
    end: Tensor,
    tags: Tensor | None,
    batch_sizes: Tensor,
    rows: int,
) -> Tensor:
    """:func:`tidegate.kernels.crf_reference.likelihood_steps` by the native kernel."""
    tensors = (emissions, transitions, start, end)
    if not _differentiates(tensors):
        return torch.ops.tidegate.crf_forward(*tensors, tags, batch_sizes, rows, False)[0]
    transformed = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    function = _Crf if transformed else _EagerCrf
    value, _ = function.apply(*tensors, tags, batch_sizes, rows)  # pyright: ignore[reportGeneralTypeIssues]
    return value


def marginal_steps(
    emissions: Tensor, transitions: Tensor, start: Tensor, end: Tensor, batch_sizes: Tensor, rows: int
) -> Tensor:
    """:func:`tidegate.kernels.crf_reference.marginal_steps` by the native kernel."""
    tensors = (emissions, transitions, start, end)
    with torch.no_grad():
        value, saved = torch.ops.tidegate.crf_forward(*tensors, None, batch_sizes, rows, True)
    gradients = _CrfBackward.apply if _differentiates(tensors) else _CrfBackward.forward
    return gradients(torch.ones_like(value), *tensors, None, batch_sizes, value, saved)[0]  # pyright: ignore


def best_paths(
    emissions: Tensor, transitions: Tensor, start: Tensor, end: Tensor, batch_sizes: Tensor, rows: int
) -> tuple[Tensor, Tensor]:
    """:func:`tidegate.kernels.crf_reference.best_paths` by the native kernel."""
    return torch.ops.tidegate.crf_viterbi(emissions, transitions, start, end, batch_sizes, rows)


def k_best_paths(
    emissions: Tensor, transitions: Tensor, start: Tensor, end: Tensor, batch_sizes: Tensor, rows: int, k: int
) -> tuple[Tensor, Tensor]:
    """:func:`tidegate.kernels.crf_reference.k_best_paths` by the native kernel."""
    return torch.ops.tidegate.crf_k_best(emissions, transitions, start, end, batch_sizes, rows, k)


def _differentiates(tensors: Sequence[Tensor]) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


class _Crf(torch.autograd.Function):
    """``emissions, transitions, start, end -> value`` and what the backward pass needs."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        emissions: Tensor,
        transitions: Tensor,
        start: Tensor,
        end: Tensor,
        tags: Tensor | None,
        batch_sizes: Tensor,
        rows: int,
    ) -> tuple[Tensor, Tensor]:
        return torch.ops.tidegate.crf_forward(emissions, transitions, start, end, tags, batch_sizes, rows, True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
        value, saved = output
        ctx.mark_non_differentiable(saved)
        # The gradient of `saved` is never used, and zeros for it would be the largest tensor of the backward pass.
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[:6], value, saved)

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad_value: Tensor | None, _: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        if grad_value is None:
            return (None,) * 7
        # Only a backward pass that is differentiated again needs the second Function. Dynamo binds a Function inside a
        # backward wrongly, and nobody differentiates a compiled backward again.
        again = torch.is_grad_enabled() and not torch.compiler.is_compiling()
        gradients = _CrfBackward.apply if again else _CrfBackward.forward
        return *gradients(grad_value, *ctx.saved_tensors), None, None, None  # pyright: ignore[reportGeneralTypeIssues]


class _EagerCrf(torch.autograd.Function):
    """The same in the form that no transform understands, and that costs half the overhead of a call."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        made = _Crf.forward(*inputs)
        _Crf.setup_context(ctx, inputs, made)
        return made

    backward = _Crf.backward  # pyright: ignore[reportAssignmentType]


class _CrfBackward(torch.autograd.Function):
    """All gradients of :class:`_Crf`; its own backward differentiates the reference."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        grad_value: Tensor,
        emissions: Tensor,
        transitions: Tensor,
        start: Tensor,
        end: Tensor,
        tags: Tensor | None,
        batch_sizes: Tensor,
        value: Tensor,
        saved: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return torch.ops.tidegate.crf_backward(
            grad_value, emissions, transitions, start, end, tags, batch_sizes, value, saved
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs[:7])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        tags, batch_sizes = ctx.saved_tensors[5:]
        with torch.enable_grad():
            grad_value, emissions, transitions, start, end = (
                t.detach().requires_grad_() for t in ctx.saved_tensors[:5]
            )
            leaves = [emissions, transitions, start, end]
            value = crf_reference.likelihood_steps(
                emissions, transitions, start, end, tags, batch_sizes, grad_value.shape[0]
            )
            first = torch.autograd.grad(
                value, leaves, grad_value, create_graph=True, allow_unused=True, materialize_grads=True
            )
            # Where every row is empty nothing depends on anything.
            used = [(one, grad) for one, grad in zip(first, grads, strict=True) if one.requires_grad]
            if not used:
                return (None,) * 9
            outputs, wanted = zip(*used, strict=True)
            second = torch.autograd.grad(
                outputs, [grad_value, *leaves], wanted, allow_unused=True, materialize_grads=True
            )
        return *second, None, None, None, None


def _check_op(
    emissions: Tensor,
    transitions: Tensor,
    start: Tensor,
    end: Tensor,
    tags: Tensor | None,
    batch_sizes: Tensor,
    **more: tuple[Tensor, Sequence[int]],
) -> None:
    """The kernels read addresses: a tensor of another type or shape would have them read what is not there."""
    values, num_tags = emissions.shape
    if emissions.dtype not in _DTYPES:
        raise TypeError(f"expected tensors of float32 or float64; found {emissions.dtype}")
    checked: dict[str, tuple[Tensor, Sequence[int]]] = {
        "transitions": (transitions, (num_tags, num_tags)),
        "start": (start, (num_tags,)),
        "end": (end, (num_tags,)),
        **more,
    }
    for name, (tensor, shape) in checked.items():
        if tensor.dtype != emissions.dtype or tensor.shape != tuple(shape):
            raise TypeError(
                f"expected {name} of {emissions.dtype} and shape {tuple(shape)}; "
                f"found {tensor.dtype} and {tuple(tensor.shape)}"
            )
    if batch_sizes.dtype != torch.int64:
        raise TypeError(f"expected batch_sizes of int64; found {batch_sizes.dtype}")
    if tags is not None and (tags.dtype != torch.int64 or tags.shape != (values,)):
        raise TypeError(f"expected tags of int64 and shape ({values},); found {tags.dtype} and {tuple(tags.shape)}")


def _run(kernel: Callable[..., None], model: Sequence[Tensor], rows: int, *rest: Tensor | int | None) -> None:
    """Call a kernel with the addresses of the model's tensors and of the rest, None being no address."""
    emissions, transitions, start, end, batch_sizes = (tensor.contiguous() for tensor in model)
    # Copies that contiguous() makes live until the call is over.
    others = [one.contiguous() if isinstance(one, Tensor) else one for one in rest]
    kernel(
        emissions.dtype == torch.float64,
        emissions.data_ptr(),
        transitions.data_ptr(),
        start.data_ptr(),
        end.data_ptr(),
        batch_sizes.data_ptr(),
        batch_sizes.shape[0],
        emissions.shape[0],
        rows,
        emissions.shape[1],
        torch.get_num_threads(),
        *(one.data_ptr() if isinstance(one, Tensor) else one or 0 for one in others),
    )


def _forward(
    emissions: Tensor,
    transitions: Tensor,
    start: Tensor,
    end: Tensor,
    tags: Tensor | None,
    batch_sizes: Tensor,
    rows: int,
    training: bool,
) -> tuple[Tensor, Tensor]:
    _check_op(emissions, transitions, start, end, tags, batch_sizes)
    value, saved = _forward_made(emissions, rows, training)
    model = (emissions, transitions, start, end, batch_sizes)
    _run(native.extension().crf_forward, model, rows, tags, value, saved if training else None)
    return value, saved


def _forward_made(emissions: Tensor, rows: int, training: bool) -> tuple[Tensor, Tensor]:
    values, num_tags = emissions.shape
    return emissions.new_empty(rows), emissions.new_empty(values if training else 0, 2, num_tags)


def _backward(
    grad_value: Tensor,
    emissions: Tensor,
    transitions: Tensor,
    start: Tensor,
    end: Tensor,
    tags: Tensor | None,
    batch_sizes: Tensor,
    value: Tensor,
    saved: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _check_op(
        emissions,
        transitions,
        start,
        end,
        tags,
        batch_sizes,
        grad_value=(grad_value, value.shape),
        value=(value, value.shape),
        saved=(saved, (emissions.shape[0], 2, emissions.shape[1])),
    )
    grads = _backward_made(emissions, transitions, start, end)
    model = (emissions, transitions, start, end, batch_sizes)
    _run(native.extension().crf_backward, model, value.shape[0], tags, grad_value, value, saved, *grads)
    return grads


def _backward_made(
    emissions: Tensor, transitions: Tensor, start: Tensor, end: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    def contiguous_like(tensor: Tensor) -> Tensor:
        return torch.empty_like(tensor, memory_format=torch.contiguous_format)

    return contiguous_like(emissions), contiguous_like(transitions), contiguous_like(start), contiguous_like(end)


def _viterbi(
    emissions: Tensor, transitions: Tensor, start: Tensor, end: Tensor, batch_sizes: Tensor, rows: int
) -> tuple[Tensor, Tensor]:
    _check_op(emissions, transitions, start, end, None, batch_sizes)
    tags, scores = _viterbi_made(emissions, batch_sizes, rows)
    _run(native.extension().crf_viterbi, (emissions, transitions, start, end, batch_sizes), rows, tags, scores)
    return tags, scores


def _viterbi_made(emissions: Tensor, batch_sizes: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    return batch_sizes.new_empty(emissions.shape[0]), emissions.new_empty(rows)


def _k_best(
    emissions: Tensor, transitions: Tensor, start: Tensor, end: Tensor, batch_sizes: Tensor, rows: int, k: int
) -> tuple[Tensor, Tensor]:
    if k < 1:
        raise ValueError(f"expected k of at least 1; found {k}")
    _check_op(emissions, transitions, start, end, None, batch_sizes)
    tags, scores = _k_best_made(emissions, batch_sizes, rows, k)
    _run(native.extension().crf_k_best, (emissions, transitions, start, end, batch_sizes), rows, k, tags, scores)
    return tags, scores


def _k_best_made(emissions: Tensor, batch_sizes: Tensor, rows: int, k: int) -> tuple[Tensor, Tensor]:
    return batch_sizes.new_empty(emissions.shape[0], k), emissions.new_empty(rows, k)


def _one_by_one(op: Callable[..., tuple[Tensor, ...]], lengths_at: int) -> Callable[..., tuple[Any, Any]]:
    """A rule for vmap: one call a sample, so that each has gradients of its own for the parameters that it shares."""

    def rule(info: Any, in_dims: tuple, *args: Any) -> tuple[Any, Any]:
        if in_dims[lengths_at] is not None:
            raise ValueError("vmap over lengths is not supported; map over emissions, tags and parameters")
        samples = [
            op(*(arg if dim is None else arg.select(dim, i) for arg, dim in zip(args, in_dims, strict=True)))
            for i in range(info.batch_size)
        ]
        outputs = tuple(torch.stack(parts) for parts in zip(*samples, strict=True))
        return outputs, (0,) * len(outputs)

    return rule


_MODEL = "Tensor emissions, Tensor transitions, Tensor start, Tensor end"
_library = torch.library.Library("tidegate", "FRAGMENT")
_library.define(
    f"crf_forward({_MODEL}, Tensor? tags, Tensor batch_sizes, SymInt rows, bool training) -> (Tensor, Tensor)"
)
_library.define(
    f"crf_backward(Tensor grad_value, {_MODEL}, Tensor? tags, Tensor batch_sizes, Tensor value, Tensor saved)"
    " -> (Tensor, Tensor, Tensor, Tensor)"
)
_library.define(f"crf_viterbi({_MODEL}, Tensor batch_sizes, SymInt rows) -> (Tensor, Tensor)")
_library.define(f"crf_k_best({_MODEL}, Tensor batch_sizes, SymInt rows, int k) -> (Tensor, Tensor)")
for _name, _impl, _made, _lengths_at in (
    ("crf_forward", _forward, _forward_made, 5),
    ("crf_backward", _backward, _backward_made, 6),
    ("crf_viterbi", _viterbi, _viterbi_made, 4),
    ("crf_k_best", _k_best, _k_best_made, 4),
):
    _library.impl(_name, _impl, "CPU")
    torch.library.register_fake(f"tidegate::{_name}", fake_rule(_impl, _made), lib=_library)
    _rule = _one_by_one(getattr(torch.ops.tidegate, _name), _lengths_at)
    torch.library.register_vmap(f"tidegate::{_name}", _rule, lib=_library)
