"""Training of word vectors on a user's text: word2vec and FastText by gensim, GloVe by `features/glove.py`."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from tidegate.errors import DataError, nearest, require
from tidegate.features.vector_files import from_gensim
from tidegate.features.vectors import WordVectors

__all__ = ["METHODS", "train_vectors"]

METHODS = ("cbow", "skipgram", "fasttext", "glove")
# gensim passes over what follows the ten thousandth word of a sentence.
_LONGEST_SENTENCE = 10_000
Progress = Callable[[int, int, float], None]
Advance = Callable[[int, int], None]
_ADVANCE_EVERY = 256


def train_vectors(
    sentences: Iterable[Sequence[str]],
    *,
    method: str = "skipgram",
    size: int = 100,
    window: int = 5,
    min_count: int = 5,
    epochs: int = 5,
    negative: int = 5,
    subsample: float = 1e-3,
    min_n: int = 3,
    max_n: int = 6,
    buckets: int = 200_000,
    threads: int = 1,
    random_state: int = 0,
    progress: Progress | None = None,
    advance: Advance | None = None,
    stop: Callable[[], bool] | None = None,
) -> WordVectors:
    """Learn word vectors from tokenised sentences.

    - ``"cbow"`` and ``"skipgram"`` (Mikolov et al. 2013): with negative sampling.
    - ``"fasttext"`` (Bojanowski et al. 2017): skip-gram over a word and its character n-grams, which give vectors to
      words that the text does not have.
    - ``"glove"`` (Pennington et al. 2014): from the matrix of co-occurrences.

    Args:
        sentences: Tokens, sentence after sentence; read once and kept in memory.
        method: One of `METHODS`.
        size: Numbers of a vector.
        window: Tokens to either side that are a word's company.
        min_count: Occurrences that earn a word its vector.
        epochs: Passes over the text, for GloVe over its pairs.
        negative: Noise words a pair; not for GloVe.
        subsample: The share above which frequent words are passed over now and then; not for GloVe.
        min_n, max_n: Characters of FastText's shortest and longest n-grams.
        buckets: Rows for FastText's n-grams.
        threads: Threads; more than one do not repeat bit for bit, and GloVe takes torch's.
        random_state: Seed.
        progress: Called after each epoch with its number, that of all and the seconds it took.
        advance: Called now and then with how much of all epochs is done, and how much that is.
        stop: Asked now and then whether to end now, with what was learned so far.

    Returns:
        The vectors, the most frequent words first.

    Raises:
        DataError: The method is unknown, an argument is out of range, or no word occurs often enough.
        MissingExtraError: gensim is not installed.
    """
    if method not in METHODS:
        raise DataError(f"method {method!r}: expected one of {', '.join(METHODS)}.{nearest(method, METHODS)}")
    counts = {"size": size, "window": window, "min_count": min_count, "epochs": epochs, "threads": threads}
    for name, value in counts.items():
        if value < 1:
            raise DataError(f"{name} must be at least 1; found {value}")
    if not 1 <= min_n <= max_n or buckets < 1:
        raise DataError(f"expected 1 <= min_n <= max_n and a bucket at least; found {min_n=}, {max_n=}, {buckets=}")
    # Looked for before the text is read.
    for package, extra in (("torch", "train"), ("scipy", "train")) if method == "glove" else (("gensim", "words"),):
        require(package, extra)
    kept = _in_pieces(sentences)
    total = Counter(token for sentence in kept for token in sentence)
    if not total:
        raise DataError("the text holds no word to learn a vector of")
    if max(total.values()) < min_count:
        raise DataError(f"no word occurs {min_count} times in the text; give more text or lower min_count")
    watch = _Watch(epochs, progress, advance, stop)
    if method == "glove":
        return _train_glove(kept, total, size, window, min_count, random_state, watch)
    arguments: dict[str, Any] = {
        "vector_size": size,
        "window": window,
        "min_count": min_count,
        "negative": negative,
        "sample": subsample,
        "seed": random_state,
        "workers": threads,
        "epochs": epochs,
        "sg": int(method != "cbow"),
    }
    models = require("gensim.models", "words")
    if method == "fasttext":
        model = models.FastText(**arguments, min_n=min_n, max_n=max_n, bucket=buckets)
    else:
        # Skip-gram's step size; CBOW averages its context and stands a larger one (Mikolov's own tools do the same).
        model = models.Word2Vec(**arguments, alpha=0.05 if method == "cbow" else 0.025)
    model.build_vocab(corpus_iterable=kept)
    with contextlib.suppress(_StoppedError):
        model.train(
            corpus_iterable=_Watched(kept, watch),
            total_examples=model.corpus_count,
            epochs=epochs,
            callbacks=[_epoch_ends(watch)],
        )
    return from_gensim(model.wv)


def _in_pieces(sentences: Iterable[Sequence[str]]) -> list[list[str]]:
    """The sentences, long ones cut, each distinct token held once in memory."""
    held: dict[str, str] = {}
    pieces = []
    for sentence in sentences:
        tokens = [held.setdefault(token, token) for token in sentence]
        pieces += [tokens[start : start + _LONGEST_SENTENCE] for start in range(0, len(tokens), _LONGEST_SENTENCE)]
    return pieces


class _Watch:
    """Who is told how far a training is, and who may end it."""

    def __init__(
        self, epochs: int, progress: Progress | None, advance: Advance | None, stop: Callable[[], bool] | None
    ) -> None:
        self.epochs, self.progress, self.advance = epochs, progress, advance
        self.stop = stop if stop is not None else lambda: False
        self.epoch, self.started = 0, time.perf_counter()

    def moved(self, done: int, of: int) -> None:
        """So much of this epoch is done."""
        if self.advance is not None:
            self.advance(self.epoch * of + done, self.epochs * of)

    def ended(self) -> None:
        """An epoch was finished."""
        self.epoch += 1
        now = time.perf_counter()
        if self.progress is not None:
            self.progress(self.epoch, self.epochs, now - self.started)
        self.started = now


class _Watched:
    """Sentences that end early when the training is to stop."""

    def __init__(self, sentences: list[list[str]], watch: _Watch) -> None:
        self.sentences, self.watch = sentences, watch

    def __iter__(self) -> Iterator[list[str]]:
        for done, sentence in enumerate(self.sentences):
            if self.watch.stop():
                return
            if done % _ADVANCE_EVERY == 0:
                self.watch.moved(done, len(self.sentences))
            yield sentence


class _StoppedError(Exception):
    """Leaves gensim's course of epochs."""


