r"""The recurrences of the minimal gated layers over ragged rows, gates and all.

.. math:: h_t = k_t \odot h_{t-1} + (1 - k_t) \odot c_t

with the share k that is kept and the candidate c of the projected inputs alone. On a CPU one kernel computes gates and
states in one pass, and keeps nothing but the states for the backward pass; elsewhere PyTorch computes the gates and
:func:`tidegate.kernels.scan.linear_scan` the states, in parallel over time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from tidegate.kernels import scan_reference
from tidegate.kernels.fakes import fake_rule
from tidegate.kernels.ragged import Ragged
from tidegate.kernels.scan import at_least_float32, choose_backend, linear_scan
from tidegate.kernels.scan_ops import check_arrays, run_native
from tidegate.native import extension

__all__ = ["CELLS", "gates", "minimal_recurrence"]

# The number of gates of each, the candidate among them: z c; f i c.
CELLS = {"min_gru": 2, "min_lstm": 3}


def gates(projected: Tensor, cell: str, positive: bool) -> tuple[Tensor, Tensor]:
    """The logit of the share k that is kept, and the candidate, ``[N, H]`` each, of ``projected [N, G*H]``."""
    *first, candidate = projected.chunk(CELLS[cell], dim=-1)
    if positive:
        candidate = torch.where(candidate >= 0, candidate + 0.5, candidate.sigmoid())
    if cell == "min_gru":
        return -first[0], candidate
    # f / (f + i) = sigmoid(log f - log i), without a quotient of two that underflow. (The derivative of logsigmoid does
    # not compile where sizes depend on the data.)
    return softplus(-first[1], threshold=40) - softplus(-first[0], threshold=40), candidate


def minimal_recurrence(
    projected: Tensor,
    h_0: Tensor,
    ragged: Ragged,
    cell: str,
    *,
    positive: bool = False,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """All states of a minimal layer in one direction, differentiable twice.

    Half types are computed in float32 and rounded at the end.

    Args:
        projected: ``[N, G*H]``, the gates' inputs: z and c of a ``"min_gru"``, f, i and c of a ``"min_lstm"``.
        h_0: ``[B, H]``, initial states, rows in the layout's sorted order.
        ragged: The layout of the N values.
        cell: ``"min_gru"``, k = 1 - sigmoid(z), or ``"min_lstm"``, k = sigmoid(f) / (sigmoid(f) + sigmoid(i)).
        positive: Whether the candidate is ``c + 1/2`` where c is at least zero and ``sigmoid(c)`` else, and not c.
        backend: ``"native"``, ``"parallel"`` or ``"reference"``; None chooses as for :func:`linear_scan`.

    Returns:
        ``[N, H]``, the state after each step, and ``[B, H]``, the last state of each row, in sorted order.

    Raises:
        ValueError: Shapes, types or devices do not fit together, or a name is unknown.
    """
    if cell not in CELLS:
        raise ValueError(f"unknown cell {cell!r}; expected one of {', '.join(CELLS)}")
    features = h_0.shape[-1]
    expected = (ragged.num_values, CELLS[cell] * features)
    if projected.shape != expected or h_0.shape != (ragged.num_rows, features):
        raise ValueError(
            f"expected projected {expected} and h_0 ({ragged.num_rows}, H), as the layout; "
            f"found {tuple(projected.shape)} and {tuple(h_0.shape)}"
        )
    wide, state = at_least_float32(projected), at_least_float32(h_0)
    backend = choose_backend(projected.device.type) if backend is None else backend
    if backend == "native" and projected.device.type in ("cpu", "meta"):
        if wide.dtype != state.dtype or projected.device != h_0.device:
            raise ValueError(
                f"expected h_0 of {projected.dtype} on {projected.device}, as projected; "
                f"found {h_0.dtype} on {h_0.device}"
            )
        made = _native_steps(wide, state, ragged.batch_sizes, cell, positive)
    else:
        kept, candidate = gates(wide, cell, positive)
        made = linear_scan(kept.sigmoid(), (-kept).sigmoid() * candidate, state, ragged, backend=backend)
    output, h_n = made
    return output.to(projected.dtype), h_n.to(projected.dtype)


def _native_steps(
    projected: Tensor, h_0: Tensor, batch_sizes: Tensor, cell: str, positive: bool
) -> tuple[Tensor, Tensor]:
    if torch.is_grad_enabled() and (projected.requires_grad or h_0.requires_grad):
        return _Minimal.apply(projected, h_0, batch_sizes, cell, positive)  # pyright: ignore[reportReturnType]
    return torch.ops.tidegate.minimal_forward(projected, h_0, batch_sizes, cell, positive)


def _reference_steps(
    projected: Tensor, h_0: Tensor, batch_sizes: Tensor, cell: str, positive: bool
) -> tuple[Tensor, Tensor]:
    kept, candidate = gates(projected, cell, positive)
    return scan_reference.steps(kept.sigmoid(), (-kept).sigmoid() * candidate, h_0, batch_sizes, False)


class _Minimal(torch.autograd.Function):
    """``projected, h_0 -> h, h_n``."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        projected: Tensor, h_0: Tensor, batch_sizes: Tensor, cell: str, positive: bool
    ) -> tuple[Tensor, Tensor]:
        return torch.ops.tidegate.minimal_forward(projected, h_0, batch_sizes, cell, positive)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
        projected, h_0, batch_sizes, ctx.cell, ctx.positive = inputs
        ctx.save_for_backward(projected, output[0], h_0, batch_sizes)

    @staticmethod
    def backward(ctx: Any, grad_h: Tensor, grad_h_n: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        # Only a backward pass that is differentiated again needs the second Function. Dynamo binds a Function inside a
        # backward wrongly, and nobody differentiates a compiled backward again.
        again = torch.is_grad_enabled() and not torch.compiler.is_compiling()
        gradients: Any = _MinimalBackward.apply if again else _MinimalBackward.forward
        grads = gradients(grad_h, grad_h_n, *ctx.saved_tensors, ctx.cell, ctx.positive)
        return *grads, None, None, None


class _MinimalBackward(torch.autograd.Function):
    """All gradients of :class:`_Minimal`; its own backward differentiates the reference."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        grad_h: Tensor,
        grad_h_n: Tensor,
        projected: Tensor,
        h: Tensor,
        h_0: Tensor,
        batch_sizes: Tensor,
        cell: str,
        positive: bool,
    ) -> tuple[Tensor, Tensor]:
        return torch.ops.tidegate.minimal_backward(grad_h, grad_h_n, projected, h, h_0, batch_sizes, cell, positive)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
        grad_h, grad_h_n, projected, _, h_0, batch_sizes, ctx.cell, ctx.positive = inputs
        ctx.save_for_backward(grad_h, grad_h_n, projected, h_0, batch_sizes)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        batch_sizes = ctx.saved_tensors[4]
        with torch.enable_grad():
            grad_h, grad_h_n, projected, h_0 = (t.detach().requires_grad_() for t in ctx.saved_tensors[:4])
            results = _reference_steps(projected, h_0, batch_sizes, ctx.cell, ctx.positive)
            options: dict[str, Any] = {"allow_unused": True, "materialize_grads": True}
            first = torch.autograd.grad(results, (projected, h_0), (grad_h, grad_h_n), create_graph=True, **options)
            # Without a value nothing depends on the projected inputs.
            used = [(one, grad) for one, grad in zip(first, grads, strict=True) if one.requires_grad]
            outputs, wanted = zip(*used, strict=True)
            of_h, of_h_n, of_projected, of_h_0 = torch.autograd.grad(
                outputs, (grad_h, grad_h_n, projected, h_0), wanted, **options
            )
        return of_h, of_h_n, of_projected, None, of_h_0, None, None, None


def _contiguous_like(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)


def _forward_made(projected: Tensor, h_0: Tensor) -> tuple[Tensor, Tensor]:
    return projected.new_empty(projected.shape[0], h_0.shape[1]), _contiguous_like(h_0)


def _backward_made(projected: Tensor, h_0: Tensor) -> tuple[Tensor, Tensor]:
    return _contiguous_like(projected), _contiguous_like(h_0)


def _layout(projected: Tensor, h_0: Tensor, batch_sizes: Tensor, cell: str, positive: bool) -> tuple[Any, ...]:
    rows, units = h_0.shape
    values = projected.shape[0]
    check_arrays({"projected": (projected, (values, CELLS[cell] * units))}, h_0.dtype, batch_sizes)
    return (
        *(h_0.dtype == torch.float64, batch_sizes.data_ptr(), batch_sizes.shape[0], values, rows, units),
        *(torch.get_num_threads(), cell == "min_lstm", positive),
    )


def _forward(projected: Tensor, h_0: Tensor, batch_sizes: Tensor, cell: str, positive: bool) -> tuple[Tensor, Tensor]:
    layout = _layout(projected, h_0, batch_sizes, cell, positive)
    h, h_n = _forward_made(projected, h_0)
    run_native(extension().minimal_forward, layout, projected, h_0, h, h_n)
    return h, h_n


def _backward(
    grad_h: Tensor,
    grad_h_n: Tensor,
    projected: Tensor,
    h: Tensor,
    h_0: Tensor,
    batch_sizes: Tensor,
    cell: str,
    positive: bool,
) -> tuple[Tensor, Tensor]:
    layout = _layout(projected, h_0, batch_sizes, cell, positive)
    states = (projected.shape[0], h_0.shape[1])
    check_arrays(
        {"grad_h": (grad_h, states), "h": (h, states), "grad_h_n": (grad_h_n, h_0.shape)}, h_0.dtype, batch_sizes
    )
    grad_projected, grad_h_0 = _backward_made(projected, h_0)
    run_native(extension().minimal_backward, layout, grad_h, grad_h_n, projected, h, h_0, grad_projected, grad_h_0)
    return grad_projected, grad_h_0


def _vmap_rule(name: str, gated: tuple[bool, ...]) -> Any:
    """Units do not see each other, so the mapped dimension is folded into them, within each gate."""

    def rule(info: Any, in_dims: tuple, *args: Any) -> tuple[Any, Any]:
        size, (batch_sizes, cell, positive) = info.batch_size, args[-3:]
        if in_dims[-3] is not None:
            raise ValueError("vmap over lengths is not supported; map over inputs and states")

        def fold(tensor: Tensor, dim: int | None, blocks: int) -> Tensor:
            mapped = tensor.unsqueeze(0).expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
            return mapped.unflatten(-1, (blocks, -1)).movedim(0, -2).flatten(-3)

        blocks = [CELLS[cell] if is_gated else 1 for is_gated in gated]
        folded = [fold(*each) for each in zip(args[:-3], in_dims, blocks, strict=False)]
        made = getattr(torch.ops.tidegate, name)(*folded, batch_sizes, cell, positive)
        # The first result of the backward pass is of the gates.
        of_made = [CELLS[cell] if name == "minimal_backward" else 1, 1]
        unfolded = tuple(
            t.unflatten(-1, (count, size, -1)).movedim(-2, 0).flatten(-2)
            for t, count in zip(made, of_made, strict=True)
        )
        return unfolded, (0, 0)

    return rule


_REST = "Tensor h_0, Tensor batch_sizes, str cell, bool positive) -> (Tensor, Tensor)"
_library = torch.library.Library("tidegate", "FRAGMENT")
_library.define(f"minimal_forward(Tensor projected, {_REST}")
_library.define(f"minimal_backward(Tensor grad_h, Tensor grad_h_n, Tensor projected, Tensor h, {_REST}")
for _name, _impl, _made, _gated in (
    ("minimal_forward", _forward, _forward_made, (True, False)),
    ("minimal_backward", _backward, _backward_made, (False, False, True, False, False)),
):
    _library.impl(_name, _impl, "CPU")
    torch.library.register_fake(f"tidegate::{_name}", fake_rule(_impl, _made), lib=_library)
    torch.library.register_vmap(f"tidegate::{_name}", _vmap_rule(_name, _gated), lib=_library)
