from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn.preprocessing import MultiLabelBinarizer

from tidegate.errors import DataError
from tidegate.estimators.label_data import check_label_rows, indicate, label_split, resolve_label_weight


def test_sets_of_labels_become_scikit_learns_indicator() -> None:
    rows: list[Any] = [["b", "a", "b"], (), {"c"}, np.array(["a"])]
    matrix, classes = indicate(check_label_rows(rows, 4), None)
    binarizer = MultiLabelBinarizer()
    np.testing.assert_array_equal(matrix, binarizer.fit_transform(rows))
    assert classes.tolist() == binarizer.classes_.tolist() == ["a", "b", "c"]
    numbers, classes = indicate(check_label_rows([[3, 1], [2], []], 3), None)
    assert classes.tolist() == [1, 2, 3] and classes.dtype == np.int64
    assert numbers.tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]


def test_matrices_of_every_kind() -> None:
    given = np.array([[1, 0], [0, 0], [1, 1]])
    for matrix in (given, given.astype(bool), given.astype(float), scipy.sparse.csr_matrix(given)):
        found, classes = indicate(check_label_rows(matrix, 3), None)
        np.testing.assert_array_equal(found, given)
        assert classes.tolist() == [0, 1]
    frame = pd.DataFrame(given, columns=["x", "y"])
    found, classes = indicate(check_label_rows(frame, 3), None, frame.columns)
    assert classes.tolist() == ["x", "y"]
    np.testing.assert_array_equal(found, given)


def test_known_classes_keep_their_columns() -> None:
    classes = np.array(["a", "b", "c"])
    assert indicate(check_label_rows([["c"], []], 2), classes)[0].tolist() == [[0, 0, 1], [0, 0, 0]]
    with pytest.raises(DataError, match=r"labels that the training data has not: \['d'\]; known are \['a', 'b', 'c'\]"):
        indicate(check_label_rows([["d"]], 1), classes)
    with pytest.raises(DataError, match="expected an indicator matrix of 3 columns, one a label; found 2"):
        indicate(np.zeros((1, 2), dtype=np.int8), classes)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "y is missing"),
        ([["a"]], "X has 2 rows and y has 1"),
        (np.zeros((3, 2)), "X has 2 rows and y has 3"),
        (["a;b", "c"], r"row 0 of y must be a collection of labels, as \['funny', 'short'\]; found 'a;b' \(str\)"),
        ([["a"], 3], "row 1 of y must be a collection of labels"),
        ([["a"], [2]], "all int or all str"),
        ([["a"], [None]], "must be an int or a str; found None"),
        (np.array([[1, 2], [0, 0]]), "an indicator matrix must hold 0 and 1; found .*2.* in row 0, column 1"),
        (np.array([["a", "b"], ["c", "d"]]), "an indicator matrix must hold 0 and 1; found other values"),
        (np.zeros((2, 0)), "must have a column for each label; found none"),
    ],
)
def test_labels_that_cannot_be(y: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_label_rows(y, 2)


def test_no_label_anywhere() -> None:
    with pytest.raises(DataError, match="y has no labels at all: every row is empty; check the label column and its"):
        indicate(check_label_rows([[], []], 2), None)


def test_both_parts_have_each_label_in_its_share() -> None:
    generator = np.random.default_rng(0)
    shares = np.array([0.5, 0.2, 0.05, 0.01])
    targets = (generator.random((1000, 4)) < shares).astype(np.float32)
    train, held = label_split(targets, 0.1, 0)
    assert sorted([*train, *held]) == list(range(1000))
    assert abs(len(held) - 100) <= 2
    counts = targets.sum(0)
    np.testing.assert_allclose(targets[held].sum(0), 0.1 * counts, atol=1.01)
    assert (targets[train].sum(0) > 0).all()
    np.testing.assert_array_equal(label_split(targets, 0.1, 0)[1], held)
    assert not np.array_equal(label_split(targets, 0.1, 1)[1], held)


def test_a_label_of_one_row_stays_in_training() -> None:
    targets = np.zeros((20, 2), dtype=np.float32)
    targets[7, 1] = 1
    targets[::2, 0] = 1
    assert all(7 in label_split(targets, 0.2, seed)[0] for seed in range(5))


def test_weights_of_labels() -> None:
    classes, targets = np.array(["a", "b", "c"]), np.array([[1, 0, 0], [1, 1, 0], [1, 0, 0], [1, 0, 0]])
    assert resolve_label_weight(None, classes, targets) is None
    assert resolve_label_weight("balanced", classes, targets).tolist() == [0.25, 3.0, 4.0]  # pyright: ignore
    assert resolve_label_weight({"b": 2}, classes, targets).tolist() == [1, 2, 1]  # pyright: ignore
    with pytest.raises(ValueError, match="names the label 'd', which y has not"):
        resolve_label_weight({"d": 2}, classes, targets)
    with pytest.raises(ValueError, match=r"class_weight must be balanced; found 'balance'\. Did you"):
        resolve_label_weight("balance", classes, targets)
