"""An exponential moving average of the weights, which is what validation judges and what is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_multi_avg_fn

__all__ = ["TriggeredAverage", "WeightAverage", "averaged_weights"]

_STATE_KEY = "tidegate-average"


class _Average(AveragedModel):
    """The average of a network's parameters, whose buffers are the network's own.

    Torch copies all buffers at every step, and a tagger's word vectors that stay are one of many megabytes.
    """

    def __init__(self, network: nn.Module, update: Callable[[Any, Any, Tensor | int], None]) -> None:
        super().__init__(network, multi_avg_fn=update)
        self.update = update
        for own, copied in zip(network.modules(), self.module.modules(), strict=True):
            for name, buffer in own.named_buffers(recurse=False):
                copied.register_buffer(name, buffer, persistent=name not in own._non_persistent_buffers_set)

    def update_parameters(self, model: nn.Module) -> None:
        with torch.no_grad():
            averages = [average.detach() for average in self.module.parameters()]
            weights = [
                weight.detach().to(average.device) for average, weight in zip(averages, model.parameters(), strict=True)
            ]
            if self.n_averaged:
                self.update(averages, weights, self.n_averaged)
            else:
                for average, weight in zip(averages, weights, strict=True):
                    average.copy_(weight)
            self.n_averaged += 1


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
        self.average = _Average(network, update)
        self._steps = -1

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

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Know the steps that were made before, in a resumed run too: a batch that is accumulated is none."""
        self._steps = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Take the weights of a step into the average; a batch that is only accumulated is none."""
        if trainer.global_step != self._steps:
            self._steps = trainer.global_step
            self.average.update_parameters(self.network)

    def after_epoch(self, score: float) -> None:
        """An epoch was judged; higher is better."""

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


class TriggeredAverage(WeightAverage):
    """The mean of all weights since validation stood still: averaged SGD as AWD-LSTM has it (Merity et al. 2018).

    Averaging starts after the first epoch that is no better than the best one before the last `trigger` ones; until
    then the network keeps its own weights.

    Args:
        network: What is averaged.
        trigger: Epochs that may pass without improvement.
    """

    def __init__(self, network: nn.Module, trigger: int) -> None:
        self.network = network
        self.average = _Average(network, get_swa_multi_avg_fn())
        self.trigger = trigger
        self.scores: list[float] = []
        self.started = False
        self._steps = -1

    @property
    def weights(self) -> dict[str, Tensor]:
        """The averages, or before there are any the weights of the network."""
        return super().weights if self._any else self.network.state_dict()

    @property
    def _any(self) -> bool:
        return bool(self.average.n_averaged)

    def state_dict(self) -> dict[str, Any]:
        """The averages and what started them, for a checkpoint."""
        return {"scores": self.scores, "started": self.started, **(self.average.state_dict() if self._any else {})}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the averages of a checkpoint."""
        averages = dict(state_dict)
        self.scores, self.started = list(averages.pop("scores")), averages.pop("started")
        if averages:
            self.average.load_state_dict(averages)

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Take the weights of a step into the average, once it has started."""
        if self.started:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def after_epoch(self, score: float) -> None:
        """Start the average where validation stands still."""
        earlier = self.scores[: -self.trigger]
        self.started = self.started or bool(earlier and score <= max(earlier))
        self.scores.append(score)

    def _swap(self) -> None:
        if self._any:
            super()._swap()


def averaged_weights(checkpoint: dict[str, Any]) -> dict[str, Tensor] | None:
    """The averages by the names of the network's weights in a checkpoint; None where nothing was averaged."""
    state = checkpoint["callbacks"].get(_STATE_KEY)
    prefix = "module."
    if not state or "n_averaged" not in state:
        return None
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
