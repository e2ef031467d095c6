"""scikit-learn's contract as functions: what every estimator of tidegate must do, whatever it learns.

A test module makes a `Case` and runs every function of `CHECKS` on it.
"""

from __future__ import annotations

import inspect
import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone, is_classifier
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

import tidegate


@dataclass(frozen=True)
class Case:
    """An estimator that is quick to fit, and data that it can learn.

    Attributes:
        make: Gives an unfitted estimator, with changed arguments.
        X: Rows, as a list.
        y: Labels, as a list of str.
        search: A parameter and two values for a grid search.
        drawn: Whether what is learned depends on the seed.
    """

    make: Callable[..., Any]
    X: list[str]
    y: list[str]
    search: tuple[str, list[Any]]
    drawn: bool = True


def column(rows: list[str]) -> np.ndarray:
    return np.array(rows, dtype=object).reshape(-1, 1)


def check_arguments_are_stored_as_given(case: Case) -> None:
    cls = type(case.make())
    signature = inspect.signature(cls.__init__)
    defaults = {name: value.default for name, value in signature.parameters.items() if name != "self"}
    assert cls().get_params() == defaults
    marks = {name: object() for name in defaults}
    assert cls(**marks).get_params() == marks
    assert set(vars(cls(**marks))) == set(marks)


def check_clone_and_set_params(case: Case) -> None:
    name, (first, second) = case.search
    model = case.make(**{name: first}).fit(case.X, case.y)
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    assert not hasattr(copy, "classes_")
    assert copy.set_params(**{name: second}) is copy
    assert copy.get_params()[name] == second
    with pytest.raises(ValueError, match="no_such_argument"):
        copy.set_params(no_such_argument=1)


def check_not_fitted(case: Case) -> None:
    for call in (lambda model: model.predict(case.X), lambda model: model.predict_proba(case.X)):
        with pytest.raises(NotFittedError):
            call(case.make())
    with pytest.raises(NotFittedError):
        case.make().save("model.tg")


def check_fit_changes_no_argument_and_returns_the_estimator(case: Case) -> None:
    model = case.make()
    before = model.get_params()
    X, y = list(case.X), list(case.y)
    assert model.fit(X, y) is model
    assert model.get_params() == before
    assert case.X == X
    assert case.y == y


def check_it_is_a_classifier_that_learns(case: Case) -> None:
    model = case.make().fit(case.X, case.y)
    assert is_classifier(model)
    assert model.classes_.tolist() == sorted(set(case.y))
    probabilities = model.predict_proba(case.X)
    assert probabilities.shape == (len(case.X), len(model.classes_))
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    assert model.predict(case.X).tolist() == model.classes_[probabilities.argmax(1)].tolist()
    assert model.score(case.X, case.y) > 0.9


def check_kinds_of_labels(case: Case) -> None:
    names = sorted(set(case.y))
    expected = case.make().fit(case.X, case.y)
    numbers = [10 * names.index(label) - 5 for label in case.y]
    for labels in (numbers, np.array(numbers), pd.Series(numbers), np.array(numbers, dtype=np.int8)):
        model = case.make().fit(case.X, labels)
        assert model.classes_.tolist() == sorted(set(numbers))
        assert model.classes_.dtype == np.int64
        np.testing.assert_array_equal(model.predict_proba(case.X), expected.predict_proba(case.X))
        assert set(model.predict(case.X).tolist()) <= set(numbers)
    for labels in (np.array(case.y), np.array(case.y, dtype=object), pd.Series(case.y), column(case.y)):
        model = case.make().fit(case.X, labels)
        assert model.classes_.tolist() == names
        np.testing.assert_array_equal(model.predict_proba(case.X), expected.predict_proba(case.X))


def check_kinds_of_rows(case: Case) -> None:
    expected = case.make().fit(case.X, case.y).predict_proba(case.X)
    series = pd.Series(case.X, index=np.arange(len(case.X))[::-1])
    for rows in (tuple(case.X), np.array(case.X), np.array(case.X, dtype=object), series, column(case.X)):
        np.testing.assert_array_equal(case.make().fit(rows, case.y).predict_proba(rows), expected)
    frame = pd.DataFrame({"text": case.X})
    np.testing.assert_array_equal(case.make().fit(frame, case.y).predict_proba(frame), expected)


