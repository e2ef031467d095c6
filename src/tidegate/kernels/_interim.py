"""The native GRU in the signature of all recurrences, until `cpu.recurrence` serves every cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tidegate.kernels import cpu
from tidegate.kernels.ragged import Ragged
from tidegate.kernels.reference import Options, Weights


class _GruWeights(NamedTuple):
    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None


def refusal(cell: str, device: str, dtype: torch.dtype, extras: Sequence[str]) -> str | None:
    if cell not in ("gru", "gru_reset_before") or extras:
        return "it serves the GRU without options"
    if device == "cpu" and torch.is_autocast_enabled("cpu"):
        dtype = torch.float32
    return cpu.refusal(device, dtype)


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
    four: Any = [_GruWeights(*w[:4]) for w in weights]
    return *cpu.gru(x, four, h_0, ragged, reset_after=cell == "gru"), None, None
