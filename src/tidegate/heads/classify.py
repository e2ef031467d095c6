"""One label a sequence, or several: logits, weighted cross-entropy, probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tidegate.heads.sequence import POOLINGS, SequenceNetwork, weighted_sum, widened
from tidegate.layers.dropout import check_rate
from tidegate.layers.dropout import dropout as drop_features

__all__ = ["POOLINGS", "ClassificationHead", "DistillationHead", "MultiLabelHead", "SequenceClassifier"]


class ClassificationHead(nn.Module):
    """A linear map from a row's vector to the logits of its class.

    Args:
        input_size: F, features of the pooled vector.
        num_classes: C, at least 2.
        dropout: Probability of dropping a feature before the map.
        label_smoothing: Share of a row's target that goes to all classes alike, in [0, 1).
        focal_gamma: Exponent of the focal loss (Lin et al. 2017), which weighs a row by ``(1 - p)^gamma``, p being the
            probability of its class, so that rows that are right already count little; 0 is plain cross-entropy.

    Attributes:
        temperature: What `decode` divides the logits by (Guo et al. 2017); 1 until it is fitted after training. The
            losses do not know it.
    """

    def __init__(
        self,
        input_size: int,
        num_classes: int,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        focal_gamma: float = 0.0,
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"a classifier needs at least 2 classes; found {num_classes}")
        check_rate("dropout", dropout)
        check_rate("label_smoothing", label_smoothing)
        _check_gamma(focal_gamma)
        self.dropout, self.label_smoothing, self.focal_gamma = dropout, label_smoothing, focal_gamma
        self.temperature = 1.0
        self.projection = nn.Linear(input_size, num_classes)

    def forward(self, pooled: Tensor) -> Tensor:
        """``[B, F]`` to logits ``[B, C]``."""
        return widened(self.projection(drop_features(pooled, self.dropout, self.training)))

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Each row's cross-entropy in nats, ``[B]``.

        In training the targets are smoothed (Szegedy et al. 2016) and the loss is focal; in evaluation it is the plain
        cross-entropy of the labels themselves.

        Args:
            logits: ``[B, C]``.
            targets: ``[B]`` int64 class indices.
        """
        smoothing = self.label_smoothing if self.training else 0.0
        losses = functional.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
        if self.training and self.focal_gamma:
            right = logits.float().softmax(-1).gather(1, targets[:, None]).squeeze(1)
            losses = losses * (1 - right) ** self.focal_gamma
        return losses

    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The weighted sum of `losses` and the sum of the weights, ``[B]`` and not negative; None for ones.

        ``sum / count`` is a batch's loss: a weight of 2 counts as the row twice, a weight of 0 as its absence.
        """
        return weighted_sum(self.losses(logits, targets), weights)

    def measure(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """``accuracy``: 1 for each row that is right, else 0."""
        return {"accuracy": (logits.argmax(-1) == targets).to(logits.dtype)}

    def decode(self, logits: Tensor) -> Tensor:
        """Logits ``[B, C]`` to probabilities ``[B, C]``."""
        return (logits / self.temperature).softmax(-1)


class DistillationHead(ClassificationHead):
    """A :class:`ClassificationHead` that learns what a teacher says of a text too (Hinton, Vinyals & Dean 2015).

    With the teacher's probabilities q and the student's p, both at a temperature T (the softmax of the logits over T),
    a row's loss in training is ``(1 - w) * its own loss + w * T^2 * -sum(q log p)``; of a row without a label the
    second term alone. In evaluation it is that of the label.

    Args:
        head: The arguments of :class:`ClassificationHead`.
        teacher_temperature: T, above 0.
        teacher_weight: w, above 0 and at most 1.

    Raises:
        ValueError: One is out of range.
    """

    def __init__(self, *head: Any, teacher_temperature: float, teacher_weight: float) -> None:
        super().__init__(*head)
        if not teacher_temperature > 0:
            raise ValueError(f"teacher_temperature must be above 0; found {teacher_temperature}")
        if not 0 < teacher_weight <= 1:
            raise ValueError(f"teacher_weight must be above 0 and at most 1; found {teacher_weight}")
        self.teacher_temperature, self.teacher_weight = teacher_temperature, teacher_weight

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Each row's loss in nats, ``[B]``.

        Args:
            logits: ``[B, C]``.
            targets: ``[B]`` class indices; or ``[B, 1 + C]`` floats, the index or NaN and then the teacher's
                probabilities.
        """
        if targets.dim() == 1:
            return super().losses(logits, targets)
        labels, told = targets[:, 0], targets[:, 1:].clamp(min=1e-8)
        own = super().losses(logits, labels.nan_to_num(nan=0.0).long())
        soft = (told.log() / self.teacher_temperature).softmax(-1)
        said = (logits.float() / self.teacher_temperature).log_softmax(-1)
        taught = self.teacher_temperature**2 * -(soft * said).sum(-1)
        return torch.where(labels.isnan(), 0.0, (1 - self.teacher_weight) * own) + self.teacher_weight * taught


