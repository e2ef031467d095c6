"""What the commands of ``tidegate search`` do: build an index, query it, judge it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.data.files import open_text
from tidegate.data.retrieval import Document, Judgments, read_documents, read_judgments, read_queries
from tidegate.errors import DataError, require
from tidegate.features.bm25 import STOP_WORDS, Hit, SearchIndex, build_index, check_index_folder, open_index
from tidegate.jobs.interrupts import fit_into
from tidegate.jobs.out_file import check_out_file
from tidegate.reporting.progress_bar import Report, no_report
from tidegate.reporting.ranking_metrics import ranking_metrics

if TYPE_CHECKING:
    from tidegate.estimators.ranker import Ranker

_SNIPPET = 160
# How an index reads texts, as far as a ranker does so too.
_READING = ("tokenizer", "lowercase", "strip_html", "normalization")


@dataclass(frozen=True)
class Found:
    """A document that a query found: its rank, identifier and score, the beginning of its text, what each term gave."""

    rank: int
    id: str
    score: float
    beginning: str
    terms: dict[str, float]


def build(
    documents: str | Path,
    out: str | Path,
    *,
    text: str,
    title: str,
    stop_words: str | None,
    encoding: str = "utf-8",
    errors: str = "strict",
    report: Report = no_report,
    **options: Any,
) -> SearchIndex:
    """Index the documents of a file or folder and write the index into the folder `out`.

    Args:
        documents: What `read_documents` reads.
        out: A new folder, or one with an index to replace.
        text, title: The fields of the documents.
        stop_words: The name of a list, or a file with a word a line.
        encoding, errors: Of the documents, as of `read_documents`.
        report: Told how far each step is.
        options: Those of `build_index`.

    Raises:
        DataError: The documents cannot be read or hold nothing, an option is out of range, or `out` cannot be written.
        MissingExtraError: bm25s is not installed.
    """
    listed: str | list[str] | None = stop_words
    if stop_words is not None and stop_words not in STOP_WORDS and Path(stop_words).is_file():
        with open_text(Path(stop_words)) as stream:
            listed = [line.strip() for line in stream if line.strip()]
    check_index_folder(out)
    reading = partial(report, "documents read", of=None)
    found = read_documents(documents, text=text, title=title, encoding=encoding, errors=errors, progress=reading)
    index = build_index(found, stop_words=listed, progress=partial(report, "documents cut into terms"), **options)
    report("documents cut into terms", 1, 1)
    index.save(out)
    return index


def query(
    folder: str | Path,
    text: str,
    *,
    count: int = 10,
    explain: bool = False,
    ranker: str | Path | None = None,
    candidates: int = 100,
) -> list[Found]:
    """The best documents for a query.

    Args:
        folder: The index.
        text: The query.
        count: How many.
        explain: Whether to say what each of the query's terms adds to the score of BM25.
        ranker: A model that `train_ranker` saved, which puts the best of BM25 into an order of its own.
        candidates: How many of BM25's best it reads.

    Raises:
        BundleError: There is no index in the folder, or it or the ranker is damaged.
        DataError: The query is empty or holds stop words only.
    """
    index = open_index(folder)
    if ranker is None:
        hits = index.search(text, count)
    else:
        hits = reranked(index, load_ranker(ranker), text, candidates)[:count]
    found = []
    for rank, hit in enumerate(hits, 1):
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
    ranker: str | Path | None = None,
    candidates: int = 100,
    encoding: str = "utf-8",
    errors: str = "strict",
    report: Report = no_report,
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
        ranker: A model that `train_ranker` saved, which puts the best of BM25 into an order of its own.
        candidates: How many of BM25's best it reads; the others follow as BM25 has them.
        encoding, errors: Of the queries, as of `read_queries`.
        report: Told how many queries are answered.

    Raises:
        BundleError: There is no index, or it is damaged.
        DataError: A file cannot be read, a query is empty, or no query has an answer.
    """
    index = open_index(folder)
    judged = read_judgments(judgments, least=least)
    every = read_queries(queries, text=text, by_place=by_place, encoding=encoding, errors=errors)
    asked = [item for item in every if item.id in judged]
    if not asked:
        raise DataError(
            f"{judgments}: none of its queries ({', '.join(list(judged)[:3])}, ...) is in {queries}; where it calls "
            "them by their places, say so with --by-place"
        )
    started = time.perf_counter()
    count = index.num_documents if depth is None else depth
    model = None if ranker is None else load_ranker(ranker)
    ranked = {}
    for item in asked:
        hits = index.search(item.text, count)
        if model is not None:
            hits = [*reranked(index, model, item.text, min(candidates, count)), *hits[candidates:]]
        ranked[item.id] = [hit.id for hit in hits]
        report("queries answered", len(ranked), len(asked))
    seconds = time.perf_counter() - started
    return {**ranking_metrics(ranked, judged), "seconds": seconds}


