from __future__ import annotations

import inspect
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, r2_score

import tidegate
from estimators.test_text_classifier import BAD, GOOD, reviews
from tidegate import MultiTaskTextModel, TextClassifier, TextRegressor, join_data_sets
from tidegate.errors import BundleError, DataError, TidegateError
from tidegate.estimators.multi_task_text_model import OF_ONE_TASK
from tiny_network import TINY

X, LABELS = reviews()
# How good: what its words say, which a model can learn and the label alone does not tell.
RATINGS = [sum((word in GOOD) - (word in BAD) for word in text.split()) + len(text.split()) / 10 for text in X]
Y: dict[str, Any] = {
    "label": [None if row % 5 == 0 else label for row, label in enumerate(LABELS)],
    "rating": [None if row % 4 == 1 else rating for row, rating in enumerate(RATINGS)],
}
HELD, HELD_LABELS = reviews(30, seed=2)
HELD_RATINGS = [sum((word in GOOD) - (word in BAD) for word in text.split()) + len(text.split()) / 10 for text in HELD]


def make(**changes: Any) -> MultiTaskTextModel:
    return MultiTaskTextModel(**{**TINY, **changes})


def same(first: MultiTaskTextModel, second: MultiTaskTextModel) -> bool:
    found = zip(first.predict_outputs(X).values(), second.predict_outputs(X).values(), strict=True)
    return all(np.array_equal(one, other) for one, other in found)


@pytest.fixture(scope="module")
def fitted() -> MultiTaskTextModel:
    return make(max_epochs=12).fit(X, Y)


def test_arguments_are_those_of_the_classifier_and_its_own() -> None:
    own = ["tasks", "regression_loss", "task_weights", "task_sampling", "sampling_temperature"]
    theirs = [name for name in inspect.signature(TextClassifier).parameters if name not in OF_ONE_TASK]
    assert list(inspect.signature(MultiTaskTextModel).parameters) == [*theirs, *own]
    assert MultiTaskTextModel().monitor == "mean"
    model = make(task_weights={"label": 2.0}, task_sampling="uniform")
    assert clone(model).get_params() == model.get_params()
    with pytest.raises(TypeError, match="no argument 'class_weight'"):
        MultiTaskTextModel(class_weight="balanced")


def test_it_learns_both_tasks_and_says_so(fitted: MultiTaskTextModel) -> None:
    assert {task.name: task.kind for task in fitted.tasks_} == {"label": "classification", "rating": "regression"}
    predicted, probabilities = fitted.predict(X), fitted.predict_proba(X)
    assert set(predicted) == {"label", "rating"} and set(probabilities) == {"label"}
    classes = fitted.classes_["label"]
    assert classes is not None and fitted.classes_["rating"] is None
    np.testing.assert_array_equal(predicted["label"], classes[probabilities["label"].argmax(1)])
    np.testing.assert_allclose(probabilities["label"].sum(1), 1, atol=1e-5)
    scores = fitted.task_scores(X, {"label": LABELS, "rating": RATINGS})
    assert scores["label"] == pytest.approx(accuracy_score(LABELS, predicted["label"])) and scores["label"] > 0.9
    assert scores["rating"] == pytest.approx(r2_score(RATINGS, predicted["rating"]), rel=1e-5)
    assert scores["rating"] > 0.7
    assert fitted.score(X, {"label": LABELS, "rating": RATINGS}) == pytest.approx(np.mean(list(scores.values())))
    assert fitted.predict([])["rating"].shape == (0,)


def test_scores_are_over_the_targets_that_are_there(fitted: MultiTaskTextModel) -> None:
    rows = [row for row, label in enumerate(Y["label"]) if label is not None]
    weights = np.linspace(0.5, 2, len(X))
    predicted = fitted.predict([X[row] for row in rows])["label"]
    expected = accuracy_score([LABELS[row] for row in rows], predicted, sample_weight=weights[rows])
    assert fitted.task_scores(X, Y, weights)["label"] == pytest.approx(expected)
    assert set(fitted.task_scores(X, {"label": LABELS})) == {"label"}
    with pytest.raises(DataError, match="no target of any of the tasks label, rating"):
        fitted.score(X, {"label": [None] * len(X)})


