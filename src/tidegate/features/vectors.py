"""Word vectors: words and their rows, subwords for the words that have none, and the table of a vocabulary."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tidegate.data.vocabulary import UNKNOWN
from tidegate.errors import DataError, nearest

__all__ = ["Subwords", "TokenVectors", "WordVectors", "subword_hashes", "token_vectors"]

DRAWN, EXACT, LOWER_CASE, SUBWORDS = range(4)


@dataclass(frozen=True)
class Subwords:
    """FastText's vectors of character n-grams (Bojanowski et al. 2017), from which a word without a row gets a vector.

    Attributes:
        vectors: ``[buckets, D]``; an n-gram's row is its hash modulo the number of rows.
        min_n: Characters of the shortest n-gram of ``<word>``.
        max_n: Characters of the longest.
    """

    vectors: np.ndarray
    min_n: int
    max_n: int

    def vector(self, word: str) -> np.ndarray | None:
        """The mean of the word's n-gram vectors, ``[D]`` float32, or None where it has no n-gram."""
        rows = subword_hashes(word, self.min_n, self.max_n, len(self.vectors))
        return np.asarray(self.vectors[rows], dtype=np.float32).mean(0) if rows else None


def subword_hashes(word: str, min_n: int, max_n: int, buckets: int) -> list[int]:
    """The rows of a word's n-grams: FNV-1a of their UTF-8 bytes, each read as a signed one, as FastText has it."""
    marked = f"<{word}>"
    rows = []
    for size in range(min_n, min(max_n, len(marked)) + 1):
        for start in range(len(marked) - size + 1):
            if size == 1 and start in (0, len(marked) - 1):
                continue  # the marks of a word's ends alone
            value = 2166136261
            for byte in marked[start : start + size].encode():
                value = ((value ^ (byte if byte < 128 else byte | 0xFFFFFF00)) * 16777619) & 0xFFFFFFFF
            rows.append(value % buckets)
    return rows