def train_ranker(
    folder: str | Path,
    queries: str | Path,
    judgments: str | Path,
    out: str | Path,
    *,
    text: str = "text",
    by_place: bool = False,
    least: int = 1,
    candidates: int = 50,
    encoding: str = "utf-8",
    errors: str = "strict",
    resume: bool = False,
    overwrite: bool = False,
    report: Report = no_report,
    **options: Any,
) -> tuple[Ranker, bool]:
    """Train the second stage of a search on queries whose answers are known, and save it.

    Args:
        folder: The index, which gives the documents that do not answer: the best of BM25 that are not judged to.
        queries, judgments, text, by_place, least, encoding, errors: As in `evaluate`.
        out: The model's file; ``OUT.run`` beside it holds checkpoints until training is done.
        candidates: How many of BM25's best documents are learned from for a query.
        resume, overwrite: As `fit_into` has them.
        report: Told how many queries are answered.
        options: Arguments of :class:`~tidegate.Ranker`; texts are cut as the index cuts them unless they say otherwise.

    Returns:
        The ranker, and whether Ctrl-C ended its training, so that its best epoch so far is in the file.

    Raises:
        BundleError: There is no index, or it is damaged.
        DataError: A file cannot be read, or no query has an answer in the index.
        TidegateError, KeyboardInterrupt: As of `fit_into`.
    """
    require("torch", "train")
    require("lightning", "train")
    from tidegate.estimators.ranker import Ranker

    check_out_file(out)
    index = open_index(folder)
    asked = read_queries(queries, text=text, by_place=by_place, encoding=encoding, errors=errors)
    answered = partial(report, "queries answered")
    pairs = judged_pairs(index, asked, read_judgments(judgments, least=least), candidates, progress=answered)
    # Words are for both stages the same.
    ranker = Ranker(**{**{name: index.settings[name] for name in _READING}, **options})
    corpus = [index.text(row) for row in range(index.num_documents)]
    interrupted = fit_into(out, ranker, partial(ranker.fit, *pairs, corpus=corpus), resume=resume, overwrite=overwrite)
    return ranker, interrupted


def judged_pairs(
    index: SearchIndex,
    queries: Sequence[Document],
    judged: Judgments,
    candidates: int,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[str], list[str], list[bool]]:
    """Queries, documents and whether one answers the other, as `Ranker.fit` has it: the best of BM25 for each query.

    Answers that BM25 does not find are left out: a second stage never sees them, and beside the best of the others they
    would teach that what BM25 ranks low is right.

    Raises:
        DataError: No query has an answer in the index.
    """
    rows = {index.id(row): row for row in range(index.num_documents)}
    found: tuple[list[str], list[str], list[bool]] = ([], [], [])
    for done, item in enumerate(queries, 1):
        if progress is not None:
            progress(done, len(queries))
        answers = [rows[id] for id in sorted(judged.get(item.id, ())) if id in rows]
        if not answers:
            continue
        for hit in index.search(item.text, candidates):
            found[0].append(item.text)
            found[1].append(index.text(hit.row))
            found[2].append(hit.row in answers)
    if not found[0]:
        raise DataError("no query has a judged answer in the index; where they are called by their places, say so")
    return found


def load_ranker(path: str | Path) -> Ranker:
    """The ranker in a file.

    Raises:
        BundleError: There is none, or another kind of model.
    """
    require("torch", "train")
    from tidegate.estimators.ranker import Ranker

    return Ranker.load(path)


def reranked(index: SearchIndex, ranker: Ranker, text: str, candidates: int) -> list[Hit]:
    """The best documents of BM25 in the order and with the scores of a ranker."""
    hits = index.search(text, candidates)
    order = ranker.rank(text, [index.text(hit.row) for hit in hits])
    return [replace(hits[place], score=score) for place, score in order]
