"""Recurrences on a CPU: the native kernels, registered as ops of torch and joined to autograd.

Four floors: the native extension; the ops ``tidegate::gru_forward`` and ``gru_backward`` around it, with rules for fake
tensors and vmap; two autograd Functions that add the products PyTorch does best (input projection, weight gradients);
the public function.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tidegate import native
from tidegate.kernels import reference
from tidegate.kernels.ragged import Ragged
from tidegate.kernels.reference import Weights

__all__ = ["gru", "native_info", "refusal"]

_DTYPES = (torch.float32, torch.float64)


def refusal(device: str, dtype: torch.dtype) -> str | None:
    """Why the native kernels cannot serve, or None."""
    if device not in ("cpu", "meta"):
        return f"it runs on the CPU; the tensors are on {device}"
    if dtype not in _DTYPES:
        return f"it computes in float32 and float64; the tensors are of {dtype}"
    return None


def native_info() -> dict[str, Any]:
    """The extension's instruction set, those it could use here, and the threads it would take now."""
    return {
        "isa": native.extension().isa(),
        "available_isas": native.extension().available_isas(),
        "threads": torch.get_num_threads(),
    }


def gru(
    x: Tensor, weights: Sequence[Weights], h_0: Tensor, ragged: Ragged, *, reset_after: bool = True
) -> tuple[Tensor, Tensor]:
    """:func:`tidegate.kernels.gru` by the native kernel."""
    parameters = [tensor for direction in weights for tensor in direction]
    if torch.is_autocast_enabled("cpu"):
        # In float32 throughout: autocast would cast the products around the kernel, not the kernel.
        with torch.autocast("cpu", enabled=False):
            x, h_0 = x.to(weights[0].weight_hh.dtype), h_0.to(weights[0].weight_hh.dtype)
            return gru(x, weights, h_0, ragged, reset_after=reset_after)
    tensors = [x, h_0, *(tensor for tensor in parameters if tensor is not None)]
    training = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    output, h_n, _ = _Gru.apply(x, h_0, ragged.batch_sizes, ragged.previous_row, reset_after, training, *parameters)  # pyright: ignore[reportGeneralTypeIssues]
    return output, h_n


def _directions(parameters: Sequence[Tensor | None]) -> list[Weights]:
    return [Weights(*parameters[start : start + 4]) for start in range(0, len(parameters), 4)]  # pyright: ignore


def _project(x: Tensor, weights: Sequence[Weights], reset_after: bool) -> tuple[Tensor, Tensor | None]:
    """The gates of all directions ``[N, D, 3H]`` by one product, and the recurrent bias of n ``[D, H]``.

    Biases that only add up are added here: all but the recurrent bias of n, which the reset gate multiplies.
    """
    units = weights[0].weight_hh.shape[1]
    biases, biases_n = [], []
    for w in weights:
        if w.bias_ih is None or w.bias_hh is None:
            continue
        if reset_after:
            kept, bias_n = w.bias_hh.split([2 * units, units])
            biases.append(torch.cat([w.bias_ih[: 2 * units] + kept, w.bias_ih[2 * units :]]))
            biases_n.append(bias_n)
        else:
            biases.append(w.bias_ih + w.bias_hh)
    weight_ih = torch.cat([w.weight_ih for w in weights])
    gates = torch.nn.functional.linear(x, weight_ih, torch.cat(biases) if biases else None)
    return gates.unflatten(1, (len(weights), 3 * units)), torch.stack(biases_n) if biases_n else None