def test_one_classification_is_the_classifier_bit_for_bit() -> None:
    alone = TextClassifier(**TINY).fit(X, LABELS, validation_data=(HELD, HELD_LABELS))
    held = {"label": HELD_LABELS}
    together = make().fit(X, {"label": LABELS}, validation_data=(HELD, held))
    np.testing.assert_array_equal(together.predict_proba(X)["label"], alone.predict_proba(X))
    assert together.best_epoch_ == alone.best_epoch_


def test_one_regression_is_the_regressor() -> None:
    alone = TextRegressor(monitor="r2", **TINY)
    alone.fit(X, RATINGS, validation_data=(HELD, HELD_RATINGS))
    together = make().fit(X, {"rating": RATINGS}, validation_data=(HELD, {"rating": HELD_RATINGS}))
    np.testing.assert_allclose(together.predict(X)["rating"], alone.predict(X), rtol=1e-3)
    assert together.best_epoch_ == alone.best_epoch_


def test_a_text_without_a_target_is_absent() -> None:
    held = (HELD, {"label": HELD_LABELS, "rating": HELD_RATINGS})
    model = make(max_epochs=2).fit(X, Y, validation_data=held)
    more = {"label": [*Y["label"], None, np.nan], "rating": [*Y["rating"], float("nan"), pd.NA]}
    with_empty = make(max_epochs=2).fit([*X, "never seen", "before"], more, validation_data=held)
    assert same(model, with_empty)
    weights = np.ones(len(X) + 2)
    weights[-2:] = 0
    more = {"label": [*Y["label"], "positive", "negative"], "rating": [*Y["rating"], 1.0, 99.0]}
    weighted = make(max_epochs=2).fit([*X, "never seen", "before"], more, weights, validation_data=held)
    for task, values in model.predict_outputs(X).items():
        np.testing.assert_allclose(weighted.predict_outputs(X)[task], values, atol=1e-5)


def test_targets_as_frames_arrays_and_lists() -> None:
    model = make(max_epochs=1).fit(X, Y)
    for other in (pd.DataFrame(Y), {name: np.array(values, dtype=object) for name, values in Y.items()}):
        assert same(make(max_epochs=1).fit(X, other), model)


def test_data_sets_of_different_tasks_are_joined() -> None:
    texts, targets = join_data_sets((X[:50], {"label": LABELS[:50]}), (X[50:], {"rating": RATINGS[50:]}))
    assert texts == X
    assert targets["label"] == [*LABELS[:50], *[None] * 30]
    assert targets["rating"] == [*[None] * 50, *RATINGS[50:]]
    model = make(max_epochs=12).fit(texts, targets)
    scores = model.task_scores(X, {"label": LABELS, "rating": RATINGS})
    assert scores["label"] > 0.9 and scores["rating"] > 0.5
    with pytest.raises(DataError, match="data set 2: row 1 of X is not text"):
        join_data_sets((X, {"label": LABELS}), (["a", None], {"rating": [1, 2]}))


def test_the_history_is_what_the_scores_are_on_validation_data() -> None:
    held = {"label": [None, *HELD_LABELS[1:]], "rating": [*HELD_RATINGS[:-1], None]}
    model = make().fit(X, Y, validation_data=(HELD, held))
    best = model.history_[model.best_epoch_ - 1]
    scores, predicted = model.task_scores(HELD, held), model.predict(HELD)
    assert best["validation_mean"] == pytest.approx(np.mean(list(scores.values())), rel=1e-5)
    assert best["validation_label_accuracy"] == pytest.approx(scores["label"])
    mae = mean_absolute_error(HELD_RATINGS[:-1], predicted["rating"][:-1])
    assert best["validation_rating_mae"] == pytest.approx(mae, rel=1e-4)
    means = [entry["validation_mean"] for entry in model.history_]
    assert model.best_epoch_ == 1 + means.index(max(means))
    assert best["validation_accuracy"] is None


