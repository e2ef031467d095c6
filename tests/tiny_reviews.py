"""A data set and a recipe small enough to train in a second, for the tests of jobs and of the command line."""

from __future__ import annotations

import random
from pathlib import Path

GOOD, BAD = ("good", "great", "lovely", "好"), ("bad", "awful", "dull", "坏")
FILLERS = ("the", "film", "was", "plot", "a", "cast", "and")

RECIPE = """\
task: text-classification
data:
  train: train.csv
  test: test.csv
text: {min_count: 1, max_tokens: 6}
model: {embedding_size: 8, hidden_size: 8, dropout: 0.0, embedding_dropout: 0.0}
training: {max_epochs: 2, learning_rate: 0.05, batch_size: 16, random_state: 3, device: cpu, validation_fraction: 0.2}
output:
  baseline: true
  title: Tiny reviews
  try: [a lovely great film, "dull [bold]and bad", ""]
"""


def rows(count: int, seed: int) -> list[tuple[str, str]]:
    """Labels and texts of which two words tell the label."""
    drawn = random.Random(seed)
    made = []
    for _ in range(count):
        label = drawn.choice(["neg", "pos"])
        words = drawn.choices(FILLERS, k=drawn.randint(1, 6)) + drawn.choices(GOOD if label == "pos" else BAD, k=2)
        drawn.shuffle(words)
        made.append((label, " ".join(words)))
    return made


def write_csv(path: Path, examples: list[tuple[str, str]]) -> Path:
    lines = ["label,text", *(f"{label},{text}" for label, text in examples)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_tiny(folder: Path, recipe: str = RECIPE, train: int = 80, test: int = 30) -> Path:
    """Train and test files and the recipe ``tiny.yaml`` in a folder."""
    write_csv(folder / "train.csv", rows(train, 1))
    write_csv(folder / "test.csv", rows(test, 2))
    path = folder / "tiny.yaml"
    path.write_text(recipe, encoding="utf-8")
    return path
