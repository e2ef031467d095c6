"""Bags of words: counts or TF-IDF weights of token and character n-grams, as NumPy alone computes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tidegate.data.text import TOKENIZERS, prepare
from tidegate.errors import DataError, require

__all__ = ["WEIGHTINGS", "BagOfWords", "SparseRows", "TermSplitter"]

WEIGHTINGS = ("tfidf", "counts", "binary")
# No prepared text holds this control character, so that character n-grams never meet a token of the same letters.
_CHARACTER_MARK = "\x01"


@dataclass(frozen=True)
class SparseRows:
    """Rows of which few numbers are not zero (CSR): those of row r are ``values[starts[r]:starts[r + 1]]``.

    Attributes:
        starts: ``[rows + 1]`` int64.
        columns: ``[K]`` int64, ascending within a row.
        values: ``[K]`` float32.
        num_columns: V.
    """

    starts: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    num_columns: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    def times(self, weights: np.ndarray) -> np.ndarray:
        """The product ``[rows, C]`` float32 with a matrix ``[V, C]``, summed row by row in the same order always."""
        product = np.zeros((len(self), weights.shape[1]), dtype=np.float32)
        for row in range(len(self)):
            place = slice(self.starts[row], self.starts[row + 1])
            product[row] = self.values[place] @ weights[self.columns[place]]
        return product


@dataclass(frozen=True)
class TermSplitter:
    """Cuts a text into the terms that are counted.

    Attributes:
        tokenizer: ``"words"``, ``"characters"`` or ``"jieba"``.
        lowercase, strip_html, normalization: As `tidegate.data.text.prepare` has them.
        ngram_range: Tokens of the shortest and of the longest term.
        character_ngram_range: Characters of the shortest and of the longest piece of a word, its ends as blanks, that
            is counted as well; None counts none.
        keep_marks: Whether tokens without a letter or digit, as marks of punctuation, are counted.
    """

    tokenizer: str
    lowercase: bool
    strip_html: bool
    normalization: str | None
    ngram_range: tuple[int, int]
    character_ngram_range: tuple[int, int] | None
    keep_marks: bool

    def __call__(self, text: str) -> list[str]:
        """The terms of a text, in no order that matters."""
        text = prepare(text, lowercase=self.lowercase, html=self.strip_html, normalization=self.normalization)
        tokens = self._tokenize(text)
        if not self.keep_marks:
            tokens = [token for token in tokens if any(map(str.isalnum, token))]
        least, most = self.ngram_range
        terms = list(tokens) if least == 1 else []
        for size in range(max(least, 2), most + 1):
            terms += map(" ".join, zip(*(tokens[start:] for start in range(size)), strict=False))
        if self.character_ngram_range is not None:
            least, most = self.character_ngram_range
            for word in text.split():
                framed = f" {word} "
                for size in range(least, min(most, len(framed)) + 1):
                    terms += [_CHARACTER_MARK + framed[start : start + size] for start in range(len(framed) - size + 1)]
        return terms

    @property
    def _tokenize(self) -> Callable[[str], list[str]]:
        return TOKENIZERS[self.tokenizer]


@dataclass(frozen=True)
class BagOfWords:
    """Texts to rows of weights, one column a term.

    A term's weight is its count n in the text (``"counts"``), 1 (``"binary"``), or ``(1 + ln n) idf`` with
    ``idf = 1 + ln((1 + texts) / (1 + texts with the term))``, each row then scaled to length 1 (``"tfidf"``; Salton &
    Buckley 1988, as scikit-learn's ``TfidfVectorizer(sublinear_tf=True)``).

    Attributes:
        splitter: What cuts the texts.
        weighting: ``"tfidf"``, ``"counts"`` or ``"binary"``.
        terms: The term of each column.
        idf: ``[V]`` float32, ones where they do not count.
    """

    splitter: TermSplitter
    weighting: str
    terms: tuple[str, ...]
    idf: np.ndarray

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        splitter: TermSplitter,
        *,
        weighting: str = "tfidf",
        max_vocabulary: int | None = None,
        min_documents: int = 1,
    ) -> tuple[BagOfWords, Any]:
        """Learn the terms of texts with scikit-learn's vectorisers.

        Args:
            texts: The training texts.
            splitter: What cuts them.
            weighting: What a term weighs.
            max_vocabulary: The most frequent terms that are kept, or None for all.
            min_documents: Terms of fewer texts are left out.

        Returns:
            The bag, and the texts' rows as a ``scipy.sparse`` matrix ``[texts, V]`` float32.

        Raises:
            DataError: No term is left.
        """
        sklearn = require("sklearn.feature_extraction.text", "train")
        vectorizer = sklearn.CountVectorizer(
            analyzer=splitter, max_features=max_vocabulary, min_df=min_documents, dtype=np.float32
        )
        if min_documents > len(texts):
            raise DataError(f"min_documents={min_documents} is more than the {len(texts)} training texts; lower it")
        try:
            counts = vectorizer.fit_transform(texts)
        except ValueError as error:
            raise DataError(f"the {len(texts)} training texts leave no term to count: {error}") from None
        counts.sort_indices()
        terms = tuple(str(term) for term in vectorizer.get_feature_names_out())
        idf = np.ones(len(terms), dtype=np.float32)
        if weighting == "tfidf":
            transformer = sklearn.TfidfTransformer(sublinear_tf=True)
            idf = transformer.fit(counts).idf_.astype(np.float32)
        bag = cls(splitter, weighting, terms, idf)
        counts.data = bag._weigh(SparseRows(counts.indptr.astype(np.int64), counts.indices, counts.data, len(terms)))
        return bag, counts

    @cached_property
    def index(self) -> dict[str, int]:
        """The column of each term."""
        return {term: column for column, term in enumerate(self.terms)}

    def rows(self, texts: Iterable[str]) -> SparseRows:
        """The rows of texts; terms that training did not keep count for nothing."""
        get = self.index.get
        columns, counts, starts = [], [], [0]
        for text in texts:
            found = [column for term in self.splitter(text) if (column := get(term)) is not None]
            distinct, times = np.unique(np.array(found, dtype=np.int64), return_counts=True)
            columns.append(distinct)
            counts.append(times)
            starts.append(starts[-1] + len(distinct))
        joined = np.concatenate(columns) if columns else np.empty(0, dtype=np.int64)
        values = np.concatenate(counts).astype(np.float32) if counts else np.empty(0, dtype=np.float32)
        counted = SparseRows(np.array(starts, dtype=np.int64), joined, values, len(self.terms))
        return SparseRows(counted.starts, counted.columns, self._weigh(counted), counted.num_columns)

    def _weigh(self, counted: SparseRows) -> np.ndarray:
        if self.weighting == "counts":
            return counted.values
        if self.weighting == "binary":
            return np.ones_like(counted.values)
        values = (1 + np.log(counted.values)) * self.idf[counted.columns]
        row = np.repeat(np.arange(len(counted)), np.diff(counted.starts))
        lengths = np.sqrt(np.bincount(row, weights=values.astype(np.float64) ** 2, minlength=len(counted)))
        return (values / lengths[row]).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """What JSON holds of the bag; `idf` is an array, kept beside it."""
        settings = {name: getattr(self.splitter, name) for name in self.splitter.__dataclass_fields__}
        return {**settings, "weighting": self.weighting, "terms": list(self.terms)}

    @classmethod
    def from_dict(cls, state: dict[str, Any], idf: np.ndarray) -> BagOfWords:
        """The bag that `to_dict` wrote, with its `idf`.

        Raises:
            DataError: A key is missing or unknown, or there is not one weight a term.
        """
        names = {*TermSplitter.__dataclass_fields__, "weighting", "terms"}
        if set(state) != names:
            raise DataError(f"the bag of words: expected the keys {sorted(names)}, found {sorted(state)}")
        settings = {name: state[name] for name in TermSplitter.__dataclass_fields__}
        for name in ("ngram_range", "character_ngram_range"):
            settings[name] = None if settings[name] is None else tuple(settings[name])
        if state["weighting"] not in WEIGHTINGS or settings["tokenizer"] not in TOKENIZERS:
            raise DataError("the bag of words: the weighting or the tokenizer is none of those that there are")
        if idf.shape != (len(state["terms"]),):
            raise DataError(f"the bag of words: {len(state['terms'])} terms, and weights of shape {idf.shape}")
        return cls(TermSplitter(**settings), state["weighting"], tuple(state["terms"]), idf)
