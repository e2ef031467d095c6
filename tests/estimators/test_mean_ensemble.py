"""Regressions and models of several labels averaged over seeds and snapshots, as classifiers are."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.metrics import f1_score, mean_absolute_error
from sklearn.utils import get_tags

import tidegate
from tidegate import (
    MultiLabelTextClassifier,
    MultiLabelTextEnsemble,
    TextClassifier,
    TextEnsemble,
    TextRegressor,
    TextRegressorEnsemble,
)
from tidegate.deploy.bundle import load_bundle, save_bundle
from tidegate.errors import BundleError
from tiny_kinds import kinds
from tiny_reviews import rows
from tiny_stars import stars

TINY: dict[str, Any] = {
    "min_count": 1,
    "embedding_size": 8,
    "hidden_size": 8,
    "dropout": 0.0,
    "embedding_dropout": 0.0,
    "learning_rate": 0.02,
    "batch_size": 16,
    "max_epochs": 3,
    "random_state": 3,
    "device": "cpu",
    "verbose": False,
}
TEXTS = [text for _, text in rows(100, 1)]
STARS = [stars(text) for text in TEXTS]
NEW = [text for _, text in rows(30, 2)]
KINDS, LABELS = map(list, zip(*kinds(120, 1), strict=True))
NEW_KINDS, NEW_LABELS = map(list, zip(*kinds(40, 2), strict=True))


@pytest.fixture(scope="module")
def numbers() -> TextRegressorEnsemble:
    return TextRegressorEnsemble(TextRegressor(**TINY), members=2).fit(TEXTS, STARS)


@pytest.fixture(scope="module")
def labels() -> MultiLabelTextEnsemble:
    return MultiLabelTextEnsemble(MultiLabelTextClassifier(**TINY, threshold="tuned"), members=2).fit(KINDS, LABELS)


def test_the_mean_of_regressions_counts_and_is_what_a_bundle_gives_back(
    numbers: TextRegressorEnsemble, tmp_path: Path
) -> None:
    said = np.stack([model.predict(NEW) for model in numbers.members_])
    assert np.abs(said[0] - said[1]).max() > 1e-3
    np.testing.assert_allclose(numbers.predict(NEW), said.mean(0), rtol=1e-6)
    assert numbers.predict(NEW).dtype == np.float32
    loaded = tidegate.load(numbers.save(tmp_path / "all.tg"))
    assert type(loaded) is TextRegressorEnsemble
    np.testing.assert_array_equal(loaded.predict(NEW), numbers.predict(NEW))
    assert (loaded.validation_score_, loaded.member_scores_) == (numbers.validation_score_, numbers.member_scores_)
    assert loaded.notes == numbers.notes
    assert numbers.notes[0].startswith("an ensemble of 2 members: validation mean absolute error 0.")
    with pytest.raises(ValueError, match="loss='squared' gives numbers and no probabilities of ratings"):
        numbers.predict_levels(NEW)


def test_members_learn_from_the_same_rows_and_are_judged_on_the_same(numbers: TextRegressorEnsemble) -> None:
    alone = [model.history_[model.best_epoch_ - 1]["validation_mae"] for model in numbers.members_]
    assert numbers.member_scores_ == pytest.approx(alone, rel=1e-5)
    again = TextRegressorEnsemble(TextRegressor(**TINY), members=2).fit(TEXTS, STARS)
    np.testing.assert_array_equal(again.predict(NEW), numbers.predict(NEW))
    truth, weights = [stars(text) for text in NEW], np.linspace(0.5, 2, 30)
    given = TextRegressorEnsemble(TextRegressor(**{**TINY, "max_epochs": 1}), members=2)
    given.fit(TEXTS, STARS, validation_data=(NEW, truth, weights))
    expected = mean_absolute_error(truth, given.predict(NEW), sample_weight=weights)
    assert given.validation_score_ == pytest.approx(expected)


def test_of_ordinal_ratings_the_probabilities_are_averaged_and_the_median_is_predicted(tmp_path: Path) -> None:
    ratings = [max(1, min(5, number + place % 2)) for place, number in enumerate(STARS)]
    model = TextRegressorEnsemble(TextRegressor(**TINY, loss="ordinal"), members=2).fit(TEXTS, ratings)
    levels = [member.predict_levels(NEW) for member in model.members_]
    np.testing.assert_allclose(model.predict_levels(NEW), np.mean(levels, axis=0), atol=1e-7)
    assert model.levels_ is not None and len(model.levels_) > 2
    expected = [
        next(level for level, share in zip(model.levels_, np.cumsum(row), strict=True) if share >= 0.5)
        for row in model.predict_levels(NEW)
    ]
    assert model.predict(NEW).tolist() == expected
    loaded = tidegate.load(model.save(tmp_path / "all.tg"))
    assert loaded.levels_.tolist() == model.levels_.tolist()
    np.testing.assert_array_equal(loaded.predict(NEW), model.predict(NEW))
    alone = model.members_[0]
    np.testing.assert_array_equal(  # the median of one member is what it predicts itself
        alone.levels_[(alone.predict_levels(NEW).cumsum(1)[:, :-1] < 0.5).sum(1)].astype(np.float32), alone.predict(NEW)
    )


def test_the_mean_probability_of_each_label_counts_with_thresholds_of_its_own(
    labels: MultiLabelTextEnsemble, tmp_path: Path
) -> None:
    said = [model.predict_proba(NEW_KINDS) for model in labels.members_]
    np.testing.assert_allclose(labels.predict_proba(NEW_KINDS), np.mean(said, axis=0))
    probabilities, counts = labels.predict_counted(NEW_KINDS)
    np.testing.assert_allclose(probabilities, np.mean(said, axis=0))
    assert counts.tolist() == [len(text.split()) for text in NEW_KINDS]
    assert labels.threshold_.shape == (3,)
    assert all(not np.array_equal(labels.threshold_, model.threshold_) for model in labels.members_)
    np.testing.assert_array_equal(labels.predict(NEW_KINDS), np.mean(said, axis=0) >= labels.threshold_)
    row = labels.predict(NEW_KINDS)[0].astype(bool)
    assert labels.predict_labels(NEW_KINDS)[0] == labels.classes_[row].tolist()
    loaded = tidegate.load(labels.save(tmp_path / "all.tg"))
    assert type(loaded) is MultiLabelTextEnsemble and loaded.classes_.tolist() == ["animal", "colour", "motion"]
    np.testing.assert_array_equal(loaded.predict(NEW_KINDS), labels.predict(NEW_KINDS))
    plain = MultiLabelTextEnsemble(MultiLabelTextClassifier(**{**TINY, "max_epochs": 1}), members=2)
    plain.fit(KINDS, LABELS, validation_data=(NEW_KINDS, NEW_LABELS))
    truth = np.array([[name in found for name in plain.classes_] for found in NEW_LABELS])
    np.testing.assert_array_equal(plain.predict(NEW_KINDS), plain.predict_proba(NEW_KINDS) >= 0.5)
    expected = f1_score(truth, plain.predict(NEW_KINDS), average="micro")
    assert plain.validation_score_ == pytest.approx(expected)
    right = (truth == plain.predict(NEW_KINDS)).all(1).mean()
    assert plain.score(NEW_KINDS, NEW_LABELS) == pytest.approx(right)


def test_a_frame_of_labels_keeps_its_names_and_those_that_no_text_has() -> None:
    matrix = pd.DataFrame({name: [int(name in found) for found in LABELS] for name in ("motion", "animal", "none")})
    model = MultiLabelTextEnsemble(MultiLabelTextClassifier(**{**TINY, "max_epochs": 1}), members=2).fit(KINDS, matrix)
    assert model.classes_.tolist() == ["motion", "animal", "none"]
    assert model.validation_score_ is not None


def test_snapshots_are_what_one_run_passed_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make() -> TextRegressorEnsemble:
        return TextRegressorEnsemble(TextRegressor(**{**TINY, "max_epochs": 4}), members=2, by="snapshots")

    model = make().fit(TEXTS, STARS, run_folder=tmp_path)
    assert [member.best_epoch_ for member in model.members_] == [2, 4]
    said = [member.predict(NEW) for member in model.members_]
    assert np.abs(said[0] - said[1]).max() > 1e-3
    np.testing.assert_allclose(model.predict(NEW), np.mean(said, axis=0), rtol=1e-6)
    monkeypatch.setattr("tidegate.training.fit._run", None)  # finished, so that nothing is trained
    again = make().fit(TEXTS, STARS, run_folder=tmp_path, resume=True)
    np.testing.assert_array_equal(again.predict(NEW), model.predict(NEW))
    tuned = MultiLabelTextEnsemble(MultiLabelTextClassifier(**TINY, threshold="tuned"), members=3, by="snapshots")
    with pytest.raises(ValueError, match="threshold='tuned' is not for snapshots"):
        tuned.fit(KINDS, LABELS)


def test_scikit_learn_is_told_what_the_members_are() -> None:
    assert is_regressor(TextRegressorEnsemble()) and not is_classifier(TextRegressorEnsemble())
    assert is_classifier(TextEnsemble()) and is_classifier(MultiLabelTextEnsemble())
    tags = get_tags(MultiLabelTextEnsemble())
    assert tags.target_tags.two_d_labels and tags.classifier_tags is not None and tags.classifier_tags.multi_label
    copied: Any = clone(TextRegressorEnsemble(TextRegressor(max_epochs=2), members=4))
    assert copied.members == 4 and copied.estimator.max_epochs == 2


def test_an_ensemble_is_of_one_kind_of_members(labels: MultiLabelTextEnsemble, tmp_path: Path) -> None:
    for ensemble, member in (
        (TextEnsemble, TextRegressor()),
        (TextRegressorEnsemble, TextClassifier()),
        (MultiLabelTextEnsemble, TextClassifier()),
        (TextEnsemble, MultiLabelTextClassifier()),
    ):
        message = f"{ensemble.__name__} is made of the kinds .*; found {type(member).__name__}"
        with pytest.raises(ValueError, match=message):
            ensemble(member, members=2).fit(KINDS, LABELS)
    bundle = load_bundle(labels.save(tmp_path / "all.tg"))
    renamed = dataclasses.replace(bundle.members[0], labels=["a", "b", "c"])
    for changes in (
        {"kind": "text-ensemble"},
        {"members": bundle.members[1:]},
        {"members": (renamed, *bundle.members[1:])},
        {"labels": ["a", "b", "c"]},
        {"metrics": {}},
    ):
        bad = save_bundle(tmp_path / "bad.tg", dataclasses.replace(bundle, **changes))
        with pytest.raises(BundleError, match=r"bad\.tg"):
            tidegate.load(bad)


def test_an_ensemble_of_before_there_were_others_is_read(tmp_path: Path) -> None:
    model = TextEnsemble(TextClassifier(**{**TINY, "max_epochs": 1}), members=2)
    model.fit(TEXTS, [label for label, _ in rows(100, 1)])
    bundle = load_bundle(model.save(tmp_path / "new.tg"))
    older = dict(bundle.metrics)
    older["validation_accuracy"], older["member_accuracies"] = older.pop("validation_score"), older.pop("member_scores")
    loaded = tidegate.load(save_bundle(tmp_path / "old.tg", dataclasses.replace(bundle, metrics=older)))
    assert loaded.validation_accuracy_ == model.validation_accuracy_
    assert loaded.member_accuracies_ == model.member_accuracies_
