"""Recurrences through PyTorch's own operators on packed rows, which are cuDNN's on a GPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tidegate.kernels.ragged import Ragged
from tidegate.kernels.reference import Weights

__all__ = ["gru", "refusal"]


def refusal(reset_after: bool) -> str | None:
    """Why PyTorch's operator cannot serve, or None."""
    return None if reset_after else "PyTorch's GRU has the reset gate after the product only (reset_after=True)"


def gru(
    x: Tensor, weights: Sequence[Weights], h_0: Tensor, ragged: Ragged, *, reset_after: bool = True
) -> tuple[Tensor, Tensor]:
    """:func:`tidegate.kernels.gru` by ``torch.ops.aten.gru`` on packed data.

    PyTorch packs no sequence of length zero: those rows, which sort last, keep their h_0 outside it.
    """
    batch_sizes = ragged.batch_sizes[ragged.batch_sizes > 0].cpu()
    hidden = h_0.shape[-1]
    if batch_sizes.numel() == 0:
        return x.new_empty(0, hidden * len(weights)), h_0
    alive = int(batch_sizes[0])
    has_biases = weights[0].bias_ih is not None
    parameters = [tensor for direction in weights for tensor in direction if tensor is not None]
    output, h_n = torch._VF.gru(  # pyright: ignore[reportAttributeAccessIssue]
        x, batch_sizes, h_0[:, :alive].contiguous(), parameters, has_biases, 1, 0.0, False, len(weights) == 2
    )
    return output, torch.cat([h_n, h_0[:, alive:]], dim=1)
