"""Training of a network on Lightning: the best epoch kept, early stopping, checkpoints, and runs that repeat.

Every draw is seeded from (random_state, stream, epoch, step), so a run that was killed and resumed from its last
finished epoch ends with the same weights, bit for bit, as one that never stopped.
"""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import lightning
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor, nn

from tidegate.data.batch import Batch
from tidegate.data.seeds import derive_seed
from tidegate.errors import TidegateError
from tidegate.training.averaging import WeightAverage, averaged_weights
from tidegate.training.checkpoints import AtomicCheckpoints, CheckpointFolder, read_checkpoint
from tidegate.training.progress import Progress, epoch_line

__all__ = ["BatchSource", "FitResult", "FitSettings", "Trainable", "fit"]

_log = logging.getLogger(__name__)
_MONITORS = {
    "accuracy": ("validation_accuracy", 1.0),
    "loss": ("validation_loss", -1.0),
    "f1": ("validation_f1", 1.0),
}


class Trainable(Protocol):
    """What training asks of a network: a loss and its metrics, each as (sum, count) over a batch."""

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The weighted sum of the losses and the sum of the weights; their quotient is minimised."""
        ...

    def measure(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """Sum and count of each validation metric, ``loss`` among them."""
        ...


class BatchSource(Protocol):
    """The batches of a data set, the same ones whenever the same epoch is asked for."""

    def __len__(self) -> int: ...

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch, counted from 0."""
        ...


@dataclass(frozen=True)
class FitSettings:
    """How to train.

    Attributes:
        learning_rate: Step size of AdamW.
        weight_decay: Decoupled weight decay of AdamW.
        max_epochs: Epochs at most.
        patience: Epochs without a better `monitor` before training stops.
        monitor: The validation metric that chooses the epoch: ``"accuracy"``, ``"loss"`` or ``"f1"``.
        gradient_clip: Largest norm of the gradient, or None.
        ema_decay: Decay of the moving average of the weights, in (0, 1), which is then what validation judges and what
            is kept; None keeps the weights of the last step.
        random_state: Seed of every draw.
        device: ``"cpu"`` or ``"cuda"``, with an index or without.
        verbose: Whether to show progress on standard error; otherwise a line an epoch goes to the log at INFO.
    """

    learning_rate: float
    weight_decay: float
    max_epochs: int
    patience: int
    monitor: str
    gradient_clip: float | None
    ema_decay: float | None
    random_state: int
    device: str
    verbose: bool


@dataclass(frozen=True)
class FitResult:
    """What training did.

    Attributes:
        history: One dict a finished epoch: ``epoch`` (from 1), ``train_loss``, ``validation_loss`` and
            ``validation_accuracy`` (None without validation data), ``validation_`` with the name of whatever else the
            network measures, ``tokens_per_second``, ``seconds``.
        best_epoch: The epoch whose weights the network holds now, from 1.
        interrupted: Whether Ctrl-C ended training.
    """

    history: list[dict[str, Any]]
    best_epoch: int
    interrupted: bool


class _Epochs:
    """What Lightning iterates: the training batches of the epoch at hand."""

    def __init__(self, module: _Module) -> None:
        self.module = module

    def __len__(self) -> int:
        return len(self.module.train_source)

    def __iter__(self) -> Iterator[Batch]:
        # A generator, since Lightning asks for the iterator of a resumed run before it counts the epoch that is done.
        yield from self.module.train_source.epoch(self.module.current_epoch)


class _Validation:
    """What Lightning iterates: the validation batches, the same in every epoch."""

    def __init__(self, source: BatchSource) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[Batch]:
        return self.source.epoch(0)


