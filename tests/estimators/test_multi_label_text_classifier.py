from __future__ import annotations

import inspect
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.metrics import f1_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

import tidegate
from tidegate.deploy.bundle import Bundle, load_bundle, save_bundle
from tidegate.errors import BundleError
from tidegate.estimators.multi_label_text_classifier import MultiLabelTextClassifier
from tidegate.estimators.teaching import TEACHING
from tidegate.estimators.text_classifier import TextClassifier
from tidegate.reporting.scores import LABEL_MONITORS, label_score
from tiny_kinds import kinds
from tiny_network import TINY

ROWS = kinds(100, 5)
X, Y = [text for text, _ in ROWS], [labels for _, labels in ROWS]
NAMES = ["animal", "colour", "motion"]
MATRIX = np.array([[name in labels for name in NAMES] for labels in Y], dtype=int)


def make(**changes: Any) -> MultiLabelTextClassifier:
    return MultiLabelTextClassifier(**{**TINY, "max_epochs": 10, "patience": 10, "learning_rate": 0.03, **changes})


@pytest.fixture(scope="module")
def fitted() -> MultiLabelTextClassifier:
    return make().fit(X, Y)


# --- scikit-learn's contract


def test_the_arguments_are_the_classifier_s() -> None:
    theirs = inspect.signature(TextClassifier).parameters
    own = inspect.signature(MultiLabelTextClassifier).parameters
    assert list(own) == [name for name in theirs if name not in TEACHING]
    assert {name for name in own if own[name].default != theirs[name].default} == {"monitor"}
    marks = {name: object() for name in own}
    assert MultiLabelTextClassifier(**marks).get_params() == marks


def test_it_learns_which_labels_there_are(fitted: MultiLabelTextClassifier) -> None:
    assert is_classifier(fitted)
    tags = fitted.__sklearn_tags__()
    assert tags.classifier_tags is not None and tags.classifier_tags.multi_label and tags.target_tags.multi_output
    assert fitted.classes_.tolist() == NAMES
    probabilities, predicted = fitted.predict_proba(X), fitted.predict(X)
    assert probabilities.shape == predicted.shape == (100, 3)
    np.testing.assert_array_equal(predicted, probabilities >= 0.5)
    assert f1_score(MATRIX, predicted, average="micro") > 0.85
    assert fitted.predict_labels(X[:5]) == [[NAMES[c] for c in np.flatnonzero(row)] for row in predicted[:5]]
    right = (predicted == MATRIX).all(1)
    weights = np.linspace(0, 2, 100)
    assert fitted.score(X, Y) == fitted.score(X, MATRIX) == pytest.approx(right.mean())
    assert fitted.score(X, Y, weights) == pytest.approx(np.average(right, weights=weights))


def test_labels_in_every_form(fitted: MultiLabelTextClassifier) -> None:
    short = make(max_epochs=1).fit(X, Y).predict_proba(X)
    frame = pd.DataFrame(MATRIX, columns=NAMES)
    for labels in ([set(row) for row in Y], pd.Series(Y), MATRIX, MATRIX.astype(bool), frame):
        model = make(max_epochs=1).fit(X, labels)
        np.testing.assert_array_equal(model.predict_proba(X), short)
        assert model.classes_.tolist() == ([0, 1, 2] if isinstance(labels, np.ndarray) else NAMES)


def test_clone_not_fitted_and_seeds(fitted: MultiLabelTextClassifier) -> None:
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    for call in (lambda: copy.predict(X), lambda: copy.predict_proba(X), lambda: copy.predict_labels(X)):
        with pytest.raises(NotFittedError):
            call()
    first, second = (make(max_epochs=1, random_state=seed).fit(X, Y).predict_proba(X) for seed in (4, 4))
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - make(max_epochs=1, random_state=5).fit(X, Y).predict_proba(X)).max() > 1e-6