@pytest.mark.parametrize(
    ("monitor", "key", "choose"),
    [
        ("loss", "validation_loss", min),
        ("label", "validation_label_accuracy", max),
        ("rating", "validation_rating_r2", max),
        ("rating_mae", "validation_rating_mae", min),
        ("label_macro_f1", "validation_label_macro_f1", max),
    ],
)
def test_what_the_monitor_names_chooses_the_epoch(monitor: str, key: str, choose: Any) -> None:
    held = {"label": HELD_LABELS, "rating": HELD_RATINGS}
    model = make(monitor=monitor, learning_rate=0.2, max_epochs=4, patience=4).fit(X, Y, validation_data=(HELD, held))
    values = [entry[key] for entry in model.history_]
    assert model.best_epoch_ == 1 + values.index(choose(values))
    predicted = model.predict(HELD)
    expected = {
        "rating": r2_score(HELD_RATINGS, predicted["rating"]),
        "rating_mae": mean_absolute_error(HELD_RATINGS, predicted["rating"]),
        "label_macro_f1": f1_score(HELD_LABELS, predicted["label"], average="macro"),
    }
    if monitor in expected:
        assert choose(values) == pytest.approx(expected[monitor], rel=1e-4)


def test_every_argument_of_its_own_changes_what_is_learned() -> None:
    reference = make(max_epochs=1).fit(X, Y)
    assert same(make(max_epochs=1).fit(X, Y), reference)
    changes: dict[str, Any] = {
        "regression_loss": "huber",
        "task_weights": {"rating": 5.0},
        "task_sampling": "square-root",
        "tasks": {"rating": "regression", "label": "classification"},
        "label_smoothing": 0.3,
        "focal_gamma": 2.0,
        "char_encoder": "cnn",
        "pretrain_epochs": 1,
    }
    for name, value in changes.items():
        assert not same(reference, make(max_epochs=1, **{name: value}).fit(X, Y)), name
    few = {"label": LABELS, "rating": RATINGS[:16] + [None] * 64}
    drawn = [
        make(max_epochs=1, task_sampling="temperature", sampling_temperature=tau).fit(X, few) for tau in (1.0, 2.0, 9.0)
    ]
    assert not same(drawn[0], drawn[1]) and not same(drawn[1], drawn[2])
    assert same(drawn[1], make(max_epochs=1, task_sampling="square-root").fit(X, few))
    assert not same(reference, make(max_epochs=1, task_weights="uncertainty").fit(X, Y))


def test_a_heavy_task_is_learned_first() -> None:
    held = (HELD, {"label": HELD_LABELS, "rating": HELD_RATINGS})
    losses = [
        make(max_epochs=1, task_weights={"label": weight}, gradient_clip=None)
        .fit(X, Y, validation_data=held)
        .history_[0]["validation_label_loss"]
        for weight in (0.01, 1.0, 5.0)
    ]
    assert losses == sorted(losses, reverse=True)


def test_learned_weights_are_told_and_kept(tmp_path: Path) -> None:
    model = make(task_weights="uncertainty").fit(X, Y)
    weights = model.task_weights_
    assert set(weights) == {"label", "rating"} and weights["label"] != 1.0 and weights["rating"] != 0.5
    assert tidegate.load(model.save(tmp_path / "model.tg")).task_weights_ == weights
    assert make(task_weights={"rating": 0.25}, max_epochs=1).fit(X, Y).task_weights_ == {"label": 1.0, "rating": 0.25}


@pytest.mark.parametrize(
    "changes",
    [{}, {"task_weights": "uncertainty", "task_sampling": "square-root"}],
    ids=["joint", "drawn"],
)
def test_resume_gives_the_unbroken_run(tmp_path: Path, changes: dict[str, Any]) -> None:
    unbroken = make(max_epochs=4, **changes).fit(X, Y, run_folder=tmp_path / "unbroken")
    make(max_epochs=2, **changes).fit(X, Y, run_folder=tmp_path / "broken")
    resumed = make(max_epochs=4, **changes).fit(X, Y, run_folder=tmp_path / "broken", resume=True)
    assert same(resumed, unbroken)
    assert len(resumed.history_) == 4


