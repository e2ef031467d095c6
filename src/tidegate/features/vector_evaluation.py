"""How well word vectors know what people know: likeness of words (Spearman) and analogies (accuracy)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tidegate.data.files import open_text
from tidegate.errors import DataError, require
from tidegate.features.vectors import WordVectors

__all__ = [
    "AnalogyScore",
    "SimilarityScore",
    "read_analogies",
    "read_similarities",
    "score_analogies",
    "score_similarities",
]

_AT_ONCE = 512


@dataclass(frozen=True)
class SimilarityScore:
    """Spearman's rank correlation of cosines and human scores over the pairs whose words both have a vector."""

    spearman: float
    covered: int
    pairs: int


@dataclass(frozen=True)
class AnalogyScore:
    """Analogies answered right, of those whose four words all have a vector."""

    right: int
    covered: int
    total: int

    @property
    def accuracy(self) -> float:
        """Right answers among the covered; NaN where none is."""
        return self.right / self.covered if self.covered else float("nan")


def read_similarities(path: str | os.PathLike[str]) -> list[tuple[str, str, float]]:
    """Pairs of words and their likeness: word, word, number a line, divided by tabs or blanks; ``#`` begins a comment.

    Raises:
        DataError: A line has another form; the message names it.
    """
    pairs = []
    with open_text(Path(path)) as stream:
        for number, line in enumerate(stream, 1):
            fields = line.split("\t") if "\t" in line else line.split()
            if not line.strip() or line.startswith("#"):
                continue
            try:
                first, second, score = fields
                pairs.append((first.strip(), second.strip(), float(score)))
            except ValueError:
                raise DataError(
                    f"{path}:{number}: expected two words and a number, found {line.strip()[:60]!r}"
                ) from None
    if not pairs:
        raise DataError(f"{path}: expected pairs of words, found none")
    return pairs


def read_analogies(path: str | os.PathLike[str]) -> dict[str, list[tuple[str, str, str, str]]]:
    """Analogies by section: lines ``: section``, then ``a b c d`` (a is to b as c is to d) a line.

    Raises:
        DataError: A line has another form; the message names it.
    """
    sections: dict[str, list[tuple[str, str, str, str]]] = {}
    name = "all"
    with open_text(Path(path)) as stream:
        for number, line in enumerate(stream, 1):
            fields = line.split()
            if fields[:1] == [":"]:
                name = " ".join(fields[1:])
            elif len(fields) == 4:
                sections.setdefault(name, []).append((fields[0], fields[1], fields[2], fields[3]))
            elif fields:
                raise DataError(f"{path}:{number}: expected four words or ': section', found {line.strip()[:60]!r}")
    if not sections:
        raise DataError(f"{path}: expected analogies, found none")
    return sections


def score_similarities(vectors: WordVectors, pairs: Sequence[tuple[str, str, float]]) -> SimilarityScore:
    """Judge vectors by pairs of words; words without a vector are tried in lower case, then by their subwords.

    Raises:
        DataError: Fewer than two pairs have vectors.
    """
    cosines, scores = [], []
    for first, second, score in pairs:
        a, b = _find(vectors, first), _find(vectors, second)
        if a is not None and b is not None:
            cosines.append(float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-12)))
            scores.append(score)
    if len(scores) < 2:
        raise DataError(f"{len(scores)} of the {len(pairs)} pairs have vectors; at least 2 are needed")
    found = require("scipy.stats", "train").spearmanr(cosines, scores)
    return SimilarityScore(float(found.statistic), len(scores), len(pairs))


def _find(vectors: WordVectors, word: str) -> np.ndarray | None:
    for form in (word, word.lower()):
        if form in vectors:
            return vectors.vector(form)
    return None if vectors.subwords is None else vectors.subwords.vector(word.lower())


def score_analogies(
    vectors: WordVectors,
    sections: dict[str, list[tuple[str, str, str, str]]],
    *,
    most: int | None = 30_000,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, AnalogyScore]:
    """Judge vectors by analogies in lower case: the answer to ``a : b = c : ?`` is the word nearest to b - a + c.

    All vectors are scaled to length 1, and a, b and c are no answers (Mikolov et al. 2013).

    Args:
        vectors: The most frequent words first.
        sections: Those of `read_analogies`.
        most: How many of the words, from the first on, are known and are answers; None takes all.
        progress: Called after each section with how many analogies are done, and of how many.

    Returns:
        The score of each section, and of ``semantic`` (those whose name does not begin with ``gram``), ``syntactic``
        (the others) and ``total``.
    """
    words = [word.lower() for word in vectors.words[:most]]
    index: dict[str, int] = {}
    for row, word in enumerate(words):
        index.setdefault(word, row)
    unit = vectors.unit[:most]
    scores: dict[str, AnalogyScore] = {}
    for name, questions in sections.items():
        scores[name] = _score_section(unit, index, questions)
        if progress is not None:
            progress(sum(score.total for score in scores.values()), sum(map(len, sections.values())))
    kinds = {
        "semantic": [score for name, score in scores.items() if not name.startswith("gram")],
        "syntactic": [score for name, score in scores.items() if name.startswith("gram")],
        "total": list(scores.values()),
    }
    return {**scores, **{name: _sum(parts) for name, parts in kinds.items()}}


def _score_section(
    unit: np.ndarray, index: dict[str, int], questions: Sequence[tuple[str, str, str, str]]
) -> AnalogyScore:
    known = [[index[word.lower()] for word in four] for four in questions if all(w.lower() in index for w in four)]
    right = 0
    for start in range(0, len(known), _AT_ONCE):
        a, b, c, d = np.array(known[start : start + _AT_ONCE]).T
        cosines = (unit[b] - unit[a] + unit[c]) @ unit.T
        places = np.arange(len(a))
        for given in (a, b, c):
            cosines[places, given] = -np.inf
        right += int((cosines.argmax(1) == d).sum())
    return AnalogyScore(right, len(known), len(questions))


def _sum(scores: Sequence[AnalogyScore]) -> AnalogyScore:
    columns = zip(*((score.right, score.covered, score.total) for score in scores), strict=True)
    return AnalogyScore(*(sum(column) for column in columns)) if scores else AnalogyScore(0, 0, 0)
