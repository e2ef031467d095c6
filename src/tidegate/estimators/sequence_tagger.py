"""SequenceTagger: from sentences with a tag a token to a judged, saved model, with scikit-learn's contract."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch

from tidegate.data.seeds import derive_seed
from tidegate.data.tag_schemes import (
    convert_tags,
    full_tags,
    recognise_scheme,
    segment_tables,
    transition_masks,
)
from tidegate.data.tagging_batch import TaggingBatches
from tidegate.data.token_encoder import CASES, TokenEncoder
from tidegate.deploy.bundle import Bundle
from tidegate.errors import DataError
from tidegate.estimators.base import check_sample_weight
from tidegate.estimators.language_source import LanguageSource, read_language_model
from tidegate.estimators.neural import NeuralEstimator, seeded
from tidegate.estimators.tag_decoding import TagDecoder
from tidegate.estimators.tag_predictions import TagPredictions
from tidegate.estimators.tagging_data import (
    check_intents,
    check_sentences,
    check_tagger_arguments,
    check_tags,
    legal_tags,
    numbered,
    sentences_digest,
)
from tidegate.features.vector_files import read_vectors
from tidegate.features.vectors import token_vectors
from tidegate.heads.tag import Segments, TaggingNetwork

__all__ = ["SequenceTagger"]

_MODEL = (
    "cell",
    "char_encoder",
    "char_embedding_size",
    "char_hidden_size",
    "bigram_embedding_size",
    "hidden_size",
    "num_layers",
    "bidirectional",
    "output_layer",
    "dropout",
    "embedding_dropout",
    "word_dropout",
    "recurrent_dropout",
    "intent_pooling",
    "intent_weight",
)
_EMBEDDING_SIZE = 100
_log = logging.getLogger(__name__)


class SequenceTagger(TagPredictions, NeuralEstimator):
    """A recurrent tagger: one tag a token, for names, parts of speech, chunks, slots and Chinese words.

    Words, the characters in them and their capitals are read by a bidirectional recurrent encoder, and a conditional
    random field, in which only legal sequences of tags have a probability, chooses the tags of a sentence together
    (Huang et al. 2015; Lample et al. 2016; Ma & Hovy 2016). With intents, a second output labels the sentence.

    Args:
        tokenizer: How :meth:`extract` cuts raw text: ``"words"``, ``"characters"``, or at its ``"blanks"`` alone.
        lowercase: Whether words are looked up without their capitals, which characters and cases still tell.
        replace_digits: Whether words are looked up with 0 for every digit.
        max_vocabulary: Most words that have a vector of their own.
        min_count: Occurrences in the training sentences that earn a word or a pair of neighbours its vector.
        tag_scheme: How tags mark segments, one of ``"iob1"``, ``"bio"``, ``"bioes"``, ``"bmes"``, ``"bilou"`` and
            ``"plain"`` (they do not), or ``"auto"``, which recognises it.
        model_scheme: The scheme that the model predicts, ``"bioes"`` or ``"bio"``; predictions are turned back.
        illegal_tags: What is done with training sentences whose tags break their scheme: ``"repair"`` reads them as
            conlleval does and writes them anew, ``"drop"`` leaves the sentences out, ``"error"`` refuses them.
        cell: ``"gru"``, ``"lstm"``, ``"rnn"``, or ``"gru-blstm"``, a bidirectional GRU under a bidirectional LSTM.
        embedding_size: Features of a word's vector; None takes those of `vectors`, or 100.
        vectors: A file of word vectors that the words start from (`features/vector_files.py`).
        extra_words: Most words of `vectors`, in their order, that are kept for prediction though training has not seen
            them; their vectors stay as they are.
        char_encoder: ``"cnn"``, ``"gru"`` or ``"lstm"`` over the characters of each word; None reads none.
        char_embedding_size: Features of a character.
        char_hidden_size: Features that a word's characters give.
        case_features: Whether the model is told a word's capitals and digits.
        bigram_embedding_size: Features of a token with its next one, which serves characters as tokens; 0 for none.
        language_model: A language model's file (:class:`TextLanguageModel`, ``tidegate language train``), a mixture of
            whose layers, which is learned, stands beside the words' vectors (ELMo, Peters et al. 2018); it stays as it
            is and is saved with the rest. Tokens are looked up in it whole.
        hidden_size: Units of a recurrent layer and direction.
        num_layers: Recurrent layers.
        bidirectional: Whether each layer also reads backwards.
        output_layer: ``"crf"``, or ``"softmax"``, which tags each token by itself.
        dropout: Rate after the encoder, one mask a sentence, and between recurrent layers.
        embedding_dropout: Rate before the encoder, one mask a sentence.
        word_dropout: Rate at which words become the unknown one.
        recurrent_dropout: Rate on the states where they enter the recurrent weights, one mask a sentence.
        intent_pooling: What of a sentence's steps its intent is told from: ``"attention"``, their ``"max"``, their
            ``"mean"``, or the ``"last"`` of each direction.
        intent_weight: Factor of the loss of the intent beside that of the tags.
        window: Most tokens that prediction reads at once; longer sentences are read in overlapping pieces. None reads
            all whole.
        learning_rate: Step size; the highest one, where a schedule changes it.
        weight_decay: Of AdamW decoupled, of the others an L2 penalty in the gradient.
        optimizer: ``"adamw"``, ``"adam"``, ``"sgd"``, ``"asgd"``, ``"rmsprop"`` or ``"adagrad"``.
        momentum: Of SGD and RMSprop; None is none.
        schedule: Course of the learning rate (`training/schedules.py`).
        warmup_epochs: Epochs over which it rises from a thousandth.
        decay_factor: What ``"step"`` (None is 0.1) and ``"plateau"`` (0.5) multiply it by.
        decay_epochs: After how many epochs, or how many without improvement; None is 1 and 2.
        cycles: Equal parts of ``"cyclic"``, each of which starts at the whole rate and ends at 0; None is 5.
        batch_size: Sentences a batch.
        accumulate: Batches a step of the optimiser.
        max_epochs: Epochs at most.
        patience: Epochs without a better `monitor` before training stops.
        monitor: What chooses the epoch on validation data: ``"f1"`` of segments (of tokens, where tags mark none),
            ``"accuracy"`` of tokens, ``"sentence_accuracy"`` (all tags and the intent right), ``"intent_accuracy"`` or
            ``"loss"``.
        validation_fraction: Share of the sentences set aside for validation when none are given.
        gradient_clip: Largest norm of the gradient, or None.
        gradient_clip_value: Largest absolute value of its entries, or None; clipped before the norm.
        ema_decay: Decay of a moving average of the weights, which is then judged and kept; None averages nothing.
        precision: ``"float32"``, ``"bfloat16"``, or on a GPU ``"float16"``.
        random_state: Seed of every draw; None draws one.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        devices: Processes that train side by side, each on a part of every batch.
        verbose: Whether to show progress; None does so on a terminal.

    Attributes:
        tags_: The tags that the network knows, in `model_scheme`.
        tag_scheme_: The scheme of the training tags, which predictions have.
        intents_: The labels of sentences, or None.
        encoder_: The fitted :class:`TokenEncoder`.
        n_illegal_: Training sentences whose tags broke their scheme.

    Example:
        >>> from tidegate import SequenceTagger
        >>> X = [["Ada", "met", "Bo", "."], ["Bo", "left", "."]] * 8
        >>> y = [["B-PER", "O", "B-PER", "O"], ["B-PER", "O", "O"]] * 8
        >>> tagger = SequenceTagger(max_epochs=5, random_state=0, verbose=False).fit(X, y)
        >>> tagger.predict([["Bo", "met", "Ada"]])
        [['B-PER', 'O', 'B-PER']]
    """

    kind: ClassVar[str] = "sequence-tagger"
    monitors: ClassVar[tuple[str, ...]] = ("f1", "accuracy", "sentence_accuracy", "intent_accuracy", "loss")

    def __init__(
        self,
        *,
        tokenizer: str = "words",
        lowercase: bool = True,
        replace_digits: bool = False,
        max_vocabulary: int = 50000,
        min_count: int = 1,
        tag_scheme: str = "auto",
        model_scheme: str = "bioes",
        illegal_tags: str = "repair",
        cell: str = "gru",
        embedding_size: int | None = None,
        vectors: str | Sequence[str] | None = None,
        extra_words: int = 100000,
        char_encoder: str | None = "cnn",
        char_embedding_size: int = 30,
        char_hidden_size: int = 50,
        case_features: bool = True,
        bigram_embedding_size: int = 0,
        language_model: str | None = None,
        hidden_size: int = 128,
        num_layers: int = 1,
        bidirectional: bool = True,
        output_layer: str = "crf",
        dropout: float = 0.5,
        embedding_dropout: float = 0.3,
        word_dropout: float = 0.02,
        recurrent_dropout: float = 0.0,
        intent_pooling: str = "attention",
        intent_weight: float = 1.0,
        window: int | None = 1024,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.01,
        optimizer: str = "adamw",
        momentum: float | None = None,
        schedule: str = "constant",
        warmup_epochs: float = 0.0,
        decay_factor: float | None = None,
        decay_epochs: int | None = None,
        cycles: int | None = None,
        batch_size: int = 16,
        accumulate: int = 1,
        max_epochs: int = 30,
        patience: int = 6,
        monitor: str = "f1",
        validation_fraction: float = 0.1,
        gradient_clip: float | None = 5.0,
        gradient_clip_value: float | None = None,
        ema_decay: float | None = None,
        precision: str = "float32",
        random_state: Any = None,
        device: str = "auto",
        devices: int = 1,
        verbose: bool | None = None,
    ) -> None:
        self._store(locals())

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        validation_data: tuple[Any, ...] | None = None,
        *,
        intents: Any = None,
        run_folder: str | os.PathLike[str] | None = None,
        resume: bool = False,
        callbacks: Sequence[Any] = (),
        loggers: Sequence[Any] = (),
    ) -> Self:
        """Learn from sentences and their tags.

        Args:
            X: Sentences, each a list of tokens. Empty ones are left out.
            y: One list of tags a sentence, one tag a token.
            sample_weight: Weights of the sentences in the loss; one of weight 0 is left out altogether.
            validation_data: ``(X, y)``, or ``(X, y, intents)`` with intents, that choose the epoch, instead of a share
                of X.
            intents: One label a sentence, learned beside the tags; None learns tags alone.
            run_folder: Where the checkpoints ``checkpoints/best.ckpt`` and ``checkpoints/last.ckpt`` are kept.
            resume: Go on from the last finished epoch in `run_folder`, where there is one.
            callbacks, loggers: As of :meth:`TextClassifier.fit`.

        Raises:
            DataError: X, y, intents or sample_weight cannot be used; the message says where.
            ValueError: An argument of the estimator is out of range.
            TidegateError: A checkpoint cannot be written or read, or belongs to another run.
            KeyboardInterrupt: Ctrl-C; where an epoch was finished, the estimator is fitted with the best one so far.
        """
        plan = self._plan(run_folder, resume, loggers, callbacks)
        check_tagger_arguments(self)
        sentences = check_sentences(X)
        tags = check_tags(y, sentences)
        labels = None if intents is None else check_intents(intents, len(sentences))
        if labels is None and self.monitor == "intent_accuracy":
            raise ValueError('monitor="intent_accuracy" needs intents; pass them to fit, or choose another')
        weights = check_sample_weight(sample_weight, len(sentences))
        scheme = recognise_scheme(tags) if self.tag_scheme == "auto" else self.tag_scheme
        tags, dropped, illegal = legal_tags(tags, scheme, self.illegal_tags)
        absent = set(dropped) | {row for row, tokens in enumerate(sentences) if not tokens}
        absent |= set() if weights is None else set(np.flatnonzero(weights == 0).tolist())
        kept = np.array([row for row in range(len(sentences)) if row not in absent], dtype=np.int64)
        if not len(kept):
            raise DataError("X has no sentence with a token to learn from")

        train, held = kept, np.arange(0)
        if validation_data is None and self.validation_fraction > 0:
            order = np.random.default_rng(derive_seed(plan.random_state, "split")).permutation(kept)
            size = min(max(1, round(self.validation_fraction * len(kept))), len(kept) - 1)
            train, held = np.sort(order[size:]), np.sort(order[:size])
            if not size:
                warnings.warn("too few sentences to set any aside for validation; the last epoch will be kept")

        def part(rows: np.ndarray) -> tuple[Any, Any, Any]:
            chosen = None if labels is None else [labels[row] for row in rows]
            return [sentences[row] for row in rows], [tags[row] for row in rows], chosen

        started = time.perf_counter()
        train_part = part(train)
        validation = part(held) if len(held) else None
        if validation_data is not None:
            validation = self._validation(validation_data, scheme, labels is not None)
        target = scheme if scheme == "plain" else self.model_scheme
        converted = [convert_tags(row, scheme, target) for row in train_part[1]]
        names = full_tags((tag for row in converted for tag in row), target)
        intent_names = None if labels is None else sorted(set(train_part[2]))
        source = None if self.language_model is None else read_language_model(self.language_model, None)
        encoder = self._fit_encoder(train_part[0], source)
        batching: dict[str, Any] = {"batch_size": self.batch_size, "random_state": plan.random_state}
        train_weights = None if weights is None else weights[train]
        numbers, _ = numbered(converted, names)
        intent_numbers = None if intent_names is None else numbered([train_part[2]], intent_names)[0][0]
        encoded = encoder.encode(train_part[0])
        train_batches = TaggingBatches(encoded, numbers, intent_numbers, train_weights, shuffle=True, **batching)
        validation_batches, all_names = None, names
        if validation is not None:
            judged = [convert_tags(row, scheme, target) for row in validation[1]]
            numbers, all_names = numbered(judged, names)
            said = None if intent_names is None else numbered([validation[2]], intent_names)[0][0]
            held_weights = None if weights is None or validation_data is not None else weights[held]
            encoded = encoder.encode(validation[0])
            validation_batches = TaggingBatches(encoded, numbers, said, held_weights, shuffle=False, **batching)
        network = self._make_network(encoder, names, target, intent_names, all_names, plan.random_state)
        if source is not None and network.language is not None:
            _log.info(source.describe(encoder.words))
            source.put_into(network.language)
        everything = [(sentences, tags, labels), *([] if validation is None else [validation])]
        self._train(
            plan,
            network,
            train_batches,
            validation_batches,
            data=sentences_digest(everything, weights),
            seconds=time.perf_counter() - started,
            fitted={
                "tags_": names,
                "tag_scheme_": scheme,
                "intents_": intent_names,
                "encoder_": encoder,
                "n_illegal_": illegal,
            },
        )
        return self

    def _decoder(self) -> TagDecoder:
        network, device = self._ready_network()
        return TagDecoder(network, self.encoder_, device, self.window)

    # --- parts of the fit, and the bundle

    def _validation(self, data: tuple[Any, ...], scheme: str, with_intents: bool) -> tuple[Any, Any, Any]:
        if not isinstance(data, (tuple, list)) or len(data) != (3 if with_intents else 2):
            raise DataError(f"validation_data must be (X, y{', intents' if with_intents else ''})")
        sentences = check_sentences(data[0])
        tags = legal_tags(check_tags(data[1], sentences), scheme, "repair", "validation_data")[0]
        kept = [row for row, tokens in enumerate(sentences) if tokens]
        if not kept:
            raise DataError("validation_data has no sentence with a token")
        labels = check_intents(data[2], len(sentences)) if with_intents else None
        chosen = None if labels is None else [labels[row] for row in kept]
        return [sentences[row] for row in kept], [tags[row] for row in kept], chosen

    def _fit_encoder(self, sentences: list[list[str]], source: LanguageSource | None) -> TokenEncoder:
        known: tuple[str, ...] = ()
        if self.vectors is not None:
            files = [self.vectors] if isinstance(self.vectors, str | os.PathLike) else list(self.vectors)
            known = read_vectors(files[0]).words if len(files) == 1 else ()
        return TokenEncoder.fit(
            sentences,
            use_bigrams=self.bigram_embedding_size > 0,
            known_words=known[: self.extra_words],
            language=None if source is None else source.words,
            **self._arguments(("lowercase", "replace_digits", "max_vocabulary", "min_count")),
        )

    def _make_network(
        self,
        encoder: TokenEncoder,
        tags: list[str],
        scheme: str,
        intents: list[str] | None,
        judged_tags: list[str],
        random_state: int,
    ) -> TaggingNetwork:
        vectors = extra = None
        size = self.embedding_size or _EMBEDDING_SIZE
        if self.vectors is not None:
            seed = derive_seed(random_state, "vectors")
            given = token_vectors(encoder.words.tokens, self.vectors, size=self.embedding_size, random_state=seed)
            _log.info(given.describe())
            vectors, size = given.vectors, given.vectors.shape[1]
            extra = np.zeros((0, size), np.float32)
            if encoder.extra_words:
                extra = token_vectors(("<unk>", *encoder.extra_words), self.vectors, size=size).vectors[1:]
        seed = derive_seed(random_state, "weights")
        network = seeded(seed, lambda: self._build(encoder, tags, scheme, intents, size))
        if scheme != "plain":
            begins, ends, types = segment_tables(judged_tags)
            network.segments = Segments(torch.from_numpy(begins), torch.from_numpy(ends), torch.from_numpy(types))
        if vectors is not None and extra is not None:
            network.start_from(torch.from_numpy(vectors), torch.from_numpy(extra))
        return network

    def _build(
        self, encoder: TokenEncoder, tags: list[str], scheme: str, intents: list[str] | None, size: int
    ) -> TaggingNetwork:
        follow, first, last = transition_masks(tags, scheme)
        free = scheme == "plain"
        return TaggingNetwork(
            num_words=len(encoder.words),
            num_extra_words=len(encoder.extra_words),
            num_characters=len(encoder.characters) if self.char_encoder else 0,
            num_cases=len(CASES) if self.case_features else 0,
            num_bigrams=len(encoder.bigrams) if encoder.bigrams is not None else 0,
            num_tags=len(tags),
            num_intents=len(intents or ()),
            embedding_size=size,
            language=None if encoder.language is None else encoder.language.arguments,
            masks=None if free else (torch.from_numpy(follow), torch.from_numpy(first), torch.from_numpy(last)),
            **self._arguments(_MODEL),
        )

    def _describe(self) -> dict[str, Any]:
        return {
            "tokenizer": {**self.encoder_.to_dict(), "scheme": self.tag_scheme_, "intents": self.intents_},
            "labels": self.tags_,
            "metrics": {"n_illegal": self.n_illegal_},
        }

    def _restore(self, bundle: Bundle) -> TaggingNetwork:
        state = dict(bundle.tokenizer)
        self.tag_scheme_, self.intents_ = state.pop("scheme"), state.pop("intents")
        self.encoder_ = TokenEncoder.from_dict(state)
        self.tags_ = [str(tag) for tag in bundle.labels]
        self.n_illegal_ = bundle.metrics["n_illegal"]
        scheme = "plain" if self.tag_scheme_ == "plain" else self.model_scheme
        size = bundle.weights["words.weight"].shape[1]
        return self._build(self.encoder_, self.tags_, scheme, self.intents_, size)
