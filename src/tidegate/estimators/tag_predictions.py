"""What a fitted tagger says: of sentences their tags, of raw texts their entities, each with its probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from tidegate.data.raw_text import cut_text, split_sentences
from tidegate.data.tag_schemes import convert_tags, segment_tables, spans_of
from tidegate.estimators.base import check_texts
from tidegate.estimators.mean_tag_decoding import MeanTagDecoder
from tidegate.estimators.tag_decoding import TagDecoder, TagPath
from tidegate.estimators.tagging_data import check_sentences, check_tags

__all__ = ["Entity", "TagPredictions", "TaggedSpan"]


@dataclass(frozen=True)
class TaggedSpan:
    """A segment of a sentence: its tokens ``start`` to ``end`` (exclusive), its type, and the probability of it."""

    start: int
    end: int
    type: str
    confidence: float


@dataclass(frozen=True)
class Entity:
    """A segment of a text: ``text[start:end]``, counted in characters as Python does, its type and its probability."""

    start: int
    end: int
    text: str
    type: str
    confidence: float


class TagPredictions:
    """The methods of taggers that need them fitted.

    What is one has `tokenizer`, `model_scheme`, `tags_`, `tag_scheme_` and `intents_`, and gives `_decoder`.
    """

    if TYPE_CHECKING:
        tokenizer: Any
        model_scheme: Any
        tags_: list[str]
        tag_scheme_: str
        intents_: list[str] | None

    def _decoder(self) -> TagDecoder | MeanTagDecoder:
        """What turns sentences into tags.

        Raises:
            NotFittedError: `fit` has not been called.
        """
        raise NotImplementedError

    def predict(self, X: Any) -> list[list[str]]:
        """The tags of each sentence, in the scheme of the training data.

        Args:
            X: Sentences, each a list of tokens; for raw text see :meth:`extract`.

        Raises:
            NotFittedError: `fit` has not been called.
            DataError: X is not a list of sentences.
        """
        return [self._given(row) for row in self._decoder().best(check_sentences(X))]

    def predict_k_best(self, X: Any, k: int) -> list[list[TagPath]]:
        """The `k` best sequences of tags of each sentence, best first, each with its probability.

        Raises:
            ValueError: The output layer is no CRF, or `k` is less than 1.
        """
        found = self._decoder().k_best(check_sentences(X), k)
        return [[TagPath(self._given(tags), chance) for tags, chance in paths] for paths in found]

    def predict_marginals(self, X: Any) -> list[np.ndarray]:
        """The probability of each of ``tags_`` at each token, ``[tokens, tags]`` a sentence."""
        return self._decoder().marginals(check_sentences(X))

    def predict_emissions(self, X: Any) -> list[np.ndarray]:
        """What the encoder says of each token before the transitions are heard, ``[tokens, tags]`` a sentence."""
        return self._decoder().emissions(check_sentences(X))

    def predict_intents(self, X: Any) -> list[str]:
        """The most probable intent of each sentence.

        Raises:
            ValueError: The model was trained without intents.
        """
        probabilities = self.predict_intent_proba(X)
        return [(self.intents_ or [])[place] for place in probabilities.argmax(1).tolist()]

    def predict_intent_proba(self, X: Any) -> np.ndarray:
        """The probability of each of ``intents_``, ``[sentences, intents]``."""
        return self._decoder().intents(check_sentences(X))

    def predict_spans(self, X: Any) -> list[list[TaggedSpan]]:
        """The segments of each sentence with the probability of each: that it is there, with these borders and type.

        Where tags mark no segments, each token is one, and its type the tag.
        """
        sentences, decoder = check_sentences(X), self._decoder()
        numbers = decoder.best(sentences)
        if self.tag_scheme_ == "plain":
            return [
                [
                    TaggedSpan(place, place + 1, self.tags_[number], float(chances[place, number]))
                    for place, number in enumerate(row)
                ]
                for row, chances in zip(numbers, decoder.marginals(sentences), strict=True)
            ]
        spans = [spans_of([self.tags_[number] for number in row]) for row in numbers]
        ends = segment_tables(self.tags_)[1]
        chances = decoder.confidences(sentences, numbers, spans, ends)
        return [
            [TaggedSpan(*span, chance) for span, chance in zip(row, row_chances, strict=True)]
            for row, row_chances in zip(spans, chances, strict=True)
        ]

    def inspect(self, tokens: Sequence[str]) -> list[dict[str, Any]]:
        """What chose the tags of one sentence, a row a token.

        Each row has ``token``, ``tag`` (of ``tags_``), ``probability`` (marginal), ``emission`` (the encoder's score of
        the tag), ``transition`` (the score of it after the tag before; at the first token, of it as the first; 0
        without a CRF, and of several taggers as one), and ``emission_tag``, which the emissions alone would give.
        """
        sentences, decoder = check_sentences([tokens]), self._decoder()
        (numbers,), (emissions,) = decoder.best(sentences), decoder.emissions(sentences)
        (marginals,) = decoder.marginals(sentences)
        first, between = decoder.transitions() or (None, None)
        rows = []
        for place, number in enumerate(numbers.tolist()):
            transition = 0.0
            if first is not None and between is not None:
                transition = (between[int(numbers[place - 1])] if place else first)[number]
            rows.append(
                {
                    "token": sentences[0][place],
                    "tag": self.tags_[number],
                    "probability": float(marginals[place, number]),
                    "emission": float(emissions[place, number]),
                    "transition": transition,
                    "emission_tag": self.tags_[int(emissions[place].argmax())],
                }
            )
        return rows

    def extract(self, texts: Any) -> list[list[Entity]]:
        """The segments of raw texts: sentences are split, cut into tokens and tagged.

        Args:
            texts: A list of texts. Offsets count the characters of the text as it was given.

        Raises:
            NotFittedError: `fit` has not been called.
            DataError: It is no list of texts.
        """
        texts = check_texts(texts)
        check_is_fitted(self)
        cut = [split_sentences(text, cut_text(text, self.tokenizer)) for text in texts]
        flat = [[token.text for token in tokens] for sentences in cut for tokens in sentences]
        found = iter(self.predict_spans(flat))
        entities: list[list[Entity]] = []
        for text, sentences in zip(texts, cut, strict=True):
            entities.append([])
            for tokens in sentences:
                for span in next(found):
                    start, end = tokens[span.start].start, tokens[span.end - 1].end
                    entities[-1].append(Entity(start, end, text[start:end], span.type, span.confidence))
        return entities

    def score(self, X: Any, y: Any) -> float:
        """F1 of segments over all sentences, or the accuracy of tokens where tags mark no segments."""
        from tidegate.reporting.tagging import tagging_metrics

        sentences = check_sentences(X)
        metrics = tagging_metrics(check_tags(y, sentences), self.predict(sentences), self.tag_scheme_)
        return metrics["accuracy" if self.tag_scheme_ == "plain" else "f1"]

    def _given(self, numbers: np.ndarray) -> list[str]:
        """Tags by their numbers, in the scheme of the training data."""
        tags = [self.tags_[number] for number in numbers]
        return tags if self.tag_scheme_ == "plain" else convert_tags(tags, self.model_scheme, self.tag_scheme_)
