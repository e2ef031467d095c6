from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, ndcg_score

from tidegate.errors import DataError
from tidegate.reporting.ranking_metrics import average_precision, ndcg, ranking_metrics, recall


def test_by_hand() -> None:
    ranked, answers = ["a", "b", "c", "d"], {"b", "d", "z"}
    discount = 1 / np.log2([2, 3, 4, 5])
    assert ndcg(ranked, answers, 10) == pytest.approx((discount[1] + discount[3]) / discount[:3].sum())
    assert ndcg(ranked, answers, 2) == pytest.approx(discount[1] / discount[:2].sum())
    assert average_precision(ranked, answers) == pytest.approx((1 / 2 + 2 / 4) / 3)
    assert recall(ranked, answers, 2) == pytest.approx(1 / 3)
    assert recall(ranked, answers, 9) == pytest.approx(2 / 3)


def test_whole_lists_score_as_in_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        relevant = generator.integers(0, 2, size=30)
        relevant[0] = 1
        scores = generator.normal(size=30)
        ranked = [str(row) for row in np.argsort(-scores)]
        answers = {str(row) for row in np.flatnonzero(relevant)}
        assert average_precision(ranked, answers) == pytest.approx(average_precision_score(relevant, scores))
        assert ndcg(ranked, answers, 10) == pytest.approx(ndcg_score([relevant], [scores], k=10))


def test_means_are_over_the_queries_with_answers() -> None:
    found = ranking_metrics({"1": ["a", "b"], "2": ["b", "a"], "3": ["a"]}, {"1": {"a"}, "2": {"a"}, "4": {"a"}})
    assert found == pytest.approx(
        {"queries": 2, "ndcg_at_10": (1 + 1 / np.log2(3)) / 2, "map": 0.75, "recall_at_100": 1.0, "mrr": 0.75}
    )
    assert ranking_metrics({"1": []}, {"1": {"a"}})["mrr"] == 0.0
    with pytest.raises(DataError, match="different identifiers"):
        ranking_metrics({"1": ["a"]}, {"001": {"a"}})
    with pytest.raises(DataError, match="'1' has a document twice"):
        ranking_metrics({"1": ["a", "a"]}, {"1": {"a"}})
