"""scikit-learn's own ensembles, calibration and searches over the classifiers of texts: weights of rows matter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import AdaBoostClassifier, BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score

from estimators.contract import column
from estimators.test_text_classifier import X, Y, make, reviews
from tidegate import LinearTextClassifier, TextClassifier

TEST, TRUTH = reviews(60, seed=1)
# Half of the rows have a wrong label; their weight tells.
LIGHT = np.where(np.arange(len(X)) % 2, 1.0, 1e-6)
WRONG = [label if row % 2 else next(other for other in set(Y) if other != label) for row, label in enumerate(Y)]


def linear(**changes: Any) -> LinearTextClassifier:
    return LinearTextClassifier(**{"C": 1.0, "random_state": 0, "validation_fraction": 0.0, **changes})


def recurrent(**changes: Any) -> TextClassifier:
    return make(**{"max_epochs": 4, "validation_fraction": 0.0, **changes})


def make_ensembles(member: Any) -> dict[str, Any]:
    return {
        "bagging": BaggingClassifier(member, n_estimators=3, random_state=0),
        "boosting": AdaBoostClassifier(member, n_estimators=3, random_state=0),
        "voting": VotingClassifier([("a", member), ("b", clone(member))], voting="soft"),
        "stacking": StackingClassifier([("a", member), ("b", linear())], LogisticRegression(C=100.0), cv=4),
        "calibration": CalibratedClassifierCV(member, method="sigmoid", cv=2),
    }


@pytest.mark.parametrize("name", ["bagging", "boosting", "voting", "stacking", "calibration"])
def test_weights_reach_the_members_of_every_ensemble(name: str) -> None:
    weighed = make_ensembles(linear())[name].fit(column(X), WRONG, sample_weight=LIGHT)
    assert weighed.score(column(TEST), TRUTH) > 0.85
    without = make_ensembles(linear())[name].fit(column(X), WRONG)
    assert without.score(column(TEST), TRUTH) < 0.75


def test_boosting_raises_the_weights_of_the_rows_that_were_wrong() -> None:
    seen: list[np.ndarray] = []

    class Watched(LinearTextClassifier):
        def fit(self, X: Any, y: Any, sample_weight: Any = None, validation_data: Any = None) -> Any:
            seen.append(np.array(sample_weight))
            return super().fit(X, y, sample_weight, validation_data)

    # Letters alone tell little, so that the first round makes mistakes.
    weak: dict[str, Any] = {"tokenizer": "characters", "ngram_range": (1, 1), "C": 0.01, "validation_fraction": 0.0}
    boosted = AdaBoostClassifier(Watched(**weak), n_estimators=3).fit(column(X), Y)
    assert len(seen) == len(boosted.estimators_) == 3
    np.testing.assert_allclose(seen[0], 1 / len(X))
    wrong = boosted.estimators_[0].predict(X) != np.array(Y)
    assert 0 < wrong.mean() < 0.5
    # After the first round the mistakes weigh as much as all else (Freund & Schapire 1997).
    assert seen[1][wrong].min() > seen[1][~wrong].max()
    assert seen[1][wrong].sum() / seen[1].sum() == pytest.approx(0.5, abs=1e-6)
    for weights, member in zip(seen, boosted.estimators_, strict=True):
        alone = LinearTextClassifier(**weak).fit(X, Y, weights)
        np.testing.assert_array_equal(alone.predict_proba(TEST), member.predict_proba(TEST))


def test_a_bag_is_what_its_members_learn_from_the_rows_that_were_drawn() -> None:
    bag = BaggingClassifier(linear(), n_estimators=3, random_state=0).fit(column(X), Y)
    said = []
    for rows in bag.estimators_samples_:
        assert 0.5 < len(set(rows.tolist())) / len(X) < 0.75  # drawn with replacement
        counts = np.bincount(rows, minlength=len(X)).astype(float)
        said.append(linear().fit(X, Y, counts).predict_proba(TEST))
    np.testing.assert_allclose(bag.predict_proba(column(TEST)), np.mean(said, axis=0), atol=2e-3)
    assert np.abs(said[0] - said[1]).max() > 0.01


def test_recurrent_members_take_weights_in_bags_and_boosting() -> None:
    heavy = BaggingClassifier(recurrent(), n_estimators=2, random_state=0).fit(column(X), WRONG, sample_weight=LIGHT)
    assert heavy.score(column(TEST), TRUTH) > 0.85
    boosted = AdaBoostClassifier(recurrent(max_epochs=1), n_estimators=2, random_state=0)
    boosted.fit(column(X), WRONG, sample_weight=LIGHT)
    assert len(boosted.estimators_) >= 1
    seeds = {model.random_state_ for model in heavy.estimators_}
    assert len(seeds) == 2  # scikit-learn gives each a seed of its own


def test_calibration_changes_probabilities_and_no_decisions_rank() -> None:
    plain = linear(C=100.0).fit(X, Y)
    calibrated = CalibratedClassifierCV(linear(C=100.0), method="sigmoid", cv=3, ensemble=False).fit(column(X), Y)
    before, after = plain.predict_proba(TEST), calibrated.predict_proba(column(TEST))
    np.testing.assert_allclose(after.sum(1), 1.0)
    assert np.abs(before - after).max() > 0.01
    assert np.corrcoef(np.argsort(np.argsort(before[:, 1])), np.argsort(np.argsort(after[:, 1])))[0, 1] > 0.95


def test_searches_and_cross_validation_pass_weights_on() -> None:
    right = cross_val_score(linear(), np.array(X, dtype=object), Y, cv=3)
    assert right.mean() > 0.85
    search = GridSearchCV(linear(), {"C": [1e-3, 1.0]}, cv=2)
    weighed = clone(search).fit(np.array(X, dtype=object), WRONG, sample_weight=LIGHT)
    assert weighed.best_estimator_.score(TEST, TRUTH) > 0.85
    assert clone(search).fit(np.array(X, dtype=object), WRONG).best_estimator_.score(TEST, TRUTH) < 0.75
