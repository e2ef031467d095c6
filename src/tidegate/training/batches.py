"""Batches of encoded sequences, epoch after epoch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Self

import numpy as np

from tidegate.data.batch import Batch, LengthBucketedSampler, make_batch, rows_of_rank

__all__ = ["EncodedBatches", "batches_within", "lengths_of_rows", "places_of_rows"]


class EncodedBatches:
    """Batches over sequences of ids held in memory, of similar lengths within a batch.

    Args:
        ids: One int64 vector a row; of pairs those of all first texts and then those of all second ones.
        targets: ``[rows]`` class indices, or ``[rows, ...]`` whatever the network learns.
        weights: ``[rows]`` or None.
        batch_size: Rows of a batch.
        random_state: Seed of the order.
        shuffle: Whether each epoch has an order of its own; without it every epoch is the same.
        augment: From a place in `ids` and an epoch to the ids there in that epoch; None leaves them as they are.
        expand: From the ids ``[n]`` of a row to what a batch holds of it, ``[n, ...]``; None for the ids themselves.
        width: Texts of a row: 2 of pairs.
    """

    def __init__(
        self,
        ids: Sequence[np.ndarray],
        targets: np.ndarray,
        weights: np.ndarray | None,
        *,
        batch_size: int,
        random_state: int,
        shuffle: bool,
        augment: Callable[[int, int], np.ndarray] | None = None,
        expand: Callable[[np.ndarray], np.ndarray] | None = None,
        width: int = 1,
    ) -> None:
        self.ids, self.targets, self.weights, self.augment, self.expand = ids, targets, weights, augment, expand
        self.width = width
        lengths = lengths_of_rows(ids, width)
        self.sampler = LengthBucketedSampler(lengths, batch_size, random_state=random_state, shuffle=shuffle)
        self._rank, self._world = 0, 1

    def share(self, rank: int, world: int) -> Self:
        """The part of each batch that one of several processes takes."""
        part = copy.copy(self)
        part._rank, part._world = rank, world
        return part

    def __len__(self) -> int:
        return len(self.sampler)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch, counted from 0."""
        for rows in self.sampler.batches(epoch):
            yield self.made_of(rows, epoch)

    def made_of(
        self, batch: np.ndarray, epoch: int, targets_of: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> Batch:
        """The batch of some rows, or this process's part of it.

        Args:
            batch: The rows.
            epoch: What `augment` is told.
            targets_of: From rows to their targets, where they are not all that the rows have.
        """
        rows, weights = rows_of_rank(batch, self.weights, self._rank, self._world)
        places = places_of_rows(rows, len(self.sampler.lengths), self.width)
        ids = [self.ids[place] if self.augment is None else self.augment(place, epoch) for place in places]
        if self.expand is not None:
            ids = [self.expand(row) for row in ids]
        targets = self.targets[rows] if targets_of is None else targets_of(rows)
        return make_batch(ids, targets, weights, origin=rows, width=self.width)


def lengths_of_rows(ids: Sequence[np.ndarray], width: int) -> np.ndarray:
    """The tokens of each row, of pairs those of both texts, ``[rows]``."""
    lengths = np.fromiter((len(row) for row in ids), dtype=np.int64, count=len(ids))
    return lengths.reshape(width, -1).sum(0)


def places_of_rows(rows: np.ndarray, count: int, width: int) -> list[int]:
    """Where the texts of some rows stand among those of all `count`: the first ones of each, then the second ones."""
    return [place + part * count for part in range(width) for place in rows.tolist()]


def batches_within(lengths: np.ndarray, max_rows: int, max_values: int) -> Iterator[np.ndarray]:
    """Rows in order of length, cut into batches of at most `max_rows` rows and `max_values` values.

    A row that alone exceeds `max_values` is a batch of its own.
    """
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        stop = min(start + max_rows, len(order))
        totals = np.cumsum(lengths[order[start:stop]])
        within = int(np.searchsorted(totals, max_values, side="right"))
        stop = start + max(1, within)
        yield order[start:stop]
        start = stop
