"""Dropout with a mask that is cheap to draw on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["check_rate", "dropout"]


def check_rate(name: str, rate: float) -> None:
    """Refuse a probability of dropping that is outside [0, 1).

    Raises:
        ValueError: It is.
    """
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"{name} must be in [0, 1); found {rate}")


def dropout(values: Tensor, rate: float, training: bool) -> Tensor:
    """Zero each element with probability `rate` and scale the rest by ``1 / (1 - rate)``, in training only.

    On a CPU the mask comes from 16 random bits an element (so `rate` is met to within 2**-16), a third of the time that
    ``torch.nn.functional.dropout`` spends on drawing it; elsewhere, and in a compiled program, this is that function.
    """
    if not training or rate == 0.0:
        return values
    if values.device.type != "cpu" or torch.compiler.is_compiling():
        return functional.dropout(values, rate, True)
    count = values.numel()
    bits = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[:count]
    kept = bits >= round(rate * 65536) - 32768
    return values * kept.to(values.dtype).mul_(1.0 / (1.0 - rate)).view(values.shape)