def check_a_seed_repeats(case: Case) -> None:
    first, second = (case.make(random_state=3).fit(case.X, case.y).predict_proba(case.X) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    if case.drawn:
        other = case.make(random_state=4).fit(case.X, case.y).predict_proba(case.X)
        assert np.abs(first - other).max() > 1e-6
    drawn = case.make(random_state=None).fit(case.X, case.y)
    again = case.make(random_state=drawn.random_state_).fit(case.X, case.y)
    np.testing.assert_array_equal(drawn.predict_proba(case.X), again.predict_proba(case.X))
    states = [case.make(random_state=np.random.RandomState(5)).fit(case.X, case.y) for _ in range(2)]
    assert states[0].random_state_ == states[1].random_state_


def check_fitting_again_forgets_the_first_time(case: Case) -> None:
    model = case.make().fit(case.X[: len(case.X) // 2], case.y[: len(case.y) // 2])
    expected = case.make().fit(case.X, case.y).predict_proba(case.X)
    np.testing.assert_array_equal(model.fit(case.X, case.y).predict_proba(case.X), expected)


def check_predictions_do_not_depend_on_the_other_rows(case: Case) -> None:
    model = case.make().fit(case.X, case.y)
    together = model.predict_proba(case.X)
    order = np.random.default_rng(0).permutation(len(case.X))
    np.testing.assert_allclose(model.predict_proba([case.X[row] for row in order]), together[order], atol=2e-6)
    for row in (0, len(case.X) - 1):
        np.testing.assert_allclose(model.predict_proba([case.X[row]]), together[row : row + 1], atol=2e-6)
    assert model.predict_proba([]).shape == (0, together.shape[1])
    assert model.predict([]).shape == (0,)


def check_pickle(case: Case) -> None:
    model = case.make().fit(case.X, case.y)
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.predict_proba(case.X), model.predict_proba(case.X))
    assert copy.get_params() == model.get_params()
    assert pickle.loads(pickle.dumps(case.make())).get_params() == case.make().get_params()


def check_save_and_load(case: Case, folder: Path) -> None:
    model = case.make().fit(case.X, case.y)
    assert model.save(folder / "model.tg") == folder / "model.tg"
    for loaded in (tidegate.load(folder / "model.tg"), type(model).load(folder / "model.tg")):
        assert type(loaded) is type(model)
        np.testing.assert_array_equal(loaded.predict_proba(case.X), model.predict_proba(case.X))
        assert loaded.classes_.dtype == model.classes_.dtype
        assert loaded.predict(case.X).tolist() == model.predict(case.X).tolist()
        different = {name: value for name, value in loaded.get_params().items() if model.get_params()[name] != value}
        assert set(different) <= {"device", "random_state"}
        fitted = {name for name in vars(model) if name.endswith("_")}
        assert fitted == {name for name in vars(loaded) if name.endswith("_")}


def check_zero_weight_is_absence(case: Case) -> None:
    weights = np.ones(len(case.X))
    weights[::3] = 0
    kept = np.flatnonzero(weights)
    weighted = case.make().fit(case.X, case.y, sample_weight=weights)
    without = case.make().fit([case.X[row] for row in kept], [case.y[row] for row in kept], sample_weight=weights[kept])
    np.testing.assert_array_equal(weighted.predict_proba(case.X), without.predict_proba(case.X))
    unweighted = case.make().fit([case.X[row] for row in kept], [case.y[row] for row in kept])
    np.testing.assert_allclose(weighted.predict_proba(case.X), unweighted.predict_proba(case.X), atol=1e-4)


def check_weights_change_what_is_learned(case: Case) -> None:
    classes = np.unique(case.y)
    swapped = classes[(np.searchsorted(classes, case.y) + 1) % len(classes)].tolist()
    both, labels = case.X * 2, [*case.y, *swapped]
    heavy, light = [20.0] * len(case.X), [0.05] * len(case.X)
    assert case.make().fit(both, labels, sample_weight=heavy + light).score(case.X, case.y) > 0.9
    model = case.make().fit(both, labels, sample_weight=light + heavy)
    assert model.score(case.X, swapped) > 0.9
    right = model.predict(both) == np.array(labels)
    expected = np.average(right, weights=heavy + light)
    assert model.score(both, labels, sample_weight=heavy + light) == pytest.approx(expected)


def check_weights_that_cannot_be(case: Case) -> None:
    for weights, message in (
        ([1.0], "one number a row"),
        ([-1.0] + [1.0] * (len(case.X) - 1), "not negative; row 0 has -1.0"),
        ([np.nan] * len(case.X), "must be finite"),
        ([0.0] * len(case.X), "zero in every row"),
    ):
        with pytest.raises(ValueError, match=message):
            case.make().fit(case.X, case.y, sample_weight=weights)


def check_one_class(case: Case) -> None:
    with pytest.raises(ValueError, match=r"at least two classes in y; all 4 rows have the label 'good'"):
        case.make().fit(case.X[:4], ["good"] * 4)


def check_rows_and_labels_that_do_not_fit(case: Case) -> None:
    for X, y, message in (
        (case.X, case.y[:-1], "one label a row"),
        ([], [], "X is empty"),
        ("one text", ["a"], "put it in a list"),
        (["a", None, "b"], [0, 1, 0], "row 1 of X is not text: expected str, found NoneType"),
        (["a", float("nan")], [0, 1], "row 1 of X is not text: expected str, found float"),
        ([b"a", "b"], [0, 1], "row 0 of X is not text: expected str, found bytes"),
        (np.array([["a", "b", "c"]] * 2), [0, 1], r"one column of texts.*; found an array of shape \(2, 3\)"),
        (["a", "b"], [0, None], "label of row 1 must be an int or a str; found None"),
        (["a", "b"], [0.5, 1], "label of row 0 must be an int or a str; found 0.5"),
        (["a", "b"], [0, "1"], "all int or all str; found 1 str and 1 int"),
        (["a", "b"], None, "y is missing"),
        (["a", "b"], [[0, 1], [1, 0]], "one column of labels"),
    ):
        with pytest.raises(ValueError, match=message):
            case.make().fit(X, y)


def check_grid_search_in_two_processes(case: Case) -> None:
    name, values = case.search
    search = GridSearchCV(case.make(), {name: values}, cv=2, n_jobs=2, error_score="raise")
    search.fit(case.X, case.y)
    assert search.best_params_[name] in values
    scores = search.cv_results_["mean_test_score"]
    expected = [cross_val_score(case.make(**{name: value}), case.X, case.y, cv=2).mean() for value in values]
    np.testing.assert_allclose(scores, expected)
    assert search.predict(case.X).shape == (len(case.X),)


def check_pipeline(case: Case) -> None:
    def shout(rows: list[str]) -> list[str]:
        return [f"{row} !" for row in rows]

    pipeline = Pipeline([("shout", FunctionTransformer(shout)), ("model", case.make())]).fit(case.X, case.y)
    expected = case.make().fit(shout(case.X), case.y).predict_proba(shout(case.X))
    np.testing.assert_array_equal(pipeline.predict_proba(case.X), expected)
    weighted = Pipeline([("model", case.make())]).fit(case.X, case.y, model__sample_weight=np.ones(len(case.X)))
    assert weighted.score(case.X, case.y) > 0.9


def check_voting(case: Case) -> None:
    members = [("first", case.make(random_state=1)), ("second", case.make(random_state=2))]
    voting = VotingClassifier(members, voting="soft").fit(case.X, case.y)
    expected = np.mean([member.predict_proba(case.X) for member in voting.estimators_], axis=0)
    np.testing.assert_allclose(voting.predict_proba(case.X), expected, atol=1e-6)
    assert voting.score(case.X, case.y) > 0.9


def check_stacking(case: Case) -> None:
    members = [("first", case.make(random_state=1)), ("second", case.make(random_state=2))]
    stacking = StackingClassifier(members, final_estimator=LogisticRegression(), cv=2).fit(case.X, case.y)
    assert stacking.score(case.X, case.y) > 0.9


def check_bagging(case: Case) -> None:
    bagging = BaggingClassifier(case.make(), n_estimators=2, random_state=0).fit(column(case.X), case.y)
    assert bagging.predict(column(case.X)).shape == (len(case.X),)
    assert bagging.score(column(case.X), case.y) > 0.9
    first, second = bagging.estimators_
    assert np.abs(first.predict_proba(case.X) - second.predict_proba(case.X)).max() > 1e-6


def check_no_warning(case: Case) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        case.make().fit(case.X, case.y).predict(case.X)


CHECKS = [value for name, value in list(globals().items()) if name.startswith("check_")]
