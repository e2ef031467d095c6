"""The definition of truth for linear recurrences: plain PyTorch, step by step, differentiable twice."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["as_complex", "as_real", "one_step", "steps"]


def as_complex(x: Tensor) -> Tensor:
    """``[..., F]``, real parts and then imaginary ones, to ``[..., F / 2]`` complex numbers."""
    return torch.complex(*x.chunk(2, dim=-1))


def as_real(x: Tensor) -> Tensor:
    """The inverse of :func:`as_complex`."""
    return torch.cat([x.real, x.imag], dim=-1)


def one_step(a: Tensor, b: Tensor, h: Tensor, is_complex: bool) -> Tensor:
    """``a * h + b``."""
    return as_real(as_complex(a) * as_complex(h)) + b if is_complex else a * h + b


def steps(a: Tensor, b: Tensor, h_0: Tensor, batch_sizes: Tensor, is_complex: bool) -> tuple[Tensor, Tensor]:
    """The states after each step ``[N, F]`` and the last of each row ``[B, F]``; see :func:`tidegate.kernels.scan`."""
    sizes = batch_sizes.tolist()
    decays = [a] * len(sizes) if a.dim() == 1 else a.split(sizes)
    h, outputs = h_0, [h_0[:0]]
    for decay, entering in zip(decays, b.split(sizes), strict=True):
        alive = entering.shape[0]
        outputs.append(one_step(decay, entering, h[:alive], is_complex))
        h = torch.cat([outputs[-1], h[alive:]])
    return torch.cat(outputs), h
