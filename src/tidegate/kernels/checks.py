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
    like = _Like(x)
    like.check("h_0", h_0, (directions, rows, of_state))
    if (cell == "lstm") != (c_0 is not None):
        raise ValueError(f"expected c_0 for the lstm alone; found {'one' if c_0 is not None else 'none'} for {cell}")
    if c_0 is not None:
        like.check("c_0", c_0, (directions, rows, units))
    for parameters in weights:
        _check_weights(cell, parameters, units, of_state, x.shape[1], like)
    if directions == 2:
        lacking = [
            name
            for name, a, b in zip(Weights._fields, weights[0], weights[1], strict=True)
            if (a is None) != (b is None)
        ]
        if lacking:
            raise ValueError(f"expected {' and '.join(lacking)} in both directions or in neither")
    if options is not PLAIN:
        _check_options(cell, options, directions, units, of_state, ragged, like)


class _Like:
    """What holds of every tensor of a call, asked once: it is as x, on its device and of its type."""

    def __init__(self, x: Tensor) -> None:
        self.dtype, self.device = x.dtype, x.device
        self.mixes = _mixes(x)

    def check(self, name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
        if tensor.shape != shape:
            raise ValueError(f"expected {name} of shape {tuple(shape)}; found {tuple(tensor.shape)}")
        if tensor.device != self.device or (tensor.dtype != self.dtype and not self.mixes):
            raise ValueError(
                f"expected {name} of {self.dtype} on {self.device}, as x; found {tensor.dtype} on {tensor.device}"
            )


def _mixes(x: Tensor) -> bool:
    """Whether types may differ: under autocast to half of the bits they do on purpose, and the backend casts."""
    device = x.device.type
    return (
        device in ("cpu", "cuda")
        and torch.is_autocast_enabled(device)
        and x.dtype != torch.float64
        and torch.get_autocast_dtype(device) in (torch.float16, torch.bfloat16)
    )


def _check_weights(cell: str, w: Weights, units: int, of_state: int, features: int, like: _Like) -> None:
    if (w.bias_ih is None) != (w.bias_hh is None):
        raise ValueError("bias_ih and bias_hh are given together or not at all")
    is_plain = w.weight_hr is w.peephole is w.norm_ih is w.norm_hh is w.norm_c is None
    if not is_plain:
        _check_what_is_given(cell, w)
    entries = (GATES[cell] * units,)
    like.check("weight_ih", w.weight_ih, (*entries, features))
    like.check("weight_hh", w.weight_hh, (*entries, of_state))
    if w.bias_ih is not None and w.bias_hh is not None:
        like.check("bias_ih", w.bias_ih, entries)
        like.check("bias_hh", w.bias_hh, entries)
    if not is_plain:
        shapes = ((of_state, units), (3, units), entries, entries, (2, units))
        for name, tensor, shape in zip(Weights._fields[4:], w[4:], shapes, strict=True):
            if tensor is not None:
                like.check(name, tensor, shape)


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
    cell: str, options: Options, directions: int, units: int, of_state: int, ragged: Ragged, like: _Like
) -> None:
    if options.recurrent_dropout is not None:
        like.check("recurrent_dropout", options.recurrent_dropout, (directions, ragged.num_rows, of_state))
    if options.zoneout_c is not None and cell != "lstm":
        raise ValueError(f"zoneout_c is for the lstm alone, which has a cell state; found one for {cell}")
    for name, keep, size in (("zoneout_h", options.zoneout_h, of_state), ("zoneout_c", options.zoneout_c, units)):
        if isinstance(keep, Tensor):
            shape = (ragged.num_values, directions * size)
            if keep.dtype != torch.bool or keep.shape != shape or keep.device != like.device:
                raise ValueError(
                    f"expected {name} of shape {shape} and type bool on {like.device}, or a probability; "
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
