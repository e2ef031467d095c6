"""Several regressions of texts as one, whose numbers, or whose probabilities of ratings, are averaged."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_is_fitted

from tidegate.estimators.base import check_data, check_texts
from tidegate.estimators.mean_ensemble import MeanEnsemble
from tidegate.estimators.number_data import check_numbers, number_split
from tidegate.estimators.text_network import Rows
from tidegate.estimators.text_regressor import TextRegressor
from tidegate.reporting.scores import number_score

__all__ = ["TextRegressorEnsemble"]


class TextRegressorEnsemble(RegressorMixin, MeanEnsemble):
    """Regressions of texts that differ in their seeds, or that one run passed through, and of which the mean counts.

    With ``loss="ordinal"`` it is their probabilities of the ratings that are averaged, and the median rating of that is
    predicted. All members learn from the same texts and are judged on the same ones held out.

    Args:
        estimator: What each member is; None is ``TextRegressor()``.
        members: How many.
        by: ``"seeds"``, or ``"snapshots"`` of one run, as of :class:`TextEnsemble`.
        random_state: The seed that the members' are derived from; None takes that of `estimator`.

    Attributes:
        members_: The fitted regressions.
        levels_: The ratings of ``loss="ordinal"`` in rising order, else None.
        validation_score_: The mean absolute error of the mean of the members on the texts held out, or None.
        member_scores_: Those of each by itself.
        random_state_, timing_: As of :class:`TextEnsemble`.

    Example:
        >>> model = TextRegressorEnsemble(TextRegressor(max_epochs=5), members=3).fit(texts, ratings)
        ... # doctest: +SKIP
    """

    kind: ClassVar[str] = "text-regressor-ensemble"
    made_of: ClassVar[tuple[str, ...]] = ("text-regressor",)
    figure: str = "mean absolute error"
    levels_: np.ndarray | None

    def predict(self, X: Any) -> np.ndarray:
        """The number of each text, ``[rows]`` float32: the mean of the members', or the median of their mean ratings.

        Raises:
            NotFittedError: `fit` has not been called.
            DataError: X is not a column of texts.
        """
        check_is_fitted(self, "members_")
        texts = check_texts(X, pairs=True)
        if self.levels_ is None:
            return self._mean(lambda model: model.predict(texts).astype(np.float64)).astype(np.float32)
        below = self.predict_levels(texts).cumsum(axis=1)[:, :-1]
        return self.levels_[(below < 0.5).sum(axis=1)].astype(np.float32)

    def predict_levels(self, X: Any) -> np.ndarray:
        """With ``loss="ordinal"`` the members' mean probability of each rating, ``[rows, levels]``.

        Raises:
            NotFittedError, DataError, ValueError: As of :meth:`TextRegressor.predict_levels`.
        """
        texts = check_texts(X, pairs=True)
        return self._mean(lambda model: model.predict_levels(texts).astype(np.float64))

    # --- parts of the fit, and the bundle

    def _default(self) -> TextRegressor:
        return TextRegressor()

    def _read(self, X: Any, y: Any, sample_weight: Any) -> Rows:
        return Rows(*check_data(X, y, sample_weight, check_numbers, pairs=True))

    def _split(self, targets: Any, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        return number_split(targets, fraction, seed)

    def _answers(self, model: Any) -> list[Any]:
        return [] if model.levels_ is None else model.levels_.astype(int).tolist()

    def _take(self, members: list[Any]) -> None:
        super()._take(members)
        self.levels_ = members[0].levels_

    def _score(self, model: Any, X: Any, y: Any, sample_weight: Any) -> float:
        said = model.predict(X)
        return number_score("mae", check_numbers(y, len(said)), said, sample_weight)
