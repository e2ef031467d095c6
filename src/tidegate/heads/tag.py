"""One label a token: word and character features, recurrent stack, a conditional random field or a softmax.

With intents, a second head labels the sentence from the same encoder (Liu & Lane 2016).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from tidegate.errors import nearest
from tidegate.heads.classify import ClassificationHead
from tidegate.heads.sequence import pooled, widened
from tidegate.kernels.products import linear
from tidegate.kernels.ragged import Ragged, to_batch_major
from tidegate.layers.attention import AdditiveAttention
from tidegate.layers.character_encoder import CharacterEncoder
from tidegate.layers.crf import CRF
from tidegate.layers.dropout import check_rate
from tidegate.layers.embedding import TokenEmbedding
from tidegate.layers.language_states import LanguageStates
from tidegate.layers.locked_dropout import locked_dropout
from tidegate.layers.stack import RecurrentStack

__all__ = ["OUTPUT_LAYERS", "Segments", "TaggingHead", "TaggingNetwork"]

OUTPUT_LAYERS = ("crf", "softmax")


class TokenBatch(Protocol):
    """What a tagger reads of a batch; the tensors are told at :class:`tidegate.data.tagging_batch.TaggingBatch`."""

    @property
    def values(self) -> Tensor: ...
    @property
    def ragged(self) -> Ragged: ...
    @property
    def targets(self) -> Tensor | None: ...
    @property
    def weights(self) -> Tensor | None: ...
    @property
    def cases(self) -> Tensor: ...
    @property
    def bigrams(self) -> Tensor | None: ...
    @property
    def form_of(self) -> Tensor: ...
    @property
    def characters(self) -> Tensor: ...
    @property
    def form_lengths(self) -> Tensor: ...
    @property
    def intents(self) -> Tensor | None: ...
    @property
    def spelled(self) -> Tensor | None: ...
    @property
    def language(self) -> Tensor | None: ...


@dataclass(frozen=True)
class Segments:
    """Where segments begin and end between two tags, by which they are counted as conlleval counts them.

    Attributes:
        begins: ``[K' + 1, K' + 1]`` bool, whether one begins at the second tag after the first; the last row and column
            are the outside of the sentence. K' may exceed a model's K by tags that only a test set has.
        ends: ``[K' + 1, K' + 1]`` bool, whether one ends between the two.
        types: ``[K']`` int64, the type of each tag.
    """

    begins: Tensor
    ends: Tensor
    types: Tensor

    def keys(self, tags: Tensor, lengths: Tensor) -> Tensor:
        """``[N]`` a number for the segment that begins at each token, equal for equal ends and types; -1 for none.

        Args:
            tags: ``[N]`` row after row.
            lengths: ``[B]``.
        """
        outside = self.types.shape[0]
        count = tags.shape[0]
        keys = torch.full_like(tags, -1)
        if not count:
            return keys
        last = lengths.cumsum(0)[lengths > 0] - 1
        after = torch.cat([tags[1:], tags.new_full((1,), outside)])
        after[last] = outside
        before = torch.cat([tags.new_full((1,), outside), tags[:-1]])
        before[last[:-1] + 1] = outside
        begins, ends, types = (table.to(tags.device) for table in (self.begins, self.ends, self.types))
        first = begins[before, tags].nonzero().squeeze(1)
        final = ends[tags, after].nonzero().squeeze(1)
        keys[first] = (final - first) * (outside + 1) + types[tags[first]]
        return keys


class TaggingHead(nn.Module):
    """Features of tokens to scores of tags, and from scores to a loss and to tags.

    Args:
        input_size: F, features of a token.
        num_tags: K.
        output_layer: ``"crf"``, where the tags of a sentence are judged together, or ``"softmax"``, each by itself.
        masks: For a CRF, which tag may follow which ``[K, K]``, be first ``[K]`` and be last ``[K]``; None for all.

    Raises:
        ValueError: The output layer is none of the two.
    """

    def __init__(
        self, input_size: int, num_tags: int, output_layer: str, masks: tuple[Tensor, Tensor, Tensor] | None = None
    ) -> None:
        super().__init__()
        if output_layer not in OUTPUT_LAYERS:
            raise ValueError(
                f"output_layer must be {' or '.join(OUTPUT_LAYERS)}; found {output_layer!r}."
                f"{nearest(output_layer, OUTPUT_LAYERS)}"
            )
        self.num_tags = num_tags
        self.projection = nn.Linear(input_size, num_tags)
        self.crf = CRF(num_tags, *(masks or (None, None, None))) if output_layer == "crf" else None

    def forward(self, features: Tensor) -> Tensor:
        """``[N, F]`` to emissions ``[N, K]``."""
        return widened(linear(features, self.projection.weight, self.projection.bias))

    def loss(self, emissions: Tensor, tags: Tensor, ragged: Ragged, weights: Tensor) -> tuple[Tensor, Tensor]:
        """The weighted sum over the rows of -log p(tags of the row), in nats, and the sum of the weights."""
        if self.crf is not None:
            losses = -self.crf.log_likelihood(emissions, tags, ragged)
        else:
            tokens = functional.cross_entropy(emissions, tags, reduction="none")
            losses = tokens.new_zeros(ragged.num_rows).index_add(0, ragged.row_of, tokens)
        # A row of weight zero is absent even where its loss is not finite.
        return torch.where(weights > 0, losses * weights, 0.0).sum(), weights.sum()

    def decode(self, emissions: Tensor, ragged: Ragged) -> Tensor:
        """The best tags, ``[N]`` int64."""
        return emissions.argmax(-1) if self.crf is None else self.crf.decode(emissions, ragged)[0]

    def marginals(self, emissions: Tensor, ragged: Ragged) -> Tensor:
        """The probability of each tag at each token, ``[N, K]``."""
        return emissions.softmax(-1) if self.crf is None else self.crf.marginals(emissions, ragged)

    def log_partition(self, emissions: Tensor, ragged: Ragged) -> Tensor:
        """The logarithm of the sum of exp(score) over all tags of a row, ``[B]``."""
        if self.crf is not None:
            return self.crf.log_partition(emissions, ragged)
        return emissions.new_zeros(ragged.num_rows).index_add(0, ragged.row_of, emissions.logsumexp(-1))


class TaggingNetwork(nn.Module):
    """Tokens to tags: words, characters, capitals and pairs side by side, a recurrent stack, and one or two heads.

    Args:
        num_words: V, words whose vectors learn; id 0 is every other.
        num_extra_words: Words after those, whose vectors are given and stay.
        num_characters: Characters; 0 where words are not read letter by letter.
        num_cases: What a word can look like; 0 where that is not read.
        num_bigrams: Pairs of neighbours; 0 where they are not read.
        num_tags: K.
        num_intents: Labels of a sentence; 0 for no second head.
        cell: As :class:`RecurrentStack`'s.
        embedding_size: Features of a word.
        char_encoder: ``"cnn"``, ``"gru"``, ``"lstm"``, or None for none.
        char_embedding_size: Features of a character.
        char_hidden_size: Features of a word that its characters give.
        bigram_embedding_size: Features of a pair.
        hidden_size: H, a layer and direction.
        num_layers: L.
        bidirectional: Whether each layer also reads backwards.
        output_layer: ``"crf"`` or ``"softmax"``.
        dropout: After the stack, one mask a sentence, and between its layers.
        embedding_dropout: Before the stack, one mask a sentence.
        word_dropout: Of whole words, which become the unknown one.
        recurrent_dropout: Of the states where they enter the recurrent weights, one mask a sentence.
        intent_pooling: One of `POOLINGS`: what of the encoder's output the second head reads.
        intent_weight: Factor of the second head's loss.
        masks: Which tags may follow one another, be first and be last; None for all.
        segments: By which validation counts segments; None where tags mark none.
        language: The arguments of :class:`LanguageStates`, a frozen language model whose states are read too, or None.
    """

    def __init__(
        self,
        *,
        num_words: int,
        num_extra_words: int,
        num_characters: int,
        num_cases: int,
        num_bigrams: int,
        num_tags: int,
        num_intents: int,
        cell: str,
        embedding_size: int,
        char_encoder: str | None,
        char_embedding_size: int,
        char_hidden_size: int,
        bigram_embedding_size: int,
        hidden_size: int,
        num_layers: int,
        bidirectional: bool,
        output_layer: str,
        dropout: float,
        embedding_dropout: float,
        word_dropout: float,
        recurrent_dropout: float = 0.0,
        intent_pooling: str = "attention",
        intent_weight: float = 1.0,
        masks: tuple[Tensor, Tensor, Tensor] | None = None,
        segments: Segments | None = None,
        language: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_rate("dropout", dropout)
        check_rate("embedding_dropout", embedding_dropout)
        self.dropout, self.embedding_dropout, self.num_cases = dropout, embedding_dropout, num_cases
        self.words = _table(num_words, embedding_size, word_dropout)
        self.register_buffer("extra_words", torch.zeros(num_extra_words, embedding_size))
        self.characters = (
            None
            if char_encoder is None
            else CharacterEncoder(char_encoder, num_characters, char_embedding_size, char_hidden_size)
        )
        self.bigrams = _table(num_bigrams, bigram_embedding_size, 0.0) if num_bigrams else None
        size = embedding_size + num_cases
        size += 0 if self.characters is None else char_hidden_size
        size += 0 if self.bigrams is None else bigram_embedding_size
        self.language = None if language is None else LanguageStates(**language)
        size += 0 if self.language is None else self.language.output_size
        self.encoder = RecurrentStack(
            cell, size, hidden_size, num_layers, bidirectional, dropout, recurrent_dropout=recurrent_dropout
        )
        self.head = TaggingHead(self.encoder.output_size, num_tags, output_layer, masks)
        self.attention, self.intents = None, None
        self.intent_pooling, self.intent_weight = intent_pooling, intent_weight
        if num_intents:
            if intent_pooling == "attention":
                self.attention = AdditiveAttention(self.encoder.output_size, hidden_size)
            self.intents = ClassificationHead(self.encoder.output_size, num_intents, dropout)
        self.segments = segments

    def start_from(self, vectors: Tensor, extra: Tensor) -> None:
        """Put given vectors into the tables of words: ``[V, E]`` that learn on, and those that stay."""
        with torch.no_grad():
            self.words.weight.copy_(vectors)
            self.get_buffer("extra_words").copy_(extra)

    def features(self, batch: TokenBatch) -> Tensor:
        """What the stack reads of each token, ``[N, I]``, before dropout."""
        parts = [self._word_vectors(batch.values)]
        if self.characters is not None:
            spelled = batch.spelled
            if spelled is None:
                spelled = self.characters(batch.characters, batch.form_lengths)
            parts.append(spelled.index_select(0, batch.form_of))
        if self.num_cases:
            parts.append(functional.one_hot(batch.cases, self.num_cases).to(parts[0].dtype))
        if self.bigrams is not None:
            if batch.bigrams is None:
                raise ValueError("this network reads pairs of neighbours; the batch has none")
            parts.append(self.bigrams(batch.bigrams))
        if self.language is not None:
            if batch.language is None:
                raise ValueError("this network reads a language model's states; the batch has none of its ids")
            parts.append(self.language(batch.language, batch.ragged))
        return torch.cat(parts, 1)

    def forward(self, batch: TokenBatch) -> tuple[Tensor, Tensor | None]:
        """Emissions ``[N, K]`` in ragged order, and logits of the intents ``[B, C]`` in the caller's order, or None."""
        ragged = batch.ragged
        values = locked_dropout(self.features(batch), ragged, self.embedding_dropout, self.training)
        output, final = self.encoder.encode(values, ragged)
        emissions = self.head(locked_dropout(output, ragged, self.dropout, self.training))
        if self.intents is None:
            return emissions, None
        return emissions, self.intents(pooled(self.intent_pooling, output, final, ragged, self.attention))

    def loss(self, batch: TokenBatch) -> tuple[Tensor, Tensor]:
        """The weighted sum of the sentences' -log p(tags) - w log p(intent), in nats, and the sum of the weights."""
        emissions, logits = self(batch)
        return self._loss(emissions, logits, batch, _targets(batch), _weights(batch, emissions))

    def measure(self, batch: TokenBatch) -> dict[str, tuple[Tensor, Tensor]]:
        """Sum and count of each validation metric: ``loss``, ``accuracy`` of tokens, ``f1`` of segments, and others.

        A tag that the model has not counts as an error, and its sentence not in the loss. ``f1`` is twice the right
        segments over all that are there and all that were found; where tags mark none, each token is one.
        ``intent_accuracy`` is there where intents are learned. ``sentence_accuracy`` is the share of the sentences
        whose tags are all right, and the intent too.
        """
        emissions, logits = self(batch)
        targets, weights = _targets(batch), _weights(batch, emissions)
        known = targets < self.head.num_tags
        foreign = targets.new_zeros(batch.ragged.num_rows).index_add(0, batch.ragged.row_of, (~known).long())
        absent = torch.where(foreign > 0, 0.0, weights)
        predicted = self.head.decode(emissions, batch.ragged)
        each = weights[batch.ragged.row_of]
        right = (predicted == targets).to(each.dtype)
        measured = {
            "loss": self._loss(emissions, logits, batch, targets.where(known, 0), absent),
            "accuracy": ((right * each).sum(), each.sum()),
        }
        if self.segments is None:
            measured["f1"] = measured["accuracy"]
        else:
            lengths = batch.ragged.lengths
            there = self.segments.keys(to_batch_major(targets, batch.ragged), lengths)
            found = self.segments.keys(to_batch_major(predicted, batch.ragged), lengths)
            each = torch.repeat_interleave(weights, lengths, output_size=targets.shape[0])
            both = (each * ((there == found) & (there >= 0))).sum()
            measured["f1"] = (2 * both, (each * (there >= 0)).sum() + (each * (found >= 0)).sum())
        wrong = weights.new_zeros(batch.ragged.num_rows).index_add(0, batch.ragged.row_of, 1 - right)
        whole = wrong == 0
        if logits is not None and batch.intents is not None:
            hits = logits.argmax(-1) == batch.intents
            measured["intent_accuracy"] = ((hits * weights).sum(), weights.sum())
            whole = whole & hits
        measured["sentence_accuracy"] = ((whole * weights).sum(), weights.sum())
        return measured

    def _loss(
        self, emissions: Tensor, logits: Tensor | None, batch: TokenBatch, targets: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        total, count = self.head.loss(emissions, targets, batch.ragged, weights)
        if logits is not None and self.intents is not None:
            if batch.intents is None:
                raise ValueError("this network learns intents; the batch has none")
            # An intent that training has not seen has no probability to be judged by.
            known = batch.intents < logits.shape[1]
            said = self.intents.loss(logits, batch.intents.where(known, 0), torch.where(known, weights, 0))[0]
            total = total + self.intent_weight * said
        return total, count

    def _word_vectors(self, ids: Tensor) -> Tensor:
        extra = self.get_buffer("extra_words")
        if not extra.shape[0]:
            return self.words(ids)
        num_words = self.words.weight.shape[0]
        learned = ids < num_words
        vectors = self.words(ids.where(learned, 0))
        given = extra.index_select(0, (ids - num_words).clamp(min=0))
        return torch.where(learned[:, None], vectors, given)


def _table(rows: int, size: int, word_dropout: float) -> TokenEmbedding:
    """A table drawn from U(-sqrt(3 / size), sqrt(3 / size)), as Ma & Hovy 2016 have it."""
    table = TokenEmbedding(rows, size, 0.0, word_dropout)
    bound = math.sqrt(3.0 / size)
    nn.init.uniform_(table.weight, -bound, bound)
    return table


def _targets(batch: Any) -> Tensor:
    if batch.targets is None:
        raise ValueError("a loss needs targets; the batch has none")
    return batch.targets


def _weights(batch: Any, emissions: Tensor) -> Tensor:
    if batch.weights is not None:
        return batch.weights.to(emissions.dtype)
    return torch.ones(batch.ragged.num_rows, dtype=emissions.dtype, device=emissions.device)
