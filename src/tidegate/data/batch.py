"""Batches of token ids, ragged, and the sampler that puts texts of like length together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from tidegate.data.seeds import derive_seed
from tidegate.errors import DataError
from tidegate.kernels.ragged import Ragged, from_batch_major, ragged_from_lengths

_BATCHES_A_CHUNK = 64


@dataclass(frozen=True)
class Batch:
    """Some examples as one step of training takes them; no padded value is in it.

    Attributes:
        values: [N] int64 token ids in the order of ``ragged``, or [N, C] with more numbers a token; N is the sum of the
            lengths.
        ragged: The layout of the rows; of pairs that of the first texts and then of the second ones, 2B rows.
        targets: [B] what is learned, in the caller's order of rows, or None.
        weights: [B] float32 weight of each row, or None for 1.
        origin: [B] int64 the row of the data set that each row is.
    """

    values: Tensor
    ragged: Ragged
    targets: Tensor | None
    weights: Tensor | None
    origin: Tensor

    @property
    def num_rows(self) -> int:
        """B, the number of examples."""
        return int(self.origin.shape[0])

    @property
    def num_values(self) -> int:
        """N, the number of tokens."""
        return int(self.values.shape[0])

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device."""
        return Batch(
            self.values.to(device),
            self.ragged.to(device),
            None if self.targets is None else self.targets.to(device),
            None if self.weights is None else self.weights.to(device),
            self.origin.to(device),
        )


def make_batch(
    ids: Sequence[NDArray[np.int64]],
    targets: ArrayLike | Tensor | None = None,
    weights: ArrayLike | Tensor | None = None,
    origin: ArrayLike | Tensor | None = None,
    width: int = 1,
) -> Batch:
    """Put the token ids of some examples into one ragged batch.

    Args:
        ids: One array of ids a row, or of as many numbers a token in all rows; an array may be empty.
        targets: [B] class numbers or values to learn.
        weights: [B] weights of the rows.
        origin: [B] the rows of the data set; None numbers them from 0.
        width: Texts of an example: of pairs 2, and ``ids`` holds all first ones and then all second ones.

    Raises:
        DataError: There are no rows, or targets, weights or origin are not as many as rows.
    """
    if not len(ids):
        raise DataError("a batch needs at least one row, found none")
    lengths = torch.tensor([len(row) for row in ids], dtype=torch.int64)
    joined = np.concatenate([np.asarray(row, dtype=np.int64) for row in ids])
    ragged = ragged_from_lengths(lengths)
    count = len(ids) // width
    rows = torch.arange(count) if origin is None else _tensor(origin).to(torch.int64)
    batch = Batch(
        from_batch_major(torch.from_numpy(joined), ragged),
        ragged,
        None if targets is None else _tensor(targets),
        None if weights is None else _tensor(weights).to(torch.float32),
        rows,
    )
    for name in ("targets", "weights", "origin"):
        given = getattr(batch, name)
        if given is not None and given.shape[:1] != (count,):
            raise DataError(f"{name} must be one a row: expected {count}, found shape {tuple(given.shape)}")
    return batch


def _tensor(values: ArrayLike | Tensor) -> Tensor:
    # A copy: torch warns of arrays that are read-only, as those of joblib's workers are.
    return values if isinstance(values, Tensor) else torch.from_numpy(np.array(values))


class LengthBucketedSampler:
    """Puts examples of like length into one batch, and every example into exactly one batch an epoch.

    With ``shuffle`` the examples are shuffled and cut into chunks of 64 batches; each chunk is sorted by length and cut
    into batches, and the batches are shuffled. Batches thus have rows of like length and differ from epoch to epoch.
    Without it, all examples are sorted by length, the longest first, and cut. The batches of an epoch depend on
    (random_state, epoch) alone.

    Args:
        lengths: The number of tokens of each example.
        batch_size: Examples a batch; the last batch of an epoch's cut may have fewer.
        random_state: The seed of the run.
        shuffle: Whether epochs differ.

    Raises:
        DataError: ``batch_size`` is below 1.
    """

    def __init__(self, lengths: ArrayLike, batch_size: int, *, random_state: int, shuffle: bool = True) -> None:
        if batch_size < 1:
            raise DataError(f"batch_size must be at least 1, found {batch_size}")
        self.lengths: NDArray[np.int64] = np.asarray(lengths, dtype=np.int64).reshape(-1)
        self.batch_size = batch_size
        self.random_state = random_state
        self.shuffle = shuffle

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """The batches of an epoch, each an array of example numbers."""
        if not self.shuffle:
            return self._cut(np.arange(len(self.lengths)))
        generator = np.random.Generator(np.random.PCG64(derive_seed(self.random_state, "sampler", epoch)))
        shuffled = generator.permutation(len(self.lengths))
        step = self.batch_size * _BATCHES_A_CHUNK
        batches = [
            batch for start in range(0, len(shuffled), step) for batch in self._cut(shuffled[start : start + step])
        ]
        return [batches[place] for place in generator.permutation(len(batches))]

    def _cut(self, examples: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        longest_first = examples[np.argsort(-self.lengths[examples], kind="stable")]
        return [
            longest_first[start : start + self.batch_size] for start in range(0, len(longest_first), self.batch_size)
        ]


def rows_of_rank(
    rows: NDArray[np.int64], weights: NDArray[Any] | None, rank: int, world: int
) -> tuple[NDArray[np.int64], NDArray[Any] | None]:
    """The rows of a batch that one of several processes takes, and their weights.

    Each takes every `world`-th row, so that rows of like length are spread evenly. Sums over the parts are those over
    the batch: a process for which no row is left takes one of weight 0, since it must take part in the step.

    Args:
        rows: Those of the batch, by length.
        weights: Of all examples, or None, which is kept where there is one process.
        rank: Which process, from 0.
        world: How many.
    """
    if world == 1:
        return rows, None if weights is None else weights[rows]
    mine = rows[rank::world]
    if not len(mine):
        return rows[-1:], np.zeros(1, dtype=np.float32)
    return mine, np.ones(len(mine), dtype=np.float32) if weights is None else weights[mine]
