"""What a person sees while a network trains."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import lightning
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from tidegate.reporting.scores import CLASS_MONITORS, NUMBER_MONITORS

__all__ = ["Progress", "epoch_line"]

_REFRESH_SECONDS = 0.2
# Figures that a line shows where they were measured; those of a network's rows and the monitor are.
_RANKED = ("ndcg", "mrr")  # of rankers
_SHOWN = [
    name
    for name in dict.fromkeys((*NUMBER_MONITORS, *CLASS_MONITORS, *_RANKED))
    if name not in ("loss", "accuracy", "mse")
]


def epoch_line(entry: dict[str, Any], max_epochs: int, best: bool) -> str:
    """One finished epoch in a line of text."""
    parts = [f"epoch {entry['epoch']:>2}/{max_epochs}", f"loss {entry['train_loss']:.4f}"]
    if entry["validation_loss"] is not None:
        parts.append(f"validation loss {entry['validation_loss']:.4f}")
    if entry["validation_accuracy"] is not None:
        parts.append(f"accuracy {entry['validation_accuracy']:.4f}")
    if entry.get("validation_f1") is not None:
        parts.append(f"F1 {entry['validation_f1']:.4f}")
    for name in _SHOWN:
        if entry.get(f"validation_{name}") is not None:
            parts.append(f"{name.replace('_', ' ')} {entry[f'validation_{name}']:.4f}")
    parts += [f"{entry['tokens_per_second']:,.0f} tokens/s", f"{entry['seconds']:.1f} s"]
    return "  ".join(parts) + ("  best so far" if best else "")


class Progress(lightning.Callback):
    """A bar for the epoch at hand and a line for each that is done, on standard error.

    Args:
        max_epochs: Epochs at most.
        latest: Gives the entry of the epoch just finished and the number of the best epoch so far.
    """

    def __init__(self, max_epochs: int, latest: Callable[[], tuple[dict[str, Any], int]]) -> None:
        self.max_epochs, self.latest = max_epochs, latest
        self.console = Console(stderr=True, highlight=False)
        self.bar: Bar | None = None
        self.task: Any = None
        self.started = self.refreshed = 0.0

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Open the bar."""
        self.started = self.refreshed = time.perf_counter()
        if not self.console.is_terminal:
            return
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            transient=True,
            auto_refresh=False,
        )
        name = f"epoch {trainer.current_epoch + 1:>2}/{self.max_epochs}"
        self.task = self.bar.add_task(name, total=trainer.num_training_batches, facts="")
        self.bar.start()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar on, a few times a second."""
        now = time.perf_counter()
        if self.bar is None or now - self.refreshed < _REFRESH_SECONDS:
            return
        self.refreshed = now
        total, count = pl_module.train_sums.tolist()
        facts = f"loss {total / max(count, 1e-9):.4f}  {pl_module.tokens / (now - self.started):,.0f} tokens/s"
        self.bar.update(self.task, completed=batch_idx + 1, facts=facts)
        self.bar.refresh()

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Print the line of the epoch."""
        self._close()
        entry, best_epoch = self.latest()
        self.console.print(epoch_line(entry, self.max_epochs, best_epoch == entry["epoch"]), soft_wrap=True)

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Close the bar, so that the message stands below it."""
        self._close()

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
