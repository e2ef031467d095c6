from __future__ import annotations

import numpy as np
import pytest

from tidegate.errors import DataError
from tidegate.estimators.base import check_validation, data_digest, stratified_split


def test_the_split_for_validation_is_stratified_and_leaves_the_rest_for_training() -> None:
    targets = np.array([0] * 50 + [1] * 30 + [2] * 1)
    train, validation = stratified_split(targets, 0.2, seed=1)
    assert np.bincount(targets[validation], minlength=3).tolist() == [10, 6, 0]
    assert sorted([*train, *validation]) == list(range(81))
    again = stratified_split(targets, 0.2, seed=1)
    assert np.array_equal(again[1], validation)
    assert not np.array_equal(stratified_split(targets, 0.2, seed=2)[1], validation)


def test_the_digest_knows_data_again_and_tells_other_data_apart() -> None:
    texts, labels, weights = ["a", "bc"], np.array([0, 1]), np.array([1.0, 2.0])
    same = data_digest([(["a", "bc"], np.array([0, 1]), np.array([1.0, 2.0]))])
    assert data_digest([(texts, labels, weights)]) == same
    for other in [
        (["ab", "c"], labels, weights),
        (texts, labels[::-1], weights),
        (texts, labels, weights * 2),
        (texts, labels, None),
        (["a", "b\ud800"], labels, weights),
    ]:
        assert data_digest([other]) != same
    assert data_digest([(texts, labels, weights), ([], np.empty(0), None)]) != same


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((["fine"], ["mixed"]), r"labels that the training data has not: \['mixed'\]"),
        ((["fine"], [1]), r"labels that the training data has not: \[1\]"),
        (["fine", "dull", "weak", "warm"], r"must be \(X, y\) or"),
    ],
)
def test_validation_data_that_cannot_be_used(given, message) -> None:
    with pytest.raises(DataError, match=message):
        check_validation(given, np.array(["negative", "positive"]))
