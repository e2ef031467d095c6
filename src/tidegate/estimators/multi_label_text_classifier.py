"""MultiLabelTextClassifier: texts of which each has several labels, or none."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from tidegate.estimators.arguments import arguments_of
from tidegate.estimators.base import check_data, validation_parts
from tidegate.estimators.label_data import check_label_rows, indicate, label_split, resolve_label_weight
from tidegate.estimators.neural import FitPlan
from tidegate.estimators.teaching import TEACHING
from tidegate.estimators.text_classifier import TextClassifier
from tidegate.estimators.text_network import Rows
from tidegate.estimators.warm_start import known_values
from tidegate.heads.classify import SequenceClassifier
from tidegate.reporting.calibration import tune_threshold
from tidegate.reporting.scores import LABEL_MONITORS, label_score

if TYPE_CHECKING:
    from tidegate.training.settings import Score

__all__ = ["MultiLabelTextClassifier"]


class MultiLabelTextClassifier(TextClassifier):
    """A recurrent classifier of texts that may have several labels, one, or none.

    The network is that of :class:`~tidegate.TextClassifier` with one logit a label, each label there or not for itself;
    training minimises the binary cross-entropy, the mean over labels.

    Args:
        class_weight: By what the loss of a label that is there is multiplied: ``"balanced"``, the texts without it
            divided by those with it, or a mapping from labels to numbers.
        threshold: The probability from which on a label is predicted, one number for all; ``"tuned"`` takes for each
            label the one of its best F1 on validation data; None is one half.
        calibrate: As of TextClassifier: one temperature for the logits of all labels.
        label_smoothing: Share of each label's target that goes to there and not there alike.
        focal_gamma: Exponent of the focal loss, for each label.
        monitor: What chooses the epoch on validation data: ``"micro_f1"``, ``"macro_f1"``, ``"accuracy"`` (all labels
            of a text right), ``"loss"``, ``"roc_auc"``, ``"average_precision"``, ``"matthews"``, ``"log_loss"`` or
            ``"calibration_error"``; those of decisions at a probability of one half.
        others: All further arguments of TextClassifier, with its defaults.

    Attributes:
        classes_: Labels in the order of the columns of ``predict_proba``.
        threshold_: The probability from which on each label is predicted, ``[labels]``, or one number for all.
        calibration_: As of TextClassifier.
        encoder_, network_, history_, best_epoch_, n_truncated_, random_state_, timing_: As of TextClassifier.

    Example:
        >>> model = MultiLabelTextClassifier(threshold="tuned").fit(texts, [["sport"], ["sport", "money"], []])
        ... # doctest: +SKIP
        >>> model.predict_labels(["The club was sold"])  # doctest: +SKIP
        [['money', 'sport']]
    """

    kind: ClassVar[str] = "multi-label-text-classifier"
    monitors: ClassVar[tuple[str, ...]] = LABEL_MONITORS

    @arguments_of(TextClassifier, without=TEACHING)
    def __init__(self, *, monitor: str = "micro_f1", **others: Any) -> None:
        self._store({"monitor": monitor, **others})

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.two_d_labels = True
        tags.target_tags.multi_output = True
        if tags.classifier_tags is not None:
            tags.classifier_tags.multi_label = True
        return tags

    def _learn(
        self, plan: FitPlan, X: Any, y: Any, sample_weight: Any, validation_data: tuple[Any, ...] | None, **options: Any
    ) -> None:
        texts, sets, weights = check_data(X, y, sample_weight, check_label_rows, pairs=True)
        targets, classes = indicate(sets, None, getattr(y, "columns", None))
        known = known_values(self, "classes_", classes, "labels")
        if len(known) != len(classes):
            targets, classes = indicate(sets, known)
        self._check_decisions(len(classes))
        held = None
        if validation_data is not None:
            others, other_sets, other_weights = check_data(
                *validation_parts(validation_data), check_label_rows, pairs=True
            )
            held = Rows(others, indicate(other_sets, classes)[0], other_weights)
        label_weights = resolve_label_weight(self.class_weight, classes, targets)
        self._fit_rows(
            plan,
            Rows(texts, targets, weights),
            held,
            split=lambda seed: label_split(targets, self.validation_fraction, seed),
            build=lambda num_tokens, size, **words: self._build(
                num_tokens, len(classes), size, label_weights=label_weights, **words
            ),
            fitted={"classes_": classes},
            **options,
        )

    def predict(self, X: Any) -> np.ndarray:
        """Which labels each text has, ``[rows, labels]`` of 0 and 1, in the order of ``classes_``.

        Raises:
            NotFittedError: `fit` has not been called.
            DataError: X is not a column of texts.
        """
        check_is_fitted(self)
        return self.decide(self.predict_proba(X))

    def decide(self, probabilities: Any) -> np.ndarray:
        """Which labels there are by their probabilities ``[rows, labels]``, which `predict_proba` gives: 0 and 1.

        Raises:
            NotFittedError: `fit` has not been called.
        """
        check_is_fitted(self)
        return self._decide(np.asarray(probabilities))

    def predict_labels(self, X: Any) -> list[list[Any]]:
        """The labels of each text.

        Raises:
            NotFittedError, DataError: As of `predict`.
        """
        return [self.classes_[row.astype(bool)].tolist() for row in self.predict(X)]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The share of texts of which every label is right.

        Args:
            X: Texts.
            y: Their labels, in any form that `fit` takes.
            sample_weight: Weights of the texts.
        """
        predicted = self.predict(X)
        targets = indicate(check_label_rows(y, len(predicted)), self.classes_)[0]
        return float(accuracy_score(targets.astype(int), predicted, sample_weight=sample_weight))

    # --- what probabilities and decisions are made of

    def _scorer(self) -> Score | None:
        return None if self.monitor in self._measured else functools.partial(label_score, self.monitor)

    def _check_decisions(self, num_classes: int) -> None:
        super()._check_decisions(2)  # each label is there or not, however many there are

    def tune(self, targets: NDArray[Any], probabilities: NDArray[Any], weights: NDArray[Any] | None = None) -> Any:
        """The threshold of each label that is best for its F1, ``[labels]``.

        Args:
            targets: ``[rows, labels]``, 1 where a row has a label.
            probabilities: ``[rows, labels]``.
            weights: ``[rows]``, or None.
        """
        columns = range(targets.shape[1])
        return np.array([tune_threshold("f1", targets[:, c], probabilities[:, c], weights) for c in columns])

    @staticmethod
    def _probabilities(logits: NDArray[Any]) -> NDArray[Any]:
        return 1 / (1 + np.exp(-logits.astype(np.float64)))

    def _decide(self, probabilities: NDArray[Any]) -> NDArray[np.int64]:
        return (probabilities >= np.asarray(self.threshold_)).astype(np.int64)

    def _set_decisions(self, threshold: Any) -> None:
        super()._set_decisions(threshold)
        if self.threshold_ is None:
            self.threshold_ = 0.5
        elif isinstance(self.threshold_, list):
            self.threshold_ = np.array(self.threshold_)

    def _build(
        self,
        num_tokens: int,
        num_classes: int,
        embedding_size: int,
        *,
        label_weights: np.ndarray | None = None,
        **words: Any,
    ) -> SequenceClassifier:
        weights = None if label_weights is None else label_weights.tolist()
        return super()._build(num_tokens, num_classes, embedding_size, multi_label=True, label_weights=weights, **words)