def _epoch_ends(watch: _Watch) -> Any:
    base = require("gensim.models.callbacks", "words").CallbackAny2Vec

    class EpochEnds(base):
        def on_epoch_end(self, model: Any) -> None:
            if watch.stop():
                raise _StoppedError
            watch.ended()

    return EpochEnds()


def _train_glove(
    sentences: list[list[str]],
    total: Counter[str],
    size: int,
    window: int,
    min_count: int,
    random_state: int,
    watch: _Watch,
) -> WordVectors:
    from tidegate.features.cooccurrence import cooccurrence_counts
    from tidegate.features.glove import fit_glove

    words = sorted((word for word, count in total.items() if count >= min_count), key=lambda word: (-total[word], word))
    index = {word: row for row, word in enumerate(words)}
    # Rare words leave no gap: what stands around them is one token closer, as in GloVe's own tool.
    ids = [
        np.array([row for token in sentence if (row := index.get(token)) is not None], dtype=np.int64)
        for sentence in sentences
    ]
    counts = cooccurrence_counts(ids, len(words), window, harmonic=True)
    if not counts.nnz:
        raise DataError("no two words of the text stand together; give longer sentences")
    vectors = fit_glove(
        counts,
        size,
        epochs=watch.epochs,
        random_state=random_state,
        progress=lambda epoch, loss: watch.ended(),
        advance=watch.moved,
        stop=watch.stop,
    )
    return WordVectors(tuple(words), vectors)
