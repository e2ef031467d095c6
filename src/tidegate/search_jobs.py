"""What the commands of ``tidegate search`` do: build an index, query it, judge it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.data.files import open_text
from tidegate.data.retrieval import read_documents, read_judgments, read_queries
from tidegate.errors import DataError
from tidegate.features.bm25 import STOP_WORDS, SearchIndex, build_index, open_index
from tidegate.reporting.ranking_metrics import ranking_metrics

_SNIPPET = 160


@dataclass(frozen=True)
class Found:
    """A document that a query found: its rank, identifier and score, the beginning of its text, what each term gave."""

    rank: int
    id: str
    score: float
    beginning: str
    terms: dict[str, float]


def build(
    documents: str | Path, out: str | Path, *, text: str, title: str, stop_words: str | None, **options: Any
) -> SearchIndex:
    """Index the documents of a file or folder and write the index into the folder `out`.

    Args:
        documents: What `read_documents` reads.
        out: A new folder, or one with an index to replace.
        text, title: The fields of the documents.
        stop_words: The name of a list, or a file with a word a line.
        options: Those of `build_index`.

    Raises:
        DataError: The documents cannot be read or hold nothing, an option is out of range, or `out` cannot be written.
        MissingExtraError: bm25s is not installed.
    """
    listed: str | list[str] | None = stop_words
    if stop_words is not None and stop_words not in STOP_WORDS and Path(stop_words).is_file():
        with open_text(Path(stop_words)) as stream:
            listed = [line.strip() for line in stream if line.strip()]
    index = build_index(read_documents(documents, text=text, title=title), stop_words=listed, **options)
    index.save(out)
    return index


def query(folder: str | Path, text: str, *, count: int = 10, explain: bool = False) -> list[Found]:
    """The best documents for a query.

    Raises:
        BundleError: There is no index in the folder, or it is damaged.
        DataError: The query is empty or holds stop words only.
    """
    index = open_index(folder)
    found = []
    for rank, hit in enumerate(index.search(text, count), 1):
        beginning = " ".join(index.text(hit.row).split())
        beginning = beginning if len(beginning) <= _SNIPPET else beginning[: _SNIPPET - 1] + "…"
        parts = index.explain(text, hit.row) if explain else {}
        found.append(Found(rank, hit.id, hit.score, beginning, parts))
    return found


def evaluate(
    folder: str | Path,
    queries: str | Path,
    judgments: str | Path,
    *,
    text: str = "text",
    by_place: bool = False,
    least: int = 1,
    depth: int | None = None,
) -> dict[str, float]:
    """Judge an index by queries whose answers are known: the result of `ranking_metrics`, and ``seconds``.

    Args:
        folder: The index.
        queries: What `read_queries` reads.
        judgments: What `read_judgments` reads.
        text: The field of a query's text.
        by_place: Whether the judgments call the queries by their places in the file.
        least: The smallest grade of an answer.
        depth: How many documents are ranked for a query; None ranks all.

    Raises:
        BundleError: There is no index, or it is damaged.
        DataError: A file cannot be read, a query is empty, or no query has an answer.
    """
    index = open_index(folder)
    judged = read_judgments(judgments, least=least)
    asked = [item for item in read_queries(queries, text=text, by_place=by_place) if item.id in judged]
    if not asked:
        raise DataError(
            f"{judgments}: none of its queries ({', '.join(list(judged)[:3])}, ...) is in {queries}; where it calls "
            "them by their places, say so with --by-place"
        )
    started = time.perf_counter()
    count = index.num_documents if depth is None else depth
    ranked = {item.id: [hit.id for hit in index.search(item.text, count)] for item in asked}
    seconds = time.perf_counter() - started
    return {**ranking_metrics(ranked, judged), "seconds": seconds}
