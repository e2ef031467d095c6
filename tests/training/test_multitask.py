from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from tidegate.kernels.ragged import to_batch_major
from tidegate.training.multitask import TaskBatches, apportion, sampling_shares

COUNTS = (90, 10, 40)


def targets() -> np.ndarray:
    """The first 90 rows have a target of the first task, the last 10 of the second, and every third of the third."""
    found = np.full((100, 3), np.nan)
    found[:90, 0] = np.arange(90)
    found[90:, 1] = np.arange(10) / 10
    found[20:60, 2] = 1
    return found


def source(sampling: str = "proportional", **changes: Any) -> TaskBatches:
    ids = [np.arange(row, row + 1 + row % 4) for row in range(100)]
    options: dict[str, Any] = {"temperature": None, "batch_size": 8, "random_state": 3, **changes}
    return TaskBatches(ids, targets(), np.arange(100) / 2, sampling=sampling, **options)


@pytest.mark.parametrize(
    ("sampling", "temperature", "expected"),
    [
        ("proportional", None, [90 / 140, 10 / 140, 40 / 140]),
        ("uniform", None, [1 / 3] * 3),
        ("square-root", None, np.sqrt(COUNTS) / np.sqrt(COUNTS).sum()),
        ("temperature", 1.0, [90 / 140, 10 / 140, 40 / 140]),
        ("temperature", 2.0, np.sqrt(COUNTS) / np.sqrt(COUNTS).sum()),
        ("temperature", 5.0, np.power(COUNTS, 0.2) / np.power(COUNTS, 0.2).sum()),
    ],
)
def test_shares(sampling: str, temperature: float | None, expected: Any) -> None:
    np.testing.assert_allclose(sampling_shares(COUNTS, sampling, temperature), expected)


def test_whole_numbers_in_shares() -> None:
    assert apportion(np.array([0.5, 0.3, 0.2]), 10).tolist() == [5, 3, 2]
    assert apportion(np.array([0.5, 0.3, 0.2]), 11).tolist() == [6, 3, 2]
    assert apportion(np.array([0.998, 0.001, 0.001]), 10).tolist() == [8, 1, 1]
    assert apportion(np.array([1 / 3, 1 / 3, 1 / 3]), 100).sum() == 100
    with pytest.raises(ValueError, match="2 batches cannot hold 3 tasks"):
        apportion(np.array([0.5, 0.3, 0.2]), 2)


@pytest.mark.parametrize("sampling", ["proportional", "square-root", "uniform"])
def test_an_epoch_has_each_task_in_its_share_and_one_task_a_batch(sampling: str) -> None:
    batches = source(sampling)
    assert len(batches) == 12 + 2 + 5  # as many as show each target once
    for epoch in (0, 1, 5):
        found: Counter[int] = Counter()
        for batch in batches.epoch(epoch):
            present = ~np.isnan(np.asarray(batch.targets))
            (task,) = np.flatnonzero(present.any(0))
            assert present[:, task].all()
            found[int(task)] += 1
        assert [found[task] for task in range(3)] == apportion(sampling_shares(COUNTS, sampling), 19).tolist()


def test_rows_come_with_their_own_ids_targets_and_weights() -> None:
    for batch in source("uniform").epoch(2):
        rows = to_batch_major(batch.values, batch.ragged).split(batch.ragged.lengths.tolist())
        for place, row in enumerate(batch.origin.tolist()):
            assert rows[place].tolist() == list(range(row, row + 1 + row % 4))
            assert batch.weights is not None and batch.weights[place].item() == row / 2
            task = int(np.flatnonzero(~np.isnan(np.asarray(batch.targets)[place]))[0])
            assert batch.targets is not None and batch.targets[place, task].item() == targets()[row, task]


def test_a_task_goes_through_all_of_its_rows_before_it_begins_anew() -> None:
    # Uniform: the first task has 6 or 7 of its 12 batches an epoch, so that two epochs are not a pass; the second has
    # 6 of its 2.
    batches, seen = source("uniform"), {task: set() for task in range(3)}
    passes = {0: 12, 1: 2, 2: 5}
    order: dict[int, list[list[int]]] = {0: [], 1: [], 2: []}
    for epoch in range(8):
        for batch in batches.epoch(epoch):
            task = int(np.flatnonzero(~np.isnan(np.asarray(batch.targets)[0]))[0])
            order[task].append(batch.origin.tolist())
    for task, size in passes.items():
        for start in range(0, len(order[task]) - size + 1, size):
            rows = [row for chosen in order[task][start : start + size] for row in chosen]
            assert sorted(rows) == np.flatnonzero(~np.isnan(targets()[:, task])).tolist()
            seen[task].add(tuple(rows))
        assert len(seen[task]) > 1  # each pass has an order of its own


def test_an_epoch_follows_from_the_seed_and_its_number_alone() -> None:
    def epoch(batches: TaskBatches, number: int) -> list[list[int]]:
        return [batch.origin.tolist() for batch in batches.epoch(number)]

    first = source("square-root")
    walked = [epoch(first, number) for number in range(4)]
    assert epoch(source("square-root"), 3) == walked[3]
    assert walked[2] != walked[3]
    assert epoch(source("square-root", random_state=4), 3) != walked[3]


def test_texts_are_changed_by_the_number_of_the_pass() -> None:
    asked: list[tuple[int, int]] = []

    def augment(row: int, number: int) -> np.ndarray:
        asked.append((row, number))
        return np.array([row])

    list(source("uniform", augment=augment).epoch(0))
    second = Counter(asked[place] for place in range(len(asked)) if asked[place][0] >= 90)
    assert set(second.values()) == {1}
    assert {number for _, number in second} == {0, 1, 2}


@pytest.mark.parametrize(
    ("sampling", "temperature", "message"),
    [
        ("equal", None, "joint, proportional, square-root, uniform, temperature; found 'equal'"),
        ("squareroot", None, "Did you mean 'square-root'"),
        ("temperature", None, "must be given there"),
        ("uniform", 2.0, "goes with task_sampling='temperature'"),
        ("temperature", 0.5, "at least 1; found 0.5"),
        ("temperature", float("nan"), "at least 1; found nan"),
    ],
)
def test_what_cannot_be(sampling: str, temperature: float | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sampling_shares(COUNTS, sampling, temperature)


def test_a_task_without_targets_has_no_batches() -> None:
    found = targets()
    found[:, 1] = np.nan
    ids = [np.arange(1 + row % 4) for row in range(100)]
    batches = TaskBatches(ids, found, None, sampling="uniform", temperature=None, batch_size=8, random_state=3)
    assert batches.shares.tolist() == [0.5, 0.0, 0.5]
    assert batches.counts[1] == 0 and len(batches) == 12 + 5
    assert all(np.isnan(np.asarray(batch.targets)[:, 1]).all() for batch in batches.epoch(0))
