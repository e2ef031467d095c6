"""The probabilities of several classifiers as those of one: their weighted mean, or a logistic regression over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from tidegate.errors import require
from tidegate.features.linear_model import LinearModel, fit_logistic

__all__ = ["Stacking", "fit_stacking", "stack_cross_fitted"]

# Members that are sure, and wrong, must not outweigh all others.
_LEAST = 1e-4
_PARTS = 5


@dataclass(frozen=True)
class Stacking:
    """How ``[members, rows, classes]`` probabilities become ``[rows, classes]``.

    Attributes:
        weights: ``[members]`` shares of sum 1, for the weighted mean; or None.
        model: Over the members' log odds; or None.
    """

    weights: np.ndarray | None = None
    model: LinearModel | None = None

    @classmethod
    def mean(cls, weights: Sequence[float], members: int) -> Self:
        """The weighted mean.

        Raises:
            ValueError: There is not one weight a member, finite and not negative, or all are 0.
        """
        shares = np.asarray(weights, dtype=np.float64)
        if shares.shape != (members,):
            raise ValueError(f"weights must be one number a member, {members} of them; found {len(weights)}")
        if not np.isfinite(shares).all() or (shares < 0).any() or not shares.any():
            raise ValueError(f"weights must be finite, not negative and not all 0; found {list(weights)}")
        return cls(weights=shares / shares.sum())

    def probabilities(self, said: np.ndarray) -> np.ndarray:
        """``[rows, classes]``, each row of sum 1, from ``[members, rows, classes]``."""
        if self.model is None:
            return np.tensordot(np.asarray(self.weights), said, axes=1)
        scores = log_odds(said) @ self.model.weights + self.model.intercept
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        return shares / shares.sum(axis=1, keepdims=True)

    def describe(self) -> str:
        """A few words on the weights."""
        if self.model is not None:
            return "a logistic regression over their log odds"
        weights = np.asarray(self.weights)
        if np.allclose(weights, weights[0]):
            return "the mean of their probabilities"
        return f"the mean of their probabilities, weighed {', '.join(f'{weight:.3f}' for weight in weights)}"

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The arrays that a bundle keeps."""
        if self.model is not None:
            return {"weights": self.model.weights, "intercept": self.model.intercept}
        return {"shares": np.asarray(self.weights)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], members: int, classes: int) -> Self:
        """What :meth:`to_arrays` gave.

        Raises:
            ValueError: They are not of so many members and classes.
        """
        if "shares" in arrays:
            return cls.mean(arrays["shares"].tolist(), members)
        model = LinearModel(arrays["weights"], arrays["intercept"])
        columns = members if classes == 2 else members * classes
        if model.weights.shape != (columns, classes):
            raise ValueError(f"weights of shape {model.weights.shape} for {members} members and {classes} classes")
        return cls(model=model)


def log_odds(said: np.ndarray) -> np.ndarray:
    """What logistic regression sees of ``[members, rows, classes]``: ``[rows, columns]`` float32.

    Of two classes the log odds of the second one, a column a member; of more, each class's log probability less their
    mean, ``members * classes`` columns.
    """
    logs = np.log(np.clip(said, _LEAST, 1.0))
    if said.shape[2] == 2:
        return (logs[:, :, 1] - logs[:, :, 0]).T.astype(np.float32)
    centred = logs - logs.mean(axis=2, keepdims=True)
    return centred.transpose(1, 0, 2).reshape(said.shape[1], -1).astype(np.float32)


def fit_stacking(said: np.ndarray, targets: np.ndarray, weights: np.ndarray | None, *, C: float) -> Stacking:
    """Logistic regression on what members said of texts that they did not learn from.

    Args:
        said: ``[members, rows, classes]``.
        targets: ``[rows]`` places of the labels among all classes.
        weights: ``[rows]`` or None.
        C: Inverse strength of the penalty.

    Raises:
        ValueError: A class is in none of the rows.
    """
    missing = np.setdiff1d(np.arange(said.shape[2]), targets)
    if len(missing):
        raise ValueError(
            f"the weights of an ensemble need held-out texts of every label; {len(missing)} of {said.shape[2]} "
            "labels have none: give more texts, or weights='equal'"
        )
    return Stacking(model=fit_logistic(log_odds(said), targets, weights, C=C))


def stack_cross_fitted(said: np.ndarray, targets: np.ndarray, weights: np.ndarray | None, *, C: float) -> np.ndarray:
    """``[rows, classes]`` where each fifth of the rows is judged by weights that were fitted on the others.

    Where a label has fewer than two rows, all rows are judged by weights fitted on all.
    """
    least = int(np.bincount(targets, minlength=said.shape[2]).min())
    if least < 2:
        return fit_stacking(said, targets, weights, C=C).probabilities(said)
    selection = require("sklearn.model_selection", "train")
    joined = np.empty(said.shape[1:])
    splitter = selection.StratifiedKFold(min(_PARTS, least), shuffle=True, random_state=0)
    for rows, places in splitter.split(targets, targets):
        fitted = fit_stacking(said[:, rows], targets[rows], None if weights is None else weights[rows], C=C)
        joined[places] = fitted.probabilities(said[:, places])
    return joined
