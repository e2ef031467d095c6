from __future__ import annotations

import inspect
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.base import clone, is_regressor
from sklearn.ensemble import BaggingRegressor, StackingRegressor, VotingRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

import tidegate
from estimators.test_text_classifier import BAD, GOOD, reviews
from tidegate.deploy.bundle import Bundle, load_bundle, save_bundle
from tidegate.errors import BundleError
from tidegate.estimators.number_data import number_split
from tidegate.estimators.text_classifier import TextClassifier
from tidegate.estimators.text_regressor import OF_CLASSES, TextRegressor
from tiny_network import TINY


def rated(rows: int = 80, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Texts, and numbers around 100 that good and bad words move by ten."""
    texts, _ = reviews(rows, seed)
    numbers = [
        100 + 10 * sum((word in GOOD) - (word in BAD) for word in text.split()) + len(text.split()) for text in texts
    ]
    return texts, np.array(numbers, dtype=float)


X, Y = rated()


def make(**changes: Any) -> TextRegressor:
    return TextRegressor(**{**TINY, **changes})


@pytest.fixture(scope="module")
def fitted() -> TextRegressor:
    return make().fit(X, Y)


# --- scikit-learn's contract


def test_the_arguments_are_the_classifier_s_without_those_of_classes_and_with_the_loss() -> None:
    theirs = inspect.signature(TextClassifier).parameters
    own = inspect.signature(TextRegressor).parameters
    assert list(own) == [*(name for name in theirs if name not in OF_CLASSES), "loss"]
    for name, parameter in own.items():
        if name not in ("loss", "monitor"):
            assert parameter.default == theirs[name].default, name
    assert TextRegressor().get_params() == {name: parameter.default for name, parameter in own.items()}
    marks = {name: object() for name in own}
    model = TextRegressor(**marks)
    assert model.get_params() == marks
    assert set(vars(model)) == set(marks)
    with pytest.raises(TypeError, match=r"TextRegressor has no argument 'focal_gama'. It has: tokenizer, "):
        TextRegressor(focal_gama=2)
    with pytest.raises(TypeError, match=r"no argument 'hiden_size'. Did you mean 'hidden_size'"):
        TextRegressor(hiden_size=2)


def test_it_is_a_regressor_that_learns(fitted: TextRegressor) -> None:
    assert is_regressor(fitted)
    predicted = fitted.predict(X)
    assert predicted.shape == (80,)
    assert fitted.score(X, Y) == pytest.approx(r2_score(Y, predicted))
    texts, numbers = rated(60, seed=1)
    assert fitted.score(texts, numbers) > 0.8


def test_clone_set_params_and_not_fitted(fitted: TextRegressor) -> None:
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    assert copy.set_params(loss="absolute").loss == "absolute"
    for call in (lambda: copy.predict(X), lambda: copy.predict_levels(X), lambda: copy.save("model.tg")):
        with pytest.raises(NotFittedError):
            call()


def test_kinds_of_rows_and_numbers(fitted: TextRegressor) -> None:
    expected = fitted.predict(X)
    for rows in (tuple(X), np.array(X, dtype=object), np.array(X, dtype=object).reshape(-1, 1), pd.Series(X)):
        np.testing.assert_array_equal(fitted.predict(rows), expected)
    short = make(max_epochs=1).fit(X, Y).predict(X)
    for numbers in (Y.tolist(), pd.Series(Y), Y.astype(np.int64), Y.reshape(-1, 1), Y.astype(object)):
        np.testing.assert_array_equal(make(max_epochs=1).fit(X, numbers).predict(X), short)


def test_predictions_do_not_depend_on_the_other_rows(fitted: TextRegressor) -> None:
    together = fitted.predict(X)
    order = np.random.default_rng(0).permutation(len(X))
    np.testing.assert_allclose(fitted.predict([X[row] for row in order]), together[order], rtol=1e-6)
    np.testing.assert_allclose(fitted.predict([X[3]]), together[3:4], rtol=1e-6)
    assert fitted.predict([]).shape == (0,)


def test_a_seed_repeats_and_another_differs(fitted: TextRegressor) -> None:
    np.testing.assert_array_equal(make().fit(X, Y).predict(X), fitted.predict(X))
    assert np.abs(make(random_state=1).fit(X, Y).predict(X) - fitted.predict(X)).max() > 1e-3


@pytest.mark.parametrize("loss", ["squared", "ordinal"])
def test_pickle_save_and_load(loss: str, tmp_path: Path) -> None:
    numbers = np.clip((Y // 10).astype(int), 7, 13)
    model = make(loss=loss, max_epochs=2).fit(X, numbers)
    path = model.save(tmp_path / "model.tg")
    for copy in (pickle.loads(pickle.dumps(model)), tidegate.load(path), TextRegressor.load(path)):
        assert type(copy) is TextRegressor
        np.testing.assert_array_equal(copy.predict(X), model.predict(X))
        if loss == "ordinal":
            np.testing.assert_array_equal(copy.levels_, model.levels_)
            np.testing.assert_array_equal(copy.predict_levels(X), model.predict_levels(X))
        fitted_ones = {name for name in vars(model) if name.endswith("_")}
        assert fitted_ones == {name for name in vars(copy) if name.endswith("_")}
    with pytest.raises(BundleError, match=r"kind text-classifier; found|kind text-classifier, found 'text-regressor'"):
        TextClassifier.load(path)


def test_bundles_that_do_not_fit_are_refused(fitted: TextRegressor, tmp_path: Path) -> None:
    good = load_bundle(fitted.save(tmp_path / "good.tg"))
    assert good.kind == "text-regressor" and good.labels == []
    for changes in (
        {"config": {**good.config, "hidden_size": 16}},
        {"config": {**good.config, "no_such_argument": 1}},
        {"config": {**good.config, "loss": "ordinal"}},
        {"weights": {name: good.weights[name] for name in list(good.weights)[1:]}},
        {"metrics": {}},
    ):
        path = save_bundle(tmp_path / "bad.tg", Bundle(**{**vars(good), **changes}))
        with pytest.raises(BundleError, match="do not fit together"):
            tidegate.load(path)


def test_zero_weight_is_absence_and_weights_change_what_is_learned() -> None:
    weights = np.ones(len(X))
    weights[::3] = 0
    kept = np.flatnonzero(weights)
    weighted = make(max_epochs=2).fit(X, Y, sample_weight=weights)
    without = make(max_epochs=2).fit([X[row] for row in kept], Y[kept], sample_weight=weights[kept])
    np.testing.assert_array_equal(weighted.predict(X), without.predict(X))
    both, numbers = X * 2, np.concatenate([Y, 200 - Y])
    heavy, light = [20.0] * len(X), [0.05] * len(X)
    assert make().fit(both, numbers, sample_weight=heavy + light).score(X, Y) > 0.8
    assert make().fit(both, numbers, sample_weight=light + heavy).score(X, 200 - Y) > 0.8


def test_meta_estimators_of_scikit_learn() -> None:
    quick = make(max_epochs=2)
    search = GridSearchCV(quick, {"loss": ["squared", "absolute"]}, cv=2, error_score="raise").fit(X, Y)
    expected = [
        cross_val_score(clone(quick).set_params(loss=loss), X, Y, cv=2).mean() for loss in ("squared", "absolute")
    ]
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], expected)

    def shout(rows: list[str]) -> list[str]:
        return [f"{row} !" for row in rows]

    pipeline = Pipeline([("shout", FunctionTransformer(shout)), ("model", quick)]).fit(X, Y)
    np.testing.assert_array_equal(pipeline.predict(X), clone(quick).fit(shout(X), Y).predict(shout(X)))
    members = [("first", make(max_epochs=2, random_state=1)), ("second", make(max_epochs=2, random_state=2))]
    voting = VotingRegressor(members).fit(X, Y)
    np.testing.assert_allclose(voting.predict(X), np.mean([one.predict(X) for one in voting.estimators_], axis=0))
    assert StackingRegressor(members, final_estimator=Ridge(), cv=2).fit(X, Y).predict(X).shape == (80,)
    column = np.array(X, dtype=object).reshape(-1, 1)
    bagging = BaggingRegressor(make(), n_estimators=2, random_state=0).fit(column, Y)
    assert bagging.score(column, Y) > 0.7


# --- what it does


@pytest.mark.parametrize("loss", ["squared", "absolute", "huber"])
def test_the_unit_of_the_targets_changes_nothing_but_the_unit(loss: str) -> None:
    plain = make(loss=loss, max_epochs=3).fit(X, Y)
    scaled = make(loss=loss, max_epochs=3).fit(X, 1000 * Y - 7)
    np.testing.assert_allclose(scaled.predict(X), 1000 * plain.predict(X) - 7, rtol=1e-4)
    head = plain.network_.head
    assert (head.centre.item(), head.scale.item()) == pytest.approx((Y.mean(), Y.std()), rel=1e-5)


def test_the_losses_differ_and_the_absolute_one_bears_outliers() -> None:
    texts, numbers = rated(120, seed=3)
    wild = numbers.copy()
    wild[::10] += 3000
    errors = {}
    for loss in ("squared", "absolute"):
        model = make(loss=loss, max_epochs=12, patience=12, validation_fraction=0).fit(texts, wild)
        errors[loss] = np.median(np.abs(model.predict(texts) - numbers))
    assert errors["absolute"] < 0.6 * errors["squared"]


def test_what_the_history_measures_is_what_predictions_give() -> None:
    texts, numbers = rated(30, seed=2)
    weights = np.linspace(0.5, 3, 30)
    model = make(monitor="spearman").fit(X, Y, validation_data=(texts, numbers, weights))
    best = model.history_[model.best_epoch_ - 1]
    errors = np.abs(model.predict(texts) - numbers)
    assert best["validation_mae"] == pytest.approx(np.average(errors, weights=weights), rel=1e-4)
    assert best["validation_mse"] == pytest.approx(np.average(errors**2, weights=weights), rel=1e-4)
    assert best["validation_loss"] == pytest.approx(np.average(errors**2, weights=weights) / Y.var(), rel=1e-4)
    assert best["validation_spearman"] == max(entry["validation_spearman"] for entry in model.history_)
    unweighted = make(monitor="spearman", max_epochs=2).fit(X, Y, validation_data=(texts, numbers))
    entry = unweighted.history_[unweighted.best_epoch_ - 1]
    expected = spearmanr(numbers, unweighted.predict(texts)).statistic
    assert entry["validation_spearman"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("monitor", ["mae", "rmse", "r2", "pearson"])
def test_a_monitor_chooses_its_best_epoch(monitor: str) -> None:
    model = make(monitor=monitor, max_epochs=5, patience=5, learning_rate=0.2).fit(X, Y)
    values = [entry[f"validation_{monitor}"] for entry in model.history_]
    best = min(values) if monitor in ("mae", "rmse") else max(values)
    assert model.best_epoch_ == 1 + values.index(best)


def test_whole_ratings_in_their_order() -> None:
    levels = np.clip(np.round((Y - 100) / 20).astype(int) + 3, 1, 5)
    model = make(loss="ordinal", max_epochs=10, patience=10).fit(X, levels)
    assert model.levels_ is not None
    assert model.levels_.tolist() == sorted(set(levels.tolist()))
    predicted, probabilities = model.predict(X), model.predict_levels(X)
    assert set(predicted.tolist()) <= set(levels.tolist())
    assert (predicted == levels).mean() > 0.8
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    median = model.levels_[(probabilities.cumsum(1) < 0.5).sum(1)]
    np.testing.assert_array_equal(predicted, median)
    assert model.history_[-1]["validation_accuracy"] is not None


def test_levels_start_at_their_weighted_shares() -> None:
    levels = np.array([1, 2, 4] * 20)
    weights = np.where(levels == 4, 2.0, 1.0)
    model = make(loss="ordinal", max_epochs=1, learning_rate=1e-12, optimizer="sgd").fit(X[:60], levels, weights)
    shares = 1 / (1 + np.exp(-model.network_.head.thresholds.detach().numpy()))
    np.testing.assert_allclose(shares, [0.25, 0.5], atol=1e-4)


def test_both_parts_of_a_split_have_small_and_large_numbers() -> None:
    numbers = np.random.default_rng(0).lognormal(size=500)
    train, held = number_split(numbers, 0.2, 0)
    assert sorted([*train, *held]) == list(range(500)) and len(held) == 100
    for low, high in ((0, 0.1), (0.4, 0.5), (0.9, 1)):
        edges = np.quantile(numbers, [low, high])
        inside = (numbers[held] >= edges[0]) & (numbers[held] <= edges[1])
        assert inside.sum() in (9, 10, 11)
    assert len(number_split(np.zeros(10), 0.2, 0)[1]) == 2


def test_targets_that_are_all_alike_are_learned() -> None:
    model = make(max_epochs=2).fit(X, np.full(len(X), 4.0))
    np.testing.assert_allclose(model.predict(X), 4, atol=1)


def test_a_run_resumes_to_the_same_model(tmp_path: Path) -> None:
    whole = make(max_epochs=3, monitor="r2").fit(X, Y, run_folder=tmp_path / "whole")
    make(max_epochs=1, monitor="r2").fit(X, Y, run_folder=tmp_path / "broken")
    resumed = make(max_epochs=3, monitor="r2").fit(X, Y, run_folder=tmp_path / "broken", resume=True)
    np.testing.assert_array_equal(resumed.predict(X), whole.predict(X))


def test_other_options_of_the_classifier_work_here_too() -> None:
    options = {"pretrain_epochs": 1, "augment_swap": 0.2, "ema_decay": 0.9, "schedule": "linear", "l2": 1e-4}
    model = make(max_epochs=2, **options).fit(X, Y, unlabelled=["an unheardof film"])
    assert "unheardof" in model.encoder_.vocabulary.index
    assert np.isfinite(model.predict(X)).all()


# --- bad input


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (Y[:-1], "X has 80 rows and y has 79 numbers"),
        (None, "y is missing: fitting needs one number a row"),
        (["1", *Y[1:]], r"the target of row 0 must be a number; found '1' \(str\)"),
        ([1.0, None, *Y[2:]], r"the target of row 1 must be a number; found None"),
        ([1.0, np.nan, *Y[2:]], "the target of row 1 must be a finite number; found nan"),
        ([1.0, np.inf, *Y[2:]], "the target of row 1 must be a finite number; found inf"),
        (np.stack([Y, Y], 1), r"one column of numbers; found an array of shape \(80, 2\)"),
    ],
)
def test_targets_that_cannot_be(numbers: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make().fit(X, numbers)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "square"}, "loss must be squared or absolute or huber or ordinal; found 'square'. Did you mean"),
        (
            {"monitor": "accuracy"},
            "monitor must be loss or mae or mse or rmse or r2 or pearson or spearman; found 'acc",
        ),
        ({"monitor": "spearmann"}, "Did you mean 'spearman'"),
        ({"loss": "ordinal"}, None),
    ],
)
def test_arguments_that_cannot_be(changes: dict[str, Any], message: str | None) -> None:
    with pytest.raises(ValueError, match=message or "learns whole ratings; found the target [0-9.]+5; round y"):
        make(**changes).fit(X, Y if message else Y + 0.5)


def test_ratings_that_cannot_be_levels() -> None:
    with pytest.raises(ValueError, match="from 2 to 50 different ratings in y; found 1"):
        make(loss="ordinal").fit(X, [3] * len(X))
    with pytest.raises(ValueError, match="from 2 to 50 different ratings in y; found 80"):
        make(loss="ordinal").fit(X, range(80))
    with pytest.raises(ValueError, match=r"ratings that the training data has not: \[9.0\]; known are \[0.0, 1.0\]"):
        make(loss="ordinal").fit(X, [0, 1] * 40, validation_data=(X[:2], [1, 9]))
    with pytest.raises(ValueError, match="loss='squared' gives numbers and no probabilities of ratings"):
        make(max_epochs=1).fit(X, Y).predict_levels(X)
