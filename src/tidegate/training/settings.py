"""How a network is trained, as one frozen value, and what training gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray
from torch import Tensor

from tidegate.data.batch import Batch
from tidegate.errors import nearest
from tidegate.reporting.scores import sign_of
from tidegate.training.optimizers import check_optimizer
from tidegate.training.precision import describe_precision
from tidegate.training.processes import check_devices
from tidegate.training.schedules import check_schedule

__all__ = ["FROZEN", "PENALIZED", "BatchSource", "FitResult", "FitSettings", "Score", "Trainable"]

FROZEN = ("embedding", "encoder")
PENALIZED = ("weights", "embedding", "recurrent", "head", "all")
# From the targets and outputs of all validation rows, and their weights or None, to a figure.
Score = Callable[[NDArray[Any], NDArray[Any], NDArray[Any] | None], float]


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
    """How to train. None stands for the usual value of the optimiser or schedule.

    Attributes:
        learning_rate: Step size; the highest one, where a schedule changes it.
        weight_decay: Of AdamW decoupled, of the others an L2 penalty in the gradient.
        max_epochs: Epochs at most.
        patience: Epochs without a better `monitor` before training stops.
        monitor: The validation metric that chooses the epoch: ``"loss"``, ``"accuracy"`` or another one measured.
        gradient_clip: Largest norm of the gradient, or None.
        ema_decay: Decay of the moving average of the weights, in (0, 1), which is then what validation judges and what
            is kept; None keeps the weights of the last step.
        random_state: Seed of every draw.
        device: ``"cpu"`` or ``"cuda"``, with an index or without.
        verbose: Whether to show progress on standard error; otherwise a line an epoch goes to the log at INFO.
        optimizer: One of :data:`~tidegate.training.optimizers.OPTIMIZERS`.
        momentum, nesterov, beta1, beta2, epsilon, average_trigger: Of the optimisers that have them.
        schedule: One of :data:`~tidegate.training.schedules.SCHEDULES`.
        warmup_epochs: Epochs over which the rate rises from nearly 0, in fractions too.
        decay_factor, decay_epochs: Of the schedules ``step`` and ``plateau``.
        cycles: Of the schedule ``cyclic``.
        gradient_clip_value: Largest absolute value of a gradient's entries, or None; before the norm.
        accumulate: Batches whose losses and counts are summed before a step.
        l1, l2: Penalties of the sum of absolute values and of squares.
        penalized: Which parameters they are for, one of :data:`PENALIZED`.
        precision: A key of :data:`~tidegate.training.precision.PRECISIONS`.
        frozen: What does not learn, one of :data:`FROZEN`, or None.
        unfreeze_every: Epochs after which one part more begins to learn, the highest first (Howard & Ruder 2018); None
            trains all from the beginning.
        layer_rate_decay: What the learning rate is multiplied by from each part to the one below it.
        score: What measures `monitor` from all validation rows at once, where the network does not measure it row by
            row; the network then has ``judge(batch)``, which gives what ``measure`` gives and the outputs ``[B, ...]``.
        devices: Processes that train side by side, each on a part of every batch: on one CPU, or on a GPU each.
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
    optimizer: str = "adamw"
    momentum: float | None = None
    nesterov: bool = False
    beta1: float | None = None
    beta2: float | None = None
    epsilon: float | None = None
    average_trigger: int | None = None
    schedule: str = "constant"
    warmup_epochs: float = 0.0
    decay_factor: float | None = None
    decay_epochs: int | None = None
    cycles: int | None = None
    gradient_clip_value: float | None = None
    accumulate: int = 1
    l1: float = 0.0
    l2: float = 0.0
    penalized: str = "weights"
    precision: str = "float32"
    frozen: str | None = None
    unfreeze_every: int | None = None
    layer_rate_decay: float = 1.0
    score: Score | None = None
    devices: int = 1

    def __post_init__(self) -> None:
        describe_precision(self.precision, self.device)
        check_devices(self.devices, self.device)
        check_optimizer(self)
        check_schedule(self)
        if self.penalized not in PENALIZED:
            raise ValueError(
                f"penalized must be one of {', '.join(PENALIZED)}; found {self.penalized!r}."
                f"{nearest(str(self.penalized), PENALIZED)}"
            )
        if self.penalized != "weights" and not self.l1 and not self.l2:
            raise ValueError(f"penalized={self.penalized!r} has no effect without l1 or l2; set one of them")
        if self.frozen is not None and self.frozen not in FROZEN:
            raise ValueError(
                f"frozen must be one of {', '.join(FROZEN)}, or None; found {self.frozen!r}."
                f"{nearest(str(self.frozen), FROZEN)}"
            )
        every = self.unfreeze_every
        if every is not None and (not isinstance(every, int) or isinstance(every, bool) or every < 1):
            raise ValueError(f"unfreeze_every must be a whole number of at least 1, or None; found {every!r}")
        if not 0 < self.layer_rate_decay <= 1:
            raise ValueError(f"layer_rate_decay must be above 0 and at most 1; found {self.layer_rate_decay!r}")
        for name in ("l1", "l2"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative; found {getattr(self, name)!r}")
        if self.gradient_clip_value is not None and not self.gradient_clip_value > 0:
            raise ValueError(f"gradient_clip_value must be above 0, or None; found {self.gradient_clip_value!r}")
        if not isinstance(self.accumulate, int) or isinstance(self.accumulate, bool) or self.accumulate < 1:
            raise ValueError(f"accumulate must be a whole number of at least 1; found {self.accumulate!r}")

    @property
    def sign(self) -> float:
        """1 where a higher `monitor` is better, else -1."""
        return sign_of(self.monitor)


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
