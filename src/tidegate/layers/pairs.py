"""Two vectors of one encoder as one: what each says, where they differ, and where they agree."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["PAIR_PARTS", "combine_pairs"]

PAIR_PARTS = 4


def combine_pairs(vectors: Tensor) -> Tensor:
    """Vectors ``[2B, F]`` of B first texts, then of the B second ones, to ``[u; v; |u - v|; u * v]``, ``[B, 4F]``.

    A linear map of u and v alone cannot compare them; with the distance and the product of each feature it can
    (Mou et al. 2016, arXiv:1512.08422; InferSent, Conneau et al. 2017, arXiv:1705.02364).
    """
    first, second = vectors.chunk(2)
    return torch.cat([first, second, (first - second).abs(), first * second], dim=1)