def test_pickle_save_and_load(tmp_path: Path) -> None:
    model = make(threshold="tuned", calibrate="temperature", class_weight="balanced", max_epochs=3).fit(X, Y)
    path = model.save(tmp_path / "model.tg")
    for copy in (pickle.loads(pickle.dumps(model)), tidegate.load(path), MultiLabelTextClassifier.load(path)):
        assert type(copy) is MultiLabelTextClassifier
        np.testing.assert_array_equal(copy.predict_proba(X), model.predict_proba(X))
        np.testing.assert_array_equal(copy.predict(X), model.predict(X))
        np.testing.assert_array_equal(copy.threshold_, model.threshold_)
        assert copy.calibration_ == model.calibration_
        fitted_ones = {name for name in vars(model) if name.endswith("_")}
        assert fitted_ones == {name for name in vars(copy) if name.endswith("_")}
    with pytest.raises(BundleError, match="kind text-classifier, found 'multi-label-text-classifier'"):
        TextClassifier.load(path)
    good = load_bundle(path)
    bad = save_bundle(tmp_path / "bad.tg", Bundle(**{**vars(good), "labels": good.labels[:2]}))
    with pytest.raises(BundleError, match="do not fit together"):
        tidegate.load(bad)


def test_grid_search_and_pipeline() -> None:
    quick = make(max_epochs=2)
    search = GridSearchCV(quick, {"pooling": ["mean", "last"]}, cv=2, error_score="raise").fit(X, MATRIX)
    expected = [
        cross_val_score(clone(quick).set_params(pooling=name), X, MATRIX, cv=2).mean() for name in ("mean", "last")
    ]
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], expected)

    def shout(rows: list[str]) -> list[str]:
        return [f"{row} !" for row in rows]

    pipeline = Pipeline([("shout", FunctionTransformer(shout)), ("model", quick)]).fit(X, Y)
    np.testing.assert_array_equal(pipeline.predict_proba(X), clone(quick).fit(shout(X), Y).predict_proba(shout(X)))


def test_zero_weight_is_absence() -> None:
    weights = np.ones(100)
    weights[::3] = 0
    kept = np.flatnonzero(weights)
    weighted = make(max_epochs=2).fit(X, Y, sample_weight=weights)
    without = make(max_epochs=2).fit([X[row] for row in kept], [Y[row] for row in kept], sample_weight=weights[kept])
    np.testing.assert_array_equal(weighted.predict_proba(X), without.predict_proba(X))


# --- what it does


def test_what_acts_on_classes_acts_on_labels() -> None:
    def outcome(**changes: Any) -> np.ndarray:
        return make(max_epochs=1, validation_fraction=0, **changes).fit(X[:40], Y[:40]).predict_proba(X)

    plain = outcome()
    for changes in ({"label_smoothing": 0.3}, {"focal_gamma": 2.0}, {"class_weight": {"motion": 5.0}}):
        assert np.abs(outcome(**changes) - plain).max() > 1e-4, changes
    balanced = outcome(class_weight="balanced")
    there = MATRIX[:40].sum(0)
    by_hand = outcome(class_weight=dict(zip(NAMES, ((40 - there) / there).tolist(), strict=True)))
    np.testing.assert_allclose(balanced, by_hand, atol=1e-6)
    heavy = make(class_weight={"motion": 50.0}, max_epochs=3).fit(X, Y).predict_proba(X).mean(0)
    light = make(max_epochs=3).fit(X, Y).predict_proba(X).mean(0)
    assert heavy[2] > light[2] + 0.1


@pytest.mark.parametrize("monitor", LABEL_MONITORS)
def test_a_monitor_is_measured_as_its_figure_and_chooses_its_best_epoch(monitor: str) -> None:
    held = kinds(50, 9)
    texts, labels = [text for text, _ in held], [row for _, row in held]
    model = make(monitor=monitor, max_epochs=3).fit(X[:60], Y[:60], validation_data=(texts, labels))
    values = [entry[f"validation_{monitor}"] for entry in model.history_]
    best = min(values) if monitor in ("loss", "log_loss", "calibration_error") else max(values)
    assert model.best_epoch_ == 1 + values.index(best)
    targets = np.array([[name in row for name in NAMES] for row in labels])
    name = "log_loss" if monitor == "loss" else monitor
    assert best == pytest.approx(label_score(name, targets, model.predict_proba(texts)), abs=1e-5)


