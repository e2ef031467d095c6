"""Users' own callbacks: they see the epochs and their metrics, write into the records, and may stop training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import pytest

from tidegate import SequenceTagger, TextClassifier, TextRegressor
from tiny_reviews import rows
from tiny_tags import tiny_sentences

SMALL: dict[str, Any] = {
    "min_count": 1,
    "embedding_size": 8,
    "hidden_size": 8,
    "learning_rate": 0.02,
    "max_epochs": 5,
    "patience": 5,
    "random_state": 3,
    "device": "cpu",
    "verbose": False,
}
TEXTS, LABELS = [text for _, text in rows(80, 1)], [label for label, _ in rows(80, 1)]


class Watching(lightning.Callback):
    """Keeps what it sees, and stops training once the validation loss is low."""

    def __init__(self, enough: float = 0.0) -> None:
        self.enough, self.losses, self.batches = enough, [], 0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.batches += 1

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.losses.append(float(trainer.callback_metrics["validation_loss"]))
        for logger in trainer.loggers:
            logger.log_metrics({"seen": len(self.losses)}, step=trainer.current_epoch + 1)
        if self.losses[-1] < self.enough:
            trainer.should_stop = True


def test_a_callback_sees_every_epoch() -> None:
    watching = Watching()
    model = TextClassifier(**SMALL).fit(TEXTS, LABELS, callbacks=[watching])
    assert watching.losses == pytest.approx([entry["validation_loss"] for entry in model.history_])
    assert watching.batches == 5 * 3  # 72 texts in batches of 32


def test_a_callback_may_stop_training() -> None:
    free = TextClassifier(**SMALL).fit(TEXTS, LABELS)
    losses = [entry["validation_loss"] for entry in free.history_]
    enough = losses[2] + 1e-6
    assert losses[0] > losses[1] > enough > losses[2]
    stopped = TextClassifier(**SMALL).fit(TEXTS, LABELS, callbacks=[Watching(enough)])
    assert [entry["validation_loss"] for entry in stopped.history_] == losses[:3]
    assert stopped.best_epoch_ <= 3


def test_a_callback_writes_into_the_records(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    options = {"run_folder": tmp_path, "loggers": ["tensorboard"]}
    TextClassifier(**{**SMALL, "max_epochs": 2}).fit(TEXTS, LABELS, callbacks=[Watching()], **options)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("seen")] == [(1, 1.0), (2, 2.0)]
    assert {"train_loss", "validation_loss", "validation_accuracy"} <= set(events.Tags()["scalars"])


def test_other_estimators_take_callbacks_too() -> None:
    short = {**SMALL, "max_epochs": 2}
    watching = Watching()
    TextRegressor(**short).fit(TEXTS, [len(text) for text in TEXTS], callbacks=[watching])
    assert len(watching.losses) == 2
    watching = Watching()
    sentences, tags, _ = tiny_sentences(60)
    SequenceTagger(**{**short, "char_hidden_size": 4}).fit(sentences, tags, callbacks=[watching])
    assert len(watching.losses) == 2
