"""A run that is killed, wherever it stands, resumes to the weights and the history of an unbroken one, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest

from killing import outcome, survive
from tiny_reviews import RECIPE, write_tiny

# Every draw and every state that training has: masks, an average, schedules, a split, the best epoch and the last.
DROPOUT = "model: {embedding_size: 8, hidden_size: 8, dropout: 0.3, embedding_dropout: 0.2, word_dropout: 0.1}"
PLAIN = RECIPE.replace("model: {embedding_size: 8, hidden_size: 8, dropout: 0.0, embedding_dropout: 0.0}", DROPOUT)
PLAIN = PLAIN.replace("  baseline: true\n", "").replace("max_epochs: 2", "max_epochs: 12, patience: 12")


def with_training(keys: str) -> str:
    return PLAIN.replace("validation_fraction: 0.2", f"validation_fraction: 0.2, {keys}")


def check(result: dict, *, kills: int) -> None:
    assert result["kills"] == kills
    expected = outcome(Path(result["unbroken"]))
    assert len(expected[0]) > 5
    for run in result["survivors"]:
        assert outcome(Path(run)) == expected, run
        left = [path.name for path in Path(run).rglob("*") if path.name.startswith(".")]
        assert left == []


def test_a_run_killed_three_times_is_the_unbroken_one(tmp_path: Path) -> None:
    recipe = write_tiny(
        tmp_path, with_training("ema_decay: 0.9, schedule: cosine").replace("max_epochs: 12", "max_epochs: 8")
    )
    check(survive(recipe, tmp_path / "runs", kills=3, seed=1), kills=3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("keys", "members"),
    [
        ("", 1),
        ("pretrain_epochs: 4, adapt_epochs: 3, unfreeze_every: 1, layer_rate_decay: 0.4, schedule: one-cycle", 1),
        ("ema_decay: 0.95, accumulate: 3, schedule: plateau, warmup_epochs: 1.5, augment_delete: 0.1", 1),
        ("optimizer: asgd, average_trigger: 1, l2: 0.001", 1),
        ("optimizer: sgd, momentum: 0.9, nesterov: true, monitor: loss", 2),
    ],
)
def test_a_run_killed_twenty_times_is_the_unbroken_one(keys: str, members: int, tmp_path: Path) -> None:
    recipe = write_tiny(tmp_path, with_training(keys) if keys else PLAIN)
    result = survive(recipe, tmp_path / "runs", kills=20, seed=2, members=members)
    check(result, kills=20)
    assert result["in_writing"] and result["after_epochs"] > 5, result