class MultiLabelHead(nn.Module):
    """A linear map from a row's vector to one logit a label, each label there or not for itself.

    Args:
        input_size: F, features of the pooled vector.
        num_labels: C, at least 1.
        dropout: Probability of dropping a feature before the map.
        label_smoothing: Share of each target that goes to there and not there alike, in [0, 1).
        focal_gamma: As in :class:`ClassificationHead`, for each label.
        label_weights: ``[C]``, what the losses of rows that have a label are multiplied by in training; None for ones.

    Attributes:
        temperature: As of :class:`ClassificationHead`.
    """

    label_weights: Tensor | None

    def __init__(
        self,
        input_size: int,
        num_labels: int,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        focal_gamma: float = 0.0,
        label_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        check_rate("dropout", dropout)
        check_rate("label_smoothing", label_smoothing)
        _check_gamma(focal_gamma)
        self.dropout, self.label_smoothing, self.focal_gamma = dropout, label_smoothing, focal_gamma
        self.temperature = 1.0
        # A matter of learning alone, which no saved model needs.
        weights = None if label_weights is None else torch.tensor([float(weight) for weight in label_weights])
        self.register_buffer("label_weights", weights, persistent=False)
        self.projection = nn.Linear(input_size, num_labels)

    def forward(self, pooled: Tensor) -> Tensor:
        """``[B, F]`` to logits ``[B, C]``."""
        return widened(self.projection(drop_features(pooled, self.dropout, self.training)))

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Each row's mean binary cross-entropy in nats, ``[B]``.

        Args:
            logits: ``[B, C]``.
            targets: ``[B, C]``, 1 where the row has the label, else 0.
        """
        wanted = targets.to(logits.dtype)
        if self.training:
            wanted = wanted * (1 - self.label_smoothing) + self.label_smoothing / 2
        losses = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        if self.training and self.focal_gamma:
            right = (logits.float() * (2 * targets - 1)).sigmoid()
            losses = losses * (1 - right) ** self.focal_gamma
        if self.training and self.label_weights is not None:
            losses = losses * torch.where(targets > 0.5, self.label_weights, 1.0)
        return losses.mean(1)

    def measure(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """``accuracy``: 1 for each row of which every label is right at a probability of one half, else 0."""
        return {"accuracy": ((logits > 0) == (targets > 0.5)).all(1).to(logits.dtype)}

    def decode(self, logits: Tensor) -> Tensor:
        """Logits ``[B, C]`` to the probability of each label, ``[B, C]``."""
        return (logits / self.temperature).sigmoid()


class SequenceClassifier(SequenceNetwork):
    """Token ids to class logits: a :class:`SequenceNetwork` with a head for classes, or for labels.

    Args:
        num_tokens: V, size of the vocabulary.
        num_classes: C.
        dropout: Between the layers and before the logits.
        label_smoothing: Share of a row's target that goes to all classes alike, in training.
        focal_gamma: Exponent of the focal loss, in training.
        multi_label: Whether a row may have several labels or none, instead of one class.
        label_weights: Of several labels, as :class:`MultiLabelHead` takes them.
        teaching: Temperature and weight of a :class:`DistillationHead`, or None.
        network: The further arguments of :class:`SequenceNetwork`.

    Raises:
        ValueError: The cell or the pooling is not one of those named.
    """

    def __init__(
        self,
        num_tokens: int,
        num_classes: int,
        *,
        dropout: float,
        label_smoothing: float,
        focal_gamma: float = 0.0,
        multi_label: bool = False,
        label_weights: Sequence[float] | None = None,
        teaching: Mapping[str, float] | None = None,
        **network: Any,
    ) -> None:
        options = (num_classes, dropout, label_smoothing, focal_gamma)

        def make_head(size: int) -> nn.Module:
            if teaching is not None:
                return DistillationHead(size, *options, **teaching)
            return MultiLabelHead(size, *options, label_weights) if multi_label else ClassificationHead(size, *options)

        super().__init__(num_tokens, make_head, dropout=dropout, **network)


def _check_gamma(focal_gamma: float) -> None:
    if not focal_gamma >= 0:
        raise ValueError(f"focal_gamma must not be negative; found {focal_gamma}")
