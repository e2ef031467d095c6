"""Recurrent layers with merged directions and residual connections, row by row, from torch.nn's single layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

_TWINS: dict[str, Any] = {"RNN_TANH": nn.RNN, "RNN_RELU": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}
_KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


def _run(layer: Any, number: int, reverse: bool, row: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """One direction of one layer by torch.nn: every step's h, and the last states."""
    suffix = f"l{number}_reverse" if reverse else f"l{number}"
    parameters = dict(layer.named_parameters())
    given = {f"{kind}_l0": parameters[f"{kind}_{suffix}"] for kind in _KINDS if f"{kind}_{suffix}" in parameters}
    more = {"nonlinearity": layer.nonlinearity} if layer.mode.startswith("RNN") else {}
    if layer.proj_size:
        more["proj_size"] = layer.proj_size
    units = given["weight_hh_l0"].shape[0] // {"LSTM": 4, "GRU": 3}.get(layer.mode, 1)
    twin = _TWINS[layer.mode](row.shape[1], units, bias=layer.bias, **more).double()
    hx = [s[None] for s in state]
    if row.shape[0] == 0:
        return row.new_zeros(0, hx[0].shape[-1]), state
    output, last = functional_call(twin, given, (row.flip(0) if reverse else row, tuple(hx) if len(hx) > 1 else hx[0]))
    last = last if isinstance(last, tuple) else (last,)
    return output.flip(0) if reverse else output, [s[0] for s in last]


def _merge(directions: list[Tensor], merge: str) -> Tensor:
    if len(directions) == 1:
        return directions[0]
    first, second = directions
    made = {
        "concat": lambda: torch.cat([first, second], -1),
        "sum": lambda: first + second,
        "mean": lambda: (first + second) / 2,
        "product": lambda: first * second,
        "none": lambda: torch.stack([first, second], -2),
    }
    return made[merge]()


def run_row(
    layer: Any, row: Tensor, initial: list[list[list[Tensor]]], mask: list[bool]
) -> tuple[Tensor, list, Tensor]:
    """Output of every step up to the mask's length, the last states, and the values that layers read.

    Args:
        layer: A recurrent layer of tidegate without options that torch.nn's single layers lack.
        row: ``[T, I]``.
        initial: For each layer and direction h, and for the LSTM c, ``[H]``.
        mask: Which of the T steps there are; at the others the last layer's states are repeated.
    """
    values = row[torch.tensor(mask, dtype=torch.bool)]
    directions = 2 if layer.bidirectional else 1
    last, states = [], []
    for number in range(layer.num_layers):
        states, ends = [], []
        for d in range(directions):
            apart = layer.merge == "none" and number > 0
            own = values[:, d] if apart else values
            output, end = _run(layer, number, d == 1, own, initial[number][d])
            states.append(output)
            ends.append(end)
        last.append(ends)
        merged = _merge(states, layer.merge)
        if layer.residual:
            merged = merged + _skip(layer, number, values, merged)
        values = merged
    steps, taken = [], 0
    for present in mask:
        if present:
            steps.append(values[taken])
            taken += 1
            continue
        carried = []
        for d in range(directions):
            place = taken - 1 if d == 0 else taken
            inside = 0 <= place < len(states[d])
            carried.append(states[d][place] if inside else initial[-1][d][0])
        steps.append(_merge(carried, layer.merge))
    empty = values.new_zeros(0, *values.shape[1:])
    return torch.stack(steps) if steps else empty, last, values


def _skip(layer: Any, number: int, values: Tensor, merged: Tensor) -> Tensor:
    parameters = dict(layer.named_parameters())
    if layer.merge != "none":
        weight = parameters.get(f"weight_res_l{number}")
        return values if weight is None else values @ weight.T
    skips = []
    for d, suffix in enumerate((f"l{number}", f"l{number}_reverse")):
        own = values[:, d] if values.dim() == 3 else values
        weight = parameters.get(f"weight_res_{suffix}")
        skips.append(own if weight is None else own @ weight.T)
    return torch.stack(skips, -2)
