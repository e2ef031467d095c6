"""The choice of the epoch: the best one's weights, patience, and the two checkpoints of a run."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any, cast

import lightning
from torch import Tensor

from tidegate.errors import TidegateError
from tidegate.training.averaging import WeightAverage
from tidegate.training.checkpoints import CheckpointFolder
from tidegate.training.module import NetworkModule
from tidegate.training.progress import epoch_line
from tidegate.training.records import Recorder
from tidegate.training.settings import FitSettings

__all__ = ["Selection"]

_log = logging.getLogger("tidegate.training.fit")


class Selection(lightning.Callback):
    """Chooses the best epoch, counts patience, writes the checkpoints."""

    def __init__(
        self,
        settings: FitSettings,
        folder: CheckpointFolder | None,
        fingerprint: Mapping[str, Any],
        average: WeightAverage | None,
    ) -> None:
        self.settings, self.folder, self.fingerprint, self.average = settings, folder, dict(fingerprint), average
        self.history: list[dict[str, Any]] = []
        self.best_epoch = 0
        self.best_score = -math.inf
        self.best_weights: dict[str, Tensor] = {}
        self.recorder: Recorder | None = None

    @property
    def finished(self) -> bool:
        """Whether there is no further epoch to train."""
        done = len(self.history)
        stalled = bool(done) and done - self.best_epoch >= self.settings.patience
        return stalled or done >= self.settings.max_epochs

    @property
    def state_key(self) -> str:
        """The key of the choice in a checkpoint."""
        return "tidegate"

    def state_dict(self) -> dict[str, Any]:
        """The history and the choice, for a checkpoint."""
        return {
            "history": self.history,
            "best_epoch": self.best_epoch,
            "best_score": self.best_score,
            "fingerprint": self.fingerprint,
            "random_state": self.settings.random_state,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.history = list(state_dict["history"])
        self.best_epoch, self.best_score = state_dict["best_epoch"], state_dict["best_score"]

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Judge the epoch, keep its weights where they are the best, and write the checkpoints."""
        module = cast(NetworkModule, pl_module)
        entry = module.epoch_entry()
        score = self._score(entry)
        if module.schedules is not None:
            module.schedules.after_epoch(score)
        better = score > self.best_score or not self.best_epoch
        if better:
            weights = module.network.state_dict() if self.average is None else self.average.weights
            weights = {name: tensor.detach().clone() for name, tensor in weights.items()}
            self.best_weights, self.best_epoch, self.best_score = weights, entry["epoch"], score
        if self.average is not None:
            self.average.after_epoch(score)
        self.history.append(entry)
        if self.recorder is not None and trainer.is_global_zero:
            # Before the checkpoint: a run that is killed between the two hides what is recorded of the epoch twice.
            self.recorder.write(self.history)
        if self.folder is not None:
            trainer.save_checkpoint(self.folder.last)
            if better and trainer.is_global_zero:
                self.folder.keep_best()
        if not self.settings.verbose and trainer.is_global_zero:  # last, so that an epoch that is told of is kept
            _log.info(epoch_line(entry, self.settings.max_epochs, better))
        trainer.should_stop = trainer.should_stop or self.finished  # a callback may have stopped it already

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Record which epoch was kept."""
        if self.recorder is not None and self.best_epoch and trainer.is_global_zero:
            self.recorder.finish(self.history, self.best_epoch)

    def _score(self, entry: dict[str, Any]) -> float:
        """The monitored metric, turned so that higher is better."""
        if entry["validation_loss"] is None:
            # Without validation data nothing can be chosen, and the last epoch is the best one.
            return float(entry["epoch"])
        name = f"validation_{self.settings.monitor}"
        if entry.get(name) is None:
            known = [key.removeprefix("validation_") for key, value in entry.items() if key.startswith("validation_")]
            raise TidegateError(f"monitor={self.settings.monitor!r} was not measured; measured are {', '.join(known)}")
        value = self.settings.sign * entry[name]
        return value if math.isfinite(value) else -math.inf
