"""BM25: an index over documents, its scores computed by bm25s, kept in a folder and reopened by memory map."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tidegate.data.retrieval import Document
from tidegate.data.text import TOKENIZERS
from tidegate.errors import BundleError, DataError, nearest, require
from tidegate.features.bag_of_words import TermSplitter

__all__ = ["METHODS", "STOP_WORDS", "Hit", "SearchIndex", "build_index", "check_index_folder", "open_index"]

# Our names of the variants, and those of bm25s.
METHODS = {"lucene": "lucene", "okapi": "robertson", "bm25+": "bm25+", "bm25l": "bm25l"}
STOP_WORDS = ("english", "chinese", "french", "german", "italian", "portuguese", "spanish", "dutch", "russian")
_FORMAT = 1
_REPORT_EVERY = 100
_SETTINGS, _DOCUMENTS, _STARTS = "index.json", "documents.jsonl", "document_starts.npy"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hit:
    """A document that was found: its number in the index, its identifier, and its score."""

    row: int
    id: str
    score: float


class SearchIndex:
    """An index that answers queries; `build_index` and `open_index` make it.

    The score of a document d for a query is the sum over the query's terms t of ``idf(t) tf(t, d)``, in the variants
    that Kamphuis et al. 2020 compare: ``"lucene"``, ``"okapi"`` (Robertson et al. 1994; a term of more than half of the
    documents weighs nothing), ``"bm25+"`` and ``"bm25l"`` (Lv & Zhai 2011). A term that a query has twice counts twice.

    Attributes:
        settings: method, k1, b, delta, and how texts are cut into terms.
        num_documents: How many documents are in it.
    """

    def __init__(
        self,
        settings: dict[str, Any],
        scorer: Any,
        ids: list[str],
        texts: _Texts | list[str],
        folder: Path | None = None,
    ) -> None:
        self.settings = settings
        self._folder = folder
        self.num_documents = len(ids)
        self._scorer, self._ids, self._texts = scorer, ids, texts
        self._split = _splitter(settings)
        self._stop_words = frozenset(settings["stop_words"])

    @property
    def num_terms(self) -> int:
        """How many different terms the documents have."""
        return len(self._scorer.vocab_dict)

    def search(self, query: str, count: int = 10) -> list[Hit]:
        """The documents with a term of the query, those of the highest scores first, equal ones in the index's order.

        Raises:
            DataError: The query has no term.
        """
        terms = self._known(self.terms(query))
        if not terms:
            return []
        scores = self._scores_of(terms)
        rows = np.unique(np.concatenate([self._rows_of(term) for term in terms]))
        best = rows[np.argsort(-scores[rows], kind="stable")[:count]]
        return [Hit(row, self._ids[row], float(scores[row])) for row in best.tolist()]

    def scores(self, query: str) -> np.ndarray:
        """The score of every document, ``[num_documents]`` float32; zeros where no term of the query is known.

        Raises:
            DataError: The query has no term.
        """
        terms = self._known(self.terms(query))
        return self._scores_of(terms) if terms else np.zeros(self.num_documents, dtype=np.float32)

    def explain(self, query: str, row: int) -> dict[str, float]:
        """What each term of the query adds to a document's score; 0 for a term that no document has.

        BM25+ and BM25L give something to terms that a document does not have, the same to every document.

        Raises:
            DataError: The query has no term, or there is no such document.
        """
        if not 0 <= row < self.num_documents:
            raise DataError(f"there is no document number {row}; they are 0 to {self.num_documents - 1}")
        parts: dict[str, float] = {}
        for term in self.terms(query):
            known = self._known([term])
            score = float(self._scores_of(known)[row]) if known else 0.0
            parts[term] = parts.get(term, 0.0) + score
        return parts

    def terms(self, query: str) -> list[str]:
        """The terms of a query.

        Raises:
            DataError: There are none.
        """
        found = self._split(query)
        kept = [term for term in found if term not in self._stop_words]
        if not kept:
            why = f"its words are all stop words: {', '.join(dict.fromkeys(found))}" if found else "it has no word"
            raise DataError(f"the query {query[:60]!r} holds nothing to search for: {why}")
        return kept

    def text(self, row: int) -> str:
        """The text of a document."""
        return self._texts[row]

    def id(self, row: int) -> str:
        """The identifier of a document."""
        return self._ids[row]

    def row(self, id: str) -> int:
        """The number of the document with an identifier.

        Raises:
            DataError: There is none.
        """
        try:
            return self._ids.index(id)
        except ValueError:
            raise DataError(f"there is no document {id!r}.{nearest(id, self._ids)}") from None

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the index into a folder; `open_index` gives it back.

        Raises:
            DataError: The folder holds something else, or cannot be written.
        """
        folder = Path(folder)
        check_index_folder(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Written last, so that a folder with settings is whole.
            (folder / _SETTINGS).unlink(missing_ok=True)
            starts = np.zeros(self.num_documents + 1, dtype=np.int64)
            with open(folder / _DOCUMENTS, "wb") as file:
                for row in range(self.num_documents):
                    line = json.dumps({"id": self._ids[row], "text": self.text(row)}, ensure_ascii=False)
                    starts[row + 1] = starts[row] + file.write(line.encode("utf-8", "surrogatepass") + b"\n")
            np.save(folder / _STARTS, starts)
            self._scorer.save(folder, show_progress=False)
            state = {"format": _FORMAT, "num_documents": self.num_documents, "ids": list(self._ids), **self.settings}
            (folder / _SETTINGS).write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")
        except OSError as error:
            raise DataError(f"{folder}: the index could not be written: {error.strerror or error}") from None
        return folder

    def _known(self, terms: Iterable[str]) -> list[int]:
        vocabulary = self._scorer.vocab_dict
        return [vocabulary[term] for term in terms if term in vocabulary]

    def _scores_of(self, terms: list[int]) -> np.ndarray:
        # Mapped, the arrays are not read as a whole when the index is opened; what a query needs of them is looked at.
        for term in terms:
            rows = self._rows_of(term)
            if rows.size and not 0 <= rows.min() <= rows.max() < self.num_documents:
                raise _damaged(self._folder, "a term stands in documents that are not there")
        return self._scorer.get_scores_from_ids(terms)

    def _rows_of(self, term: int) -> np.ndarray:
        matrix = self._scorer.scores
        return matrix["indices"][int(matrix["indptr"][term]) : int(matrix["indptr"][term + 1])]


class _Texts:
    """The texts of a saved index, read one by one."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / _DOCUMENTS
        self.starts = np.load(folder / _STARTS, mmap_mode="r", allow_pickle=False)

    def __getitem__(self, row: int) -> str:
        try:
            with open(self.path, "rb") as file:
                file.seek(int(self.starts[row]))
                line = file.read(int(self.starts[row + 1] - self.starts[row]))
            return json.loads(line.decode("utf-8", "surrogatepass"))["text"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _damaged(self.path.parent, f"{self.path.name}:{row + 1} cannot be read: {_reason(error)}") from None


def build_index(
    documents: Sequence[Document],
    *,
    method: str = "lucene",
    k1: float = 1.2,
    b: float = 0.75,
    delta: float = 0.5,
    tokenizer: str = "words",
    lowercase: bool = True,
    strip_html: bool = True,
    normalization: str | None = "NFKC",
    stop_words: str | Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SearchIndex:
    """Index documents.

    Args:
        documents: What can be found.
        method: ``"lucene"``, ``"okapi"``, ``"bm25+"`` or ``"bm25l"``.
        k1: How soon further occurrences of a term stop to count.
        b: How much long documents lose, in [0, 1].
        delta: What BM25+ and BM25L add.
        tokenizer: ``"words"``, ``"characters"`` or ``"jieba"``; marks of punctuation are no terms.
        lowercase, strip_html, normalization: As `tidegate.data.text.prepare` has them.
        stop_words: Words that are no terms: the name of a list of bm25s (`STOP_WORDS`), or words.
        progress: Called now and then with how many documents are cut into terms, and of how many.

    Raises:
        DataError: There are no documents, none has a term, or an argument is out of range.
        MissingExtraError: bm25s is not installed.
    """
    bm25s = require("bm25s", "words")
    if method not in METHODS:
        raise DataError(f"method {method!r}: expected one of {', '.join(METHODS)}.{nearest(method, METHODS)}")
    if tokenizer not in TOKENIZERS:
        raise DataError(f"tokenizer {tokenizer!r}: expected one of {', '.join(TOKENIZERS)}")
    if not (k1 > 0 and 0 <= b <= 1 and delta >= 0):
        raise DataError(f"expected k1 above 0, b in [0, 1] and delta not negative; found {k1=}, {b=}, {delta=}")
    if not documents:
        raise DataError("expected documents to index, found none")
    settings = {
        "method": method,
        "k1": k1,
        "b": b,
        "delta": delta,
        "tokenizer": tokenizer,
        "lowercase": lowercase,
        "strip_html": strip_html,
        "normalization": normalization,
        "stop_words": _stop_words(stop_words, lowercase),
    }
    split, stopped = _splitter(settings), frozenset(settings["stop_words"])
    vocabulary: dict[str, int] = {}
    ids, empty = [], []
    for document in documents:
        terms = [term for term in split(document.text) if term not in stopped]
        ids.append([vocabulary.setdefault(term, len(vocabulary)) for term in terms])
        if not terms:
            empty.append(document.id)
        if progress is not None and len(ids) % _REPORT_EVERY == 0:
            progress(len(ids), len(documents))
    if not vocabulary:
        raise DataError(f"the {len(documents)} documents hold nothing to search for: no word, or stop words only")
    if empty:
        _log.warning(
            "%s of %s documents hold no term (the first: %r) and will not be found",
            f"{len(empty):,}",
            f"{len(documents):,}",
            empty[0],
        )
    scorer = bm25s.BM25(method=METHODS[method], k1=k1, b=b, delta=delta)
    scorer.index((ids, vocabulary), create_empty_token=False, show_progress=False)
    scorer.vocab_dict = vocabulary
    return SearchIndex(
        settings, scorer, [document.id for document in documents], [document.text for document in documents]
    )


def check_index_folder(folder: str | os.PathLike[str]) -> None:
    """Refuse a folder into which no index would be saved.

    Raises:
        DataError: It holds something else.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / _SETTINGS).is_file())):
        raise DataError(f"{folder}: expected a new or an empty folder, or an index to replace; found something else")


