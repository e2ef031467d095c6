from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

import tidegate
from estimators.test_text_classifier import X, Y, make, reviews
from tidegate.deploy.bundle import load_bundle, save_bundle
from tidegate.errors import BundleError, DataError
from tidegate.estimators.linear_text_classifier import LinearTextClassifier
from tidegate.estimators.text_ensemble import TextEnsemble
from tidegate.estimators.text_stack import TextStack
from tidegate.features.stacking import fit_stacking

TEST = reviews(60, seed=1)


def linear(**changes: Any) -> LinearTextClassifier:
    return LinearTextClassifier(**{"C": 1.0, "random_state": 0, **changes})


@pytest.fixture(scope="module")
def stack() -> TextStack:
    return TextStack([linear(), make(max_epochs=3)], random_state=1).fit(X, Y)


def test_weights_are_fitted_on_texts_that_no_member_saw(stack: TextStack) -> None:
    held = reviews(40, seed=5)
    given = TextStack([linear(), make(max_epochs=2)], random_state=1).fit(X, Y, validation_data=held)
    alone = [linear().fit(X, Y, validation_data=held), make(max_epochs=2).fit(X, Y, validation_data=held)]
    said = np.stack([model.predict_proba(held[0]) for model in alone])
    targets = np.searchsorted(given.classes_, held[1])
    wanted = fit_stacking(said.astype(np.float64), targets, None, C=1.0)
    test = np.stack([model.predict_proba(TEST[0]) for model in alone]).astype(np.float64)
    np.testing.assert_allclose(given.predict_proba(TEST[0]), wanted.probabilities(test), rtol=1e-6)
    assert given.member_accuracies_ == [float(model.score(*held)) for model in alone]
    # Without them a tenth of X is set aside, which neither member learns from.
    assert len(stack.members_[1].token_lengths["train"]) == len(X) - len(stack.members_[1].token_lengths["validation"])
    assert stack.score(*TEST) > 0.9
    assert stack.validation_accuracy_ is not None and len(stack.member_accuracies_) == 2


def test_out_of_fold_weights_see_every_text_and_no_member_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[set[str], set[str]]] = []
    learned: list[set[str]] = []

    def spy_fit(self: Any, X: Any, *arguments: Any, **options: Any) -> Any:
        learned.append(set(X))
        return fit(self, X, *arguments, **options)

    def spy_predict(self: Any, X: Any) -> np.ndarray:
        seen.append((learned[-1], set(X)))
        return predict(self, X)

    fit, predict = LinearTextClassifier.fit, LinearTextClassifier.predict_proba
    monkeypatch.setattr(LinearTextClassifier, "fit", spy_fit)
    monkeypatch.setattr(LinearTextClassifier, "predict_proba", spy_predict)
    texts = [f"{text} n{number}" for number, text in enumerate(X)]  # each one of its own
    stack = TextStack([linear(validation_fraction=0), linear(classifier="naive-bayes", C=None)], folds=3).fit(texts, Y)
    assert len(learned) == 3 * 2 + 2
    assert all(not trained & judged for trained, judged in seen)
    assert set().union(*(judged for _, judged in seen)) == set(texts)
    assert learned[-1] == learned[-2] == set(texts)  # in the end all learn from all
    assert stack.score(*TEST) > 0.85


def test_sample_weights_reach_the_members_and_the_weights() -> None:
    weights = np.where(np.arange(len(X)) % 2, 1.0, 1e-6)
    wrong = [label if row % 2 else next(other for other in set(Y) if other != label) for row, label in enumerate(Y)]
    members = [linear(), linear(classifier="naive-bayes", C=None)]
    weighed = TextStack(members, random_state=0).fit(X, wrong, weights)
    assert weighed.score(*TEST) > 0.85
    assert TextStack(members, random_state=0).fit(X, wrong).score(*TEST) < 0.75


