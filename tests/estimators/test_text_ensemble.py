from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning import Callback
from sklearn.base import clone
from sklearn.ensemble import AdaBoostClassifier

import tidegate
from estimators.contract import column
from estimators.test_text_classifier import X, Y, make, reviews
from tidegate import jobs
from tidegate.config import load_recipe
from tidegate.data.seeds import derive_seed
from tidegate.deploy.bundle import load_bundle, save_bundle
from tidegate.errors import BundleError, DataError, RecipeError
from tidegate.estimators.base import stratified_split
from tidegate.estimators.text_classifier import TextClassifier
from tidegate.estimators.text_ensemble import TextEnsemble
from tiny_reviews import write_tiny


@pytest.fixture(scope="module")
def fitted() -> TextEnsemble:
    return TextEnsemble(make(max_epochs=3), members=3).fit(X, Y)


def test_the_mean_of_members_that_differ_in_their_seeds_counts(fitted: TextEnsemble) -> None:
    members = [model.predict_proba(X) for model in fitted.members_]
    assert len(members) == 3
    assert np.abs(members[0] - members[1]).max() > 1e-3
    np.testing.assert_allclose(fitted.predict_proba(X), np.mean(members, axis=0))
    assert fitted.predict(X).tolist() == fitted.classes_[np.mean(members, axis=0).argmax(1)].tolist()
    texts, labels = reviews(60, seed=1)
    assert fitted.score(texts, labels) > 0.9
    again = TextEnsemble(make(max_epochs=3), members=3).fit(X, Y)
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    assert clone(fitted).get_params()["members"] == 3


def test_all_members_learn_from_the_same_texts_and_are_judged_on_the_same(fitted: TextEnsemble) -> None:
    first, *others = fitted.members_
    assert all(model.encoder_.vocabulary == first.encoder_.vocabulary for model in others)
    assert [model.history_[model.best_epoch_ - 1]["validation_accuracy"] for model in fitted.members_] == pytest.approx(
        fitted.member_accuracies_
    )
    held = reviews(20, seed=3)
    given = TextEnsemble(make(max_epochs=1), members=2).fit(X, Y, validation_data=held)
    assert given.validation_accuracy_ == pytest.approx(given.score(*held))
    assert "2 members" in given.notes[0]


def test_one_bundle_holds_the_members_and_one_tokeniser(fitted: TextEnsemble, tmp_path: Path) -> None:
    path = fitted.save(tmp_path / "all.tg")
    loaded = tidegate.load(path)
    assert isinstance(loaded, TextEnsemble)
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
    assert loaded.validation_accuracy_ == fitted.validation_accuracy_
    bundle = load_bundle(path)
    assert [part.tokenizer for part in bundle.members[1:]] == [{"of_member": 0}] * 2
    with zipfile.ZipFile(path) as archive:
        assert "members/2/weights.safetensors" in archive.namelist()
    lost = dataclasses.replace(bundle.members[0], tokenizer={"of_member": 1})
    foreign = dataclasses.replace(bundle.members[0], kind="ranker")
    renamed = dataclasses.replace(bundle.members[0], labels=["good", "bad"])
    for changes in (
        {"config": {}},
        {"metrics": {}},
        {"members": bundle.members[1:]},
        {"members": (lost, *bundle.members[1:])},
        {"members": (foreign, *bundle.members[1:])},
        {"members": (renamed, *bundle.members[1:])},
    ):
        bad = save_bundle(tmp_path / "bad.tg", dataclasses.replace(bundle, **changes))
        with pytest.raises(BundleError, match=r"bad\.tg"):
            tidegate.load(bad)


def test_a_student_learns_what_the_members_say_without_labels(fitted: TextEnsemble) -> None:
    texts, _ = reviews(120, seed=7)
    student = fitted.distil(texts, make(max_epochs=8))
    assert student.score(*reviews(60, seed=1)) > 0.9
    told = fitted.predict_proba(texts)
    assert np.abs(student.predict_proba(texts) - told).mean() < 0.25
    assert type(fitted.distil(texts)).__name__ == "TextClassifier"
    with pytest.raises(DataError, match="a student needs texts"):
        fitted.distil([])


def test_finished_members_are_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = TextEnsemble(make(max_epochs=2), members=2).fit(X, Y, run_folder=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"member-1", "member-2"}
    monkeypatch.setattr("tidegate.training.fit._run", None)
    resumed = TextEnsemble(make(max_epochs=2), members=2).fit(X, Y, run_folder=tmp_path, resume=True)
    np.testing.assert_array_equal(resumed.predict_proba(X), whole.predict_proba(X))


def test_scikit_learns_boosting_takes_the_classifier() -> None:
    boosted = AdaBoostClassifier(make(max_epochs=2), n_estimators=2, random_state=0).fit(column(X), Y)
    assert boosted.score(column(X), Y) > 0.8


