"""The network as Lightning trains it: steps, gradients made exact, clipped and penalised, validation sums."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from typing import Any, cast

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tidegate.data.batch import Batch
from tidegate.data.seeds import derive_seed
from tidegate.training.optimizers import make_optimizer
from tidegate.training.parts import learning_parts, parameter_groups
from tidegate.training.schedules import Schedules
from tidegate.training.settings import BatchSource, FitSettings, Score, Trainable

__all__ = ["DivergenceError", "NetworkModule", "penalized_parameters"]

_SCHEDULES = "tidegate-schedules"
_CLIP_MARGIN = 1e-6  # which torch adds to a norm before it divides by it


class DivergenceError(Exception):
    """The loss of a batch is not finite; the message says which batch, and what the step before it did."""


class _Epochs:
    """What Lightning iterates: the training batches of the epoch at hand."""

    def __init__(self, module: NetworkModule) -> None:
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


class NetworkModule(lightning.LightningModule):
    """The network as Lightning wants it.

    A step minimises the quotient of the losses' sum and the sum of their weights over all batches that it is made of,
    those accumulated and those of other processes: a batch counts as much as it weighs. Gradients are then penalised,
    clipped by value, and clipped by norm.
    """

    def __init__(
        self, network: nn.Module, train: BatchSource, validation: BatchSource | None, settings: FitSettings
    ) -> None:
        super().__init__()
        self.network = network
        self.settings = settings
        self.learning_rate = settings.learning_rate  # where Lightning's finder looks for it
        self.train_source, self.validation_source = train, validation
        self.train_sums: Tensor | None = None
        self.validation_sums: dict[str, Tensor] = {}
        self.validation_score: dict[str, float] = {}
        self._judged: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]] = []
        self.tokens = 0
        self.train_seconds = 0.0
        self.epoch_started = 0.0
        self.schedules: Schedules | None = None
        self._schedule_states: list[dict[str, Any]] | None = None
        self._pending: Tensor | None = None  # the weights of the batches since the last step

    def train_dataloader(self) -> Any:
        """The batches of the epoch at hand."""
        return _Epochs(self)

    def val_dataloader(self) -> Any:
        """The validation batches."""
        return [] if self.validation_source is None else _Validation(self.validation_source)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """The batch on the device that trains."""
        return batch if device.type == "cpu" else batch.to(device)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimiser; its schedules are stepped here, so that a checkpoint of an epoch's end holds them stepped."""
        optimizer = make_optimizer(parameter_groups(self.network, self.settings), self.settings)
        updates = -(-len(self.train_source) // self.settings.accumulate)
        self.schedules = Schedules(optimizer, self.settings, updates)
        if self._schedule_states is not None:
            self.schedules.load_state_dict(self._schedule_states)
        return optimizer

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the schedules into a checkpoint."""
        if self.schedules is not None:
            checkpoint[_SCHEDULES] = self.schedules.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the schedules' state until there is an optimiser that they belong to."""
        self._schedule_states = checkpoint.get(_SCHEDULES)

    def on_train_epoch_start(self) -> None:
        """Begin the sums of an epoch."""
        self.epoch_started = time.perf_counter()
        self.train_sums, self.tokens = None, 0
        learning_parts(self.network, self.settings, self.current_epoch)
        # A network may train its parts from different epochs on.
        if callable(begin_epoch := getattr(self.network, "begin_epoch", None)):
            begin_epoch(self.current_epoch)

    @property
    def exact(self) -> bool:
        """Whether a step is made of several batches, so that its gradient is divided when all of them are there."""
        return self.settings.accumulate > 1 or self.trainer.world_size > 1

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch.

        Raises:
            DivergenceError: It is not finite.
        """
        stream = f"step-{self.global_rank}" if self.global_rank else "step"
        _seed(self.device, derive_seed(self.settings.random_state, stream, self.current_epoch, batch_idx))
        total, count = cast(Trainable, self.network).loss(batch)
        sums = torch.stack([total.detach(), count])
        if self.trainer.world_size > 1:
            torch.distributed.all_reduce(sums)  # of all processes, so that all stop where one must
        if not bool(torch.isfinite(sums[0])):
            raise DivergenceError(self._divergence(sums[0], batch, batch_idx))
        self.train_sums = sums if self.train_sums is None else self.train_sums + sums
        self.tokens += batch.num_values
        if self.exact:
            self._pending = sums[1] if self._pending is None else self._pending + sums[1]
            return total
        return total / count.clamp(min=torch.finfo(total.dtype).tiny)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide accumulated gradients, once unscaled, by what they weigh; add the gradients of the penalties."""
        if self.exact and self._pending is not None:
            weight = self._pending
            # Lightning divides each loss by the batches of a step, and DDP the gradients by the processes.
            parts = self.settings.accumulate * self.trainer.world_size
            scale = parts / weight.clamp(min=torch.finfo(weight.dtype).tiny)
            for parameter in self.network.parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(scale)
            self._pending = None
        if self.settings.l1 or self.settings.l2:
            with torch.no_grad():
                for parameter in penalized_parameters(self.network, self.settings.penalized):
                    if parameter.grad is not None:
                        parameter.grad.add_(parameter, alpha=2 * self.settings.l2)
                        parameter.grad.add_(parameter.sign(), alpha=self.settings.l1)

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *_: Any, **__: Any) -> None:
        """Clip the entries of the gradient, then its norm."""
        if self.settings.gradient_clip_value is not None:
            nn.utils.clip_grad_value_(self.network.parameters(), self.settings.gradient_clip_value)
        if self.settings.gradient_clip is not None:
            parameters = [parameter for parameter in self.network.parameters() if parameter.grad is not None]
            norm = nn.utils.get_total_norm([cast(Tensor, parameter.grad) for parameter in parameters])
            # Multiplied by one, as nearly always, large tables take a fiftieth of a step; elsewhere to ask would wait.
            if norm.device.type != "cpu" or not norm + _CLIP_MARGIN <= self.settings.gradient_clip:
                nn.utils.clip_grads_with_norm_(parameters, self.settings.gradient_clip, norm)

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """Step, then move the learning rate on."""
        super().optimizer_step(*arguments, **options)
        if self.schedules is not None:
            self.schedules.after_update()

    def on_validation_epoch_start(self) -> None:
        """Begin the sums of the validation."""
        self.train_seconds = time.perf_counter() - self.epoch_started
        self.validation_sums, self.validation_score, self._judged = {}, {}, []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add up the metrics of a batch, and keep its outputs where the monitor is measured from all of them."""
        if self.settings.score is None:
            measured = cast(Trainable, self.network).measure(batch)
        else:
            measured, outputs = cast(Any, self.network).judge(batch)
            weights = None if batch.weights is None else batch.weights.cpu().numpy()
            self._judged.append((cast(Tensor, batch.targets).cpu().numpy(), outputs.float().cpu().numpy(), weights))
        for name, (total, count) in measured.items():
            sums = torch.stack([total, count])
            self.validation_sums[name] = self.validation_sums[name] + sums if name in self.validation_sums else sums

    def on_validation_epoch_end(self) -> None:
        """Show the metrics to callbacks."""
        if self.settings.score is not None:
            self.validation_score = {self.settings.monitor: self._score(self.settings.score)}
        measured = {name: self._quotient(sums) for name, sums in self.validation_sums.items()}
        measured |= self.validation_score
        # The records have them by epochs; Lightning would write them by steps.
        self.log_dict({f"validation_{name}": value for name, value in measured.items()}, logger=False)

    def epoch_entry(self) -> dict[str, Any]:
        """What the history says of the epoch that was just finished."""
        if self.validation_source is None:
            self.train_seconds = time.perf_counter() - self.epoch_started
        train_loss = math.nan if self.train_sums is None else _ratio(self.train_sums)
        measured = {name: self._quotient(sums) for name, sums in self.validation_sums.items()} | self.validation_score
        tokens = self._summed(torch.tensor(float(self.tokens), device=self.device))
        return {
            "epoch": self.current_epoch + 1,
            "train_loss": train_loss,
            "validation_loss": measured.pop("loss", None),
            "validation_accuracy": measured.pop("accuracy", None),
            **{f"validation_{name}": value for name, value in measured.items()},
            "tokens_per_second": float(tokens) / max(self.train_seconds, 1e-9),
            "seconds": time.perf_counter() - self.epoch_started,
        }

    def _score(self, score: Score) -> float:
        """The monitor over the validation rows of all processes."""
        judged = self._judged
        if self.trainer.world_size > 1:
            everywhere: list[Any] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(everywhere, judged)
            judged = [rows for process in everywhere for rows in process]
        targets, outputs, weights = zip(*judged, strict=True)
        weighted = None if weights[0] is None else np.concatenate(weights)
        return score(np.concatenate(targets), np.concatenate(outputs), weighted)

    def _quotient(self, sums: Tensor) -> float:
        return _ratio(self._summed(sums))

    def _summed(self, values: Tensor) -> Tensor:
        """The sum over all processes. Lightning's reduce would wait for all of them before it adds."""
        values = values.clone()
        if self.trainer.world_size > 1:
            torch.distributed.all_reduce(values)
        return values

    def _divergence(self, total: Tensor, batch: Batch, batch_idx: int) -> str:
        rows = batch.origin.tolist()  # of several processes those of this one
        listed = ", ".join(map(str, rows[:8])) + (f" and {len(rows) - 8} more" if len(rows) > 8 else "")
        # Gradients are those of the step before, after clipping: this batch's own are not finite either.
        norms = {name: p.grad.norm().item() for name, p in self.network.named_parameters() if p.grad is not None}
        largest = sorted(norms.items(), key=lambda item: -item[1] if math.isfinite(item[1]) else -math.inf)[:3]
        told = ", ".join(f"{name} {norm:.3g}" for name, norm in largest) or "none, it is the first step"
        broken = [name for name, p in self.network.named_parameters() if not bool(p.isfinite().all())]
        weights = f"; not finite are the weights {', '.join(broken[:3])}" if broken else ""
        return (
            f"training diverged in epoch {self.current_epoch + 1}: the training loss is {total.item()} at batch "
            f"{batch_idx + 1} (rows {listed}; {batch.num_values} tokens). Gradient norms of the step before: "
            f"{told}{weights}. Lower learning_rate (now {self.settings.learning_rate}) or gradient_clip "
            f"(now {self.settings.gradient_clip})"
        )


def penalized_parameters(network: nn.Module, which: str) -> list[nn.Parameter]:
    """The parameters that a penalty is for.

    Args:
        network: Whose.
        which: ``"all"``; ``"weights"``, all but biases and gains; or the weights of a part: ``"embedding"``,
            ``"recurrent"`` (of any recurrent layer), or ``"head"``.
    """
    named: Iterable[tuple[str, nn.Parameter]] = network.named_parameters()
    if which == "all":
        return [parameter for _, parameter in named]
    part = {"embedding": "embedding.", "recurrent": "encoder.", "head": "head."}.get(which, "")
    return [parameter for name, parameter in named if parameter.dim() > 1 and name.startswith(part)]


def _ratio(sums: Tensor) -> float:
    total, count = sums.tolist()
    return total / count if count else math.nan


def _seed(device: torch.device, seed: int) -> None:
    # torch.manual_seed also formats a stack trace for each kind of accelerator that is absent: a millisecond a step.
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
