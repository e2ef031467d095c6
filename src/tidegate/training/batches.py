"""Batches of encoded sequences, epoch after epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tidegate.data.batch import Batch, LengthBucketedSampler, make_batch

__all__ = ["EncodedBatches", "batches_within"]


class EncodedBatches:
    """Batches over sequences of ids held in memory, of similar lengths within a batch.

    Args:
        ids: One int64 vector a row.
        targets: ``[rows]`` class indices, or ``[rows, ...]`` whatever the network learns.
        weights: ``[rows]`` or None.
        batch_size: Rows of a batch.
        random_state: Seed of the order.
        shuffle: Whether each epoch has an order of its own; without it every epoch is the same.
        augment: From a row and an epoch to the ids of that row in that epoch; None leaves them as they are.
        expand: From the ids ``[n]`` of a row to what a batch holds of it, ``[n, ...]``; None for the ids themselves.
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
    ) -> None:
        self.ids, self.targets, self.weights, self.augment, self.expand = ids, targets, weights, augment, expand
        lengths = np.fromiter((len(row) for row in ids), dtype=np.int64, count=len(ids))
        self.sampler = LengthBucketedSampler(lengths, batch_size, random_state=random_state, shuffle=shuffle)

    def __len__(self) -> int:
        return len(self.sampler)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch, counted from 0."""
        for rows in self.sampler.batches(epoch):
            weights = None if self.weights is None else self.weights[rows]
            ids = [self.ids[row] if self.augment is None else self.augment(int(row), epoch) for row in rows]
            if self.expand is not None:
                ids = [self.expand(row) for row in ids]
            yield make_batch(ids, self.targets[rows], weights, origin=rows)


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