def test_tuned_thresholds_are_each_label_s_best() -> None:
    held = kinds(60, 9)
    texts, labels = [text for text, _ in held], [row for _, row in held]
    targets = np.array([[name in row for name in NAMES] for row in labels])
    model = make(threshold="tuned", max_epochs=3).fit(X, Y, validation_data=(texts, labels))
    probabilities = model.predict_proba(texts)
    for c in range(3):
        column = probabilities[:, c]
        best = max(f1_score(targets[:, c], column >= edge) for edge in np.unique(column))
        assert f1_score(targets[:, c], model.predict(texts)[:, c]) == pytest.approx(best)
        assert not np.any(np.isclose(column, model.threshold_[c], atol=1e-9))
    everywhere = make(threshold=0.2, max_epochs=3).fit(X, Y, validation_data=(texts, labels))
    np.testing.assert_array_equal(everywhere.predict(texts), probabilities >= 0.2)


def test_a_temperature_lowers_the_validation_log_loss() -> None:
    held = kinds(60, 9)
    data = ([text for text, _ in held], [row for _, row in held])
    plain = make(max_epochs=15, monitor="accuracy", learning_rate=0.05).fit(X, Y, validation_data=data)
    model = clone(plain).set_params(calibrate="temperature").fit(X, Y, validation_data=data)
    found: Any = model.calibration_
    assert found["after"]["log_loss"] < found["before"]["log_loss"]
    p = plain.predict_proba(data[0]).astype(float)
    logits = np.log(p / (1 - p)) / found["temperature"]
    np.testing.assert_allclose(model.predict_proba(data[0]), 1 / (1 + np.exp(-logits)), atol=1e-5)


def test_validation_rows_come_from_every_label() -> None:
    model = make(max_epochs=1, validation_fraction=0.3, monitor="roc_auc").fit(X, Y)
    assert np.isfinite(model.history_[0]["validation_roc_auc"])


def test_one_label_alone_and_texts_without_any() -> None:
    model = make(max_epochs=8).fit(X, [["motion"] if "motion" in row else [] for row in Y])
    assert model.predict_proba(X).shape == (100, 1)
    assert f1_score(MATRIX[:, 2], model.predict(X)[:, 0]) > 0.8


def test_a_run_resumes_to_the_same_model(tmp_path: Path) -> None:
    whole = make(max_epochs=3).fit(X, Y, run_folder=tmp_path / "whole")
    make(max_epochs=1).fit(X, Y, run_folder=tmp_path / "broken")
    resumed = make(max_epochs=3).fit(X, Y, run_folder=tmp_path / "broken", resume=True)
    np.testing.assert_array_equal(resumed.predict_proba(X), whole.predict_proba(X))


# --- bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"monitor": "balanced_accuracy"}, r"monitor must be accuracy or loss or .*; found 'balanced_accuracy'"),
        ({"threshold": "best"}, "threshold must be 'tuned', a number between 0 and 1, or None; found 'best'"),
        ({"threshold": 0}, "threshold must be 'tuned', a number between 0 and 1, or None; found 0"),
        ({"calibrate": "isotonic"}, "calibrate must be temperature; found 'isotonic'"),
        ({"class_weight": {"motoin": 2.0}}, "names the label 'motoin', which y has not; .* Did you mean 'motion'"),
        (
            {"threshold": "tuned", "validation_fraction": 0},
            "threshold='tuned' is set on validation data, and there are",
        ),
    ],
)
def test_arguments_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**changes).fit(X, Y)


def test_labels_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="row 0 of y must be a collection of labels"):
        make().fit(X, ["animal"] * 100)
    with pytest.raises(ValueError, match=r"labels that the training data has not: .'plant'"):
        make().fit(X, Y, validation_data=(["a"], [["plant"]]))
    with pytest.raises(ValueError, match="y has no labels at all"):
        make().fit(X, [[]] * 100)