def test_resume_refuses_another_run(tmp_path: Path) -> None:
    make(max_epochs=1).fit(X, Y, run_folder=tmp_path)
    with pytest.raises(TidegateError, match="task_sampling was 'joint' and is 'uniform'"):
        make(task_sampling="uniform").fit(X, Y, run_folder=tmp_path, resume=True)
    with pytest.raises(TidegateError, match="data was"):
        make().fit(X, {**Y, "rating": Y["rating"][::-1]}, run_folder=tmp_path, resume=True)


def test_save_and_load(tmp_path: Path, fitted: MultiTaskTextModel) -> None:
    numbered = {"stars": [int(rating) for rating in RATINGS], **Y}
    for model in (fitted, make(max_epochs=1, char_encoder="gru", task_sampling="uniform").fit(X, numbered)):
        path = model.save(tmp_path / "model.tg")
        for loaded in (tidegate.load(path), MultiTaskTextModel.load(path), pickle.loads(pickle.dumps(model))):
            assert type(loaded) is MultiTaskTextModel
            assert same(loaded, model)
            for name, values in model.predict(X).items():
                np.testing.assert_array_equal(loaded.predict(X)[name], values)
                assert loaded.predict(X)[name].dtype == values.dtype
            assert loaded.history_ == model.history_ and loaded.best_epoch_ == model.best_epoch_
    with pytest.raises(BundleError, match="expected a model of the kind text-classifier, found 'multi-task-text'"):
        TextClassifier.load(path)


def test_its_encoder_starts_another_model(tmp_path: Path, fitted: MultiTaskTextModel) -> None:
    path = str(fitted.save(tmp_path / "model.tg"))
    started = TextClassifier(**TINY, init_from=path).set_params(max_epochs=1, learning_rate=1e-6)
    network = started.fit(X, LABELS).network_
    for name, tensor in fitted.network_.encoder.state_dict().items():
        np.testing.assert_allclose(network.encoder.state_dict()[name], tensor, atol=1e-4)


def test_a_warm_start_goes_on_with_some_of_the_tasks(fitted: MultiTaskTextModel) -> None:
    model = pickle.loads(pickle.dumps(fitted)).set_params(warm_start=True, max_epochs=1, learning_rate=1e-9)
    before = fitted.predict_outputs(X)
    model.fit(X, {"rating": RATINGS})
    for task, values in model.predict_outputs(X).items():
        np.testing.assert_allclose(values, before[task], atol=1e-4)
    with pytest.raises(DataError, match=r"the tasks of the last fit \(label, rating\), and y has 'tone'"):
        model.fit(X, {"tone": LABELS})


def test_pairs_of_texts_are_read_as_the_classifier_reads_them(tmp_path: Path) -> None:
    pairs = list(zip(X, X[1:] + X[:1], strict=True))
    alike = [str(first == second) for first, second in zip(LABELS, LABELS[1:] + LABELS[:1], strict=True)]
    held = (pairs[:20], {"alike": alike[:20]})
    alone = TextClassifier(**TINY).fit(pairs, alike, validation_data=(pairs[:20], alike[:20]))
    model = make().fit(pairs, {"alike": alike}, validation_data=held)
    np.testing.assert_array_equal(model.predict_proba(pairs)["alike"], alone.predict_proba(pairs))
    drawn = make(task_sampling="uniform", max_epochs=2).fit(pairs, {"alike": alike, "first": RATINGS})
    loaded = tidegate.load(drawn.save(tmp_path / "model.tg"))
    np.testing.assert_array_equal(loaded.predict(pairs)["first"], drawn.predict(pairs)["first"])
    with pytest.raises(DataError, match="the model reads pairs of texts, and X has one text a row"):
        drawn.predict(X)


def test_the_learning_rate_finder_looks_at_all_tasks() -> None:
    found = make(task_sampling="uniform").find_learning_rate(X, Y, steps=40)
    assert 1e-6 < found.suggestion < 1 and len(found.rates) == len(found.losses) > 10