def open_index(folder: str | os.PathLike[str]) -> SearchIndex:
    """The index that `SearchIndex.save` wrote, its arrays mapped, its texts on the disk.

    Raises:
        BundleError: There is no index, it is of a newer format, or a part is missing or damaged.
        MissingExtraError: bm25s is not installed.
    """
    folder = Path(folder)
    path = folder / _SETTINGS
    if not path.is_file():
        raise BundleError(f"{folder}: expected a folder that 'tidegate search build' wrote, found no {_SETTINGS} in it")
    bm25s = require("bm25s", "words")
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(state, dict) or not isinstance(state.get("format"), int):
            raise ValueError(f"{_SETTINGS} says no format")
        if state.pop("format") > _FORMAT:
            raise BundleError(f"{folder}: written by a newer tidegate; upgrade with: pip install --upgrade tidegate")
        ids, count = state.pop("ids"), state.pop("num_documents")
        if state["tokenizer"] not in TOKENIZERS:
            raise ValueError(f"{_SETTINGS} names the tokenizer {state['tokenizer']!r}, which does not exist")
        scorer = bm25s.BM25.load(folder, mmap=True, load_corpus=False, show_progress=False)
        texts = _Texts(folder)
        size = (folder / _DOCUMENTS).stat().st_size
        matrix, terms = scorer.scores, len(scorer.vocab_dict)
        whole = (
            len(ids) == count == matrix["num_docs"] == len(texts.starts) - 1
            and int(texts.starts[-1]) == size
            and len(matrix["indptr"]) == terms + 1
            and int(matrix["indptr"][-1]) == len(matrix["data"]) == len(matrix["indices"])
        )
        if not whole:
            raise ValueError("its parts are of different sizes")
        if (np.diff(matrix["indptr"]) < 0).any() or not all(0 <= term < terms for term in scorer.vocab_dict.values()):
            raise ValueError("its terms are out of order")
        return SearchIndex(state, scorer, ids, texts, folder)
    except BundleError:
        raise
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise _damaged(folder, _reason(error)) from None


def _damaged(folder: Path | None, reason: str) -> BundleError:
    return BundleError(f"{folder or 'the index'}: the index is damaged ({reason}); build it again")


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{Path(str(error.filename)).name} is missing"
    return f"{_SETTINGS} lacks {error}" if isinstance(error, KeyError) else str(error)


def _splitter(settings: dict[str, Any]) -> TermSplitter:
    return TermSplitter(
        tokenizer=settings["tokenizer"],
        lowercase=settings["lowercase"],
        strip_html=settings["strip_html"],
        normalization=settings["normalization"],
        ngram_range=(1, 1),
        character_ngram_range=None,
        keep_marks=False,
    )


def _stop_words(given: str | Sequence[str] | None, lowercase: bool) -> list[str]:
    if given is None:
        return []
    if not isinstance(given, str):
        return sorted({word.lower() if lowercase else word for word in given})
    if given not in STOP_WORDS:
        listed = ", ".join(STOP_WORDS)
        raise DataError(f"stop words {given!r}: expected one of {listed}, or words.{nearest(given, STOP_WORDS)}")
    lists = require("bm25s.stopwords", "words")
    return sorted(lists.STOPWORDS_EN_PLUS if given == "english" else getattr(lists, f"STOPWORDS_{given.upper()}"))
