"""Several heads over one vector: a map and a loss a task, fixed or learned weights, targets that may be missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tidegate.heads.classify import ClassificationHead
from tidegate.heads.regress import RegressionHead
from tidegate.heads.sequence import SequenceBatch, SequenceNetwork, weighted_sum

__all__ = ["MultiTaskHead", "MultiTaskNetwork", "TaskHead"]


@dataclass(frozen=True)
class TaskHead:
    """What a task's head is.

    Attributes:
        name: The task.
        num_classes: C of a classification; None is a regression.
        weight: What its losses are multiplied by.
        mean: Of a regression's training targets.
        scale: Their standard deviation.
    """

    name: str
    num_classes: int | None
    weight: float = 1.0
    mean: float = 0.0
    scale: float = 1.0

    @property
    def width(self) -> int:
        """Outputs of the head."""
        return 1 if self.num_classes is None else self.num_classes


class MultiTaskHead(nn.Module):
    """A linear map a task over one vector a row; a row's loss is the weighted sum of those of the targets that it has.

    Targets are ``[B, T]`` float: the number of the class, or the number itself, and NaN where a row has none.

    With `learn_weights` a task's loss ``l`` counts ``l exp(-s) + s / 2`` in training, where the log-variance ``s`` of
    the task is learned, and a squared error counts half (Kendall, Gal & Cipolla 2018, equation 10): a task whose loss
    stays high comes to weigh less, and the second term keeps all of them from weighing nothing.

    Args:
        input_size: F, features of the pooled vector.
        tasks: At least one.
        dropout: Probability of dropping a feature before the maps; each task has its own mask.
        label_smoothing: Of the classifications (:class:`~tidegate.heads.classify.ClassificationHead`).
        focal_gamma: Of the classifications.
        regression_loss: Of the regressions (:class:`~tidegate.heads.regress.RegressionHead`).
        learn_weights: Whether the weights are learned; those of the tasks are then not looked at.

    Raises:
        ValueError: There is no task, two have the same name, or an argument is out of range.
    """

    def __init__(
        self,
        input_size: int,
        tasks: Sequence[TaskHead],
        *,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        focal_gamma: float = 0.0,
        regression_loss: str = "squared",
        learn_weights: bool = False,
    ) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        names = [task.name for task in self.tasks]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"tasks must have one name each, and be at least one; found {names}")
        heads: list[nn.Module] = [
            RegressionHead(input_size, regression_loss, dropout, task.mean, task.scale)
            if task.num_classes is None
            else ClassificationHead(input_size, task.num_classes, dropout, label_smoothing, focal_gamma)
            for task in self.tasks
        ]
        self.heads = nn.ModuleList(heads)
        halved = [0.5 if task.num_classes is None and regression_loss == "squared" else 1.0 for task in self.tasks]
        self.log_variances = nn.Parameter(torch.zeros(len(self.tasks))) if learn_weights else None
        self._factors = halved if learn_weights else [task.weight for task in self.tasks]

    def forward(self, pooled: Tensor) -> Tensor:
        """``[B, F]`` to the outputs of all tasks, one after the other, ``[B, W]``."""
        outputs = [head(pooled) for head in self.heads]
        return torch.cat([output.float().reshape(len(pooled), -1) for output in outputs], dim=1)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Each row's weighted sum of the losses of its targets, ``[B]``.

        In evaluation learned weights are out of the sum, so that epochs can be compared.
        """
        total = outputs.new_zeros(len(outputs))
        for place, (losses, present) in enumerate(self._each(outputs, targets)):
            if self.log_variances is None:
                counted = self._factors[place] * losses
            elif self.training:
                log_variance = self.log_variances[place]
                counted = self._factors[place] * losses * torch.exp(-log_variance) + log_variance / 2
            else:
                counted = losses
            total = total + torch.where(present, counted, 0.0)
        return total

    def measure(self, outputs: Tensor, targets: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """``TASK_loss`` and the task's metrics: of each the values ``[B]``, and which rows have them.

        A classification has ``TASK_accuracy``; a regression ``TASK_mae`` and ``TASK_mse``.
        """
        found: dict[str, tuple[Tensor, Tensor]] = {}
        parts, each = self._parts(outputs, targets), self._each(outputs, targets)
        for (task, head, output, wanted), (losses, present) in zip(parts, each, strict=True):
            values = {"loss": losses, **head.measure(output, wanted)}
            found |= {f"{task.name}_{name}": (value, present) for name, value in values.items()}
        return found

    def decode(self, outputs: Tensor) -> Tensor:
        """Outputs ``[B, W]`` to probabilities of the classes and to numbers in the targets' units, ``[B, W]``."""
        decoded = [head.decode(output) for _, head, output, _ in self._parts(outputs, None)]
        return torch.cat([values.reshape(len(outputs), -1) for values in decoded], dim=1)

    def task_weights(self) -> dict[str, float]:
        """What each task's loss is multiplied by in training, as it stands."""
        factors = self._factors
        if self.log_variances is not None:
            learned = torch.exp(-self.log_variances.detach()).tolist()
            factors = [factor * weight for factor, weight in zip(factors, learned, strict=True)]
        return {task.name: float(factor) for task, factor in zip(self.tasks, factors, strict=True)}

    def _parts(self, outputs: Tensor, targets: Tensor | None) -> list[tuple[TaskHead, Any, Tensor, Tensor]]:
        """Task, head, its outputs, and its targets with 0 for the missing ones."""
        parts, columns = [], outputs.split([task.width for task in self.tasks], dim=1)
        for place, (task, head, output) in enumerate(zip(self.tasks, self.heads, columns, strict=True)):
            wanted = outputs.new_zeros(0) if targets is None else targets[:, place].nan_to_num(nan=0.0)
            if task.num_classes is None:
                output = output.squeeze(1)
            else:
                wanted = wanted.long()
            parts.append((task, head, output, wanted))
        return parts

    def _each(self, outputs: Tensor, targets: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Of each task the rows' losses, and which rows have a target."""
        present = ~targets.isnan()
        return [
            (head.losses(output, wanted), present[:, place])
            for place, (_, head, output, wanted) in enumerate(self._parts(outputs, targets))
        ]


class MultiTaskNetwork(SequenceNetwork):
    """Token ids to the outputs of several tasks: one :class:`SequenceNetwork` under a :class:`MultiTaskHead`.

    Args:
        num_tokens: V, size of the vocabulary.
        tasks: What the heads are.
        dropout: Between the layers and before the outputs.
        label_smoothing, focal_gamma, regression_loss, learn_weights: As of :class:`MultiTaskHead`.
        network: The further arguments of :class:`SequenceNetwork`.
    """

    def __init__(
        self,
        num_tokens: int,
        tasks: Sequence[TaskHead],
        *,
        dropout: float,
        label_smoothing: float = 0.0,
        focal_gamma: float = 0.0,
        regression_loss: str = "squared",
        learn_weights: bool = False,
        **network: Any,
    ) -> None:
        super().__init__(
            num_tokens,
            lambda size: MultiTaskHead(
                size,
                tasks,
                dropout=dropout,
                label_smoothing=label_smoothing,
                focal_gamma=focal_gamma,
                regression_loss=regression_loss,
                learn_weights=learn_weights,
            ),
            dropout=dropout,
            **network,
        )

    def judge(self, batch: SequenceBatch) -> tuple[dict[str, tuple[Tensor, Tensor]], Tensor]:
        """Sum and count of each metric over the rows that have the target, and what `decode` gives, from one pass."""
        if batch.targets is None:
            raise ValueError("a loss needs targets; the batch has none")
        outputs = self(batch.values, batch.ragged)
        sums = {"loss": weighted_sum(self.head.losses(outputs, batch.targets), batch.weights)}
        for name, (values, present) in self.head.measure(outputs, batch.targets).items():
            counted = present.to(values.dtype)
            sums[name] = weighted_sum(values, counted if batch.weights is None else counted * batch.weights)
        return sums, self.head.decode(outputs)
