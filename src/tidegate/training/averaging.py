"""An exponential moving average of the weights, which is what validation judges and what is kept."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

__all__ = ["WeightAverage", "averaged_weights"]

_STATE_KEY = "tidegate-average"


class WeightAverage(lightning.Callback):
    """Averages a network's weights over the steps of its training (Polyak & Juditsky 1992).

    After step s, counted from 1, ``average += (1 - d) (weights - average)`` with ``d = min(decay, s / (s + 9))``, so
    that the first steps, far from any good, are soon forgotten. During validation the network holds the average; it
    goes on training from its own weights.

    Args:
        network: What is averaged: the attribute ``network`` of the module that is trained.
        decay: In (0, 1); about ``1 / (1 - decay)`` steps are averaged.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        def update(averages: Any, weights: Any, steps: Tensor | int) -> None:
            kept = min(decay, (int(steps) + 1) / (int(steps) + 10))
            get_ema_multi_avg_fn(kept)(averages, weights, steps)

        self.network = network
        self.average = AveragedModel(network, multi_avg_fn=update)

    @property
    def weights(self) -> dict[str, Tensor]:
        """The averages by the names of the network's weights."""
        return self.average.module.state_dict()

    @property
    def state_key(self) -> str:
        """The key of the averages in a checkpoint."""
        return _STATE_KEY

    def state_dict(self) -> dict[str, Any]:
        """The averages and their count, for a checkpoint."""
        return self.average.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the averages of a checkpoint."""
        self.average.load_state_dict(state_dict)

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Take the weights of a step into the average."""
        self.average.update_parameters(self.network)

    def on_validation_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Let the network hold the average."""
        self._swap()

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Give the network its own weights back."""
        self._swap()

    def _swap(self) -> None:
        with torch.no_grad():
            for average, weight in zip(self.average.module.parameters(), self.network.parameters(), strict=True):
                held = average.clone()
                average.copy_(weight)
                weight.copy_(held)


def averaged_weights(checkpoint: dict[str, Any]) -> dict[str, Tensor] | None:
    """The averages by the names of the network's weights in a checkpoint; None where nothing was averaged."""
    state = checkpoint["callbacks"].get(_STATE_KEY)
    prefix = "module."
    return state and {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