class _Module(lightning.LightningModule):
    """The network as Lightning wants it."""

    def __init__(self, network: nn.Module, train: BatchSource, validation: BatchSource | None, settings: FitSettings):
        super().__init__()
        self.network = network
        self.settings = settings
        self.train_source, self.validation_source = train, validation
        self.train_sums: Tensor | None = None
        self.validation_sums: dict[str, Tensor] = {}
        self.tokens = 0
        self.train_seconds = 0.0
        self.epoch_started = 0.0

    def train_dataloader(self) -> Any:
        return _Epochs(self)

    def val_dataloader(self) -> Any:
        return [] if self.validation_source is None else _Validation(self.validation_source)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        return batch if device.type == "cpu" else batch.to(device)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        # Fused, the step over a table of 30,000 x 128 embeddings takes a sixth of the time of the other forms on a CPU.
        return torch.optim.AdamW(
            self.network.parameters(),
            lr=self.settings.learning_rate,
            weight_decay=self.settings.weight_decay,
            fused=True,
        )

    def on_train_epoch_start(self) -> None:
        self.epoch_started = time.perf_counter()
        self.train_sums, self.tokens = None, 0
        # A network may train its parts from different epochs on.
        if callable(begin_epoch := getattr(self.network, "begin_epoch", None)):
            begin_epoch(self.current_epoch)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        _seed(self.device, derive_seed(self.settings.random_state, "step", self.current_epoch, batch_idx))
        total, count = cast(Trainable, self.network).loss(batch)
        sums = torch.stack([total.detach(), count])
        self.train_sums = sums if self.train_sums is None else self.train_sums + sums
        self.tokens += batch.num_values
        return total / count.clamp(min=torch.finfo(total.dtype).tiny)

    def on_validation_epoch_start(self) -> None:
        self.train_seconds = time.perf_counter() - self.epoch_started
        self.validation_sums = {}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        for name, (total, count) in cast(Trainable, self.network).measure(batch).items():
            sums = torch.stack([total, count])
            self.validation_sums[name] = self.validation_sums[name] + sums if name in self.validation_sums else sums

    def on_validation_epoch_end(self) -> None:
        self.log_dict({f"validation_{name}": _quotient(sums) for name, sums in self.validation_sums.items()})

    def epoch_entry(self) -> dict[str, Any]:
        if self.validation_source is None:
            self.train_seconds = time.perf_counter() - self.epoch_started
        train_loss = math.nan if self.train_sums is None else _quotient(self.train_sums)
        measured = {name: _quotient(sums) for name, sums in self.validation_sums.items()}
        return {
            "epoch": self.current_epoch + 1,
            "train_loss": train_loss,
            "validation_loss": measured.get("loss"),
            "validation_accuracy": measured.get("accuracy"),
            **{f"validation_{name}": value for name, value in measured.items() if name not in ("loss", "accuracy")},
            "tokens_per_second": self.tokens / max(self.train_seconds, 1e-9),
            "seconds": time.perf_counter() - self.epoch_started,
        }


def _seed(device: torch.device, seed: int) -> None:
    # torch.manual_seed also formats a stack trace for each kind of accelerator that is absent: a millisecond a step.
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def _quotient(sums: Tensor) -> float:
    total, count = sums.tolist()
    return total / count if count else math.nan


