"""Texts with several labels each and a recipe small enough to train in a second."""

from __future__ import annotations

import random
from pathlib import Path

WORDS = {"red": "colour", "blue": "colour", "cat": "animal", "dog": "animal", "run": "motion", "jump": "motion"}
RECIPE = """\
task: multi-label-text-classification
data: {train: train.csv, test: test.csv, label: kinds, label_separator: "|"}
text: {min_count: 1, max_tokens: 8}
model: {embedding_size: 8, hidden_size: 8, dropout: 0.0, embedding_dropout: 0.0}
training:
  {max_epochs: 4, learning_rate: 0.05, batch_size: 16, random_state: 3, device: cpu, validation_fraction: 0.2,
   threshold: tuned, calibrate: temperature, class_weight: balanced}
output: {baseline: true, title: Tiny kinds, try: [a red dog, ""]}
"""


def kinds(count: int, seed: int) -> list[tuple[str, list[str]]]:
    """Texts and their labels; a seventh of the labels is wrong, so that there is something to calibrate."""
    drawn = random.Random(seed)
    made = []
    for _ in range(count):
        words = drawn.sample(sorted(WORDS), drawn.randint(0, 3)) + drawn.choices(["the", "a", "of", "it"], k=3)
        drawn.shuffle(words)
        labels = {WORDS[word] for word in words if word in WORDS}
        if drawn.random() < 1 / 7:
            labels ^= {drawn.choice(["colour", "animal", "motion"])}
        made.append((" ".join(words), sorted(labels)))
    return made


def write_kinds(folder: Path, recipe: str = RECIPE, separator: str = "|", train: int = 120) -> Path:
    for name, count, seed in (("train", train, 1), ("test", 40, 2)):
        lines = ["kinds,text", *(f"{separator.join(labels)},{text}" for text, labels in kinds(count, seed))]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    path = folder / "kinds.yaml"
    path.write_text(recipe, encoding="utf-8")
    return path
