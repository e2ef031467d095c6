"""How well ranked lists answer their queries: nDCG, average precision, recall, reciprocal rank."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from tidegate.errors import DataError

__all__ = ["average_precision", "ndcg", "ranking_metrics", "recall"]


def ndcg(ranked: Sequence[str], answers: Collection[str], depth: int) -> float:
    """Normalised discounted cumulative gain of the first `depth` (Järvelin & Kekäläinen 2002); an answer gains 1.

    The gain at rank r counts ``1 / log2(r + 1)``, and the sum is divided by that of the best order.
    """
    gained = sum(1 / math.log2(rank + 1) for rank, id in enumerate(ranked[:depth], 1) if id in answers)
    best = sum(1 / math.log2(rank + 1) for rank in range(1, min(depth, len(answers)) + 1))
    return gained / best


def average_precision(ranked: Sequence[str], answers: Collection[str]) -> float:
    """The mean over the answers of the precision at their ranks; an answer that is not in the list counts 0."""
    found, total = 0, 0.0
    for rank, id in enumerate(ranked, 1):
        if id in answers:
            found += 1
            total += found / rank
    return total / len(answers)


def recall(ranked: Sequence[str], answers: Collection[str], depth: int) -> float:
    """The share of the answers among the first `depth`."""
    return len(set(ranked[:depth]) & set(answers)) / len(answers)


def ranking_metrics(ranked: Mapping[str, Sequence[str]], judgments: Mapping[str, Collection[str]]) -> dict[str, float]:
    """The means over all queries that have answers.

    Args:
        ranked: The documents found for each query, the best first, none twice.
        judgments: The answers of each query.

    Returns:
        ``queries`` (how many), ``ndcg_at_10``, ``map``, ``recall_at_100`` and ``mrr`` (the mean of 1 / the first
        answer's rank).

    Raises:
        DataError: No query has an answer, or a list has a document twice.
    """
    judged = [(query, set(judgments[query])) for query in ranked if judgments.get(query)]
    if not judged:
        raise DataError("no query has a judged answer: the queries and the judgments use different identifiers")
    for query, _ in judged:
        if len(set(ranked[query])) != len(ranked[query]):
            raise DataError(f"the list of query {query!r} has a document twice")

    def first(query: str, answers: set[str]) -> float:
        return next((1 / rank for rank, id in enumerate(ranked[query], 1) if id in answers), 0.0)

    def mean(values: list[float]) -> float:
        return math.fsum(values) / len(values)

    return {
        "queries": len(judged),
        "ndcg_at_10": mean([ndcg(ranked[query], answers, 10) for query, answers in judged]),
        "map": mean([average_precision(ranked[query], answers) for query, answers in judged]),
        "recall_at_100": mean([recall(ranked[query], answers, 100) for query, answers in judged]),
        "mrr": mean([first(query, answers) for query, answers in judged]),
    }
