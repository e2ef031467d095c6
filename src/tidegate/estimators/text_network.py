"""What estimators of one network over texts share: from texts and targets to a trained network, and its outputs."""

from __future__ import annotations

import functools
import logging
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from tidegate.data.augment import Augmenter
from tidegate.data.batch import make_batch
from tidegate.data.encoder import Encoded, TextEncoder
from tidegate.data.pairs import flatten
from tidegate.data.seeds import derive_seed
from tidegate.data.word_forms import WordFields, WordForms
from tidegate.deploy.bundle import Bundle
from tidegate.errors import DataError
from tidegate.estimators.augmenting import augmenter_of, checked_augmentation
from tidegate.estimators.base import check_choice, check_vector_arguments, data_digest, resolve_seed
from tidegate.estimators.language_source import named_language_model
from tidegate.estimators.neural import TEXT, FitPlan, NeuralEstimator, seeded
from tidegate.estimators.pretraining import pretrain_encoder
from tidegate.estimators.transfer import start_from_bundle
from tidegate.estimators.warm_start import check_goes_on, goes_on, kept_arguments, take_over
from tidegate.estimators.word_reading import (
    check_character_arguments,
    encode_with,
    fields_to_dict,
    learn_word_fields,
    network_arguments,
    split_fields,
)
from tidegate.features.cooccurrence import cooccurrence_vectors
from tidegate.features.vectors import token_vectors
from tidegate.heads.sequence import SequenceNetwork
from tidegate.training.batches import EncodedBatches, batches_within, lengths_of_rows, places_of_rows

if TYPE_CHECKING:
    from lightning import Callback

    from tidegate.training.fit import BatchSource

__all__ = ["NETWORK", "Rows", "TextNetworkEstimator"]

# The estimator's arguments that `SequenceNetwork` takes, beside the embedding's size.
NETWORK = (
    "cell",
    "hidden_size",
    "num_layers",
    "bidirectional",
    "pooling",
    "dropout",
    "embedding_dropout",
    "word_dropout",
    "locked_dropout",
    "recurrent_dropout",
    "weight_dropout",
    "activity_penalty",
    "temporal_penalty",
)
EMBEDDING_INITS = ("normal", "cooccurrence")
_EMBEDDING_SIZE = 128
_log = logging.getLogger(__name__)
_ROWS_OF = {1: "one text a row", 2: "pairs of texts"}
# Together these keep a prediction batch within some tens of megabytes.
_PREDICT_ROWS, _PREDICT_TOKENS = 256, 16384


@dataclass(frozen=True)
class Rows:
    """Texts or pairs of them, what is to be learned of each, ``[rows, ...]``, and the weight of each, or None."""

    texts: list[Any]
    targets: np.ndarray
    weights: np.ndarray | None

    def take(self, rows: np.ndarray) -> Rows:
        """Some of the rows."""
        weights = None if self.weights is None else self.weights[rows]
        return Rows([self.texts[row] for row in rows], self.targets[rows], weights)