@pytest.mark.parametrize("members", [1, 0, True, 2.5])
def test_fewer_than_two_members_are_none(members: Any) -> None:
    with pytest.raises(ValueError, match="members must be a whole number of at least 2"):
        TextEnsemble(make(), members=members).fit(X, Y)


def test_a_recipe_of_several_members_is_trained_judged_and_resumed(tmp_path: Path) -> None:
    recipe = load_recipe(write_tiny(tmp_path), overrides=["training.random_state=null", "output.baseline=false"])
    run = jobs.train(recipe, out=tmp_path / "run", members=2)
    assert run.test is not None and run.test["accuracy"] > 0.7  # of a seed that was drawn
    assert any("an ensemble of 2 members: validation accuracy" in note for note in run.notes)
    model = tidegate.load(run.model)
    assert len(model.members_) == 2
    assert load_recipe(run.folder / "recipe.yaml").arguments["hidden_size"] == 8
    resumed = jobs.train(recipe, out=tmp_path / "run", members=2, resume=True)
    assert resumed.test == run.test
    assert jobs.evaluate(run.model, str(tmp_path / "test.csv")).metrics == run.test
    with pytest.raises(RecipeError, match="--members must be 1 or more"):
        jobs.train(recipe, out=tmp_path / "none", members=0)
    assert not (tmp_path / "none").exists()


def snapshots(**changes: Any) -> TextEnsemble:
    return TextEnsemble(make(**{"max_epochs": 6, **changes}), members=3, by="snapshots")


def test_snapshots_are_what_one_run_passed_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ensemble = snapshots().fit(X, Y, run_folder=tmp_path)
    assert [model.best_epoch_ for model in ensemble.members_] == [2, 4, 6]
    assert [path.name for path in tmp_path.iterdir()] == ["snapshots"]
    # Until the end of a cycle the run is the one that ends there.
    seed = ensemble.members_[0].random_state_
    train = make(random_state=seed, max_epochs=6, schedule="cyclic", cycles=3, patience=6, validation_fraction=0)
    rows = stratified_split(np.unique(Y, return_inverse=True)[1], 0.1, derive_seed(ensemble.random_state_, "split"))[0]
    learned = [X[row] for row in rows], [Y[row] for row in rows]
    np.testing.assert_array_equal(train.fit(*learned).predict_proba(X), ensemble.members_[2].predict_proba(X))
    said = [model.predict_proba(X) for model in ensemble.members_]
    assert np.abs(said[0] - said[1]).max() > 1e-3 and np.abs(said[1] - said[2]).max() > 1e-3
    np.testing.assert_allclose(ensemble.predict_proba(X), np.mean(said, axis=0))
    assert ensemble.score(*reviews(60, seed=1)) > 0.9
    loaded = tidegate.load(ensemble.save(tmp_path / "all.tg"))
    np.testing.assert_array_equal(loaded.predict_proba(X), ensemble.predict_proba(X))
    assert loaded.by == "snapshots"
    monkeypatch.setattr("tidegate.training.fit._run", None)
    again = snapshots().fit(X, Y, run_folder=tmp_path, resume=True)  # finished, so that nothing is trained
    np.testing.assert_array_equal(again.predict_proba(X), ensemble.predict_proba(X))


def test_snapshots_of_a_run_that_broke_off_are_kept(tmp_path: Path) -> None:
    class Fails(Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 3:
                raise RuntimeError("the machine is gone")

    whole = snapshots().fit(X, Y)
    with pytest.MonkeyPatch.context() as patch:
        fit = TextClassifier.fit
        patch.setattr(
            TextClassifier,
            "fit",
            lambda self, *data, callbacks=(), **options: fit(self, *data, callbacks=[*callbacks, Fails()], **options),
        )
        with pytest.raises(RuntimeError, match="the machine is gone"):
            snapshots().fit(X, Y, run_folder=tmp_path)
    resumed = snapshots().fit(X, Y, run_folder=tmp_path, resume=True)
    np.testing.assert_array_equal(resumed.predict_proba(X), whole.predict_proba(X))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_epochs": 7}, "found max_epochs=7 and 3 members: set max_epochs to a multiple of members"),
        ({"schedule": "cosine"}, "snapshots need schedule='cyclic'"),
        ({"schedule": "cyclic", "cycles": 2}, "and cycles=2: leave both out"),
        ({"ema_decay": 0.9}, r"ema_decay=0\.9 is not for snapshots"),
        ({"calibrate": "temperature"}, "calibrate='temperature' is not for snapshots"),
        ({"optimizer": "asgd"}, "asgd' is not for snapshots"),
    ],
)
def test_what_does_not_go_with_snapshots(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        snapshots(**changes).fit(X, Y)
    with pytest.raises(ValueError, match="by must be seeds or snapshots; found 'snapshot'"):
        TextEnsemble(make(), members=2, by="snapshot").fit(X, Y)
