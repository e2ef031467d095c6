"""What each means adds on the bundled English reviews, from the training split alone: one table over seeds.

python benchmarks/ablation.py [--seeds 0 1 2] [--members 5] [--work DIR] [--json FILE]

Each row stands on those above it; the epoch is chosen on the validation part, the test part is read once a run. The
ensemble is of the row whose log-loss on the validation part is least: the mean of the seeds' models, or with --members
an ensemble a seed, of its model and those of the seeds further on by the number of seeds. The stack joins it with a
linear classifier of n-grams by logistic regression on the validation part. What the models say of both parts is kept in
--work, and what is there already is not trained again; several processes may fill it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from side_by_side import RESULTS, machine, write_json
from tidegate import LinearTextClassifier, TextClassifier
from tidegate.config import load_recipe
from tidegate.data.bundled import load_reviews
from tidegate.features.stacking import fit_stacking, stack_cross_fitted
from tidegate.reporting.compare import tfidf_baseline

RECIPE = "sentiment_en"
PARTS = ("validation", "test")


@dataclass(frozen=True)
class Row:
    """A row of the table: its name, its file's name, and the recipe's keys that it changes."""

    title: str
    stem: str
    changes: dict[str, str] = field(default_factory=dict)


ROWS = (
    Row(
        "vectors drawn at random, cross-entropy, the weights of the last step",
        "base",
        {
            "model.embedding_init": "normal",
            "training.label_smoothing": "0",
            "training.ema_decay": "null",
            "training.learning_rate": "1e-3",
        },
    ),
    Row(
        "the recipe `sentiment_en`: vectors from co-occurrence, smoothed labels, a moving average of the weights",
        "smoothed",
        {
            "model.embedding_init": "cooccurrence",
            "training.label_smoothing": "0.1",
            "training.ema_decay": "0.998",
            "training.learning_rate": "2e-3",
        },
    ),
    Row("the encoder first learns to foretell the words of its texts", "pretrained", {"training.pretrain_epochs": "5"}),
    Row(
        "texts changed anew in each epoch: a tenth of the words left out, a twentieth moved",
        "augmented",
        {"training.augment_delete": "0.1", "training.augment_swap": "0.05"},
    ),
)
LINEAR: dict[str, Any] = {"classifier": "nbsvm", "weighting": "binary", "ngram_range": (1, 2)}


@dataclass(frozen=True)
class Said:
    """The probabilities of both parts, ``[rows, classes]``, and what they cost."""

    validation: np.ndarray
    test: np.ndarray
    seconds: float = 0.0
    processor_seconds: float = 0.0


class Bench:
    """The data, and the models' probabilities in a folder."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.parts = {part: load_reviews("en", part) for part in ("train", *PARTS)}
        self.classes = np.unique(self.parts["train"].labels)
        self.targets = {part: np.searchsorted(self.classes, self.parts[part].labels) for part in PARTS}

    def said(self, stem: str, seed: int, make: Any) -> Said:
        """What a model says, trained if its file is not there."""
        path = self.work / f"{stem}-{seed}.npz"
        if not path.is_file():
            started, used = time.perf_counter(), time.process_time()
            model = make(seed)
            held = self.parts["validation"]
            model.fit(self.parts["train"].texts, self.parts["train"].labels, validation_data=(held.texts, held.labels))
            cost = {
                "seconds": time.perf_counter() - started,
                "processor_seconds": time.process_time() - used,
            }
            found = {part: model.predict_proba(self.parts[part].texts) for part in PARTS}
            self.work.mkdir(parents=True, exist_ok=True)
            np.savez(path, **found, **cost)
            said = Said(**found, **cost)
            print(f"{stem}, seed {seed}: {self.judged(said)}", flush=True)
        with np.load(path) as file:
            return Said(file["validation"], file["test"], float(file["seconds"]), float(file["processor_seconds"]))

    def judged(self, said: Said) -> dict[str, float]:
        """Accuracies, the log-loss on the validation part, and the times."""
        figures = {part: float(np.mean(getattr(said, part).argmax(1) == self.targets[part])) for part in PARTS}
        picked = said.validation[np.arange(len(said.validation)), self.targets["validation"]]
        return {
            "validation_accuracy": round(figures["validation"], 4),
            "validation_log_loss": round(float(-np.log(np.clip(picked, 1e-6, 1)).mean()), 4),
            "test_accuracy": round(figures["test"], 4),
            "seconds": round(said.seconds, 1),
            "processor_seconds": round(said.processor_seconds, 1),
        }

    def neural(self, row: Row, above: dict[str, str], seed: int) -> Said:
        """The network of a row."""
        overrides = [f"{key}={value}" for key, value in {**above, **row.changes}.items()]

        def make(seed: int) -> TextClassifier:
            return TextClassifier(
                **load_recipe(RECIPE, overrides=[*overrides, f"training.random_state={seed}"]).arguments
            )

        return self.said(row.stem, seed, make)

    def row(self, title: str, seeds: list[int], said: list[Said]) -> dict[str, Any]:
        """A row of the record, and its means on the screen; one figure where one model is of all seeds."""
        runs = [{"seed": seed, **self.judged(one)} for seed, one in zip(seeds, said, strict=False)]
        means = {key: round(statistics.mean(run[key] for run in runs), 4) for key in runs[0] if key != "seed"}
        print(f"{title}: {json.dumps(means)}", flush=True)
        return {"title": title, "runs": runs}

    def log_loss(self, said: list[Said]) -> float:
        """The mean of the log-losses on the validation part."""
        return statistics.mean(self.judged(one)["validation_log_loss"] for one in said)

    def joined(
        self,
        row: Row,
        above: dict[str, str],
        trained: list[Said],
        linear: list[Said],
        seeds: list[int],
        members: int | None,
    ) -> list[dict[str, Any]]:
        """The rows of the ensemble, of the stack, and of the linear member alone."""
        groups = [trained]
        if members is not None:
            groups = [
                [self.neural(row, above, seed + len(seeds) * number) for number in range(members)] for seed in seeds
            ]
        ensembles = [mean_of(group) for group in groups]
        stacks = [self.stacked(list(pair)) for pair in zip(ensembles, linear, strict=False)]
        return [
            self.row(f"the mean of {len(groups[0])} such models of other seeds", seeds, ensembles),
            self.row("joined with NB-SVM of words and pairs", seeds, stacks),
            self.row("NB-SVM of words and pairs alone", seeds, linear),
        ]

    def linear(self, seed: int) -> Said:
        """The linear member."""
        return self.said("linear", seed, lambda seed: LinearTextClassifier(**LINEAR, random_state=seed))

    def stacked(self, members: list[Said]) -> Said:
        """Members joined by logistic regression; on the validation part a fifth is judged by what the rest taught."""
        held, test = (np.stack([getattr(member, part) for member in members]) for part in PARTS)
        targets = self.targets["validation"]
        return Said(
            stack_cross_fitted(held, targets, None, C=1.0),
            fit_stacking(held, targets, None, C=1.0).probabilities(test),
            sum(member.seconds for member in members),
            sum(member.processor_seconds for member in members),
        )


