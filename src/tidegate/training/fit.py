"""Training of a network on Lightning: the best epoch kept, early stopping, checkpoints, and runs that repeat.

Every draw is seeded from (random_state, stream, epoch, step), so a run that was killed and resumed from its last
finished epoch ends with the same weights, bit for bit, as one that never stopped.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor, nn

from tidegate.errors import TidegateError
from tidegate.training.averaging import TriggeredAverage, WeightAverage, averaged_weights
from tidegate.training.checkpoints import AtomicCheckpoints, CheckpointFolder
from tidegate.training.module import DivergenceError, NetworkModule
from tidegate.training.optimizers import AVERAGE_TRIGGER
from tidegate.training.precision import PRECISIONS
from tidegate.training.processes import Processes, make_strategy, shared_source
from tidegate.training.progress import Progress
from tidegate.training.records import Record, Recorder
from tidegate.training.selection import Selection
from tidegate.training.settings import BatchSource, FitResult, FitSettings, Trainable

__all__ = [
    "BatchSource",
    "FitResult",
    "FitSettings",
    "Trainable",
    "fit",
    "make_average",
    "make_trainer",
    "quiet_lightning",
]

_log = logging.getLogger(__name__)


def fit(
    network: nn.Module,
    train: BatchSource,
    validation: BatchSource | None,
    settings: FitSettings,
    *,
    run_folder: Path | None = None,
    resume: bool = False,
    fingerprint: Mapping[str, Any] | None = None,
    callbacks: Sequence[lightning.Callback] = (),
    loggers: Sequence[Record | Logger] = (),
    hyperparameters: Mapping[str, Any] | None = None,
) -> FitResult:
    """Train a network in place and leave it with the weights of its best epoch.

    Args:
        network: A module that is :class:`Trainable`.
        train: Batches to learn from.
        validation: Batches that choose the epoch; without them the last epoch is kept.
        settings: How to train.
        run_folder: Where ``checkpoints/last.ckpt`` and ``checkpoints/best.ckpt`` go; None writes nothing.
        resume: Whether to go on from ``last.ckpt`` where there is one.
        fingerprint: What must be equal between a run and its resumption: plain values by name.
        callbacks: Further callbacks of Lightning's, called before the epoch is judged.
        loggers: Where the epochs are recorded, beside ``epochs.csv`` in `run_folder`.
        hyperparameters: What the records say that the network is made of.

    Returns:
        The history and the epoch chosen. After Ctrl-C, when at least one epoch was finished, ``interrupted`` is set and
        the network holds the best weights so far.

    Raises:
        KeyboardInterrupt: Ctrl-C came before the first epoch was finished.
        TidegateError: The loss is not finite before an epoch was finished, a checkpoint cannot be written, or the one
            to resume from is unreadable or of another run.
        ValueError: A setting needs validation data, and there are none.
    """
    fingerprint = {} if fingerprint is None else fingerprint
    folder = None if run_folder is None else CheckpointFolder(run_folder)
    average = make_average(network, settings)
    if validation is None and (settings.schedule == "plateau" or settings.optimizer == "asgd"):
        what = "schedule='plateau'" if settings.schedule == "plateau" else "optimizer='asgd'"
        raise ValueError(f"{what} follows a validation metric, and there are no validation data")
    selection = Selection(settings, folder, fingerprint, average)
    resume_from: Path | None = None
    if folder is not None:
        resume_from = folder.prepare(resume)
        if resume_from is not None:
            state, best = folder.resume(fingerprint, network)
            selection.load_state_dict(state)
            selection.best_weights = _network_weights(best)
            _log.info("resuming after epoch %d from %s", len(selection.history), resume_from)

    at = None if run_folder is None else Path(run_folder)
    selection.recorder = Recorder(loggers, at, hyperparameters or {}, selection.history)
    interrupted, divergence = False, ""
    device = torch.device(settings.device)
    if not selection.finished:
        strategy: DDPStrategy | None = None
        running: AbstractContextManager[None] = nullcontext()
        if settings.devices > 1:
            job = {
                "network": copy.deepcopy(network).cpu(),
                "held": getattr(network, "held", None),  # what a network reads beside its weights, and copies without
                "train": train,
                "validation": validation,
                "settings": dataclasses.replace(settings, verbose=False),
                "callbacks": list(callbacks),
                "folder": folder,
                "fingerprint": dict(fingerprint),
                "state": selection.state_dict() if selection.history else None,
                "resume_from": None if resume_from is None else str(resume_from),
            }
            train = shared_source(train, 0, settings.devices)
            validation = None if validation is None else shared_source(validation, 0, settings.devices)
            processes = Processes(job, settings.devices, device)
            strategy, running = make_strategy(0, settings.devices, processes.port, device), processes.running()
        module = NetworkModule(network, train, validation, settings)
        every = [*([] if average is None else [average]), *callbacks, selection]
        if settings.verbose:
            every.append(Progress(settings.max_epochs, lambda: (selection.history[-1], selection.best_epoch)))
        forked = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
        with quiet_lightning(), forked, running:
            loggers = selection.recorder.loggers
            trainer = make_trainer(settings, every, loggers, validated=validation is not None, strategy=strategy)
            try:
                interrupted = _run(trainer, module, resume_from)
            except DivergenceError as error:
                divergence = str(error)
        if interrupted and not selection.best_epoch:
            raise KeyboardInterrupt
        if divergence and not selection.best_epoch:
            raise TidegateError(divergence)
    for parameter in network.parameters():
        parameter.requires_grad_(True)  # parts may have rested
    if divergence:
        warnings.warn(f"{divergence}; the weights of epoch {selection.best_epoch} are kept", stacklevel=2)
    network.load_state_dict(selection.best_weights)
    return FitResult(selection.history, selection.best_epoch, interrupted)


def make_average(network: nn.Module, settings: FitSettings) -> WeightAverage | None:
    """The average of the weights that the settings ask for, or None."""
    if settings.optimizer == "asgd":
        return TriggeredAverage(network, settings.average_trigger or AVERAGE_TRIGGER)
    return None if settings.ema_decay is None else WeightAverage(network, settings.ema_decay)


def make_trainer(
    settings: FitSettings,
    callbacks: list[lightning.Callback],
    loggers: list[Logger],
    *,
    validated: bool,
    strategy: DDPStrategy | None = None,
) -> lightning.Trainer:
    """Lightning's trainer as a fit needs it: of this process alone, or with a strategy one of several."""
    device = torch.device(settings.device)
    one = [device.index or 0] if device.type == "cuda" else 1
    return lightning.Trainer(
        accelerator="gpu" if device.type == "cuda" else device.type,
        devices=one if strategy is None else settings.devices,
        strategy="auto" if strategy is None else strategy,
        max_epochs=settings.max_epochs,
        accumulate_grad_batches=settings.accumulate,
        precision=PRECISIONS[settings.precision],  # pyright: ignore[reportArgumentType]
        callbacks=callbacks,
        plugins=[AtomicCheckpoints(), *([LightningEnvironment()] if strategy is None else [])],
        use_distributed_sampler=False,
        logger=loggers or False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=1.0 if validated else 0,
    )


def _run(trainer: lightning.Trainer, module: NetworkModule, resume_from: Path | None) -> bool:
    """Run the trainer; True when Ctrl-C ended it."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(module, ckpt_path=None if resume_from is None else str(resume_from))
    except SIGTERMException:
        raise
    except (KeyboardInterrupt, SystemExit):
        # Lightning turns Ctrl-C into an exit of its own and leaves SIGINT ignored.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
        return True
    return False


def _network_weights(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    averages = averaged_weights(checkpoint)
    if averages is not None:
        return averages
    prefix = "network."
    return {name.removeprefix(prefix): tensor for name, tensor in checkpoint["state_dict"].items()}


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Lightning without its banners, tips and advice on workers; its errors still speak."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
