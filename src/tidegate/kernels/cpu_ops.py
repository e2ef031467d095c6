"""Calls of the native kernels: tensors become addresses, after one check of what lies behind them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from tidegate import native
from tidegate.kernels.products import rows_times
from tidegate.kernels.reference import GATES

__all__ = [
    "backward_made",
    "forward_made",
    "new_empty",
    "project",
    "recurrent_backward",
    "recurrent_forward",
    "saved_width",
]

_TYPES = {torch.float32: "float32", torch.float64: "float64", torch.bfloat16: "bfloat16"}
_POOLED_BYTES = 1 << 20


def _empty(like: Tensor, *shape: int) -> Tensor:
    """An uninitialised tensor; a large one on the extension's pool of memory, which need not be faulted in again."""
    if math.prod(shape) * like.element_size() < _POOLED_BYTES or like.dtype not in _TYPES:
        return like.new_empty(shape)
    return native.extension().pooled(shape, _TYPES[like.dtype])


def new_empty(like: Tensor, *shape: int) -> Tensor:
    """An uninitialised tensor, whatever memory it is on; fake where `like` is."""
    return like.new_empty(shape)


def saved_width(cell: str) -> int:
    """What the forward pass keeps of a unit at each step: see ``saved`` of struct Forward in csrc/kernels.h."""
    return {"lstm": 5, "gru": 4, "gru_reset_before": 3}.get(cell, 1)


def _gradient_width(cell: str) -> int:
    """Gradients of a unit's gates: the GRU's n has two where the reset gate stands after the product."""
    return 4 if cell == "gru" else GATES[cell]


