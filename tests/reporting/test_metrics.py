from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tidegate.errors import DataError
from tidegate.reporting.metrics import (
    accuracy_standard_error,
    classification_metrics,
    wilson_interval,
    worst_mistakes,
)

# Right labels b b a c c, predictions b a a c b; the classes are not in alphabetical order.
CLASSES = ["c", "a", "b"]
Y_TRUE = ["b", "b", "a", "c", "c"]
PROBABILITIES = np.array([[0.1, 0.2, 0.7], [0.1, 0.6, 0.3], [0.2, 0.5, 0.3], [0.8, 0.1, 0.1], [0.04, 0.06, 0.9]])


def test_metrics_equal_those_worked_out_by_hand():
    result = classification_metrics(Y_TRUE, PROBABILITIES, CLASSES)
    assert result["count"] == 5
    assert result["accuracy"] == pytest.approx(3 / 5)
    assert result["micro_f1"] == pytest.approx(3 / 5)
    assert result["confusion"] == [[1, 0, 1], [0, 1, 0], [0, 1, 1]]
    assert result["log_loss"] == pytest.approx(-np.log([0.7, 0.3, 0.5, 0.8, 0.04]).mean())
    assert result["per_class"] == [
        {"label": "c", "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2},
        {"label": "a", "precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "support": 1},
        {"label": "b", "precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2},
    ]
    assert result["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 0.5) / 3)
    assert result["standard_error"] == pytest.approx(math.sqrt(0.6 * 0.4 / 5))


def test_a_class_that_neither_occurs_nor_is_predicted_does_not_pull_down_macro_f1():
    with_absent = classification_metrics(
        Y_TRUE, np.insert(PROBABILITIES, 1, 0.0, axis=1), ["c", "never seen", "a", "b"]
    )
    without = classification_metrics(Y_TRUE, PROBABILITIES, CLASSES)
    assert with_absent["macro_f1"] == pytest.approx(without["macro_f1"])
    assert with_absent["log_loss"] == pytest.approx(without["log_loss"])
    assert with_absent["micro_f1"] == pytest.approx(without["micro_f1"])
    assert with_absent["per_class"][1] == {
        "label": "never seen",
        "precision": 0.0,
        "recall": 0.0,
        "f1": 0.0,
        "support": 0,
    }
    assert with_absent["confusion"] == [[1, 0, 0, 1], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]


def test_a_test_set_of_one_class_is_judged():
    result = classification_metrics([0, 0], np.array([[0.9, 0.1], [0.4, 0.6]], dtype=np.float32), [0, 1])
    assert result["accuracy"] == 0.5
    assert result["log_loss"] == pytest.approx(-(math.log(0.9) + math.log(0.4)) / 2)
    assert result["confusion"] == [[1, 1], [0, 0]]


def test_numpy_labels_become_json_and_a_certain_mistake_has_a_finite_loss():
    labels = np.array([3, 7, 7], dtype=np.int64)
    result = classification_metrics(labels, [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], np.unique(labels))
    text = json.dumps(result, allow_nan=False)
    assert [entry["label"] for entry in json.loads(text)["per_class"]] == [3, 7]
    assert 10 < result["log_loss"] < 15  # -ln(2.2e-16) / 3
    strings = classification_metrics(np.array(["x", "y"]), np.eye(2), np.array(["x", "y"]))
    assert json.loads(json.dumps(strings))["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("y_true", "probabilities", "classes", "words"),
    [
        ([], np.zeros((0, 2)), [0, 1], "found none"),
        (["x", "new"], np.eye(2), ["x", "y"], "'new'"),
        (["0", "1"], np.eye(2), [0, 1], "'0', '1'"),
        (["x", "y"], np.ones((2, 3)) / 3, ["x", "y"], r"\(2, 2\), found \(2, 3\)"),
        (["x", "y"], [[0.5, 0.5], [math.nan, 0.5]], ["x", "y"], "row 1"),
        (["x", "y"], [[1.5, -0.5], [0.5, 0.5]], ["x", "y"], "row 0"),
        (["x", "y"], [[2.0, 1.0], [0.5, 0.5]], ["x", "y"], "sum to 1"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_words(y_true, probabilities, classes, words):
    with pytest.raises(DataError, match=words):
        classification_metrics(y_true, probabilities, classes)


def test_worst_mistakes_are_the_surest_wrong_answers_in_order():
    texts = ["one", "two", "three", "four", "five"]
    origins = [f"file.csv:{line}" for line in range(2, 7)]
    worst = worst_mistakes(texts, Y_TRUE, PROBABILITIES, CLASSES, origins)
    assert [(m.text, m.label, m.predicted, m.origin) for m in worst] == [
        ("five", "c", "b", "file.csv:6"),
        ("two", "b", "a", "file.csv:3"),
    ]
    assert [m.probability for m in worst] == pytest.approx([0.9, 0.6])
    assert [m.text for m in worst_mistakes(texts, Y_TRUE, PROBABILITIES, CLASSES, most=1)] == ["five"]
    assert worst_mistakes(texts, Y_TRUE, PROBABILITIES, CLASSES, most=0) == []
    with pytest.raises(DataError, match="4 texts and 5 labels"):
        worst_mistakes(texts[:4], Y_TRUE, PROBABILITIES, CLASSES)


def test_equally_sure_mistakes_stay_in_the_order_of_the_data():
    texts = [str(i) for i in range(2000)]
    worst = worst_mistakes(texts, [1] * 2000, np.tile([0.75, 0.25], (2000, 1)), [0, 1], most=2000)
    assert [mistake.text for mistake in worst] == texts


def test_standard_error_is_what_the_bootstrap_gives():
    rng = np.random.default_rng(0)
    correct = np.arange(300) < 240
    resampled = correct[rng.integers(0, 300, (20_000, 300))].mean(axis=1)
    assert accuracy_standard_error(0.8, 300) == pytest.approx(resampled.std(), rel=0.02)


def test_wilson_interval_has_its_published_values_and_stays_inside_the_unit_interval():
    # Newcombe 1998, Statistics in Medicine 17, table I: 81/263, 15/148, 0/20 and 1/29.
    for right, count, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        assert wilson_interval(right / count, count) == pytest.approx((low, high), abs=5e-5)
    assert wilson_interval(1 / 29, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)
    assert wilson_interval(1.0, 20)[1] == 1.0