class TextNetworkEstimator(NeuralEstimator):
    """Base of the estimators whose network reads a text into one vector.

    Attributes:
        encoder_: The fitted :class:`~tidegate.data.encoder.TextEncoder`.
        n_truncated_: Training texts that were longer than `max_tokens`.
    """

    encoder_: TextEncoder
    n_truncated_: int
    tokenizer: str
    warm_start: bool
    _token_lengths: dict[str, np.ndarray]
    _fields: WordFields | None = None
    _width: int = 1
    _fitted_with: dict[str, Any]

    def _fit_rows(
        self,
        plan: FitPlan,
        rows: Rows,
        held: Rows | None,
        *,
        split: Callable[[int], tuple[np.ndarray, np.ndarray]],
        build: Callable[..., SequenceNetwork],
        fitted: Mapping[str, Any],
        factors: np.ndarray | None = None,
        unlabelled: Sequence[str] = (),
        callbacks: Sequence[Callback] = (),
        instead: Callable[[SequenceNetwork, BatchSource], None] | None = None,
    ) -> None:
        """Learn from rows.

        Args:
            plan: As `_plan` gave it.
            rows: What to learn from.
            held: What chooses the epoch; None takes a share of `rows`.
            split: From a seed to the places in `rows` that train and that are held out.
            build: From the numbers of tokens and of the embedding's features to the network, with further arguments
                where `char_encoder` is set.
            fitted: The subclass's attributes.
            factors: By what the weights of `rows` are multiplied in learning, not in validation.
            unlabelled: Further texts for the vocabulary and for pre-training.
            callbacks: The user's own.
            instead: Called with the network and its batches in place of all training.
        """
        check_choice("embedding_init", self.embedding_init, EMBEDDING_INITS)
        check_vector_arguments(self)
        if hasattr(self, "char_encoder"):
            check_character_arguments(self)
        augmentation = checked_augmentation(self)
        for name in ("pretrain_epochs", "adapt_epochs"):
            epochs = getattr(self, name)
            if not isinstance(epochs, (int, np.integer)) or isinstance(epochs, bool) or epochs < 0:
                raise ValueError(f"{name} must be a whole number of at least 0; found {epochs!r}")
        random_state, given = plan.random_state, held is not None
        train, places = np.arange(len(rows.texts)), np.arange(0)
        if not given and self.validation_fraction > 0:
            train, places = split(derive_seed(random_state, "split"))
            if len(places):
                held = rows.take(places)
            else:
                warnings.warn("too few rows to set any aside for validation; the last epoch will be kept", stacklevel=3)

        started = time.perf_counter()
        learned = rows.take(train)
        texts, width = flatten(learned.texts)
        held_texts, held_width = flatten(held.texts) if held is not None else ([], width)
        if held_width != width:
            raise DataError(
                f"X has {_ROWS_OF[width]} and validation_data {_ROWS_OF[held_width]}; both must have the same"
            )
        warm = goes_on(self)
        if warm:
            told = {**fitted, "_width": width}
            check_goes_on(self, self._fitted_with, told, resume=plan.resume, unlabelled=unlabelled)
        encoder, encoded, extra = self._encode(texts, unlabelled)
        lengths = {"train": encoded.lengths}
        batching: dict[str, Any] = {"batch_size": self.batch_size, "random_state": random_state}
        if width > 1:
            batching["width"] = width
        weights = learned.weights
        if factors is not None:
            weights = factors[train] * (1.0 if weights is None else weights)
        source = None if warm else named_language_model(self)
        fields, forms, ids = learn_word_fields(self, encoder, texts, self._fields if warm else None, source)
        if forms is not None:
            batching["expand"] = forms.rows
        held_batches = None
        if held is not None:
            others = encoder.encode(held_texts, unknown=None if forms is None else forms.number)
            if given:
                lengths["validation"] = others.lengths
            else:
                both = np.empty((width, len(rows.texts)), dtype=np.int64)
                both[:, train], both[:, places] = encoded.lengths.reshape(width, -1), others.lengths.reshape(width, -1)
                lengths["train"] = both.reshape(-1)
            held_batches = EncodedBatches(others.ids, held.targets, held.weights, shuffle=False, **batching)
        network = self._start(plan, encoder, encoded, functools.partial(build, **_reading(fields, width)))
        if source is not None and network.language is not None:
            source.put_into(network.language)
        known = self.vectors is not None or self.init_from is not None
        vectors = network.embedding.weight.detach().cpu().numpy() if known else None
        augment = augmenter_of(self, augmentation, encoder, encoded, texts, vectors, random_state, forms)
        batches = self._training_batches(ids or encoded.ids, learned.targets, weights, augment=augment, **batching)
        parts: list[tuple[Sequence[str], np.ndarray, np.ndarray | None]] = [
            (flatten(rows.texts)[0], rows.targets, rows.weights),
            ((), np.empty(0), None) if held is None else (held_texts, held.targets, held.weights),
        ]
        if unlabelled:
            parts.append((unlabelled, np.empty(0), None))
        if instead is not None:
            instead(network.to(plan.device), batches)
            return
        digest = data_digest(parts)
        if warm:
            digest += f" from {take_over(network, self.network_)}"
        else:
            self._pretrain(plan, network, encoded, extra, digest)
        self._train(
            plan,
            network,
            batches,
            held_batches,
            data=digest,
            seconds=time.perf_counter() - started,
            fitted={
                **fitted,
                "encoder_": encoder,
                "n_truncated_": encoded.truncated,
                "_token_lengths": lengths,
                "_fields": fields,
                "_width": width,
                "_fitted_with": kept_arguments(self),
            },
            callbacks=callbacks,
        )

    @property
    def token_lengths(self) -> dict[str, np.ndarray]:
        """Tokens of each text that `fit` was given, before any cut; neither saved nor loaded with the model.

        Under ``"train"`` are those of X (without texts of weight 0), under ``"validation"`` those of
        ``validation_data``, where it was given.

        Raises:
            NotFittedError: `fit` has not been called on this estimator.
        """
        check_is_fitted(self, "_token_lengths")
        return self._token_lengths

    @property
    def reads_pairs(self) -> bool:
        """Whether the fitted network reads pairs of texts."""
        return self._width > 1

    @property
    def reads_ids_alone(self) -> bool:
        """Whether the ids of a text's tokens are all that the fitted network reads of it."""
        return self._fields is None

    def _predict_texts(
        self, texts: Sequence[str], width: tuple[int, ...], decode: Callable[[Tensor], Tensor] | None = None
    ) -> np.ndarray:
        """What the network decodes of texts, ``[rows, *width]`` float32; `decode` stands in for its head's."""
        encoded, forms = self._encode_texts(texts)
        return self._predict_ids(encoded.ids, width, forms, decode)

    def _encode_texts(self, texts: Sequence[str]) -> tuple[Encoded, WordForms | None]:
        """Texts as the fitted network reads them: their ids, and what more there is of each word, or None."""
        check_is_fitted(self)
        forms = None if self._fields is None else WordForms(self._fields)
        flat, width = flatten(texts)
        if width != self._width and flat:
            raise DataError(f"the model reads {_ROWS_OF[self._width]}, and X has {_ROWS_OF[width]}")
        return encode_with(self.encoder_, flat, forms), forms

    def _predict_ids(
        self,
        ids: Sequence[np.ndarray],
        width: tuple[int, ...],
        forms: WordForms | None = None,
        decode: Callable[[Tensor], Tensor] | None = None,
    ) -> np.ndarray:
        """What the network decodes of encoded texts, ``[rows, *width]`` float32; `decode` stands in for its head's."""
        network, device = self._ready_network()
        read_out = network.head.decode if decode is None else decode
        lengths = lengths_of_rows(ids, self._width)
        outputs = np.empty((len(lengths), *width), dtype=np.float32)
        with torch.inference_mode():
            for places in batches_within(lengths, _PREDICT_ROWS, _PREDICT_TOKENS):
                chosen = [ids[place] for place in places_of_rows(places, len(lengths), self._width)]
                read = chosen if forms is None else [forms.rows(row) for row in chosen]
                batch = make_batch(read, width=self._width)
                batch = batch if device == "cpu" else batch.to(device)
                outputs[places] = read_out(network(batch.values, batch.ragged)).float().cpu().numpy()
        return outputs

    def make_augmenter(self, texts: Sequence[str]) -> tuple[TextEncoder, Augmenter | None]:
        """The encoder of some texts, and what `fit` would change them by: None where that is nothing.

        Raises:
            ValueError: An argument of the augmentation is out of range or has no effect.
        """
        texts = flatten(texts)[0]
        encoder, encoded = TextEncoder.fit_encode(texts, **self._arguments(TEXT))
        random_state = resolve_seed(self.random_state)
        vectors: np.ndarray | None = None
        augmentation = checked_augmentation(self)
        if augmentation.needs_neighbours and self.synonyms is None and self.vectors is not None:
            seed = derive_seed(random_state, "vectors")
            vectors = token_vectors(encoder.vocabulary.tokens, self.vectors, random_state=seed).vectors
        return encoder, augmenter_of(self, augmentation, encoder, encoded, texts, vectors, random_state, None)

    # --- how a row is read, in a bundle's tokeniser

    def _reading_state(self) -> dict[str, Any]:
        """What a bundle must know to read a row of input."""
        pairs = {"texts_per_row": self._width} if self._width > 1 else {}
        return {**self.encoder_.to_dict(), **fields_to_dict(self._fields), **pairs}

    def _restore_reading(self, state: dict[str, Any]) -> dict[str, Any]:
        """Set what `_reading_state` gave; return the network's arguments that follow from it."""
        state = dict(state)
        self._width = state.pop("texts_per_row", 1)
        if self._width not in _ROWS_OF:
            raise ValueError(f"the model reads {self._width!r} texts a row; expected one or two")
        self.encoder_, self._fields = split_fields(state)
        return _reading(self._fields, self._width)

    # --- parts of the fit

    def _training_batches(
        self, ids: Sequence[np.ndarray], targets: np.ndarray, weights: np.ndarray | None, **options: Any
    ) -> BatchSource:
        """What an epoch of training is made of; a subclass may draw it otherwise."""
        return EncodedBatches(ids, targets, weights, shuffle=True, **options)

    @classmethod
    def _from_parts(cls, bundle: Bundle) -> Self:
        model = super()._from_parts(bundle)
        model._fitted_with = kept_arguments(model)
        return model

    def _encode(self, texts: list[str], unlabelled: Sequence[str]) -> tuple[TextEncoder, Encoded, Encoded | None]:
        if goes_on(self):
            return self.encoder_, self.encoder_.encode(texts), None
        if not unlabelled:
            return *TextEncoder.fit_encode(texts, **self._arguments(TEXT)), None
        encoder, both = TextEncoder.fit_encode([*texts, *unlabelled], **self._arguments(TEXT))
        count = len(texts)
        return (
            encoder,
            Encoded(both.ids[:count], both.lengths[:count]),
            Encoded(both.ids[count:], both.lengths[count:]),
        )

    def _start(
        self, plan: FitPlan, encoder: TextEncoder, encoded: Encoded, build: Callable[[int, int], SequenceNetwork]
    ) -> SequenceNetwork:
        """The network with the weights that training starts from."""
        random_state, size, given = plan.random_state, self.embedding_size or _EMBEDDING_SIZE, None
        if goes_on(self):
            vectors = self.network_.embedding.weight.detach().cpu().numpy()
            network = seeded(0, lambda: build(encoder.num_tokens, vectors.shape[1]))
            # Vectors that learned at last go on learning.
            network.embedding.start_from(vectors, None if self.tune_vectors_after is None else 0)
            return network
        if self.vectors is not None:
            seed = derive_seed(random_state, "vectors")
            given = token_vectors(encoder.vocabulary.tokens, self.vectors, size=self.embedding_size, random_state=seed)
            size = given.vectors.shape[1]
            _log.info(given.describe())
        network = seeded(derive_seed(random_state, "weights"), lambda: build(encoder.num_tokens, size))
        if given is not None:
            network.embedding.start_from(given.vectors, self.tune_vectors_after)
        elif self.embedding_init == "cooccurrence":
            seed = derive_seed(random_state, "cooccurrence")
            vectors = cooccurrence_vectors(encoded.ids, encoder.num_tokens, size, random_state=seed)
            network.embedding.start_from(vectors)
        if self.init_from is not None:
            _log.info(start_from_bundle(network, encoder.vocabulary.tokens, self.init_from))
        return network

    def _pretrain(
        self, plan: FitPlan, network: SequenceNetwork, encoded: Encoded, extra: Encoded | None, digest: str
    ) -> None:
        """Train embedding and encoder as a language model: on all texts, then on those that are to be learned alone."""
        if extra is not None and not self.pretrain_epochs:
            raise ValueError("unlabelled texts have no effect without pretrain_epochs; set it to 1 or more")
        steps = [
            ("pretrain", self.pretrain_epochs, [*encoded.ids, *([] if extra is None else extra.ids)]),
            ("adapt", self.adapt_epochs, encoded.ids),
        ]
        pretrain_encoder(
            network,
            plan,
            [step for step in steps if step[1]],
            dropout=self.locked_dropout,
            batch_size=self.batch_size,
            fingerprint={**self._fingerprint_arguments(plan), "data": digest},
        )


def _reading(fields: WordFields | None, width: int) -> dict[str, Any]:
    """The arguments of a network that reads such rows, beside the estimator's own."""
    return {**network_arguments(fields), **({"pairs": True} if width > 1 else {})}
