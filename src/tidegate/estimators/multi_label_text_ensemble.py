"""Several classifiers of texts with several labels each as one, of which the mean probabilities count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import check_is_fitted

from tidegate.estimators.base import check_data
from tidegate.estimators.label_data import check_label_rows, indicate, label_split
from tidegate.estimators.mean_ensemble import MeanProbabilities
from tidegate.estimators.multi_label_text_classifier import MultiLabelTextClassifier
from tidegate.estimators.text_network import Rows
from tidegate.reporting.scores import label_score

__all__ = ["MultiLabelTextEnsemble"]


class MultiLabelTextEnsemble(MeanProbabilities):
    """Models of several labels a text that differ in their seeds, or that one run passed through, averaged.

    All of them learn from the same texts and are judged on the same ones held out.

    Args:
        estimator: What each member is; None is ``MultiLabelTextClassifier()``.
        members: How many.
        by: ``"seeds"``, or ``"snapshots"`` of one run, as of :class:`TextEnsemble`.
        random_state: The seed that the members' are derived from; None takes that of `estimator`.

    Attributes:
        members_: The fitted models.
        classes_: Labels in the order of the columns of ``predict_proba``.
        threshold_: The probability from which on each label is predicted: the ensemble's own, ``[labels]``, tuned on
            its mean probabilities where the members tune theirs, else that of the members.
        calibration_: None; members are calibrated one by one.
        validation_score_: The micro F1 of the mean of the members on the texts held out, or None.
        member_scores_: Those of each by itself.
        random_state_, timing_: As of :class:`TextEnsemble`.

    Example:
        >>> model = MultiLabelTextEnsemble(MultiLabelTextClassifier(threshold="tuned"), members=3)
        >>> model = model.fit(texts, [["sport"], ["sport", "money"], []])  # doctest: +SKIP
    """

    kind: ClassVar[str] = "multi-label-text-ensemble"
    made_of: ClassVar[tuple[str, ...]] = ("multi-label-text-classifier",)
    figure: str = "micro F1"
    calibration_: ClassVar[None] = None
    threshold_: Any

    def predict(self, X: Any) -> np.ndarray:
        """Which labels each text has, ``[rows, labels]`` of 0 and 1, in the order of ``classes_``.

        Raises:
            NotFittedError: `fit` has not been called.
            DataError: X is not a column of texts.
        """
        return self.decide(self.predict_proba(X))

    def decide(self, probabilities: Any) -> np.ndarray:
        """Which labels there are by their probabilities ``[rows, labels]``, which `predict_proba` gives: 0 and 1.

        Raises:
            NotFittedError: `fit` has not been called.
        """
        check_is_fitted(self, "members_")
        return (np.asarray(probabilities) >= np.asarray(self.threshold_)).astype(np.int64)

    def predict_labels(self, X: Any) -> list[list[Any]]:
        """The labels of each text.

        Raises:
            NotFittedError, DataError: As of `predict`.
        """
        return [self.classes_[row.astype(bool)].tolist() for row in self.predict(X)]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The share of texts of which every label is right; arguments as of :class:`MultiLabelTextClassifier`."""
        predicted = self.predict(X)
        targets = indicate(check_label_rows(y, len(predicted)), self.classes_)[0]
        return float(accuracy_score(targets.astype(int), predicted, sample_weight=sample_weight))

    @property
    def threshold(self) -> Any:
        """What the members are told of it: a number, ``"tuned"`` or None."""
        return self._member().threshold

    # --- parts of the fit, and the bundle

    def _default(self) -> MultiLabelTextClassifier:
        return MultiLabelTextClassifier()

    def _read(self, X: Any, y: Any, sample_weight: Any) -> Rows:
        return Rows(*check_data(X, y, sample_weight, check_label_rows, pairs=True))

    def _split(self, targets: Any, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        return label_split(indicate(targets, None)[0], fraction, seed)

    def _like(self, y: Any, targets: Any) -> Any:
        names = getattr(y, "columns", None)
        return targets if names is None else _Named(targets, names)

    def _take(self, members: list[Any]) -> None:
        super()._take(members)
        self.threshold_ = members[0].threshold_

    def _settle(self, X: Any, y: Any, sample_weight: Any) -> None:
        if self.threshold == "tuned":
            told = self.predict_proba(X)
            targets = indicate(check_label_rows(y, len(told)), self.classes_)[0]
            self.threshold_ = self.members_[0].tune(targets, told, sample_weight)

    def _score(self, model: Any, X: Any, y: Any, sample_weight: Any) -> float:
        told = model.predict_proba(X)
        targets = indicate(check_label_rows(y, len(told)), self.classes_)[0]
        return label_score("micro_f1", targets, told, sample_weight, model.threshold_)

    def _decisions(self) -> dict[str, Any]:
        limits = self.threshold_
        return {"threshold": limits.tolist() if isinstance(limits, np.ndarray) else limits}

    def _restore_decisions(self, metrics: dict[str, Any]) -> None:
        limits = metrics["threshold"]
        self.threshold_ = np.array(limits) if isinstance(limits, list) else limits


@dataclass(frozen=True)
class _Named:
    """Rows of a frame of labels, which keep their names."""

    rows: np.ndarray
    columns: Any

    def to_numpy(self) -> np.ndarray:
        return self.rows
