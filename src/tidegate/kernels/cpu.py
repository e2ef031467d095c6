"""Recurrences on a CPU: the native kernels joined to autograd.

The ops of :mod:`tidegate.kernels.cpu_library` walk the steps. Around them stand the products that PyTorch does best:
the inputs' projection before, the gradients of inputs and weights after.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from tidegate import native
from tidegate.kernels import cpu_ops, reference
from tidegate.kernels.cpu_gradients import Gradients, of_weight
from tidegate.kernels.cpu_library import ops_for
from tidegate.kernels.products import rows_times
from tidegate.kernels.ragged import Ragged
from tidegate.kernels.reference import GATES, TRACED, Options, Weights

__all__ = ["join_directions", "native_info", "project_inputs", "recurrence", "refusal", "zoneout_parts"]

_DTYPES = (torch.float32, torch.float64, torch.bfloat16)


def refusal(cell: str, device: str, dtype: torch.dtype) -> str | None:
    """Why the native kernels cannot serve, or None: they have every cell and option."""
    if device not in ("cpu", "meta"):
        return f"it runs on the CPU; the tensors are on {device}"
    if cell not in GATES:
        return f"it has the cells {', '.join(GATES)}; asked for is {cell!r}"
    if dtype not in _DTYPES:
        return f"it computes in float32, float64 and bfloat16; the tensors are of {dtype}"
    return None


def native_info() -> dict[str, Any]:
    """The extension's instruction set, those it could use here, and the threads it would take now."""
    return {
        "isa": native.extension().isa(),
        "available_isas": native.extension().available_isas(),
        "threads": torch.get_num_threads(),
    }