def mean_of(members: list[Said]) -> Said:
    """The mean of the members' probabilities."""
    return Said(
        np.mean([member.validation for member in members], axis=0),
        np.mean([member.test for member in members], axis=0),
        sum(member.seconds for member in members),
        sum(member.processor_seconds for member in members),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--members", type=int, help="models of an ensemble of each seed")
    parser.add_argument("--work", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--json", default=str(RESULTS / "ablation_en.json"), help="where the record goes")
    arguments = parser.parse_args()
    bench = Bench(arguments.work)
    above: list[dict[str, str]] = [{}]
    for row in ROWS:
        above.append({**above[-1], **row.changes})
    trained: dict[int, list[Said]] = {}
    baseline = tfidf_baseline(bench.parts["train"], bench.parts["test"], tokenizer="words")
    linear = [bench.linear(seed) for seed in arguments.seeds]
    # The row of most keys takes longest and is worth most, so it comes first; the record grows with each row.
    for place in reversed(range(len(ROWS))):
        trained[place] = [bench.neural(ROWS[place], above[place], seed) for seed in arguments.seeds]
        rows = [bench.row(ROWS[known].title, arguments.seeds, trained[known]) for known in sorted(trained)]
        best = min(trained, key=lambda known: bench.log_loss(trained[known]))
        rows += bench.joined(ROWS[best], above[best], trained[best], linear, arguments.seeds, arguments.members)
        record = {
            "recipe": RECIPE,
            "seeds": arguments.seeds,
            "members": arguments.members,  # None for one ensemble of all seeds
            "rows": rows,
            "best": ROWS[best].title,
            "baseline": {key: baseline[key] for key in ("name", "accuracy")},
            "test_texts": len(bench.targets["test"]),
            "changes": [{"title": row.title, "changes": row.changes} for row in ROWS],
            "machine": machine(),
        }
        write_json(arguments.json, record)


if __name__ == "__main__":
    main()
