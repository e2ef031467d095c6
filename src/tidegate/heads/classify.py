"""One label a sequence: encoder, pooling, logits, weighted cross-entropy."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from tidegate.errors import nearest
from tidegate.kernels.ragged import Ragged
from tidegate.layers.attention import AdditiveAttention, max_pool, mean_pool
from tidegate.layers.dropout import check_rate
from tidegate.layers.dropout import dropout as drop_features
from tidegate.layers.embedding import TokenEmbedding
from tidegate.layers.stack import RecurrentStack

__all__ = ["POOLINGS", "ClassificationHead", "SequenceClassifier"]

POOLINGS = ("last", "mean", "max", "attention")


class LabelledBatch(Protocol):
    """What a classifier reads of a batch: ids ``[N]``, their layout, class indices ``[B]``, weights ``[B]`` or None."""

    @property
    def values(self) -> Tensor: ...
    @property
    def ragged(self) -> Ragged: ...
    @property
    def targets(self) -> Tensor | None: ...
    @property
    def weights(self) -> Tensor | None: ...


class ClassificationHead(nn.Module):
    """A linear map from a row's vector to the logits of its class.

    Args:
        input_size: F, features of the pooled vector.
        num_classes: C, at least 2.
        dropout: Probability of dropping a feature before the map.
        label_smoothing: Share of a row's target that goes to all classes alike, in [0, 1).
    """

    def __init__(self, input_size: int, num_classes: int, dropout: float = 0.0, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"a classifier needs at least 2 classes; found {num_classes}")
        check_rate("dropout", dropout)
        check_rate("label_smoothing", label_smoothing)
        self.dropout, self.label_smoothing = dropout, label_smoothing
        self.projection = nn.Linear(input_size, num_classes)

    def forward(self, pooled: Tensor) -> Tensor:
        """``[B, F]`` to logits ``[B, C]``."""
        return self.projection(drop_features(pooled, self.dropout, self.training))

    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The weighted sum of the rows' cross-entropies (nats) and the sum of their weights.

        ``sum / count`` is a batch's loss: a weight of 2 counts as the row twice, a weight of 0 as its absence. In
        training the targets are smoothed (Szegedy et al. 2016); in evaluation they are the labels themselves.

        Args:
            logits: ``[B, C]``.
            targets: ``[B]`` int64 class indices.
            weights: ``[B]``, not negative; None for ones.
        """
        smoothing = self.label_smoothing if self.training else 0.0
        losses = functional.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
        if weights is None:
            return losses.sum(), torch.full((), losses.shape[0], dtype=losses.dtype, device=losses.device)
        weights = weights.to(losses.dtype)
        # A row of weight zero is absent even where its loss is not finite.
        return torch.where(weights > 0, losses * weights, 0.0).sum(), weights.sum()

    def decode(self, logits: Tensor) -> Tensor:
        """Logits ``[B, C]`` to probabilities ``[B, C]``."""
        return logits.softmax(-1)


class SequenceClassifier(nn.Module):
    """Token ids to class logits: embedding, recurrent stack, pooling, head, all on ragged values.

    Args:
        num_tokens: V, size of the vocabulary.
        num_classes: C.
        cell: ``"gru"``, ``"lstm"`` or ``"rnn"``.
        embedding_size: E.
        hidden_size: H, a layer and direction.
        num_layers: L.
        bidirectional: Whether each layer also reads backwards.
        pooling: ``"last"`` (the final state of each direction), ``"mean"``, ``"max"`` or ``"attention"``.
        dropout: Between the layers and before the logits.
        embedding_dropout: Of single features of the embedded tokens.
        word_dropout: Of whole tokens, which become the unknown one.
        label_smoothing: Share of a row's target that goes to all classes alike, in training.

    Raises:
        ValueError: The cell or the pooling is not one of those named.
    """

    def __init__(
        self,
        num_tokens: int,
        num_classes: int,
        *,
        cell: str,
        embedding_size: int,
        hidden_size: int,
        num_layers: int,
        bidirectional: bool,
        pooling: str,
        dropout: float,
        embedding_dropout: float,
        word_dropout: float,
        label_smoothing: float,
    ) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(
                f"pooling must be one of {', '.join(POOLINGS)}; found {pooling!r}.{nearest(pooling, POOLINGS)}"
            )
        self.pooling = pooling
        self.embedding = TokenEmbedding(num_tokens, embedding_size, embedding_dropout, word_dropout)
        self.encoder = RecurrentStack(cell, embedding_size, hidden_size, num_layers, bidirectional, dropout)
        self.attention = AdditiveAttention(self.encoder.output_size, hidden_size) if pooling == "attention" else None
        self.head = ClassificationHead(self.encoder.output_size, num_classes, dropout, label_smoothing)

    def forward(self, values: Tensor, ragged: Ragged) -> Tensor:
        """Ids ``[N]`` in ragged order to logits ``[B, C]`` in the caller's order."""
        output, final = self.encoder.encode(self.embedding(values), ragged)
        if self.attention is not None:
            pooled = self.attention(output, ragged)
        elif self.pooling == "mean":
            pooled = mean_pool(output, ragged)
        elif self.pooling == "max":
            pooled = max_pool(output, ragged)
        else:
            pooled = final
        return self.head(pooled)

    def begin_epoch(self, epoch: int) -> None:
        """Say which epoch of training begins, counted from 0."""
        self.embedding.begin_epoch(epoch)

    def loss(self, batch: LabelledBatch) -> tuple[Tensor, Tensor]:
        """The weighted sum of the batch's losses, and the sum of the weights."""
        return self.head.loss(self(batch.values, batch.ragged), _targets(batch), batch.weights)

    def measure(self, batch: LabelledBatch) -> dict[str, tuple[Tensor, Tensor]]:
        """Sum and count of each validation metric over the batch: ``loss`` and ``accuracy``."""
        logits, targets = self(batch.values, batch.ragged), _targets(batch)
        right = (logits.argmax(-1) == targets).to(logits.dtype)
        weights = torch.ones_like(right) if batch.weights is None else batch.weights.to(right.dtype)
        return {
            "loss": self.head.loss(logits, targets, batch.weights),
            "accuracy": ((right * weights).sum(), weights.sum()),
        }

    def decode(self, values: Tensor, ragged: Ragged) -> Tensor:
        """Ids ``[N]`` in ragged order to class probabilities ``[B, C]`` in the caller's order."""
        return self.head.decode(self(values, ragged))


def _targets(batch: LabelledBatch) -> Tensor:
    if batch.targets is None:
        raise ValueError("a loss needs targets; the batch has none")
    return batch.targets