def _real(dtype: torch.dtype) -> torch.dtype:
    """The type of states and small parameters beside values of `dtype`."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _check(dtype: torch.dtype, tensors: Mapping[str, tuple[Tensor | None, Sequence[int]]]) -> None:
    """The kernels read addresses: a tensor of another type or shape would have them read what is not there."""
    for name, (tensor, shape) in tensors.items():
        if tensor is None:
            continue
        if tensor.dtype != dtype or tensor.shape != tuple(shape):
            raise TypeError(
                f"expected {name} of {dtype} and shape {tuple(shape)}; found {tensor.dtype} and {tuple(tensor.shape)}"
            )


class _Arguments:
    """Contiguous tensors kept alive, their addresses handed out; 0 for what is absent."""

    def __init__(self) -> None:
        self._kept: list[Tensor] = []

    def address(self, tensor: Tensor | None) -> int:
        if tensor is None:
            return 0
        tensor = tensor.contiguous()
        self._kept.append(tensor)
        return tensor.data_ptr()

    def layout(self, cell: str, dtype: str, batch_sizes: Tensor, values: int, h_0: Tensor, units: int) -> tuple:
        """The fields of struct Layout."""
        directions, rows, states = h_0.shape
        if batch_sizes.dtype != torch.int64 or batch_sizes.dim() != 1:
            raise TypeError(f"expected batch_sizes of int64 and one dimension; found {batch_sizes.dtype}")
        return (
            *(cell, dtype, self.address(batch_sizes), batch_sizes.shape[0], values),
            *(directions, rows, units, states, torch.get_num_threads()),
        )

    def parameters(self, tensors: Sequence[Tensor | None], numbers: Sequence[float]) -> tuple:
        """The fields of struct Parameters."""
        return (*map(self.address, tensors), *numbers)


def _check_parameters(
    cell: str,
    stored: torch.dtype,
    h_0: Tensor,
    units: int,
    values: int,
    *,
    weight_hh: Sequence[Tensor],
    weight_hr: Tensor | None,
    rest: Mapping[str, tuple[Tensor | None, Sequence[int]]],
    masks: Mapping[str, tuple[Tensor | None, int]],
) -> None:
    if stored not in _TYPES:
        raise TypeError(f"expected tensors of float32, float64 or bfloat16; found {stored}")
    directions, _, states = h_0.shape
    if len(weight_hh) != directions:
        raise TypeError(f"expected one weight_hh a direction, {directions}; found {len(weight_hh)}")
    weights = torch.int8 if weight_hh[0].dtype == torch.int8 and stored == torch.float32 else stored
    for weight in weight_hh:
        _check(weights, {"weight_hh": (weight, (GATES[cell] * units, states))})
    _check(weights, {"weight_hr": (weight_hr, (directions, states, units))})
    if states != units and (cell != "lstm" or weight_hr is None or states > units):
        raise TypeError(f"expected as many states as units, or an LSTM's weight_hr for fewer; found {states}, {units}")
    _check(_real(stored), rest)
    for name, (mask, width) in masks.items():
        _check(torch.bool, {name: (mask, (values, directions * width))})


def recurrent_forward(
    cell: str,
    gates: Tensor,
    weight_hh: Sequence[Tensor],
    scale_hh: Tensor | None,
    weight_hr: Tensor | None,
    scale_hr: Tensor | None,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    peephole: Tensor | None,
    norm_ih: Tensor | None,
    norm_hh: Tensor | None,
    norm_c: Tensor | None,
    h_0: Tensor,
    c_0: Tensor | None,
    dropout_mask: Tensor | None,
    zoneout_h: Tensor | None,
    zoneout_c: Tensor | None,
    numbers: Sequence[float],
    batch_sizes: Tensor,
    training: bool,
) -> tuple[Tensor, ...]:
    """A recurrence over projected gates: output, h_n, c_n, and what its backward pass needs (struct Forward)."""
    made = forward_made(_empty, cell, gates, h_0, c_0, norm_ih, norm_hh, zoneout_h, numbers, training)
    output, h_n, *rest_made = made
    values, directions = gates.shape[:2]
    rows, states = h_0.shape[1:]
    units = gates.shape[2] // GATES[cell]
    if norm_ih is not None and norm_hh is None:
        raise TypeError("expected norm_ih together with norm_hh alone")
    quantized = weight_hh[0].dtype == torch.int8
    _check(gates.dtype, {"gates": (gates, (values, h_0.shape[0], GATES[cell] * units))})
    if (cell == "lstm") != (c_0 is not None) or quantized != (scale_hh is not None):
        raise TypeError("expected c_0 with an LSTM and scales with int8 weights, and neither without")
    if quantized and (training or (weight_hr is None) != (scale_hr is None)):
        raise TypeError("expected int8 weights in inference only, each matrix with its scales")
    _check_parameters(
        *(cell, gates.dtype, h_0, units, values),
        weight_hh=weight_hh,
        weight_hr=weight_hr,
        rest={
            "scale_hh": (scale_hh, (directions, GATES[cell] * units)),
            "scale_hr": (scale_hr, (directions, states)),
            "bias_ih": (bias_ih, (directions, GATES[cell] * units)),
            "bias_hh": (bias_hh, (directions, GATES[cell] * units)),
            "peephole": (peephole, (directions, 3, units)),
            "norm_ih": (norm_ih, (directions, GATES[cell] * units)),
            "norm_hh": (norm_hh, (directions, GATES[cell] * units)),
            "norm_c": (norm_c, (directions, 2, units)),
            "h_0": (h_0, (directions, rows, states)),
            "c_0": (c_0, (directions, rows, units)),
            "dropout_mask": (dropout_mask, (directions, rows, states)),
        },
        masks={"zoneout_h": (zoneout_h, states), "zoneout_c": (zoneout_c, units)},
    )
    a = _Arguments()
    tensors = (
        *_both(weight_hh),
        scale_hh,
        weight_hr,
        scale_hr,
        bias_ih,
        bias_hh,
        peephole,
        norm_ih,
        norm_hh,
        norm_c,
        dropout_mask,
    )
    native.extension().forward(
        a.layout(cell, "int8" if quantized else _TYPES[gates.dtype], batch_sizes, values, h_0, units),
        a.parameters((*tensors, zoneout_h, zoneout_c), numbers),
        (
            *map(a.address, (gates, h_0, c_0, output, h_n)),
            *(a.address(made) if made.numel() else 0 for made in rest_made),
        ),
    )
    return made


def forward_made(
    empty: Callable[..., Tensor],
    cell: str,
    gates: Tensor,
    h_0: Tensor,
    c_0: Tensor | None,
    norm_ih: Tensor | None,
    norm_hh: Tensor | None,
    zoneout_h: Tensor | None,
    numbers: Sequence[float],
    training: bool,
) -> tuple[Tensor, ...]:
    """The uninitialised results of :func:`recurrent_forward`, made by `empty`."""
    values, directions, width = gates.shape
    units = width // GATES[cell]
    # A plain RNN's new state is its output, unless zoneout stands between them.
    is_plain = cell.startswith("rnn") and zoneout_h is None and numbers[0] == 0
    saved = values if training and not is_plain else 0
    normalized = values if training and norm_hh is not None else 0
    return (
        empty(gates, values, directions * h_0.shape[2]),
        empty(h_0, *h_0.shape),
        empty(h_0, *((0,) if c_0 is None else c_0.shape)),
        empty(gates, saved, directions, saved_width(cell) * units),
        empty(gates, normalized, directions, width),
        empty(h_0, normalized, directions, 2),
        empty(h_0, 0 if norm_ih is None else normalized, directions, 2),
    )


def recurrent_backward(
    cell: str,
    grad_output: Tensor,
    grad_h_n: Tensor,
    grad_c_n: Tensor | None,
    saved: Tensor,
    normalized: Tensor,
    deviation: Tensor,
    input_moments: Tensor | None,
    gates: Tensor | None,
    output: Tensor,
    weight_hh: Sequence[Tensor],
    weight_hr: Tensor | None,
    peephole: Tensor | None,
    norm_ih: Tensor | None,
    norm_hh: Tensor | None,
    norm_c: Tensor | None,
    h_0: Tensor,
    c_0: Tensor | None,
    dropout_mask: Tensor | None,
    zoneout_h: Tensor | None,
    zoneout_c: Tensor | None,
    numbers: Sequence[float],
    batch_sizes: Tensor,
) -> tuple[Tensor, ...]:
    """The gradients of gates, states and small parameters (struct Backward of kernels.h)."""
    made = backward_made(_empty, cell, output, weight_hh, weight_hr, peephole, norm_ih, norm_hh, norm_c, h_0, c_0)
    directions, rows, states = h_0.shape
    values = output.shape[0]
    units = weight_hh[0].shape[0] // GATES[cell]
    stored = output.dtype
    saved_shape = (values, directions, saved_width(cell) * units)
    normal_shape = (values, directions, GATES[cell] * units)
    kept = {"saved": (saved if saved.numel() else None, saved_shape), "output": (output, (values, directions * states))}
    kept |= {"grad_output": (grad_output, output.shape)}
    if norm_hh is not None:
        kept["normalized"] = (normalized, normal_shape)
    if norm_ih is not None:
        if norm_hh is None or gates is None or input_moments is None:
            raise TypeError("expected with norm_ih the gates, their moments and norm_hh; found one missing")
        kept["gates"] = (gates, normal_shape)
    _check(stored, kept)
    if values and not saved.numel() and not cell.startswith("rnn"):
        raise TypeError("expected what the forward pass saved in training; found nothing")
    _check_parameters(
        *(cell, stored, h_0, units, values),
        weight_hh=weight_hh,
        weight_hr=weight_hr,
        rest={
            "grad_h_n": (grad_h_n, h_0.shape),
            "grad_c_n": (grad_c_n, (directions, rows, units)),
            "deviation": (None if norm_hh is None else deviation, (values, directions, 2)),
            "input_moments": (None if norm_ih is None else input_moments, (values, directions, 2)),
            "peephole": (peephole, (directions, 3, units)),
            "norm_ih": (norm_ih, (directions, GATES[cell] * units)),
            "norm_hh": (norm_hh, (directions, GATES[cell] * units)),
            "norm_c": (norm_c, (directions, 2, units)),
            "h_0": (h_0, h_0.shape),
            "c_0": (c_0, (directions, rows, units)),
            "dropout_mask": (dropout_mask, h_0.shape),
        },
        masks={"zoneout_h": (zoneout_h, states), "zoneout_c": (zoneout_c, units)},
    )
    a = _Arguments()
    tensors = (
        *_both(weight_hh),
        None,
        weight_hr,
        None,
        None,
        None,
        peephole,
        norm_ih,
        norm_hh,
        norm_c,
        dropout_mask,
        zoneout_h,
        zoneout_c,
    )

    def present(tensor: Tensor | None) -> int:
        return a.address(tensor) if tensor is not None and tensor.numel() else 0

    grad_gates, previous, grad_product, grad_inputs, grad_projected, before_projection, grad_h_0, *rows_sums = made
    native.extension().backward(
        a.layout(cell, _TYPES[stored], batch_sizes, values, h_0, units),
        a.parameters(tensors, numbers),
        (
            *map(a.address, (grad_output, grad_h_n, grad_c_n)),
            *map(present, (saved, normalized, deviation, input_moments, gates)),
            *map(a.address, (output, h_0, c_0, grad_gates)),
            *map(present, (grad_product, grad_inputs, grad_projected)),
            a.address(previous),
            present(before_projection),
            a.address(grad_h_0),
            *map(present, rows_sums),
        ),
    )
    return made


def backward_made(
    empty: Callable[..., Tensor],
    cell: str,
    output: Tensor,
    weight_hh: Sequence[Tensor],
    weight_hr: Tensor | None,
    peephole: Tensor | None,
    norm_ih: Tensor | None,
    norm_hh: Tensor | None,
    norm_c: Tensor | None,
    h_0: Tensor,
    c_0: Tensor | None,
) -> tuple[Tensor, ...]:
    """The uninitialised results of :func:`recurrent_backward`, made by `empty`."""
    directions, rows, states = h_0.shape
    values = output.shape[0]
    width = weight_hh[0].shape[0]
    units = width // GATES[cell]
    projected = 0 if weight_hr is None else values
    return (
        empty(output, values, directions, _gradient_width(cell) * units),
        empty(output, values, directions, states),
        empty(output, 0 if norm_hh is None else values, directions, width),
        empty(output, 0 if norm_ih is None else values, directions, width),
        empty(output, projected, directions, states),
        empty(output, projected, directions, units),
        empty(h_0, *h_0.shape),
        empty(h_0, directions, 0 if c_0 is None else rows, units),
        empty(h_0, directions, 0 if peephole is None else rows, 3, units),
        empty(h_0, directions, 0 if norm_ih is None else rows, width),
        empty(h_0, directions, 0 if norm_hh is None else rows, width),
        empty(h_0, directions, 0 if norm_c is None else rows, 2, units),
    )


def _both(weights: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    return weights[0], weights[1] if len(weights) == 2 else None


def project(x: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """``x @ weight.T`` for each weight side by side, products of PyTorch's, on memory of the pool."""
    widths = [weight.shape[0] for weight in weights]
    made = _empty(x, x.shape[0], sum(widths))
    # An exported program may call this with gradients enabled, which `out` forbids.
    with torch.no_grad():
        if len(weights) == 1:
            return rows_times(x, weights[0].t(), out=made)
        for weight, part in zip(weights, made.split(widths, dim=1), strict=True):
            rows_times(x, weight.t(), out=part)
    return made
