"""Texts with numbers and a recipe small enough to train in a second."""

from __future__ import annotations

from pathlib import Path

from tiny_reviews import BAD, GOOD, rows

RECIPE = """\
task: text-regression
data: {train: train.csv, test: test.csv, label: stars}
text: {min_count: 1, max_tokens: 6}
model: {embedding_size: 8, hidden_size: 8, dropout: 0.0, embedding_dropout: 0.0}
training: {max_epochs: 3, learning_rate: 0.05, batch_size: 16, random_state: 3, device: cpu, validation_fraction: 0.2}
output: {baseline: true, title: Tiny stars, try: [a lovely great film, ""]}
"""


def stars(text: str) -> int:
    return 3 + sum(word in GOOD for word in text.split()) - sum(word in BAD for word in text.split())


def write_numbers(folder: Path, recipe: str = RECIPE, train: int = 80) -> Path:
    for name, count, seed in (("train", train, 1), ("test", 30, 2)):
        lines = ["stars,text", *(f"{stars(text)},{text}" for _, text in rows(count, seed))]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    path = folder / "stars.yaml"
    path.write_text(recipe, encoding="utf-8")
    return path
