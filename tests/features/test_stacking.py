from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from tidegate.features.stacking import Stacking, fit_stacking, log_odds, stack_cross_fitted


def said(rows: int = 300, classes: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A good member, a poor one and one that knows nothing."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, classes, rows)
    right = np.eye(classes)[targets]
    scores = np.stack([strength * right + generator.normal(size=right.shape) for strength in (2.0, 0.7, 0.0)])
    shares = np.exp(scores)
    return shares / shares.sum(axis=2, keepdims=True), targets


def accuracy(probabilities: np.ndarray, targets: np.ndarray) -> float:
    return float((probabilities.argmax(1) == targets).mean())


def test_the_weighted_mean_is_that() -> None:
    probabilities, _ = said()
    joined = Stacking.mean([3.0, 1.0, 0.0], 3).probabilities(probabilities)
    np.testing.assert_allclose(joined, 0.75 * probabilities[0] + 0.25 * probabilities[1])


@pytest.mark.parametrize("classes", [2, 4])
def test_fitted_weights_are_scikit_learns_and_go_to_the_member_that_knows(classes: int) -> None:
    probabilities, targets = said(classes=classes)
    logs = np.log(np.maximum(probabilities, 1e-4))
    if classes == 2:
        features = (logs[:, :, 1] - logs[:, :, 0]).T
    else:
        features = np.concatenate([one - one.mean(1, keepdims=True) for one in logs], axis=1)
    weights = np.random.default_rng(5).uniform(0.1, 2.0, len(targets))
    wanted = LogisticRegression(C=0.5, max_iter=2000).fit(features, targets, sample_weight=weights)
    stacking = fit_stacking(probabilities, targets, weights, C=0.5)
    np.testing.assert_allclose(stacking.probabilities(probabilities), wanted.predict_proba(features), atol=2e-5)
    assert stacking.model is not None
    shares = np.abs(stacking.model.weights).reshape(3, -1).sum(1)
    assert shares[0] > 2 * shares[1] > 4 * shares[2]
    other, truth = said(classes=classes, seed=1)
    joined = accuracy(stacking.probabilities(other), truth)
    assert joined >= max(accuracy(one, truth) for one in other)
    assert joined > accuracy(Stacking.mean([1, 1, 1], 3).probabilities(other), truth)


def test_cross_fitting_judges_no_row_by_itself() -> None:
    # Of labels that nothing tells, weights fitted on the rows themselves learn more than others do.
    generator = np.random.default_rng(3)
    probabilities = generator.dirichlet([1, 1], size=(20, 40))
    targets = generator.integers(0, 2, 40)
    fitted = fit_stacking(probabilities, targets, None, C=100.0).probabilities(probabilities)
    crossed = stack_cross_fitted(probabilities, targets, None, C=100.0)
    assert accuracy(fitted, targets) > 0.85
    assert accuracy(crossed, targets) < 0.75
    np.testing.assert_allclose(crossed.sum(1), 1.0)


def test_members_that_are_sure_and_wrong_have_bounded_log_odds() -> None:
    certain = np.array([[[1.0, 0.0], [0.0, 1.0]]])
    np.testing.assert_allclose(log_odds(certain), [[-np.log(1e4)], [np.log(1e4)]], rtol=1e-6)


def test_arrays_come_back() -> None:
    probabilities, targets = said(classes=3)
    for stacking in (fit_stacking(probabilities, targets, None, C=1.0), Stacking.mean([1, 2, 1], 3)):
        again = Stacking.from_arrays(stacking.to_arrays(), 3, 3)
        np.testing.assert_array_equal(again.probabilities(probabilities), stacking.probabilities(probabilities))
        assert again.describe() == stacking.describe()
    with pytest.raises(ValueError, match="for 4 members and 3 classes"):
        Stacking.from_arrays(fit_stacking(probabilities, targets, None, C=1.0).to_arrays(), 4, 3)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], "one number a member, 2"),
        ([1.0, -1.0], "not negative"),
        ([0, 0], "all 0"),
        ([1, float("nan")], "finite"),
    ],
)
def test_weights_that_are_none(weights: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Stacking.mean(weights, 2)


def test_a_label_without_rows_is_told() -> None:
    probabilities, targets = said(classes=3)
    with pytest.raises(ValueError, match="1 of 3 labels have none"):
        fit_stacking(probabilities[:, targets < 2], targets[targets < 2], None, C=1.0)
