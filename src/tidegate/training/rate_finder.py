"""The learning-rate finder: the loss of some steps while the rate rises (Smith 2017, arXiv:1506.01186)."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path

import lightning
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.tuner.tuning import Tuner
from torch import nn

from tidegate.errors import TidegateError
from tidegate.training.fit import quiet_lightning
from tidegate.training.module import DivergenceError, NetworkModule
from tidegate.training.precision import PRECISIONS
from tidegate.training.settings import BatchSource, FitSettings

__all__ = ["FoundRate", "find_learning_rate"]


@dataclass(frozen=True)
class FoundRate:
    """What the finder saw.

    Attributes:
        rates: The learning rate of each step.
        losses: The smoothed loss of each.
        suggestion: The rate at which the loss falls fastest.
    """

    rates: list[float]
    losses: list[float]
    suggestion: float


def find_learning_rate(
    network: nn.Module,
    train: BatchSource,
    settings: FitSettings,
    *,
    lowest: float = 1e-6,
    highest: float = 1.0,
    steps: int = 100,
) -> FoundRate:
    """Train a copy of a network while its learning rate rises from step to step, until the loss explodes.

    Args:
        network: What is to be trained later; it stays as it is.
        train: Its batches.
        settings: How it is to be trained; the schedule is left out.
        lowest: The first rate.
        highest: The last one.
        steps: How many.

    Raises:
        TidegateError: The loss never fell, so that no rate can be suggested.
    """
    plain = dataclasses.replace(
        settings,
        schedule="constant",
        warmup_epochs=0.0,
        decay_factor=None,
        decay_epochs=None,
        accumulate=1,
        unfreeze_every=None,
        ema_decay=None,
        optimizer="sgd" if settings.optimizer == "asgd" else settings.optimizer,
        average_trigger=None,
    )
    module = NetworkModule(copy.deepcopy(network), train, None, plain)
    device = torch.device(settings.device)
    with (
        tempfile.TemporaryDirectory() as folder,
        quiet_lightning(),
        contextlib.redirect_stderr(io.StringIO()),  # where Lightning draws a bar
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
    ):
        trainer = lightning.Trainer(
            accelerator="gpu" if device.type == "cuda" else device.type,
            devices=[device.index or 0] if device.type == "cuda" else 1,
            precision=PRECISIONS[settings.precision],  # pyright: ignore[reportArgumentType]
            max_epochs=-1,
            plugins=[LightningEnvironment()],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=Path(folder),
        )
        try:
            finder = Tuner(trainer).lr_find(
                module,
                min_lr=lowest,
                max_lr=highest,
                num_training=steps,
                early_stop_threshold=4.0,
                update_attr=False,
                attr_name="learning_rate",
            )
        except DivergenceError:
            finder = None
    suggestion = None if finder is None else finder.suggestion()
    if finder is None or suggestion is None:
        raise TidegateError(
            f"the loss did not fall at any learning rate from {lowest:g} to {highest:g}, so none is suggested; look at "
            "the data and the recipe, or set training.learning_rate yourself"
        )
    return FoundRate(list(finder.results["lr"]), list(finder.results["loss"]), float(suggestion))
