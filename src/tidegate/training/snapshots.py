"""The weights at the end of each cycle of a cyclic learning rate: an ensemble from one run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import lightning
from torch import Tensor

from tidegate.training.checkpoints import CheckpointFolder, read_checkpoint
from tidegate.training.module import NetworkModule

__all__ = ["Snapshots"]

_STATE_KEY = "tidegate-snapshots"


class Snapshots(lightning.Callback):
    """Keeps the weights of a network whenever a cycle of its schedule is over (Huang et al. 2017, arXiv:1704.00109).

    They go into the run's checkpoints, so that a resumed run has those of the cycles that were finished.

    Args:
        cycles: How many there are.
        max_epochs: Epochs of all together, a multiple of `cycles`.

    Attributes:
        taken: Epoch, counted from 1, to the weights at its end, on the CPU.
    """

    def __init__(self, cycles: int, max_epochs: int) -> None:
        self.every = max_epochs // cycles
        self.taken: dict[int, dict[str, Tensor]] = {}

    @property
    def state_key(self) -> str:
        """The key of the weights in a checkpoint."""
        return _STATE_KEY

    def state_dict(self) -> dict[str, Any]:
        """The weights, for a checkpoint."""
        return {"taken": self.taken}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.taken = dict(state_dict["taken"])

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Take the weights where a cycle ends; the choice of the epoch, which writes the checkpoint, comes later."""
        epoch = pl_module.current_epoch + 1
        if epoch % self.every == 0:
            weights = cast(NetworkModule, pl_module).network.state_dict()
            self.taken[epoch] = {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}

    def read(self, run_folder: Path) -> None:
        """Take those that a finished run has in its last checkpoint.

        Raises:
            TidegateError: It cannot be read.
        """
        self.load_state_dict(read_checkpoint(CheckpointFolder(run_folder).last)["callbacks"][_STATE_KEY])
