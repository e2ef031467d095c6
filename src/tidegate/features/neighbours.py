"""The nearest tokens of each token, by the angle between their vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["nearest_tokens"]

_ROWS = 1024


def nearest_tokens(
    vectors: NDArray[np.float32], *, count: int = 5, most: int = 10000, least: float = 0.4
) -> dict[int, list[int]]:
    """Token id -> ids of the tokens nearest to it.

    Args:
        vectors: ``[V, E]``; id 0 is the unknown token and neighbour of none, ids are by falling frequency.
        count: Neighbours of a token at most.
        most: Tokens that are looked at, the most frequent ones; rarer ones have no neighbours.
        least: Smallest cosine of a neighbour.
    """
    known = vectors[:most].astype(np.float32)
    lengths = np.linalg.norm(known, axis=1, keepdims=True)
    known = known / np.where(lengths > 0, lengths, 1)
    known[0] = 0
    nearest: dict[int, list[int]] = {}
    taken = min(count, len(known) - 1)
    if taken < 1:
        return nearest
    for start in range(0, len(known), _ROWS):
        cosines = known[start : start + _ROWS] @ known.T
        cosines[np.arange(len(cosines)), np.arange(start, start + len(cosines))] = -1
        best = np.argpartition(-cosines, taken - 1, axis=1)[:, :taken]
        for row, places in enumerate(best):
            places = places[np.argsort(-cosines[row, places], kind="stable")]
            if near := [int(place) for place in places if cosines[row, place] >= least]:
                nearest[start + row] = near
    return nearest