def test_fitted_models_join_and_one_bundle_holds_them(tmp_path: Path) -> None:
    ensemble = TextEnsemble(make(max_epochs=1), members=2).fit(X, Y)
    models = [linear().fit(X, Y), make(max_epochs=2).fit(X, Y), ensemble]
    held = reviews(40, seed=5)
    for joined in (
        TextStack.join(models, *held),
        TextStack.join(models, weights="equal"),
        TextStack.join(models, weights=[1, 2, 1]),
    ):
        path = joined.save(tmp_path / "joined.tg")
        loaded = tidegate.load(path)
        assert isinstance(loaded, TextStack)
        np.testing.assert_array_equal(loaded.predict_proba(TEST[0]), joined.predict_proba(TEST[0]))
        assert loaded.notes == joined.notes
        assert [type(model) for model in loaded.members_] == [type(model) for model in models]
        assert clone(loaded).get_params()["weights"] == joined.weights
    said = np.stack([model.predict_proba(TEST[0]) for model in models])
    np.testing.assert_allclose(joined.predict_proba(TEST[0]), np.tensordot([0.25, 0.5, 0.25], said, axes=1), rtol=1e-6)
    with zipfile.ZipFile(path) as archive:
        assert "members/2/members/1/weights.safetensors" in archive.namelist()
    again = TextStack.join([tidegate.load(path), models[0]], weights="equal")  # an ensemble of ensembles
    assert tidegate.load(again.save(tmp_path / "again.tg")).predict(TEST[0]).tolist() == again.predict(TEST[0]).tolist()


def test_parts_that_do_not_fit_are_refused(stack: TextStack, tmp_path: Path) -> None:
    bundle = load_bundle(stack.save(tmp_path / "stack.tg"))
    member = bundle.members[0]
    for changes in (
        {"members": bundle.members[:1]},
        {"members": (dataclasses.replace(member, kind="nothing"), bundle.members[1])},
        {"members": (dataclasses.replace(member, weights={}), bundle.members[1])},
        {"members": (*bundle.members, member)},
        {"labels": ["a", "b"]},
        {"weights": {}},
        {"config": {"folds": 3, "nothing": 1}},
    ):
        bad = save_bundle(tmp_path / "bad.tg", dataclasses.replace(bundle, **changes))
        with pytest.raises(BundleError, match=r"bad\.tg"):
            tidegate.load(bad)


def test_a_stack_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: dict[str, Any] = {"estimators": [linear(), make(max_epochs=2)], "random_state": 0}
    whole = TextStack(**arguments).fit(X, Y, run_folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["member-2"]
    monkeypatch.setattr("tidegate.training.fit._run", None)
    resumed = TextStack(**arguments).fit(X, Y, run_folder=tmp_path, resume=True)
    np.testing.assert_array_equal(resumed.predict_proba(X), whole.predict_proba(X))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": "mean"}, "weights must be fit or equal; found 'mean'"),
        ({"weights": [1.0]}, "one number a member, 2 of them"),
        ({"folds": 1}, "folds must be a whole number of at least 2"),
        ({"folds": 2, "weights": "equal"}, "folds=2 has no effect with weights='equal'"),
        ({"C": 0}, "C must be above 0"),
        ({"validation_fraction": 1}, r"validation_fraction must be in \[0, 1\)"),
        ({"validation_fraction": 0}, "weights='fit' needs texts that no member learns from"),
        ({"estimators": [LinearTextClassifier()]}, "estimators must be at least two; found 1"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextStack(**{"estimators": [linear(), linear(classifier="naive-bayes", C=None)], **arguments}).fit(X, Y)


def test_members_that_cannot_be_joined_are_named() -> None:
    one = linear().fit(X, Y)
    other = linear().fit(X, [0 if label == Y[0] else 1 for label in Y])
    with pytest.raises(DataError, match=r"member 2 has the labels \[0, 1\], and member 1 has"):
        TextStack.join([one, other], weights="equal")
    with pytest.raises(DataError, match="at least two members; found 1"):
        TextStack.join([one], weights="equal")
    with pytest.raises(ValueError, match="give X and y, or weights='equal'"):
        TextStack.join([one, one])
    with pytest.raises(ValueError, match="unlabelled has no effect: none of the members"):
        TextStack([linear(), linear()]).fit(X, Y, unlabelled=["a text"])