def test_not_fitted() -> None:
    for call in ("predict", "predict_proba", "predict_outputs"):
        with pytest.raises(NotFittedError):
            getattr(make(), call)(X)
    for name in ("classes_", "task_weights_"):
        with pytest.raises(NotFittedError):
            getattr(make(), name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task_weights": {"lable": 1.0}}, "none of the tasks label, rating. Did you mean 'label'"),
        ({"task_weights": {"label": 0.0}}, "must be a finite number above 0; found 0.0"),
        ({"task_weights": {"label": True}}, "must be a finite number above 0; found True"),
        ({"task_weights": "learned"}, "must map tasks to weights, or be 'uncertainty' or None; found 'learned'"),
        ({"task_sampling": "even"}, "task_sampling must be one of joint, proportional"),
        ({"task_sampling": "temperature"}, "must be given there"),
        ({"sampling_temperature": 2.0}, "sampling_temperature=2.0 with task_sampling='joint'"),
        ({"monitor": "accuracy"}, "monitor must be mean or loss or label or rating or label_accuracy"),
        ({"monitor": "rating_accuracy"}, "monitor must be mean or loss"),
        ({"regression_loss": "cubic"}, "regression_loss must be squared or absolute or huber; found 'cubic'"),
        ({"tasks": {"label": "classification"}}, r"y has 'rating', which is none of tasks \(label\)"),
        (
            {"tasks": {"label": "classification", "rating": "regression", "tone": "regression"}},
            "tasks names 'tone', and y has no such column",
        ),
        ({"tasks": {"label": "classify", "rating": "regression"}}, "classification or regression; found 'classify'"),
        ({"tasks": {"label": "regression", "rating": "regression"}}, "the regression 'label' must be a finite number"),
        ({"tasks": {"label": "classification", "rating": "classification"}}, "'rating' must be an int or a str"),
        ({"tasks": []}, "tasks must map each task to classification or regression, or be None"),
    ],
)
def test_arguments_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**changes).fit(X, Y)


@pytest.mark.parametrize(
    ("texts", "targets", "message"),
    [
        (X, None, "y is missing"),
        (X, LABELS, "y must be a mapping from tasks to columns of targets"),
        (X, {}, "found an empty one"),
        (X, {"label": LABELS[1:]}, r"X has 80 rows and y\['label'\] has 79"),
        (X, {"label": [None] * 80}, "no row has a target"),
        (X, {"label": LABELS, "rating": [None] * 80}, "no row has a target of the task 'rating'"),
        (X, {"label": ["a"] * 80}, "the classification 'label' needs at least two classes; all 80 targets are 'a'"),
        (X, {"label": [1, "a"] * 40}, "the classification 'label': labels must be all int or all str"),
        (X, {"loss": LABELS}, "a task cannot be called 'loss'"),
        (X, {3: LABELS}, "a task's name must be a text; found 3"),
        (X, {"rating": [1.5, float("inf")] * 40}, "target of row 1 of the regression 'rating' must be a finite"),
        ([], {"label": []}, "X is empty"),
        ("text", {"label": ["a"]}, "put it in a list"),
    ],
)
def test_data_that_cannot_be_learned(texts: Any, targets: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make().fit(texts, targets)


def test_validation_data_that_cannot_be(fitted: MultiTaskTextModel) -> None:
    for held, message in (
        ((HELD,), r"must be \(X, y\)"),
        ((HELD, {"label": ["so-so"] * 30}), r"validation_data y\['label'\] has labels that the training data has not"),
    ):
        with pytest.raises(DataError, match=message):
            make().fit(X, Y, validation_data=held)
    with pytest.raises(DataError, match="monitor='label', and validation_data has no target of the task 'label'"):
        make(monitor="label").fit(X, Y, validation_data=(HELD, {"rating": HELD_RATINGS}))
    with pytest.raises(DataError, match="labels that the training data has not: \\['so-so'\\]"):
        fitted.score(HELD, {"label": ["so-so"] * 30})
