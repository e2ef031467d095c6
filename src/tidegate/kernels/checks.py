"""What a recurrence is called with: every shape, type and device, once, before any backend reads an address."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tidegate.kernels.ragged import Ragged
from tidegate.kernels.reference import CELLS, GATES, PLAIN, Options, Weights

__all__ = ["check_recurrence", "extras_in_use"]


def check_recurrence(
    cell: str,
    x: Tensor,
    weights: Sequence[Weights],
    h_0: Tensor,
    c_0: Tensor | None,
    ragged: Ragged,
    options: Options,
) -> None:
    """Raise a ValueError that says what does not fit."""
    if cell not in GATES:
        raise ValueError(f"unknown cell {cell!r}; expected one of {', '.join(CELLS)}")
    if x.dim() != 2 or x.shape[0] != ragged.num_values:
        raise ValueError(f"expected x of shape [{ragged.num_values}, I], as the layout; found {tuple(x.shape)}")
    directions, rows = len(weights), ragged.num_rows
    if directions not in (1, 2):
        raise ValueError(f"expected the weights of one or two directions; found {directions}")
    entries = weights[0].weight_ih.shape[0]
    units, rest = divmod(entries, GATES[cell])
    if rest:
        raise ValueError(f"expected weight_ih of {GATES[cell]} gates of one size; found {entries} rows")
    of_state = units if weights[0].weight_hr is None else weights[0].weight_hr.shape[0]
    if of_state > units:
        raise ValueError(f"expected weight_hr of no more rows than the {units} units; found {of_state}")
    if (cell == "lstm") != (c_0 is not None):
        raise ValueError(f"expected c_0 for the lstm alone; found {'one' if c_0 is not None else 'none'} for {cell}")
    _check_tensors(x, (("h_0", h_0, (directions, rows, of_state)), ("c_0", c_0, (directions, rows, units))))
    for w in weights:
        _check_weights(cell, w, units, of_state, x)
    if directions == 2:
        lacking = [
            name
            for name, a, b in zip(Weights._fields, weights[0], weights[1], strict=True)
            if (a is None) != (b is None)
        ]
        if lacking:
            raise ValueError(f"expected {' and '.join(lacking)} in both directions or in neither")
    if options is not PLAIN:
        _check_options(cell, options, directions, units, of_state, ragged, x)


def _check_tensors(x: Tensor, tensors: Sequence[tuple[str, Tensor | None, tuple[int, ...]]]) -> None:
    """Whether each has its shape, and is of the type and on the device of x."""
    dtype, device = x.dtype, x.device
    for name, tensor, shape in tensors:
        if tensor is None or (tensor.shape == shape and tensor.dtype is dtype and tensor.device == device):
            continue
        if tensor.shape != shape:
            raise ValueError(f"expected {name} of shape {tuple(shape)}; found {tuple(tensor.shape)}")
        if tensor.device != device or not _mixes(x):
            raise ValueError(f"expected {name} of {dtype} on {device}, as x; found {tensor.dtype} on {tensor.device}")


def _mixes(x: Tensor) -> bool:
    """Whether types may differ: under autocast to half of the bits they do on purpose, and the backend casts."""
    device = x.device.type
    return (
        device in ("cpu", "cuda")
        and torch.is_autocast_enabled(device)
        and x.dtype != torch.float64
        and torch.get_autocast_dtype(device) in (torch.float16, torch.bfloat16)
    )


def _check_weights(cell: str, w: Weights, units: int, of_state: int, x: Tensor) -> None:
    if (w.bias_ih is None) != (w.bias_hh is None):
        raise ValueError("bias_ih and bias_hh are given together or not at all")
    if not w.is_plain:
        _check_what_is_given(cell, w)
    entries = GATES[cell] * units
    shapes = ((entries, x.shape[1]), (entries, of_state), (entries,), (entries,))
    if not w.is_plain:
        shapes += ((of_state, units), (3, units), (entries,), (entries,), (2, units))
    _check_tensors(x, tuple(zip(Weights._fields, w, shapes, strict=False)))


def _check_what_is_given(cell: str, w: Weights) -> None:
    norms = [w.norm_ih, w.norm_hh, w.norm_c] if cell == "lstm" else [w.norm_ih, w.norm_hh]
    given = sum(norm is not None for norm in norms)
    if given not in (0, len(norms)):
        names = "norm_ih, norm_hh and norm_c" if cell == "lstm" else "norm_ih and norm_hh"
        raise ValueError(f"{names} are given together or not at all")
    if cell != "lstm":
        for name in ("weight_hr", "peephole", "norm_c"):
            if getattr(w, name) is not None:
                raise ValueError(f"{name} is for the lstm alone; found one for {cell}")


def _check_options(
    cell: str, options: Options, directions: int, units: int, of_state: int, ragged: Ragged, x: Tensor
) -> None:
    _check_tensors(x, (("recurrent_dropout", options.recurrent_dropout, (directions, ragged.num_rows, of_state)),))
    if options.zoneout_c is not None and cell != "lstm":
        raise ValueError(f"zoneout_c is for the lstm alone, which has a cell state; found one for {cell}")
    for name, keep, size in (("zoneout_h", options.zoneout_h, of_state), ("zoneout_c", options.zoneout_c, units)):
        if isinstance(keep, Tensor):
            shape = (ragged.num_values, directions * size)
            if keep.dtype != torch.bool or keep.shape != shape or keep.device != x.device:
                raise ValueError(
                    f"expected {name} of shape {shape} and type bool on {x.device}, or a probability; "
                    f"found {tuple(keep.shape)} of {keep.dtype} on {keep.device}"
                )
        elif keep is not None and not 0 <= keep <= 1:
            raise ValueError(f"expected the probability {name} from 0 to 1; found {keep}")
    if not options.eps >= 0:
        raise ValueError(f"expected eps of layer normalisation to be at least 0; found {options.eps}")


def extras_in_use(weights: Sequence[Weights], options: Options, return_gates: bool) -> list[str]:
    """What a call asks for that torch.nn does not have, in words."""
    w = weights[0]
    asked = (
        ("peepholes", w.peephole is not None),
        ("layer normalisation", w.norm_ih is not None),
        ("recurrent dropout", options.recurrent_dropout is not None),
        ("zoneout", options.zoneout_h is not None or options.zoneout_c is not None),
        ("gates to return", return_gates),
    )
    return [name for name, is_asked in asked if is_asked]
