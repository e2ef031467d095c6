"""Which task a batch is of: tasks drawn in shares of their targets, evened out by a temperature."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tidegate.data.batch import Batch, LengthBucketedSampler
from tidegate.data.seeds import derive_seed
from tidegate.errors import nearest
from tidegate.training.batches import EncodedBatches

__all__ = ["TASK_SAMPLINGS", "TaskBatches", "apportion", "sampling_shares"]

TASK_SAMPLINGS = ("joint", "proportional", "square-root", "uniform", "temperature")


def sampling_shares(counts: Sequence[int], sampling: str, temperature: float | None = None) -> np.ndarray:
    """The share of the batches that each task has, ``[T]``, which sums to 1; a task without targets has none.

    Args:
        counts: Targets of each task, of which one at least has some.
        sampling: ``"proportional"`` to the counts (temperature 1), to their ``"square-root"`` (temperature 2),
            ``"uniform"`` (an infinite one), or by ``"temperature"``.
        temperature: tau of ``count ** (1 / tau)``, at least 1 (Arivazhagan et al. 2019; Raffel et al. 2020).

    Raises:
        ValueError: The sampling is none of these, or a temperature is missing, below 1, or has no effect.
    """
    if sampling not in TASK_SAMPLINGS:
        raise ValueError(
            f"task_sampling must be one of {', '.join(TASK_SAMPLINGS)}; found {sampling!r}."
            f"{nearest(str(sampling), TASK_SAMPLINGS)}"
        )
    if (temperature is not None) != (sampling == "temperature"):
        raise ValueError(
            "sampling_temperature goes with task_sampling='temperature', and must be given there; found "
            f"sampling_temperature={temperature!r} with task_sampling={sampling!r}"
        )
    if temperature is not None and not temperature >= 1:
        raise ValueError(f"sampling_temperature must be at least 1; found {temperature!r}")
    power = {"proportional": 1.0, "square-root": 0.5, "uniform": 0.0}.get(sampling, 1.0 / (temperature or 1.0))
    numbers = np.asarray(counts, dtype=np.float64)
    sizes = np.where(numbers > 0, numbers**power, 0.0)
    return sizes / sizes.sum()


def apportion(shares: np.ndarray, total: int) -> np.ndarray:
    """Whole numbers in the shares given, which sum to `total`, by largest remainders; every share above 0 has one.

    Raises:
        ValueError: `total` is less than there are shares.
    """
    least = (shares > 0).astype(np.int64)
    if total < least.sum():
        raise ValueError(f"{total} batches cannot hold {least.sum()} tasks")
    wanted = shares * total
    numbers = np.maximum(np.floor(wanted).astype(np.int64), least)
    while numbers.sum() < total:
        numbers[np.argmax(wanted - numbers)] += 1
    while numbers.sum() > total:
        over = np.where(numbers > 1, numbers - wanted, -np.inf)
        numbers[np.argmax(over)] -= 1
    return numbers


class TaskBatches(EncodedBatches):
    """Batches of which each has the targets of one task, drawn in given shares.

    An epoch has as many batches as would show each target once. In it every task has its share of them, the same number
    in each epoch, in an order that is drawn. A task goes through all of its rows before it begins anew in another
    order: where its share is too small for that within an epoch, it goes on in the next. All of it follows from
    (random_state, epoch), so that a resumed run needs no state.

    Args:
        ids: One int64 vector a row; of pairs those of all first texts and then those of all second ones.
        targets: ``[rows, T]`` with NaN where a row has none.
        weights: ``[rows]`` or None.
        sampling, temperature: As of :func:`sampling_shares`, ``"joint"`` excepted.
        batch_size: Rows of a batch.
        random_state: Seed of the order.
        options: ``augment``, ``expand`` and ``width`` of :class:`~tidegate.training.batches.EncodedBatches`; `augment`
            is told the number of the task's pass in place of the epoch's.

    Raises:
        ValueError: As of :func:`sampling_shares`.
    """

    def __init__(
        self,
        ids: Sequence[np.ndarray],
        targets: np.ndarray,
        weights: np.ndarray | None,
        *,
        sampling: str,
        temperature: float | None,
        batch_size: int,
        random_state: int,
        **options: Any,
    ) -> None:
        super().__init__(
            ids, targets, weights, batch_size=batch_size, random_state=random_state, shuffle=True, **options
        )
        self.random_state, lengths = random_state, self.sampler.lengths
        self.rows = [np.flatnonzero(~np.isnan(targets[:, task])) for task in range(targets.shape[1])]
        self.shares = sampling_shares([len(rows) for rows in self.rows], sampling, temperature)
        self.samplers = [
            LengthBucketedSampler(lengths[rows], batch_size, random_state=derive_seed(random_state, "task", task))
            for task, rows in enumerate(self.rows)
        ]
        self.counts = apportion(self.shares, sum(len(sampler) for sampler in self.samplers))

    def __len__(self) -> int:
        return int(self.counts.sum())

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch, counted from 0."""
        generator = np.random.Generator(np.random.PCG64(derive_seed(self.random_state, "tasks", epoch)))
        order = generator.permutation(np.repeat(np.arange(len(self.counts)), self.counts))
        streams = [self._stream(task, epoch * int(count)) for task, count in enumerate(self.counts)]
        for task in order.tolist():
            rows, number = next(streams[task])
            yield self.made_of(rows, number, functools.partial(self._targets_of, task))

    def _targets_of(self, task: int, rows: np.ndarray) -> np.ndarray:
        """The targets of some rows with those of one task alone."""
        targets = np.full((len(rows), len(self.counts)), np.nan, dtype=self.targets.dtype)
        targets[:, task] = self.targets[rows, task]
        return targets

    def _stream(self, task: int, start: int) -> Iterator[tuple[np.ndarray, int]]:
        """The rows of a task's batches from the one numbered `start` on, and the pass that each is of."""
        number, place = divmod(start, len(self.samplers[task]))
        while True:
            for rows in self.samplers[task].batches(number)[place:]:
                yield self.rows[task][rows], number
            number, place = number + 1, 0