def recurrence(
    cell: str,
    x: Tensor,
    weights: Sequence[Weights],
    h_0: Tensor,
    c_0: Tensor | None,
    ragged: Ragged,
    options: Options,
    return_gates: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """:func:`tidegate.kernels.recurrence` by the native kernels."""
    low = x.dtype == torch.bfloat16
    if torch.is_autocast_enabled("cpu") and x.dtype != torch.float64:
        low = torch.get_autocast_dtype("cpu") == torch.bfloat16
        with torch.autocast("cpu", enabled=False):
            return _recurrence(cell, x, weights, h_0, c_0, ragged, options, return_gates, low)
    return _recurrence(cell, x, weights, h_0, c_0, ragged, options, return_gates, low)


def _recurrence(
    cell: str,
    x: Tensor,
    weights: Sequence[Weights],
    h_0: Tensor,
    c_0: Tensor | None,
    ragged: Ragged,
    options: Options,
    return_gates: bool,
    low: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    mask = options.recurrent_dropout
    if low:
        # Matrices and values in bfloat16; states, and what is small, in float32.
        x = x.to(torch.bfloat16)
        weights = [_in_low_precision(w) for w in weights]
        h_0 = h_0.float()
        c_0 = None if c_0 is None else c_0.float()
        mask = None if mask is None else mask.float()
    zone_h, rate_h = zoneout_parts(options.zoneout_h)
    zone_c, rate_c = zoneout_parts(options.zoneout_c)
    given = (x, h_0, c_0, ragged.batch_sizes, mask, zone_h, zone_c)
    parameters = _parameters(weights) if torch.is_grad_enabled() else None
    if parameters is not None and any(t is not None and t.requires_grad for t in (x, h_0, c_0, *parameters)):
        run = _choose_function()
        output, h_n, c_n, saved, *_ = run(cell, True, rate_h, rate_c, options.eps, *given, *parameters)
    else:
        output, h_n, c_n, saved, *_ = _run(cell, return_gates, (rate_h, rate_c, options.eps), *given, weights)
    gates = None
    if return_gates:
        # A plain RNN saves nothing where its new state is its output.
        is_output = GATES[cell] == 1 and (saved is None or saved.dim() == 1)
        kept: Any = output.unflatten(1, (len(weights), -1)) if is_output else saved
        activated = kept.detach()
        units = activated.shape[-1] // cpu_ops.saved_width(cell)
        gates = activated[..., : TRACED[cell] * units].unflatten(-1, (TRACED[cell], units))
    if low:
        h_n, c_n = h_n.to(torch.bfloat16), None if c_n is None else c_n.to(torch.bfloat16)
    return output, h_n, None if c_0 is None else c_n, gates


def _in_low_precision(w: Weights) -> Weights:
    matrices = {"weight_ih", "weight_hh", "weight_hr"}
    types = {name: torch.bfloat16 if name in matrices else torch.float32 for name in Weights._fields}
    cast: dict[str, Any] = {name: None if t is None else t.to(types[name]) for name, t in w._asdict().items()}
    return Weights(**cast)


def zoneout_parts(zoneout: Tensor | float | None) -> tuple[Tensor | None, float]:
    """The mask of a zoneout, or its rate: the one None or the other 0."""
    return (zoneout, 0.0) if isinstance(zoneout, Tensor) else (None, float(zoneout or 0.0))


def _parameters(weights: Sequence[Weights]) -> list[Tensor | None]:
    """Those of all directions in a row: of plain weights the first four fields, which autograd then looks at alone."""
    count = 4 if all(w.is_plain for w in weights) else len(Weights._fields)
    return [tensor for w in weights for tensor in w[:count]]


def _directions(parameters: Sequence[Tensor | None], h_0: Tensor) -> list[Weights]:
    """The inverse of :func:`_parameters`."""
    size = len(parameters) // h_0.shape[0]
    return [Weights(*parameters[start : start + size]) for start in range(0, len(parameters), size)]  # pyright: ignore


def join_directions(weights: Sequence[Weights]) -> list[Any]:
    """Each parameter of all directions as the ops take it: the first four, which the kernels read where they are, as
    tuples, empty where there is none; the others stacked, ``[D, ...]``, or None.
    """
    joined = list(zip(*weights, strict=True))
    where_they_are = [() if of[0] is None else of for of in joined[:4]]
    return where_they_are + [None if of[0] is None else _stack(of) for of in joined[4:]]


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    """``torch.stack``, without a copy where there is one tensor."""
    return tensors[0].unsqueeze(0) if len(tensors) == 1 else torch.stack(tuple(tensors))


def project_inputs(ops: Any, x: Tensor, weights: Sequence[Weights]) -> Tensor:
    """``W_ih x [N, D, G*H]`` by `ops`, without biases and before the layer norm, if any."""
    gates = ops.project(x, [w.weight_ih for w in weights])
    return gates.view(x.shape[0], len(weights), weights[0].weight_ih.shape[0])


def _run(
    cell: str,
    keeps: bool,
    numbers: tuple[float, float, float],
    x: Tensor,
    h_0: Tensor,
    c_0: Tensor | None,
    batch_sizes: Tensor,
    mask: Tensor | None,
    zone_h: Tensor | None,
    zone_c: Tensor | None,
    weights: Sequence[Weights],
) -> tuple[Any, ...]:
    """``output, h_n, c_n`` and what a backward pass needs, where it is to be kept.

    What is absent is None, or empty where a transform wants tensors.
    """
    ops = ops_for(x)
    gates = project_inputs(ops, x, weights)
    _, weight_hh, bias_ih, bias_hh, weight_hr, *small = join_directions(weights)
    made = ops.recurrent_forward(
        *(cell, gates, weight_hh, None, weight_hr, None, bias_ih, bias_hh, *small),
        *(h_0, c_0, mask, zone_h, zone_c, numbers, batch_sizes, keeps),
    )
    # The layer norm of the inputs goes back through what it came from.
    if keeps and weights[0].norm_ih is not None:
        return *made, gates
    return *made, None if ops is cpu_ops else x.new_empty(0)


class _Recurrence(torch.autograd.Function):
    """``x, h_0, c_0, weights -> output, h_n, c_n`` and what the backward pass needs, empty in inference."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        cell: str,
        training: bool,
        rate_h: float,
        rate_c: float,
        eps: float,
        x: Tensor,
        h_0: Tensor,
        c_0: Tensor | None,
        batch_sizes: Tensor,
        mask: Tensor | None,
        zone_h: Tensor | None,
        zone_c: Tensor | None,
        *parameters: Tensor | None,
    ) -> tuple[Tensor, ...]:
        given = (x, h_0, c_0, batch_sizes, mask, zone_h, zone_c)
        return _run(cell, training, (rate_h, rate_c, eps), *given, _directions(parameters, h_0))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
        cell, _, rate_h, rate_c, eps, x, h_0, c_0, *rest = inputs
        ctx.cell, ctx.numbers = cell, (rate_h, rate_c, eps)
        hidden, _, c_n, *saved = output
        unused = [*saved, c_n] if c_0 is None else saved
        ctx.mark_non_differentiable(*(tensor for tensor in unused if tensor is not None))
        # Gradients of what was saved are never used, and zeros for them would be the largest of the backward pass.
        ctx.set_materialize_grads(False)
        ctx.wants_x = x.requires_grad
        ctx.save_for_backward(x, h_0, c_0, hidden, *saved, *rest)

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad_output: Tensor | None, grad_h_n: Tensor | None, grad_c_n: Tensor | None, *_: None
    ) -> tuple[Tensor | None, ...]:
        x, h_0, c_0, output, *rest = ctx.saved_tensors
        parameters = rest[9:]
        grad_output = torch.zeros_like(output) if grad_output is None else grad_output
        grad_h_n = torch.zeros_like(h_0) if grad_h_n is None else grad_h_n
        if c_0 is not None and grad_c_n is None:
            grad_c_n = torch.zeros_like(c_0)
        # Dynamo binds a Function inside a backward wrongly, and nobody differentiates a compiled backward again.
        again = torch.is_grad_enabled() and not torch.compiler.is_compiling()
        gradients = _RecurrenceBackward.apply if again else _RecurrenceBackward.forward
        given = (grad_output, grad_h_n, None if c_0 is None else grad_c_n, x, h_0, c_0, output, *rest)
        with torch.autocast("cpu", enabled=False) if torch.is_autocast_enabled("cpu") else nullcontext():
            grads: Any = gradients(ctx.cell, *ctx.numbers, ctx.wants_x, *given)
        leaves = (x if ctx.wants_x else None, h_0, c_0, *parameters)
        grads = [None if leaf is None else grad for grad, leaf in zip(grads, leaves, strict=True)]
        return *[None] * 5, *grads[:3], *[None] * 4, *grads[3:]


class _EagerRecurrence(torch.autograd.Function):
    """The same in the form that no transform understands, and that costs a tenth of a millisecond less a call."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
        made = _Recurrence.forward(*inputs)
        _Recurrence.setup_context(ctx, inputs, made)
        return made

    backward = _Recurrence.backward


def _choose_function() -> Callable[..., tuple[Any, ...]]:
    transformed = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    return _Recurrence.apply if transformed else _EagerRecurrence.apply  # pyright: ignore


class _RecurrenceBackward(torch.autograd.Function):
    """All gradients of :class:`_Recurrence`; its own backward differentiates the reference."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        cell: str,
        rate_h: float,
        rate_c: float,
        eps: float,
        wants_x: bool,
        grad_output: Tensor,
        grad_h_n: Tensor,
        grad_c_n: Tensor | None,
        x: Tensor,
        h_0: Tensor,
        c_0: Tensor | None,
        output: Tensor,
        saved: Any,
        normalized: Tensor | None,
        deviation: Tensor | None,
        input_moments: Tensor | None,
        gates: Tensor | None,
        batch_sizes: Tensor,
        mask: Tensor | None,
        zone_h: Tensor | None,
        zone_c: Tensor | None,
        *parameters: Tensor | None,
    ) -> tuple[Tensor | None, ...]:
        weights = _directions(parameters, h_0)
        ops = ops_for(grad_output)
        _, weight_hh, _, _, *others = join_directions(weights)
        grad_gates, previous, grad_product, grad_inputs, grad_projected, exposed, grad_h_0, grad_c_0, *of_small = (
            ops.recurrent_backward(
                *(cell, grad_output, grad_h_n, grad_c_n, saved, normalized, deviation, input_moments, gates, output),
                *(weight_hh, *others, h_0, c_0, mask, zone_h, zone_c, (rate_h, rate_c, eps), batch_sizes),
            )
        )
        of_peephole, of_norm_ih, of_norm_hh, of_norm_c = of_small
        grad_x: Any = None
        grads: list[Tensor | None] = []
        for d, w in enumerate(weights):
            gradients = Gradients(cell, grad_gates[:, d], w.weight_hh.shape[0])
            of_input = gradients.of_input if w.norm_ih is None else grad_inputs[:, d]
            if wants_x:
                share = ops.project(of_input, [w.weight_ih.t()]) if d == 0 else None
                grad_x = rows_times(of_input, w.weight_ih, added=grad_x) if share is None else share
            of_state = None if w.norm_hh is None else grad_product[:, d]
            made = {
                "weight_ih": of_weight(of_input, x),
                "weight_hh": gradients.of_weight_hh(of_state, previous[:, d], saved, d),
            }
            if w.bias_ih is not None:
                made["bias_ih"], made["bias_hh"] = gradients.of_biases(w.bias_ih.dtype)
            if w.weight_hr is not None:
                made["weight_hr"] = of_weight(grad_projected[:, d], exposed[:, d])
            if w.peephole is not None:
                made["peephole"] = of_peephole[d].sum(0)
            if w.norm_c is not None:
                made["norm_c"] = of_norm_c[d].sum(0)
            if w.norm_ih is not None:
                made["norm_ih"], made["norm_hh"] = of_norm_ih[d].sum(0), of_norm_hh[d].sum(0)
            grads += [made.get(name) for name in Weights._fields[: len(parameters) // len(weights)]]
        found = (grad_x, grad_h_0, None if c_0 is None else grad_c_0, *grads)
        return found if ops is cpu_ops else tuple(x.new_empty(0) if grad is None else grad for grad in found)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
        ctx.cell, *ctx.numbers, ctx.wants_x = inputs[:5]
        ctx.save_for_backward(*inputs[5:11], *inputs[17:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_output, grad_h_n, grad_c_n, x, h_0, c_0, batch_sizes, mask, zone_h, zone_c, *parameters = ctx.saved_tensors
        rate_h, rate_c, eps = ctx.numbers
        options = Options(mask, zone_h if zone_h is not None else rate_h, zone_c if zone_c is not None else rate_c, eps)
        with torch.enable_grad():
            sources = [_leaf(t) for t in (x, h_0, c_0, *parameters)]
            given = [_leaf(t) for t in (grad_output, grad_h_n, grad_c_n)]
            # In one type, which is wider than bfloat16.
            wide: list[Any] = [None if t is None else t.to(h_0.dtype) for t in sources]
            wide_x, wide_h_0, wide_c_0, *wide_parameters = wide
            outputs = reference.steps(
                ctx.cell, wide_x, _directions(wide_parameters, wide_h_0), wide_h_0, wide_c_0, batch_sizes, options
            )
            taken = [
                (out, of.to(out.dtype))
                for out, of in zip(outputs, given, strict=False)
                if out is not None and of is not None
            ]
            # Where x wants no gradient there is none of it to differentiate.
            at = [i for i, t in enumerate(sources) if t is not None and (i > 0 or ctx.wants_x)]
            first = torch.autograd.grad(
                [out for out, _ in taken],
                [leaf for i in at if (leaf := sources[i]) is not None],
                [of for _, of in taken],
                create_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            leaves = [t for t in (*given, *sources) if t is not None]
            second = iter(
                torch.autograd.grad(first, leaves, [grads[i] for i in at], allow_unused=True, materialize_grads=True)
            )
        found = [None if t is None else next(second) for t in (*given, *sources)]
        return *[None] * 5, *found[:6], *[None] * 10, *found[6:]


def _leaf(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().requires_grad_()
