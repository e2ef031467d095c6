"""Dropout with one mask a sequence, the same at each of its steps."""

from __future__ import annotations

import torch
from torch import Tensor

from tidegate.kernels.ragged import Ragged
from tidegate.layers.dropout import dropout

__all__ = ["locked_dropout"]


def locked_dropout(values: Tensor, ragged: Ragged, rate: float, training: bool) -> Tensor:
    """Zero each feature of a sequence at all its steps with probability `rate`, in training only; scale the rest.

    The mask is drawn once a row, as Gal & Ghahramani 2016 have it (arXiv:1512.05287), by `dropout`.

    Args:
        values: ``[N, F]`` in ragged order.
        ragged: The layout of `values`.
        rate: In [0, 1).
        training: Whether to drop at all.
    """
    if not training or rate == 0.0:
        return values
    kept = dropout(torch.ones(ragged.num_rows, values.shape[1], dtype=values.dtype, device=values.device), rate, True)
    return values * kept.index_select(0, ragged.row_of)
