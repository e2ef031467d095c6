"""TextLanguageModel: a language model of texts, whose states other models read as features."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import nn

from tidegate.data.batch import make_batch
from tidegate.data.encoder import TextEncoder
from tidegate.data.seeds import derive_seed
from tidegate.deploy.bundle import Bundle
from tidegate.errors import DataError
from tidegate.estimators.base import check_texts, data_digest
from tidegate.estimators.neural import NeuralEstimator, seeded
from tidegate.heads.language import LanguageModel
from tidegate.layers.embedding import TokenEmbedding
from tidegate.layers.two_way import TwoWayStack
from tidegate.training.batches import EncodedBatches, batches_within

__all__ = ["TextLanguageModel"]

_TEXT = ("tokenizer", "lowercase", "strip_html", "normalization", "max_vocabulary", "min_count")
# Beyond so many tokens, a softmax over all of them would take most of the time.
_SMALL = 5000
_ROWS, _TOKENS = 256, 8192
_log = logging.getLogger(__name__)


class TextLanguageModel(NeuralEstimator):
    """A recurrent language model: it foretells each token of a text from those before it, and from those after it.

    Saved, it is what `language_model` of :class:`TextClassifier` and :class:`SequenceTagger` names: its states become
    features beside the words' vectors, as ELMo's are (Peters et al. 2018). The two directions are models of their own,
    with a layer's units each, over the same vectors and the same output.

    Args:
        tokenizer: ``"words"``, ``"characters"``, ``"bpe"`` or ``"jieba"``.
        lowercase: Whether case is ignored.
        strip_html: Whether tags are removed and entities resolved.
        normalization: Unicode form, or None.
        max_tokens: Tokens that are read at once; longer texts are read piece by piece.
        max_vocabulary: Most tokens that have a vector; with more than 5,000 the output is an adaptive softmax (Grave et
            al. 2017), with fewer it shares the vectors (Press & Wolf 2017).
        min_count: Occurrences that earn a token its vector.
        cell: ``"gru"``, ``"lstm"`` or ``"rnn"``.
        hidden_size: Units of a layer and direction, and features of a token's vector.
        num_layers: Layers of each direction.
        bidirectional: Whether it reads backward too.
        dropout: Rate on features of a text, the same at all its steps, of its vectors, between layers and of the last
            output.
        learning_rate: Step size of AdamW.
        weight_decay: Decoupled weight decay.
        batch_size: Pieces of a step.
        max_epochs: Epochs at most.
        patience: Epochs without a lower loss before training stops.
        validation_fraction: Share of the texts set aside when `fit` is given no ``validation_data``.
        gradient_clip: Largest norm of the gradient, or None.
        ema_decay: Decay a step of a moving average of the weights, or None.
        precision: ``"float32"``, ``"bfloat16"``, or on a GPU ``"float16"``.
        random_state: Seed of every draw; None draws one.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        verbose: Whether to show progress; None does so on a terminal.

    Attributes:
        encoder_: The fitted :class:`~tidegate.data.encoder.TextEncoder`.
        network_, history_, best_epoch_, random_state_, timing_: As those of ``TextClassifier``.

    Example:
        >>> model = TextLanguageModel(max_epochs=2).fit(texts)  # doctest: +SKIP
        >>> model.save("english.tg")  # doctest: +SKIP
        >>> TextClassifier(language_model="english.tg").fit(reviews, labels)  # doctest: +SKIP
    """

    kind: ClassVar[str] = "language-model"
    monitor: ClassVar[str] = "loss"
    encoder_: TextEncoder

    def __init__(
        self,
        *,
        tokenizer: str = "words",
        lowercase: bool = True,
        strip_html: bool = True,
        normalization: str | None = "NFKC",
        max_tokens: int = 128,
        max_vocabulary: int = 30000,
        min_count: int = 2,
        cell: str = "gru",
        hidden_size: int = 256,
        num_layers: int = 1,
        bidirectional: bool = True,
        dropout: float = 0.2,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        batch_size: int = 32,
        max_epochs: int = 5,
        patience: int = 2,
        validation_fraction: float = 0.05,
        gradient_clip: float | None = 1.0,
        ema_decay: float | None = None,
        precision: str = "float32",
        random_state: Any = None,
        device: str = "auto",
        verbose: bool | None = None,
    ) -> None:
        self._store(locals())

    # `check_training_arguments` asks; the vectors have a layer's size.
    @property
    def embedding_size(self) -> None:
        """The layers decide."""
        return

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        validation_data: Any = None,
        run_folder: str | os.PathLike[str] | None = None,
        resume: bool = False,
    ) -> Self:
        """Learn from texts.

        Args:
            X: Texts.
            y: Nothing; it is there for scikit-learn.
            validation_data: Texts that choose the epoch, instead of a share of X.
            run_folder: Where the checkpoints are kept.
            resume: Go on from the last finished epoch in `run_folder`, where there is one.

        Raises:
            DataError: X cannot be used, or holds too little.
            ValueError: An argument of the estimator is out of range.
            TidegateError: A checkpoint cannot be written or read, or belongs to another run.
            KeyboardInterrupt: Ctrl-C; where an epoch was finished, the estimator is fitted with the best one so far.
        """
        del y
        plan = self._plan(run_folder, resume)
        if not isinstance(self.max_tokens, (int, np.integer)) or self.max_tokens < 2:
            raise ValueError(f"max_tokens must be a whole number of at least 2; found {self.max_tokens!r}")
        started = time.perf_counter()
        texts = check_texts(X)
        held = [] if validation_data is None else check_texts(validation_data)
        if validation_data is None and self.validation_fraction > 0:
            order = np.random.default_rng(derive_seed(plan.random_state, "split")).permutation(len(texts))
            size = min(max(1, round(self.validation_fraction * len(texts))), len(texts) - 1)
            held = [texts[row] for row in np.sort(order[:size])]
            texts = [texts[row] for row in np.sort(order[size:])]
        encoder, encoded = TextEncoder.fit_encode(texts, max_tokens=None, **self._arguments(_TEXT))
        batching: dict[str, Any] = {"batch_size": int(self.batch_size), "random_state": plan.random_state}
        pieces = self._pieces(encoded.ids)
        if not pieces:
            raise DataError("X has no text of two tokens, which a language model needs to learn")
        others = self._pieces(encoder.encode(held).ids)
        network = seeded(derive_seed(plan.random_state, "weights"), lambda: self._build(encoder.num_tokens))
        _log.info(
            "%s pieces, %s tokens of %s kinds",
            *(f"{n:,}" for n in (len(pieces), sum(map(len, pieces)), encoder.num_tokens)),
        )
        self._train(
            plan,
            network,
            _batches(pieces, True, batching),
            _batches(others, False, batching) if others else None,
            data=data_digest([(texts, np.empty(0), None), (held, np.empty(0), None)]),
            seconds=time.perf_counter() - started,
            fitted={"encoder_": encoder},
        )
        return self

    def perplexity(self, X: Any, *, progress: Callable[[int, int], None] | None = None) -> float:
        """The exponential of the mean loss of a foretold token of texts, in both directions where there are two.

        Args:
            X: Texts.
            progress: Called now and then with how many tokens are read, and of how many.

        Raises:
            NotFittedError: `fit` has not been called.
            DataError: X is not a column of texts, or no token of it is foretold.
        """
        network, device = self._ready_network()
        pieces = self._pieces(self.encoder_.encode(check_texts(X)).ids)
        if not pieces:
            raise DataError("X has no text of two tokens, of which the second could be foretold")
        lengths = np.array([len(piece) for piece in pieces], dtype=np.int64)
        total = count = 0.0
        done = 0
        with torch.inference_mode():
            for rows in batches_within(lengths, _ROWS, _TOKENS):
                loss, tokens = network.loss(make_batch([pieces[row] for row in rows]).to(device))
                total, count = total + float(loss), count + float(tokens)
                done += int(lengths[rows].sum())
                if progress is not None:
                    progress(done, int(lengths.sum()))
        return math.exp(total / count)

    def score(self, X: Any, y: Any = None) -> float:
        """The negative logarithm of `perplexity`: higher is better, as scikit-learn has it."""
        del y
        return -math.log(self.perplexity(X))

    def _pieces(self, ids: list[np.ndarray]) -> list[np.ndarray]:
        most = int(self.max_tokens)
        cut = [row[start : start + most] for row in ids for start in range(0, len(row), most)]
        return [piece for piece in cut if len(piece) > 1]

    def _describe(self) -> dict[str, Any]:
        return {"tokenizer": self.encoder_.to_dict(), "labels": [], "metrics": {}}

    def _restore(self, bundle: Bundle) -> nn.Module:
        self.encoder_ = TextEncoder.from_dict(bundle.tokenizer)
        return self._build(self.encoder_.num_tokens)

    def _build(self, num_tokens: int) -> LanguageModel:
        size, rate, large = int(self.hidden_size), float(self.dropout), num_tokens > _SMALL
        encoder = TwoWayStack(self.cell, size, size, int(self.num_layers), bool(self.bidirectional), rate)
        return LanguageModel(TokenEmbedding(num_tokens, size), encoder, tied=not large, adaptive=large, dropout=rate)


def _batches(pieces: list[np.ndarray], shuffle: bool, batching: dict[str, Any]) -> EncodedBatches:
    return EncodedBatches(pieces, np.zeros(len(pieces), dtype=np.int64), None, shuffle=shuffle, **batching)
