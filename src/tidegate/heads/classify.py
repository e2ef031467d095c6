"""One label a sequence, or several: logits, weighted cross-entropy, probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tidegate.heads.sequence import POOLINGS, SequenceNetwork, weighted_sum
from tidegate.layers.dropout import check_rate
from tidegate.layers.dropout import dropout as drop_features

__all__ = ["POOLINGS", "ClassificationHead", "MultiLabelHead", "SequenceClassifier"]


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
        return self.projection(drop_features(pooled, self.dropout, self.training))

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
        return self.projection(drop_features(pooled, self.dropout, self.training))

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
        **network: Any,
    ) -> None:
        options = (num_classes, dropout, label_smoothing, focal_gamma)

        def make_head(size: int) -> nn.Module:
            return MultiLabelHead(size, *options, label_weights) if multi_label else ClassificationHead(size, *options)

        super().__init__(num_tokens, make_head, dropout=dropout, **network)


def _check_gamma(focal_gamma: float) -> None:
    if not focal_gamma >= 0:
        raise ValueError(f"focal_gamma must not be negative; found {focal_gamma}")
