"""Schedules of the learning rate, by name, on torch's own; their state goes into the checkpoints of a run."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
    StepLR,
)

from tidegate.errors import nearest

if TYPE_CHECKING:
    from tidegate.training.settings import FitSettings

__all__ = ["CYCLES", "SCHEDULES", "SLANTED", "Schedules", "check_schedule"]

SCHEDULES = ("constant", "step", "plateau", "cosine", "linear", "one-cycle", "cyclic")
# These end with the last epoch, so that a run cannot be made longer when it is resumed.
SLANTED = ("cosine", "linear", "one-cycle", "cyclic")
_DECAYING = ("step", "plateau")
CYCLES = 5
_START = 1e-3  # share of the rate that a warm-up starts from


def check_schedule(settings: FitSettings) -> None:
    """Refuse a schedule that is not known, and an argument that it does not have or that is out of range.

    Raises:
        ValueError: The message says what is legal.
    """
    name = settings.schedule
    if name not in SCHEDULES:
        raise ValueError(
            f"schedule must be one of {', '.join(SCHEDULES)}; found {name!r}.{nearest(str(name), SCHEDULES)}"
        )
    for argument in ("decay_factor", "decay_epochs"):
        if getattr(settings, argument) is not None and name not in _DECAYING:
            raise ValueError(f"{argument} has no effect with schedule={name!r}; it belongs to {', '.join(_DECAYING)}")
    if settings.decay_factor is not None and not 0 < settings.decay_factor < 1:
        raise ValueError(f"decay_factor must be between 0 and 1; found {settings.decay_factor!r}")
    epochs = settings.decay_epochs
    if epochs is not None and (not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 1):
        raise ValueError(f"decay_epochs must be a whole number of at least 1; found {epochs!r}")
    if not 0 <= settings.warmup_epochs <= settings.max_epochs:
        raise ValueError(
            f"warmup_epochs must be from 0 to max_epochs={settings.max_epochs}; found {settings.warmup_epochs!r}"
        )
    if settings.warmup_epochs and name == "one-cycle":
        raise ValueError("schedule='one-cycle' has a warm-up of its own; remove warmup_epochs")
    if settings.warmup_epochs and name == "cyclic":
        raise ValueError("schedule='cyclic' begins each cycle at the whole rate; remove warmup_epochs")
    cycles = settings.cycles
    if cycles is not None and name != "cyclic":
        raise ValueError(f"cycles has no effect with schedule={name!r}; it belongs to cyclic")
    if cycles is not None and (not isinstance(cycles, int) or isinstance(cycles, bool) or cycles < 1):
        raise ValueError(f"cycles must be a whole number of at least 1; found {cycles!r}")
    if name == "cyclic" and settings.max_epochs % (cycles or CYCLES):
        raise ValueError(
            f"schedule='cyclic' needs cycles of whole epochs; found max_epochs={settings.max_epochs} and "
            f"{cycles or CYCLES} cycles: set max_epochs to a multiple of cycles"
        )


class Schedules:
    """The course of the learning rate over a run.

    ``step`` multiplies it by `decay_factor` (0.1) each `decay_epochs` (1) epochs, ``plateau`` by `decay_factor` (0.5)
    when the monitored metric was no better for `decay_epochs` (2) epochs; ``cosine`` (Loshchilov & Hutter 2017, without
    restarts) and ``linear`` go to 0 over the run, ``cyclic`` as ``cosine`` over each of `cycles` (5) equal parts of it
    (Huang et al. 2017), ``one-cycle`` (Smith & Topin 2019) rises for three tenths of the run and falls. A warm-up goes
    from a thousandth to the whole rate and multiplies what the schedule says.

    Args:
        optimizer: Whose rates change.
        settings: The schedule and its arguments.
        updates: Optimiser steps of an epoch.
    """

    def __init__(self, optimizer: Optimizer, settings: FitSettings, updates: int) -> None:
        total = updates * settings.max_epochs
        self.by_update: list[LRScheduler] = []
        self.by_epoch: StepLR | ReduceLROnPlateau | None = None
        factor, epochs = settings.decay_factor, settings.decay_epochs
        match settings.schedule:
            case "cosine":
                self.by_update.append(CosineAnnealingLR(optimizer, T_max=total))
            case "cyclic":
                self.by_update.append(CosineAnnealingWarmRestarts(optimizer, total // (settings.cycles or CYCLES)))
            case "linear":
                self.by_update.append(LinearLR(optimizer, 1.0, 0.0, total_iters=total))
            case "one-cycle":
                highest = [group["lr"] for group in optimizer.param_groups]
                name = settings.optimizer
                moves = name in ("adam", "adamw") or bool(settings.momentum)
                # One step more than there is: torch raises after the last, and the last step should not be at zero.
                self.by_update.append(OneCycleLR(optimizer, highest, total_steps=total + 1, cycle_momentum=moves))
            case "step":
                self.by_epoch = StepLR(optimizer, epochs or 1, gamma=factor or 0.1)
            case "plateau":
                # Better is what is better, as for the choice of the epoch: no threshold, and no rate too small to cut.
                exact = {"threshold": 0.0, "threshold_mode": "abs", "eps": 0.0}
                self.by_epoch = ReduceLROnPlateau(optimizer, "max", factor or 0.5, (epochs or 2) - 1, **exact)
        if warmup := round(settings.warmup_epochs * updates):
            self.by_update.append(LinearLR(optimizer, _START, 1.0, total_iters=warmup))

    def after_update(self) -> None:
        """A step of the optimiser was made."""
        for schedule in self.by_update:
            with warnings.catch_warnings():
                # Where float16's scaler skipped the first step, the order is right and torch cannot see it.
                warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
                schedule.step()

    def after_epoch(self, score: float) -> None:
        """An epoch was finished, and its monitored metric turned so that higher is better."""
        if isinstance(self.by_epoch, ReduceLROnPlateau):
            self.by_epoch.step(score)
        elif self.by_epoch is not None:
            self.by_epoch.step()

    def state_dict(self) -> list[dict[str, Any]]:
        """Plain values for a checkpoint."""
        return [schedule.state_dict() for schedule in self._all()]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Go on from a checkpoint."""
        for schedule, state in zip(self._all(), states, strict=True):
            schedule.load_state_dict(state)

    def _all(self) -> list[Any]:
        return [*self.by_update, *([] if self.by_epoch is None else [self.by_epoch])]
