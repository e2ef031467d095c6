from __future__ import annotations

import numpy as np
import pytest

from tidegate.estimators.multitask_data import TaskSpec, check_task_kinds, make_tasks, number_targets, split_rows

NAN = np.nan
TONE = TaskSpec("tone", np.array(["bad", "good"]))
TOPIC = TaskSpec("topic", np.arange(4))
STARS = TaskSpec("stars", None)


def targets(rows: int = 400, seed: int = 0) -> np.ndarray:
    """Half of the rows have a tone and a topic, the others stars; the fourth topic is that of one row."""
    generator = np.random.default_rng(seed)
    found = np.full((rows, 3), NAN)
    found[::2, 0] = generator.integers(0, 2, rows // 2)
    found[::2, 1] = generator.choice(3, rows // 2, p=[0.7, 0.2, 0.1])
    found[1::2, 2] = generator.normal(size=rows // 2)
    found[10, 1] = 3
    return found


def test_every_pattern_of_targets_is_validated_in_its_share() -> None:
    found = targets()
    train, held = split_rows([TONE, TOPIC, STARS], found, 0.1, 5)
    assert sorted([*train, *held]) == list(range(400))
    assert np.isnan(found[held, 0]).sum() == 20 and np.isnan(found[held, 2]).sum() == pytest.approx(20, abs=3)
    for topic in range(3):
        share = (found[held, 1] == topic).sum() / (found[:, 1] == topic).sum()
        assert share == pytest.approx(0.1, abs=0.06)
    again = split_rows([TONE, TOPIC, STARS], found, 0.1, 5)
    assert np.array_equal(again[1], held)
    assert not np.array_equal(split_rows([TONE, TOPIC, STARS], found, 0.1, 6)[1], held)


def test_every_class_is_kept_in_training() -> None:
    # As many topics as make most patterns rare, so that rows are drawn whatever their classes.
    generator = np.random.default_rng(0)
    found = np.stack([generator.integers(0, 2, 60), generator.integers(0, 40, 60)], 1).astype(float)
    tasks = [TONE, TaskSpec("topic", np.arange(40))]
    for seed in range(20):
        train, held = split_rows(tasks, found, 0.2, seed)
        assert sorted([*train, *held]) == list(range(60))
        for place in range(2):
            assert set(found[held, place]) <= set(found[train, place])
        assert len(held) > 0


def test_kinds_are_told_by_the_targets() -> None:
    columns = {
        "whole": [1.0, None, 2.0],
        "numbers": [1.0, None, 2.5],
        "words": ["a", None, "b"],
        "small": [np.float32(0.5), 1, None],
    }
    assert check_task_kinds(None, columns) == {
        "whole": "classification",
        "numbers": "regression",
        "words": "classification",
        "small": "regression",
    }
    tasks = make_tasks(check_task_kinds(None, columns), columns)
    assert [task.width for task in tasks] == [2, 1, 2, 1]
    np.testing.assert_array_equal(
        number_targets(tasks, columns), [[0, 1.0, 0, 0.5], [NAN, NAN, NAN, 1.0], [1, 2.5, 1, NAN]]
    )
    np.testing.assert_array_equal(number_targets(tasks, {"words": ["b"]}), [[NAN, NAN, 1, NAN]])
