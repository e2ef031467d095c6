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
    "check_forward",
    "forward_made",
    "new_empty",
    "new_pooled",
    "project",
    "recurrent_backward",
    "recurrent_forward",
    "saved_width",
]

_TYPES = {torch.float32: "float32", torch.float64: "float64", torch.bfloat16: "bfloat16"}
_POOLED_BYTES = 1 << 20


def new_pooled(like: Tensor, *shape: int) -> Tensor:
    """An uninitialised tensor; a large one on the extension's pool of memory, which need not be faulted in again."""
    made = _large(like, *shape)
    return like.new_empty(shape) if made is None else made


def _large(like: Tensor, *shape: int) -> Tensor | None:
    """A large uninitialised tensor on the pool; None for a small one."""
    if math.prod(shape) * like.element_size() < _POOLED_BYTES or like.dtype not in _TYPES:
        return None
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


def _call(
    function: Callable[[tuple, tuple, tuple], None],
    cell: str,
    dtype: str,
    h_0: Tensor,
    units: int,
    batch_sizes: Tensor,
    values: int,
    parameters: Sequence[Tensor | None],
    numbers: Sequence[float],
    arrays: Sequence[Tensor | None],
) -> None:
    """Calls the extension with the fields of the structs Layout, Parameters and Forward or Backward, tensors as the
    addresses of contiguous ones, 0 for what is absent.
    """
    if batch_sizes.dtype != torch.int64 or batch_sizes.dim() != 1 or not batch_sizes.is_cpu:
        raise TypeError(
            "expected batch_sizes of int64 and one dimension on the CPU; "
            f"found {batch_sizes.dtype}, {batch_sizes.dim()} dimensions and {batch_sizes.device}"
        )
    # These are kept alive until the call is done.
    tensors = [None if t is None else t.contiguous() for t in (batch_sizes, *parameters, *arrays)]
    sizes, *addresses = [0 if t is None else t.data_ptr() for t in tensors]
    directions, rows, states = h_0.shape
    of_parameters = len(parameters)
    function(
        (cell, dtype, sizes, batch_sizes.shape[0], values, directions, rows, units, states, torch.get_num_threads()),
        (*addresses[:of_parameters], *numbers),
        tuple(addresses[of_parameters:]),
    )


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