@dataclass(frozen=True)
class WordVectors:
    """Words and their vectors.

    Attributes:
        words: V words, no two alike.
        vectors: ``[V, D]`` floats, perhaps mapped from a file.
        subwords: What gives vectors to other words, or None.

    Raises:
        DataError: There is not one row a word, or a word is there twice.
    """

    words: tuple[str, ...]
    vectors: np.ndarray
    subwords: Subwords | None = None

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.words):
            raise DataError(
                f"expected one row of numbers a word, shape ({len(self.words)}, D); found {self.vectors.shape}"
            )
        if len(self.index) != len(self.words):
            twice = next(word for place, word in enumerate(self.words) if self.index[word] != place)
            raise DataError(f"the word {twice!r} has two vectors; remove one of them")

    @property
    def size(self) -> int:
        """D, the numbers of a vector."""
        return self.vectors.shape[1]

    @cached_property
    def index(self) -> dict[str, int]:
        """The row of each word."""
        return {word: row for row, word in enumerate(self.words)}

    @cached_property
    def unit(self) -> np.ndarray:
        """``[V, D]`` float32, each row of length 1, one of zeros as it is."""
        vectors = np.asarray(self.vectors, dtype=np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.where(lengths > 0, lengths, 1)

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self.index

    def vector(self, word: str) -> np.ndarray:
        """The vector of a word, ``[D]`` float32: its row, or what its subwords give.

        Raises:
            DataError: The word has no row, and there are no subwords.
        """
        if word in self.index:
            return np.asarray(self.vectors[self.index[word]], dtype=np.float32)
        found = None if self.subwords is None else self.subwords.vector(word)
        if found is None:
            guess = nearest(word, self.words[:50000])
            raise DataError(f"the word {word!r} has no vector among the {len(self):,} that are here.{guess}")
        return found

    def neighbours(self, word: str, count: int = 10) -> list[tuple[str, float]]:
        """The words of the greatest cosine to a word, which is left out itself, with their cosines.

        Raises:
            DataError: The word has no vector.
        """
        return self.nearest(_normed(self.vector(word)), count, without=(word,))

    def analogy(self, first: str, second: str, third: str, count: int = 1) -> list[tuple[str, float]]:
        """What is to `third` as `second` is to `first`: the words nearest to second - first + third by cosine.

        The three vectors are scaled to length 1, and the three words are left out (Mikolov et al. 2013).

        Raises:
            DataError: One of the words has no vector.
        """
        a, b, c = (_normed(self.vector(word)) for word in (first, second, third))
        return self.nearest(_normed(b - a + c), count, without=(first, second, third))

    def nearest(self, direction: np.ndarray, count: int, *, without: Sequence[str] = ()) -> list[tuple[str, float]]:
        """The words whose vectors have the greatest cosine to a vector of length 1, the greatest first."""
        cosines = self.unit @ direction
        left_out = [self.index[word] for word in without if word in self.index]
        cosines[left_out] = -np.inf
        count = min(count, len(cosines) - len(set(left_out)))
        if count < 1:
            return []
        rows = np.argpartition(-cosines, count - 1)[:count]
        rows = rows[np.lexsort((rows, -cosines[rows]))]
        return [(self.words[row], float(cosines[row])) for row in rows]


def _normed(vector: np.ndarray) -> np.ndarray:
    length = float(np.linalg.norm(vector))
    return vector / length if length else vector


@dataclass(frozen=True)
class TokenVectors:
    """The vectors of a vocabulary's tokens, those of several files side by side.

    Attributes:
        vectors: ``[V, D]`` float32, D the sum over the files.
        origin: ``[files, V]`` uint8, where a token's vector came from: 0 drawn, 1 its word, 2 the word in lower case,
            3 subwords.
        names: The file of each part.
    """

    vectors: np.ndarray
    origin: np.ndarray
    names: tuple[str, ...]

    @property
    def num_drawn(self) -> int:
        """Tokens for which no file has a vector; ``<unk>`` does not count."""
        return int((self.origin[:, 1:] == DRAWN).all(axis=0).sum())

    def describe(self) -> str:
        """A sentence a file: how many tokens have a vector, and how the others begin."""
        sentences = []
        for name, origin in zip(self.names, self.origin[:, 1:], strict=True):
            counts = np.bincount(origin, minlength=4)
            ways = [(counts[LOWER_CASE], "in lower case"), (counts[SUBWORDS], "from subwords")]
            said = ", ".join(f"{count:,} {way}" for count, way in ways if count)
            known = f"{counts[1:].sum():,} of {len(origin):,} tokens have a vector" + (f" ({said})" if said else "")
            sentences.append(f"{name}: {known}, {counts[DRAWN]:,} begin at random")
        return "; ".join(sentences)


def token_vectors(
    tokens: Sequence[str],
    files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    size: int | None = None,
    random_state: int = 0,
) -> TokenVectors:
    """Read the vectors of a vocabulary from one file or several, whose vectors are then put side by side.

    A token takes the vector of the same word, else that of its lower case, else what FastText's subwords give. The
    others are drawn from a normal distribution with the mean and the deviation of each number over the file's vectors
    in use; ``<unk>`` is their mean.

    Args:
        tokens: All tokens in the order of their ids, ``<unk>`` first.
        files: Files that `read_vectors` reads.
        size: The sum of the dimensions that is expected, or None for any.
        random_state: Seed of what is drawn.

    Raises:
        DataError: A file cannot be read, no token has a vector in it, or the dimensions are others than expected.
    """
    from tidegate.features.vector_files import read_vectors

    listed = [files] if isinstance(files, str | os.PathLike) else list(files)
    if not listed:
        raise DataError("vectors: expected a file or a list of files, found an empty list")
    generator = np.random.default_rng(random_state)
    needed = {form for token in tokens for form in (token, token.lower())}
    tables, origins, dimensions = [], [], []
    for file in listed:
        known = read_vectors(file, only=needed)
        table, origin = _rows_of(tokens, known)
        if not origin.any():
            raise DataError(
                f"{file}: none of the {len(tokens) - 1:,} tokens has a vector in it (the first are "
                f"{', '.join(map(repr, tokens[1:6]))}); give vectors of the texts' language and tokenizer"
            )
        _fill(table, origin, generator)
        tables.append(table)
        origins.append(origin)
        dimensions.append(known.size)
    if size is not None and sum(dimensions) != size:
        each = " + ".join(map(str, dimensions))
        raise DataError(
            f"{', '.join(map(str, listed))}: expected vectors of embedding_size={size} numbers, found {each}"
            + (f" = {sum(dimensions)}" if len(listed) > 1 else "")
            + "; leave embedding_size out, or give other vectors"
        )
    names = tuple(os.path.basename(os.fspath(file)) for file in listed)
    return TokenVectors(np.concatenate(tables, axis=1), np.stack(origins), names)


def _rows_of(tokens: Sequence[str], known: WordVectors) -> tuple[np.ndarray, np.ndarray]:
    table = np.zeros((len(tokens), known.size), dtype=np.float32)
    origin = np.zeros(len(tokens), dtype=np.uint8)
    for place, token in enumerate(tokens):
        row, kind = known.index.get(token), EXACT
        if row is None:
            row, kind = known.index.get(token.lower()), LOWER_CASE
        if row is not None:
            table[place], origin[place] = known.vectors[row], kind
        elif known.subwords is not None and token != UNKNOWN:
            built = known.subwords.vector(token)
            if built is not None:
                table[place], origin[place] = built, SUBWORDS
    return table, origin


def _fill(table: np.ndarray, origin: np.ndarray, generator: np.random.Generator) -> None:
    found = table[origin != DRAWN]
    mean, deviation = found.mean(0), found.std(0)
    missing = np.flatnonzero(origin == DRAWN)
    table[missing] = mean + deviation * generator.standard_normal((len(missing), table.shape[1]))
    if origin[0] == DRAWN:
        table[0] = mean
