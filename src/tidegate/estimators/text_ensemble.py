"""Several classifiers of texts as one: of seeds or of one run's snapshots, averaged, in one bundle, and distilled."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.base import ClassifierMixin, clone
from sklearn.utils.validation import check_is_fitted

from tidegate.data.seeds import derive_seed
from tidegate.errors import DataError
from tidegate.estimators.base import check_data, check_labels, check_texts, stratified_split
from tidegate.estimators.mean_ensemble import MeanProbabilities
from tidegate.estimators.text_classifier import TextClassifier
from tidegate.estimators.text_network import Rows
from tidegate.reporting.metrics import decide

__all__ = ["TextEnsemble"]

# A label that the ensemble gives a text with less probability than this is not taught to a student.
_LEAST = 0.01


class TextEnsemble(ClassifierMixin, MeanProbabilities):
    """Classifiers that differ in their seeds, or that one run passed through, and of which the mean probability counts.

    All of them learn from the same texts and are judged on the same ones held out. For bags, boosting and stacks,
    scikit-learn's own ``BaggingClassifier``, ``AdaBoostClassifier`` and ``StackingClassifier`` take a
    :class:`TextClassifier`; what comes out of those is saved by pickle alone, a TextEnsemble in one bundle.

    Args:
        estimator: What each member is, a :class:`TextClassifier` or a :class:`ContextualTextClassifier`; None is
            ``TextClassifier()``.
        members: How many.
        by: ``"seeds"``, or ``"snapshots"`` of one run, the weights at the end of each cycle of a cyclic learning rate
            (Huang et al. 2017): its `max_epochs` are those of all members together.
        random_state: The seed that the members' are derived from; None takes that of `estimator`.

    Attributes:
        members_: The fitted classifiers.
        classes_: Labels in the order of the columns of ``predict_proba``.
        validation_accuracy_: Of the mean of the members on the texts held out, or None.
        member_accuracies_: Those of each by itself.
        threshold_: Where the members have a `threshold`, the ensemble's own, tuned on its mean probabilities, or None.
        random_state_: The seed in use.
        timing_: Seconds spent on ``train``.

    Example:
        >>> model = TextEnsemble(TextClassifier(max_epochs=5), members=3).fit(texts, labels)  # doctest: +SKIP
        >>> student = model.distil(texts)  # doctest: +SKIP
    """

    kind: ClassVar[str] = "text-ensemble"
    made_of: ClassVar[tuple[str, ...]] = ("text-classifier", "contextual-text-classifier")
    threshold_: float | None

    def predict(self, X: Any) -> np.ndarray:
        """The label of the highest mean probability of each text, ``[rows]``; with a threshold, by that."""
        return self.classes_[decide(self.predict_proba(X), self.threshold_)]

    def distil(self, X: Any, student: Any = None, **fit: Any) -> Any:
        """Teach one classifier what the members say of texts (Hinton et al. 2015): their labels are not asked for.

        A text is learned once for each class that it may have, with its probability as the weight, which is the
        cross-entropy with the members' distribution.

        Args:
            X: Texts, of which unlabelled ones do as well.
            student: What learns; None is an estimator as the members are.
            fit: Further arguments of :meth:`TextClassifier.fit`.

        Raises:
            DataError: X is not a column of texts, or is empty.
        """
        texts = check_texts(X, pairs=True)
        if not texts:
            raise DataError("X is empty: a student needs texts to learn from")
        told = self.predict_proba(texts)
        rows, classes = np.nonzero(told >= _LEAST)
        model: Any = clone(self.members_[0] if student is None else student)
        if student is None:
            model.set_params(random_state=derive_seed(self.random_state_, "student") % 2**31)
        return model.fit([texts[row] for row in rows], self.classes_[classes], told[rows, classes], **fit)

    @property
    def validation_accuracy_(self) -> float | None:
        """The accuracy of the mean of the members on the texts held out, or None."""
        check_is_fitted(self, "members_")
        return self.validation_score_

    @property
    def member_accuracies_(self) -> list[float]:
        """The accuracies of the members by themselves there."""
        check_is_fitted(self, "members_")
        return self.member_scores_

    # --- parts of the fit, and the bundle

    def _default(self) -> TextClassifier:
        return TextClassifier()

    def _read(self, X: Any, y: Any, sample_weight: Any) -> Rows:
        return Rows(*check_data(X, y, sample_weight, pairs=True))

    def _split(self, targets: Any, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        return stratified_split(np.unique(targets, return_inverse=True)[1], fraction, seed)

    def _take(self, members: list[Any]) -> None:
        super()._take(members)
        self.threshold_ = None if isinstance(members[0].threshold, str) else members[0].threshold

    def _settle(self, X: Any, y: Any, sample_weight: Any) -> None:
        if self.members_[0].threshold == "tuned":
            told = self.predict_proba(X)
            labels = check_labels(y, len(told))
            self.threshold_ = self.members_[0].tune(np.searchsorted(self.classes_, labels), told, sample_weight)

    def _decisions(self) -> dict[str, Any]:
        return {"threshold": self.threshold_}

    def _restore_decisions(self, metrics: dict[str, Any]) -> None:
        self.threshold_ = metrics.get("threshold")