def check_forward(
    cell: str,
    gates: Tensor,
    weight_hh: Sequence[Tensor],
    scale_hh: Tensor | None,
    weight_hr: Tensor | None,
    scale_hr: Tensor | None,
    bias_ih: Sequence[Tensor],
    bias_hh: Sequence[Tensor],
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
) -> None:
    """Raise a TypeError where the arguments of :func:`recurrent_forward` do not fit together."""
    values, directions = gates.shape[0], h_0.shape[0]
    rows, states = h_0.shape[1:]
    units = gates.shape[2] // GATES[cell]
    if norm_ih is not None and norm_hh is None:
        raise TypeError("expected norm_ih together with norm_hh alone")
    quantized = weight_hh[0].dtype == torch.int8
    _check(gates.dtype, {"gates": (gates, (values, directions, GATES[cell] * units))})
    if (cell == "lstm") != (c_0 is not None) or quantized != (scale_hh is not None):
        raise TypeError("expected c_0 with an LSTM and scales with int8 weights, and neither without")
    if quantized and (training or (weight_hr is None) != (scale_hr is None)):
        raise TypeError("expected int8 weights in inference only, each matrix with its scales")
    for name, biases in (("bias_ih", bias_ih), ("bias_hh", bias_hh)):
        if len(biases) not in (0, directions):
            raise TypeError(f"expected one {name} a direction, {directions}, or none; found {len(biases)}")
        for bias in biases:
            _check(_real(gates.dtype), {name: (bias, (GATES[cell] * units,))})
    _check_parameters(
        *(cell, gates.dtype, h_0, units, values),
        weight_hh=weight_hh,
        weight_hr=weight_hr,
        rest={
            "scale_hh": (scale_hh, (directions, GATES[cell] * units)),
            "scale_hr": (scale_hr, (directions, states)),
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


def recurrent_forward(
    cell: str,
    gates: Tensor,
    weight_hh: Sequence[Tensor],
    scale_hh: Tensor | None,
    weight_hr: Tensor | None,
    scale_hr: Tensor | None,
    bias_ih: Sequence[Tensor],
    bias_hh: Sequence[Tensor],
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
) -> tuple[Tensor | None, ...]:
    """A recurrence over projected gates: output, h_n, c_n, and what its backward pass needs (struct Forward).

    The arguments are checked already, by :func:`check_forward` or :func:`tidegate.kernels.checks.check_recurrence`:
    once more would take as long as a small kernel.
    """
    made = forward_made(new_pooled, cell, gates, h_0, c_0, norm_ih, norm_hh, zoneout_h, numbers, training)
    dtype = "int8" if scale_hh is not None else _TYPES[gates.dtype]
    parameters = (
        *(*_both(weight_hh), scale_hh, weight_hr, scale_hr, *_both(bias_ih), *_both(bias_hh)),
        *(peephole, norm_ih, norm_hh, norm_c, dropout_mask, zoneout_h, zoneout_c),
    )
    values, _, width = gates.shape
    forward = native.extension().forward
    arrays = (gates, h_0, c_0, *made)
    _call(forward, cell, dtype, h_0, width // GATES[cell], batch_sizes, values, parameters, numbers, arrays)
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
) -> tuple[Tensor | None, ...]:
    """The uninitialised results of :func:`recurrent_forward`, made by `empty`; None for what is not wanted."""
    values, directions, width = gates.shape
    # A plain RNN's new state is its output, unless zoneout stands between them.
    is_plain = GATES[cell] == 1 and zoneout_h is None and numbers[0] == 0
    normalizes = training and norm_hh is not None
    saved = saved_width(cell) * (width // GATES[cell])
    return (
        empty(gates, values, directions * h_0.shape[2]),
        empty(h_0, *h_0.shape),
        None if c_0 is None else empty(h_0, *c_0.shape),
        empty(gates, values, directions, saved) if training and not is_plain else None,
        empty(gates, values, directions, width) if normalizes else None,
        empty(h_0, values, directions, 2) if normalizes else None,
        empty(h_0, values, directions, 2) if normalizes and norm_ih is not None else None,
    )


def recurrent_backward(
    cell: str,
    grad_output: Tensor,
    grad_h_n: Tensor,
    grad_c_n: Tensor | None,
    saved: Tensor | None,
    normalized: Tensor | None,
    deviation: Tensor | None,
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
) -> tuple[Tensor | None, ...]:
    """The gradients of gates, states and small parameters (struct Backward of kernels.h)."""
    directions, rows, states = h_0.shape
    values = output.shape[0]
    width = weight_hh[0].shape[0]
    units = width // GATES[cell]
    stored = output.dtype
    # The registered op says of what is absent that it is empty.
    saved, normalized, deviation, input_moments, gates = (
        None if tensor is None or not tensor.numel() else tensor
        for tensor in (saved, normalized, deviation, input_moments, gates)
    )
    _check(
        stored,
        {
            "saved": (saved, (values, directions, saved_width(cell) * units)),
            "output": (output, (values, directions * states)),
            "grad_output": (grad_output, output.shape),
            "normalized": (normalized, (values, directions, width)),
            "gates": (gates, (values, directions, width)),
        },
    )
    if norm_ih is not None and norm_hh is None:
        raise TypeError("expected norm_ih together with norm_hh alone")
    if values and saved is None and GATES[cell] > 1:
        raise TypeError("expected what the forward pass saved in training; found nothing")
    if values and norm_hh is not None and (normalized is None or deviation is None):
        raise TypeError("expected what the layer norm of the forward pass saved in training; found nothing")
    if values and norm_ih is not None and (input_moments is None or gates is None):
        raise TypeError("expected with norm_ih the gates and their moments; found one missing")
    _check_parameters(
        *(cell, stored, h_0, units, values),
        weight_hh=weight_hh,
        weight_hr=weight_hr,
        rest={
            "grad_h_n": (grad_h_n, h_0.shape),
            "grad_c_n": (grad_c_n, (directions, rows, units)),
            "deviation": (deviation, (values, directions, 2)),
            "input_moments": (input_moments, (values, directions, 2)),
            "peephole": (peephole, (directions, 3, units)),
            "norm_ih": (norm_ih, (directions, width)),
            "norm_hh": (norm_hh, (directions, width)),
            "norm_c": (norm_c, (directions, 2, units)),
            "h_0": (h_0, h_0.shape),
            "c_0": (c_0, (directions, rows, units)),
            "dropout_mask": (dropout_mask, h_0.shape),
        },
        masks={"zoneout_h": (zoneout_h, states), "zoneout_c": (zoneout_c, units)},
    )
    made = backward_made(new_pooled, cell, output, weight_hh, weight_hr, peephole, norm_ih, norm_hh, norm_c, h_0, c_0)
    grad_gates, previous, grad_product, grad_inputs, grad_projected, before_projection, *of_rows = made
    parameters = (
        *(*_both(weight_hh), None, weight_hr, None, *_both(()), *_both(())),
        *(peephole, norm_ih, norm_hh, norm_c, dropout_mask, zoneout_h, zoneout_c),
    )
    arrays = (
        *(grad_output, grad_h_n, grad_c_n, saved, normalized, deviation, input_moments, gates, output, h_0, c_0),
        *(grad_gates, grad_product, grad_inputs, grad_projected, previous, before_projection, *of_rows),
    )
    backward = native.extension().backward
    _call(backward, cell, _TYPES[stored], h_0, units, batch_sizes, values, parameters, numbers, arrays)
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
) -> tuple[Tensor | None, ...]:
    """The uninitialised results of :func:`recurrent_backward`, made by `empty`; None for what is not wanted."""
    directions, rows, states = h_0.shape
    values = output.shape[0]
    width = weight_hh[0].shape[0]
    units = width // GATES[cell]
    return (
        empty(output, values, directions, _gradient_width(cell) * units),
        empty(output, values, directions, states),
        None if norm_hh is None else empty(output, values, directions, width),
        None if norm_ih is None else empty(output, values, directions, width),
        None if weight_hr is None else empty(output, values, directions, states),
        None if weight_hr is None else empty(output, values, directions, units),
        empty(h_0, *h_0.shape),
        None if c_0 is None else empty(h_0, directions, rows, units),
        None if peephole is None else empty(h_0, directions, rows, 3, units),
        None if norm_ih is None else empty(h_0, directions, rows, width),
        None if norm_hh is None else empty(h_0, directions, rows, width),
        None if norm_c is None else empty(h_0, directions, rows, 2, units),
    )


def _both(directions: Sequence[Tensor]) -> tuple[Tensor | None, Tensor | None]:
    """Two, None where there is no direction."""
    return directions[0] if directions else None, directions[1] if len(directions) == 2 else None


def project(x: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """``x @ weight.T`` for each weight side by side, products of PyTorch's, on memory of the pool."""
    if torch.is_grad_enabled():
        # An exported program may call this with gradients enabled, which `out` forbids.
        with torch.no_grad():
            return project(x, weights)
    if len(weights) == 1:
        weight = weights[0]
        return rows_times(x, weight.t(), out=_large(x, x.shape[0], weight.shape[0]))
    widths = [weight.shape[0] for weight in weights]
    made = new_pooled(x, x.shape[0], sum(widths))
    for weight, part in zip(weights, made.split(widths, dim=1), strict=True):
        rows_times(x, weight.t(), out=part)
    return made
