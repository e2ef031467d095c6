"""A text to one vector and what is made of it: embedding, recurrent stack, pooling and a head, on ragged values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tidegate.errors import nearest
from tidegate.kernels.ragged import Ragged
from tidegate.layers.activity import activity, temporal_activity
from tidegate.layers.attention import AdditiveAttention, max_pool, mean_pool
from tidegate.layers.character_encoder import CharacterEncoder
from tidegate.layers.dropout import check_rate, dropout
from tidegate.layers.embedding import TokenEmbedding
from tidegate.layers.language_states import LanguageStates
from tidegate.layers.locked_dropout import locked_dropout
from tidegate.layers.pairs import PAIR_PARTS, combine_pairs
from tidegate.layers.stack import RecurrentStack

__all__ = ["POOLINGS", "SequenceNetwork", "pooled", "weighted_sum", "widened"]

POOLINGS = ("last", "mean", "max", "attention")


class SequenceBatch(Protocol):
    """What a network reads of a batch: ids ``[N]``, their layout, targets ``[B, ...]``, weights ``[B]`` or None."""

    @property
    def values(self) -> Tensor: ...
    @property
    def ragged(self) -> Ragged: ...
    @property
    def targets(self) -> Tensor | None: ...
    @property
    def weights(self) -> Tensor | None: ...


def widened(values: Tensor) -> Tensor:
    """Values of 16 bits as float32: autocast leaves logits in 16, where sums over a few hundred rows lose the last."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def weighted_sum(losses: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """The sum of ``[B]`` losses times their weights, and the sum of the weights; None weighs each row 1."""
    losses = widened(losses)
    if weights is None:
        return losses.sum(), torch.full((), losses.shape[0], dtype=losses.dtype, device=losses.device)
    weights = weights.to(losses.dtype)
    # A row of weight zero is absent even where its loss is not finite.
    return torch.where(weights > 0, losses * weights, 0.0).sum(), weights.sum()


def pooled(pooling: str, output: Tensor, final: Tensor, ragged: Ragged, attention: AdditiveAttention | None) -> Tensor:
    """One vector a row, ``[B, F]`` in the caller's order, by one of `POOLINGS`.

    Args:
        pooling: ``"last"`` (the final state of each direction), ``"mean"``, ``"max"`` or ``"attention"``.
        output: ``[N, F]`` of a stack in ragged order.
        final: ``[B, F]`` of the same stack.
        ragged: The layout of `output`.
        attention: What ``"attention"`` pools by.
    """
    if attention is not None:
        return attention(output, ragged)
    if pooling == "mean":
        return mean_pool(output, ragged)
    return max_pool(output, ragged) if pooling == "max" else final


class SequenceNetwork(nn.Module):
    """Token ids to the outputs of a head.

    Args:
        num_tokens: V, size of the vocabulary.
        make_head: From the features of the pooled vector to a module with ``forward(pooled)``, ``losses(outputs,
            targets) -> [B]``, ``measure(outputs, targets) -> {name: [B]}`` and ``decode(outputs)``.
        cell: ``"gru"``, ``"lstm"`` or ``"rnn"``.
        embedding_size: E.
        hidden_size: H, a layer and direction.
        num_layers: L.
        bidirectional: Whether each layer also reads backwards.
        pooling: ``"last"`` (the final state of each direction), ``"mean"``, ``"max"`` or ``"attention"``.
        dropout: Between the layers; the head has its own.
        embedding_dropout: Of single features of the embedded tokens.
        word_dropout: Of whole tokens, which become the unknown one.
        locked_dropout: Of features of a text at all its steps: of its vectors, between layers, and of the last output.
        recurrent_dropout: Of the states where they enter the recurrent weights, the same at every step.
        weight_dropout: Of the entries of the recurrent weights (Merity et al. 2018).
        activity_penalty: Factor of the mean square of a row's last, dropped output, in training.
        temporal_penalty: Factor of the mean square of its changes between steps, in training.
        char_encoder: ``"cnn"``, ``"gru"`` or ``"lstm"`` over the characters of each word, put beside its vector; None
            reads none. Then values are rows ``[N, 1 + L]``: the number of a word, of which those from V on are words
            without a vector, and its characters, -1 after the last.
        num_characters: Characters that are known, id 0 every other.
        char_embedding_size: Features of a character.
        char_hidden_size: Features of a word that its characters give.
        pairs: Whether a row is two texts, both read by the one encoder, and their vectors combined
            (`layers/pairs.py`). Then a layout has 2B rows: those of the first texts, then those of the second ones.
        language: The arguments of :class:`LanguageStates`, a frozen language model whose states are put beside the
            vectors; None for none. Then the second number of a row of values is the word's id in its vocabulary.

    Raises:
        ValueError: The cell or the pooling is not one of those named, or a rate is out of range.
    """

    def __init__(
        self,
        num_tokens: int,
        make_head: Callable[[int], nn.Module],
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
        locked_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        activity_penalty: float = 0.0,
        temporal_penalty: float = 0.0,
        char_encoder: str | None = None,
        num_characters: int = 0,
        char_embedding_size: int = 30,
        char_hidden_size: int = 50,
        pairs: bool = False,
        language: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(
                f"pooling must be one of {', '.join(POOLINGS)}; found {pooling!r}.{nearest(pooling, POOLINGS)}"
            )
        check_rate("locked_dropout", locked_dropout)
        for name, value in (("activity_penalty", activity_penalty), ("temporal_penalty", temporal_penalty)):
            if not value >= 0:
                raise ValueError(f"{name} must not be negative; found {value}")
        self.pooling = pooling
        self.locked_dropout = locked_dropout
        self.activity_penalty, self.temporal_penalty = activity_penalty, temporal_penalty
        self.embedding = TokenEmbedding(num_tokens, embedding_size, embedding_dropout, word_dropout)
        self.characters: CharacterEncoder | None = None
        size = embedding_size
        if char_encoder is not None:
            self.characters = CharacterEncoder(char_encoder, num_characters, char_embedding_size, char_hidden_size)
            size += char_hidden_size
        self.language: LanguageStates | None = None
        if language is not None:
            self.language = LanguageStates(**language)
            size += self.language.output_size
        self.encoder = RecurrentStack(
            cell,
            size,
            hidden_size,
            num_layers,
            bidirectional,
            dropout,
            locked_dropout=locked_dropout,
            recurrent_dropout=recurrent_dropout,
            weight_dropout=weight_dropout,
        )
        self.attention = AdditiveAttention(self.encoder.output_size, hidden_size) if pooling == "attention" else None
        self.pairs = pairs
        self.head: Any = make_head(self.encoder.output_size * (PAIR_PARTS if pairs else 1))

    def forward(self, values: Tensor, ragged: Ragged) -> Tensor:
        """Ids ``[N]`` in ragged order to the head's outputs ``[B, ...]`` in the caller's order."""
        return self._outputs(values, ragged)[0]

    def _outputs(self, values: Tensor, ragged: Ragged) -> tuple[Tensor, Tensor, Tensor]:
        """The head's outputs; the encoder's output at every step, as it is and with its locked dropout."""
        embedded = locked_dropout(self.embed(values, ragged), ragged, self.locked_dropout, self.training)
        output, final = self.encoder.encode(embedded, ragged)
        dropped = locked_dropout(output, ragged, self.locked_dropout, self.training)
        vectors = pooled(self.pooling, dropped, final, ragged, self.attention)
        return self.head(combine_pairs(vectors) if self.pairs else vectors), output, dropped

    def embed(self, values: Tensor, ragged: Ragged) -> Tensor:
        """What the encoder reads of each token, ``[N, I]``: its vector, what its characters give, and its states."""
        if self.characters is None and self.language is None:
            return self.embedding(values)
        forms, more = values[:, 0], []
        if self.characters is not None:
            more.append(self.characters.of_tokens(forms, values[:, 1 if self.language is None else 2 :]))
        if self.language is not None:
            more.append(self.language(values[:, 1], ragged))
        words = forms.masked_fill(forms >= self.embedding.weight.shape[0], self.embedding.unknown_id)
        beside = dropout(torch.cat(more, 1), self.embedding.dropout, self.training)
        return torch.cat([self.embedding(words), beside], 1)

    def begin_epoch(self, epoch: int) -> None:
        """Say which epoch of training begins, counted from 0."""
        self.embedding.begin_epoch(epoch)

    def loss(self, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
        """The weighted sum of the rows' losses and penalties, and the sum of the weights."""
        outputs, output, dropped = self._outputs(batch.values, batch.ragged)
        losses = self.head.losses(outputs, _targets(batch))
        if self.training and self.activity_penalty:
            losses = losses + self.activity_penalty * self._of_rows(activity(dropped, batch.ragged))
        if self.training and self.temporal_penalty:
            losses = losses + self.temporal_penalty * self._of_rows(temporal_activity(output, batch.ragged))
        return weighted_sum(losses, batch.weights)

    def _of_rows(self, values: Tensor) -> Tensor:
        """What is measured of each text as that of each row, ``[B]``: of pairs the mean of both."""
        return values.view(2, -1).mean(0) if self.pairs else values

    def measure(self, batch: SequenceBatch) -> dict[str, tuple[Tensor, Tensor]]:
        """Sum and count of each validation metric over the batch, ``loss`` among them."""
        return self.judge(batch)[0]

    def judge(self, batch: SequenceBatch) -> tuple[dict[str, tuple[Tensor, Tensor]], Tensor]:
        """What `measure` gives, and what `decode` gives, from one pass."""
        outputs, targets = self(batch.values, batch.ragged), _targets(batch)
        rows = {"loss": self.head.losses(outputs, targets), **self.head.measure(outputs, targets)}
        sums = {name: weighted_sum(values, batch.weights) for name, values in rows.items()}
        return sums, self.head.decode(outputs)

    def decode(self, values: Tensor, ragged: Ragged) -> Tensor:
        """Ids ``[N]`` in ragged order to predictions ``[B, ...]`` in the caller's order."""
        return self.head.decode(self(values, ragged))


def _targets(batch: SequenceBatch) -> Tensor:
    if batch.targets is None:
        raise ValueError("a loss needs targets; the batch has none")
    return batch.targets