class _Selection(lightning.Callback):
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
        self.diverged = False
        self.best_weights: dict[str, Tensor] = {}

    @property
    def finished(self) -> bool:
        done = len(self.history)
        stalled = bool(done) and done - self.best_epoch >= self.settings.patience
        return self.diverged or stalled or done >= self.settings.max_epochs

    @property
    def state_key(self) -> str:
        return "tidegate"

    def state_dict(self) -> dict[str, Any]:
        return {
            "history": self.history,
            "best_epoch": self.best_epoch,
            "best_score": self.best_score,
            "diverged": self.diverged,
            "fingerprint": self.fingerprint,
            "random_state": self.settings.random_state,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = list(state_dict["history"])
        self.best_epoch, self.best_score = state_dict["best_epoch"], state_dict["best_score"]
        self.diverged = state_dict["diverged"]

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        module = cast(_Module, pl_module)
        entry = module.epoch_entry()
        finite = math.isfinite(entry["train_loss"])
        if not finite and not self.best_epoch:
            raise TidegateError(
                f"training diverged in epoch {entry['epoch']}: the training loss is {entry['train_loss']}; "
                f"lower learning_rate (now {self.settings.learning_rate}) or gradient_clip "
                f"(now {self.settings.gradient_clip})"
            )
        score = self._score(entry)
        better = finite and (score > self.best_score or not self.best_epoch)
        if better:
            weights = module.network.state_dict() if self.average is None else self.average.weights
            weights = {name: tensor.detach().clone() for name, tensor in weights.items()}
            self.best_weights, self.best_epoch, self.best_score = weights, entry["epoch"], score
        self.history.append(entry)
        self.diverged = not finite
        if not self.settings.verbose:
            _log.info(epoch_line(entry, self.settings.max_epochs, better))
        if self.folder is not None:
            if better:
                trainer.save_checkpoint(self.folder.best)
            trainer.save_checkpoint(self.folder.last)
        trainer.should_stop = self.finished

    def _score(self, entry: dict[str, Any]) -> float:
        name, sign = _MONITORS[self.settings.monitor]
        # Without validation data nothing can be chosen, and the last epoch is the best one.
        value = entry["epoch"] if entry.get(name) is None else sign * entry[name]
        return value if math.isfinite(value) else -math.inf


def fit(
    network: nn.Module,
    train: BatchSource,
    validation: BatchSource | None,
    settings: FitSettings,
    *,
    run_folder: Path | None = None,
    resume: bool = False,
    fingerprint: Mapping[str, Any] | None = None,
) -> FitResult:
    """Train a network in place and leave it with the weights of its best epoch.

    Args:
        network: A module that is :class:`Trainable`.
        train: Batches to learn from.
        validation: Batches that choose the epoch; without them the last epoch is kept.
        settings: How to train.
        run_folder: Where ``checkpoints/best.ckpt`` and ``checkpoints/last.ckpt`` go; None writes nothing.
        resume: Whether to go on from ``last.ckpt`` where there is one.
        fingerprint: What must be equal between a run and its resumption: plain values by name.

    Returns:
        The history and the epoch chosen. After Ctrl-C, when at least one epoch was finished, ``interrupted`` is set and
        the network holds the best weights so far.

    Raises:
        KeyboardInterrupt: Ctrl-C came before the first epoch was finished.
        TidegateError: The loss is not finite, a checkpoint cannot be written, or the one to resume from is unreadable
            or of another run.
    """
    fingerprint = {} if fingerprint is None else fingerprint
    folder = None if run_folder is None else CheckpointFolder(run_folder)
    average = None if settings.ema_decay is None else WeightAverage(network, settings.ema_decay)
    selection = _Selection(settings, folder, fingerprint, average)
    resume_from: Path | None = None
    if folder is not None:
        resume_from = folder.prepare(resume)
        if resume_from is not None:
            selection.load_state_dict(folder.resumable_state(fingerprint))
            selection.best_weights = _network_weights(read_checkpoint(folder.best))
            _log.info("resuming after epoch %d from %s", len(selection.history), resume_from)

    interrupted = False
    device = torch.device(settings.device)
    if not selection.finished:
        module = _Module(network, train, validation, settings)
        callbacks: list[lightning.Callback] = [selection] if average is None else [average, selection]
        if settings.verbose:
            callbacks.append(Progress(settings.max_epochs, lambda: (selection.history[-1], selection.best_epoch)))
        with _quiet(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            trainer = _trainer(settings, device, callbacks, validated=validation is not None)
            interrupted = _run(trainer, module, resume_from)
        if interrupted and not selection.best_epoch:
            raise KeyboardInterrupt
    if selection.diverged:
        warnings.warn(
            f"training diverged in epoch {len(selection.history)} (loss {selection.history[-1]['train_loss']}); "
            f"the weights of epoch {selection.best_epoch} are kept",
            stacklevel=2,
        )
    network.load_state_dict(selection.best_weights)
    return FitResult(selection.history, selection.best_epoch, interrupted)


def _trainer(
    settings: FitSettings, device: torch.device, callbacks: list[lightning.Callback], validated: bool
) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator="gpu" if device.type == "cuda" else device.type,
        devices=[device.index or 0] if device.type == "cuda" else 1,
        max_epochs=settings.max_epochs,
        gradient_clip_val=settings.gradient_clip,
        callbacks=callbacks,
        plugins=[AtomicCheckpoints(), LightningEnvironment()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=1.0 if validated else 0,
    )


def _run(trainer: lightning.Trainer, module: _Module, resume_from: Path | None) -> bool:
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
def _quiet() -> Iterator[None]:
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