class _Gru(torch.autograd.Function):
    """``x, h_0, weights -> output, h_n`` and what the backward pass needs, empty in inference."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor,
        h_0: Tensor,
        batch_sizes: Tensor,
        previous_row: Tensor,
        reset_after: bool,
        training: bool,
        *parameters: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        weights = _directions(parameters)
        gates, bias_n = _project(x, weights, reset_after)
        weight_hh = torch.stack([w.weight_hh for w in weights])
        return torch.ops.tidegate.gru_forward(gates, weight_hh, bias_n, h_0, batch_sizes, reset_after, training)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor, Tensor]) -> None:
        x, h_0, batch_sizes, previous_row, reset_after, _, *parameters = inputs
        ctx.reset_after = reset_after
        hidden, _, saved = output
        ctx.mark_non_differentiable(saved)
        # The gradient of `saved` is never used, and zeros for it would be the largest tensor of the backward pass.
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, h_0, batch_sizes, previous_row, hidden, saved, *parameters)

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad_output: Tensor | None, grad_h_n: Tensor | None, _: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        x, h_0, batch_sizes, previous_row, output, saved, *parameters = ctx.saved_tensors
        grad_output = torch.zeros_like(output) if grad_output is None else grad_output
        grad_h_n = torch.zeros_like(h_0) if grad_h_n is None else grad_h_n
        # Dynamo binds a Function inside a backward wrongly, and nobody differentiates a compiled backward again.
        gradients = _GruBackward.forward if torch.compiler.is_compiling() else _GruBackward.apply
        with torch.autocast("cpu", enabled=False):
            grad_x, grad_h_0, *grads = gradients(
                grad_output, grad_h_n, x, h_0, batch_sizes, previous_row, output, saved, ctx.reset_after, *parameters
            )  # pyright: ignore[reportGeneralTypeIssues]
        grads = [None if parameter is None else grad for grad, parameter in zip(grads, parameters, strict=True)]
        return grad_x, grad_h_0, None, None, None, None, *grads


class _GruBackward(torch.autograd.Function):
    """All gradients of :class:`_Gru`; its own backward differentiates the reference."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        grad_output: Tensor,
        grad_h_n: Tensor,
        x: Tensor,
        h_0: Tensor,
        batch_sizes: Tensor,
        previous_row: Tensor,
        output: Tensor,
        saved: Tensor,
        reset_after: bool,
        *parameters: Tensor | None,
    ) -> tuple[Tensor, ...]:
        weights = _directions(parameters)
        weight_hh = torch.stack([w.weight_hh for w in weights])
        grad_gates, grad_h_0 = torch.ops.tidegate.gru_backward(
            grad_output, grad_h_n, saved, output, weight_hh, h_0, batch_sizes, reset_after
        )
        units = h_0.shape[-1]
        ones = x.new_ones(x.shape[0])
        grad_x = None
        grads: list[Tensor] = []
        for direction, w in enumerate(weights):
            # With the reset gate after the product: n (recurrent) r z n (input); before it: r z n for both.
            grad = grad_gates[:, direction]
            of_input = grad[:, units:] if reset_after else grad
            of_state = grad[:, : 3 * units]
            share = of_input @ w.weight_ih
            grad_x = share if grad_x is None else grad_x + share
            before = torch.cat([h_0[direction], output.unflatten(1, (len(weights), -1))[:, direction]])
            before = before.index_select(0, previous_row[direction])
            if reset_after:
                grad_weight_hh = (of_state.t() @ before).roll(-units, 0)
            else:
                reset = saved[:, direction, :units] * before
                grad_weight_hh = torch.cat(
                    [of_state[:, : 2 * units].t() @ before, of_state[:, 2 * units :].t() @ reset]
                )
            grads += [of_input.t() @ x, grad_weight_hh]
            if w.bias_ih is not None:
                sums = grad.t() @ ones
                grads += [
                    sums[-3 * units :],
                    torch.cat([sums[units : 3 * units], sums[:units]]) if reset_after else sums.clone(),
                ]
            else:
                grads += [x.new_empty(0), x.new_empty(0)]
        return grad_x, grad_h_0, *grads  # pyright: ignore[reportReturnType]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
        ctx.reset_after = inputs[8]
        ctx.save_for_backward(*inputs[:8], *inputs[9:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_output, grad_h_n, x, h_0, batch_sizes, _, _, _, *parameters = ctx.saved_tensors
        present = [i for i, parameter in enumerate(parameters) if parameter is not None]
        wanted = [*grads[:2], *(grads[2 + i] for i in present)]
        with torch.enable_grad():
            x, h_0, grad_output, grad_h_n = (t.detach().requires_grad_() for t in (x, h_0, grad_output, grad_h_n))
            parameters = [None if p is None else p.detach().requires_grad_() for p in parameters]
            leaves: list[Tensor] = [x, h_0, *(p for p in parameters if p is not None)]
            outputs = reference.gru_steps(x, _directions(parameters), h_0, batch_sizes, ctx.reset_after)
            first = torch.autograd.grad(outputs, leaves, [grad_output, grad_h_n], create_graph=True)
            second = torch.autograd.grad(
                first, [grad_output, grad_h_n, *leaves], wanted, allow_unused=True, materialize_grads=True
            )
        of_parameters: list[Tensor | None] = [None] * len(parameters)
        for i, gradient in zip(present, second[4:], strict=True):
            of_parameters[i] = gradient
        return *second[:4], None, None, None, None, None, *of_parameters


def _check_op(dtype: torch.dtype, **tensors: tuple[Tensor | None, Sequence[int]]) -> None:
    """The kernels read addresses: a tensor of another type or shape would have them read what is not there."""
    if dtype not in _DTYPES:
        raise TypeError(f"expected tensors of float32 or float64; found {dtype}")
    for name, (tensor, shape) in tensors.items():
        if tensor is not None and (tensor.dtype != dtype or tensor.shape != tuple(shape)):
            raise TypeError(
                f"expected {name} of {dtype} and shape {tuple(shape)}; found {tensor.dtype} and {tuple(tensor.shape)}"
            )


def _gru_forward(
    gates: Tensor,
    weight_hh: Tensor,
    bias_n: Tensor | None,
    h_0: Tensor,
    batch_sizes: Tensor,
    reset_after: bool,
    training: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    output, h_n, saved = _gru_forward_fake(gates, weight_hh, bias_n, h_0, batch_sizes, reset_after, training)
    directions, rows, units = h_0.shape
    _check_op(
        gates.dtype,
        gates=(gates, (gates.shape[0], directions, 3 * units)),
        weight_hh=(weight_hh, (directions, 3 * units, units)),
        bias_n=(bias_n, (directions, units)),
        h_0=(h_0, h_0.shape),
    )
    gates, weight_hh, h_0 = gates.contiguous(), weight_hh.contiguous(), h_0.contiguous()
    bias_n = None if bias_n is None else bias_n.contiguous()
    native.extension().gru_forward(
        gates.dtype == torch.float64,
        gates.data_ptr(),
        weight_hh.data_ptr(),
        0 if bias_n is None else bias_n.data_ptr(),
        h_0.data_ptr(),
        output.data_ptr(),
        h_n.data_ptr(),
        saved.data_ptr() if training else 0,
        batch_sizes.data_ptr(),
        batch_sizes.shape[0],
        gates.shape[0],
        directions,
        rows,
        units,
        reset_after,
        torch.get_num_threads(),
    )
    return output, h_n, saved


def _gru_forward_fake(
    gates: Tensor,
    weight_hh: Tensor,
    bias_n: Tensor | None,
    h_0: Tensor,
    batch_sizes: Tensor,
    reset_after: bool,
    training: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    directions, _, units = h_0.shape
    values = gates.shape[0]
    return (
        gates.new_empty(values, directions * units),
        gates.new_empty(h_0.shape),
        gates.new_empty(values if training else 0, directions, (4 if reset_after else 3) * units),
    )


def _gru_backward(
    grad_output: Tensor,
    grad_h_n: Tensor,
    saved: Tensor,
    output: Tensor,
    weight_hh: Tensor,
    h_0: Tensor,
    batch_sizes: Tensor,
    reset_after: bool,
) -> tuple[Tensor, Tensor]:
    grad_gates, grad_h_0 = _gru_backward_fake(
        grad_output, grad_h_n, saved, output, weight_hh, h_0, batch_sizes, reset_after
    )
    directions, rows, units = h_0.shape
    values = output.shape[0]
    _check_op(
        output.dtype,
        grad_output=(grad_output, output.shape),
        grad_h_n=(grad_h_n, h_0.shape),
        saved=(saved, (values, directions, (4 if reset_after else 3) * units)),
        output=(output, (values, directions * units)),
        weight_hh=(weight_hh, (directions, 3 * units, units)),
        h_0=(h_0, h_0.shape),
    )
    grad_output, grad_h_n, saved = grad_output.contiguous(), grad_h_n.contiguous(), saved.contiguous()
    output, weight_hh, h_0 = output.contiguous(), weight_hh.contiguous(), h_0.contiguous()
    native.extension().gru_backward(
        output.dtype == torch.float64,
        grad_output.data_ptr(),
        grad_h_n.data_ptr(),
        saved.data_ptr(),
        output.data_ptr(),
        weight_hh.data_ptr(),
        h_0.data_ptr(),
        grad_gates.data_ptr(),
        grad_h_0.data_ptr(),
        batch_sizes.data_ptr(),
        batch_sizes.shape[0],
        output.shape[0],
        directions,
        rows,
        units,
        reset_after,
        torch.get_num_threads(),
    )
    return grad_gates, grad_h_0


def _gru_backward_fake(
    grad_output: Tensor,
    grad_h_n: Tensor,
    saved: Tensor,
    output: Tensor,
    weight_hh: Tensor,
    h_0: Tensor,
    batch_sizes: Tensor,
    reset_after: bool,
) -> tuple[Tensor, Tensor]:
    return saved.new_empty(saved.shape), h_0.new_empty(h_0.shape)


def _fold(tensor: Tensor, vmap_dim: int | None, size: int, rows_dim: int) -> Tensor:
    """Fold the mapped dimension into the rows, behind them, so that the rows alive stay a prefix."""
    if vmap_dim is None:
        mapped = tensor.unsqueeze(rows_dim + 1)
        mapped = mapped.expand(*mapped.shape[: rows_dim + 1], size, *mapped.shape[rows_dim + 2 :])
    else:
        mapped = tensor.movedim(vmap_dim, rows_dim + 1)
    return mapped.flatten(rows_dim, rows_dim + 1)


def _refuse_mapped(**dims: int | None) -> None:
    mapped = [name for name, dim in dims.items() if dim is not None]
    if mapped:
        raise ValueError(f"vmap over {' and '.join(mapped)} is not supported; map over inputs and states")


def _gru_forward_vmap(info: Any, in_dims: tuple, *args: Any) -> tuple[Any, Any]:
    gates, weight_hh, bias_n, h_0, batch_sizes, reset_after, training = args
    _refuse_mapped(weights=in_dims[1], biases=in_dims[2], lengths=in_dims[4])
    size = info.batch_size
    output, h_n, saved = torch.ops.tidegate.gru_forward(
        _fold(gates, in_dims[0], size, 0),
        weight_hh,
        bias_n,
        _fold(h_0, in_dims[3], size, 1),
        batch_sizes * size,
        reset_after,
        training,
    )
    return tuple(t.unflatten(dim, (-1, size)) for t, dim in ((output, 0), (h_n, 1), (saved, 0))), (1, 2, 1)


def _gru_backward_vmap(info: Any, in_dims: tuple, *args: Any) -> tuple[Any, Any]:
    weight_hh, batch_sizes, reset_after = args[4], args[6], args[7]
    _refuse_mapped(weights=in_dims[4], lengths=in_dims[6])
    size = info.batch_size
    grad_output, grad_h_n, saved, output, h_0 = (
        _fold(args[i], in_dims[i], size, rows_dim) for i, rows_dim in ((0, 0), (1, 1), (2, 0), (3, 0), (5, 1))
    )
    grad_gates, grad_h_0 = torch.ops.tidegate.gru_backward(
        grad_output, grad_h_n, saved, output, weight_hh, h_0, batch_sizes * size, reset_after
    )
    return (grad_gates.unflatten(0, (-1, size)), grad_h_0.unflatten(1, (-1, size))), (1, 2)


# library.define and impl have half the overhead of custom_op.
_library = torch.library.Library("tidegate", "FRAGMENT")
_library.define(
    "gru_forward(Tensor gates, Tensor weight_hh, Tensor? bias_n, Tensor h_0, Tensor batch_sizes, bool reset_after,"
    " bool training) -> (Tensor, Tensor, Tensor)"
)
_library.define(
    "gru_backward(Tensor grad_output, Tensor grad_h_n, Tensor saved, Tensor output, Tensor weight_hh, Tensor h_0,"
    " Tensor batch_sizes, bool reset_after) -> (Tensor, Tensor)"
)
for _name, _impl, _fake, _vmap in (
    ("gru_forward", _gru_forward, _gru_forward_fake, _gru_forward_vmap),
    ("gru_backward", _gru_backward, _gru_backward_fake, _gru_backward_vmap),
):
    _library.impl(_name, _impl, "CPU")
    torch.library.register_fake(f"tidegate::{_name}", _fake, lib=_library)
    torch.library.register_vmap(f"tidegate::{_name}", _vmap, lib=_library)
