from __future__ import annotations

import json
import math

import numpy as np
import pytest
from sklearn import metrics as skm

from tidegate.errors import DataError
from tidegate.reporting.label_metrics import label_metrics, worst_label_mistakes

TARGETS = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 0], [0, 1, 0]])
EACH = np.array([[0.9, 0.4, 0.6], [0.2, 0.1, 0.1], [0.3, 0.8, 0.2], [0.1, 0.45, 0.3]])
CLASSES = ["a", "b", "c"]


def test_figures_are_scikit_learns_at_the_thresholds_given() -> None:
    limits = np.array([0.5, 0.42, 0.7])
    said = (limits <= EACH).astype(int)
    found = label_metrics(TARGETS, EACH, CLASSES, limits)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["count"] == 4
    assert found["accuracy"] == skm.accuracy_score(TARGETS, said) == 0.5
    assert found["label_accuracy"] == pytest.approx(1 - skm.hamming_loss(TARGETS, said))
    assert found["micro_f1"] == pytest.approx(skm.f1_score(TARGETS, said, average="micro"))
    assert found["macro_f1"] == pytest.approx(skm.f1_score(TARGETS, said, average="macro", zero_division=0))
    assert found["average_precision"] == pytest.approx(skm.average_precision_score(TARGETS, EACH, average="macro"))
    assert found["roc_auc"] == pytest.approx(skm.roc_auc_score(TARGETS, EACH, average="macro"))
    assert found["labels_per_text"] == {"right": 1.25, "predicted": 0.75}
    precision, recall, f1, support = skm.precision_recall_fscore_support(TARGETS, said, zero_division=0)
    for c, entry in enumerate(found["per_class"]):
        assert entry["label"] == CLASSES[c] and entry["threshold"] == limits[c]
        assert (entry["precision"], entry["recall"], entry["f1"]) == pytest.approx((precision[c], recall[c], f1[c]))
        assert entry["support"] == support[c]
        assert entry["average_precision"] == pytest.approx(skm.average_precision_score(TARGETS[:, c], EACH[:, c]))


def test_a_label_that_no_text_has() -> None:
    found = label_metrics(TARGETS[:, [0]] * 0, EACH[:, [0]], ["a"])
    assert math.isnan(found["per_class"][0]["average_precision"]) and math.isnan(found["roc_auc"])
    assert found["micro_f1"] == 0.0


def test_the_worst_texts_come_first_and_right_ones_not_at_all() -> None:
    texts = ["one", "two", "three", "four"]
    worst = worst_label_mistakes(texts, TARGETS, EACH, CLASSES, origins=[f"f:{row}" for row in range(4)])
    assert [(item.text, item.labels, item.predicted, item.origin) for item in worst] == [
        ("three", ["a", "b"], ["b"], "f:2"),
        ("four", ["b"], [], "f:3"),
    ]
    assert worst[0].loss == pytest.approx(-np.log([0.3, 0.8, 0.8]).mean())
    assert len(worst_label_mistakes(texts, TARGETS, EACH, CLASSES, most=1)) == 1


@pytest.mark.parametrize(
    ("targets", "each", "message"),
    [
        (np.zeros((0, 3)), np.zeros((0, 3)), "at least one text"),
        (TARGETS, EACH[:, :2], r"shape \(4, 3\) for 3 labels, found \(4, 2\)"),
        (TARGETS, EACH * 2, "probabilities from 0 to 1"),
        (TARGETS, EACH * np.nan, "probabilities from 0 to 1"),
    ],
)
def test_what_cannot_be_judged(targets: np.ndarray, each: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        label_metrics(targets, each, CLASSES)
