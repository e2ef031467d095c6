"""TextRegressor: from texts and numbers to a judged, saved model, with scikit-learn's contract."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_is_fitted
from torch import nn

from tidegate.deploy.bundle import Bundle
from tidegate.estimators.arguments import arguments_of
from tidegate.estimators.base import check_choice, check_data, check_texts
from tidegate.estimators.neural import FitPlan
from tidegate.estimators.number_data import check_numbers, find_levels, number_split, number_validation
from tidegate.estimators.teaching import TEACHING
from tidegate.estimators.text_classifier import TextClassifier
from tidegate.estimators.text_learning import TextLearning
from tidegate.estimators.text_network import NETWORK, Rows, TextNetworkEstimator
from tidegate.estimators.warm_start import known_values
from tidegate.estimators.word_reading import CHARACTERS
from tidegate.heads.ordinal import SequenceOrdinal
from tidegate.heads.regress import REGRESSION_LOSSES, SequenceRegressor
from tidegate.heads.sequence import SequenceNetwork
from tidegate.reporting.scores import NUMBER_MONITORS, number_score

if TYPE_CHECKING:
    from tidegate.training.settings import Score

__all__ = ["LOSSES", "OF_CLASSES", "TextRegressor"]

LOSSES = (*REGRESSION_LOSSES, "ordinal")
# Arguments of the classifier that say something of classes.
OF_CLASSES = ("label_smoothing", "focal_gamma", "class_weight", "threshold", "calibrate", *TEACHING)
_MEASURED = ("loss", "mae", "mse")  # by the network, row by row


class TextRegressor(RegressorMixin, TextLearning, TextNetworkEstimator):
    """A recurrent regression of texts: a rating, a price, a degree.

    Texts are read as :class:`~tidegate.TextClassifier` reads them, and mapped to one number. The numbers are
    standardised inside, so that learning rates mean the same whatever their unit, and predictions are in their own.

    ``y`` of :meth:`fit` are finite numbers, one a text.

    Args:
        loss: ``"squared"`` error, ``"absolute"`` error, ``"huber"``, squared up to one standard deviation of the
            targets and absolute beyond (Huber 1964), or ``"ordinal"`` for whole ratings: the proportional-odds model
            (McCullagh 1980), one score a text and a threshold between each rating and the next, which learns the
            likelihood of the ratings and takes their distances from no one. It predicts the median rating.
        monitor: What chooses the epoch on validation data: ``"loss"``, ``"mae"``, ``"mse"``, ``"rmse"``, ``"r2"``,
            ``"pearson"`` or ``"spearman"``.
        others: All further arguments of :class:`~tidegate.TextClassifier` with its defaults, without those that speak
            of classes: `label_smoothing`, `focal_gamma`, `class_weight`, `threshold` and `calibrate`.

    Attributes:
        encoder_: The fitted :class:`~tidegate.data.encoder.TextEncoder`.
        levels_: The ratings of ``loss="ordinal"`` in rising order, else None.
        network_: The fitted ``torch.nn.Module``.
        history_: One dict an epoch: epoch, train_loss, validation_loss, validation_mae, validation_mse, the monitor,
            tokens_per_second, seconds; losses of standardised numbers, the others in the targets' unit.
        best_epoch_: The epoch whose weights are kept, counted from 1.
        n_truncated_: Training texts that were longer than `max_tokens`.
        random_state_: The seed in use.
        timing_: Seconds spent on ``encode`` and ``train``.

    Example:
        >>> model = TextRegressor(loss="absolute", max_epochs=5).fit(texts, ratings)  # doctest: +SKIP
        >>> model.predict(["not bad at all"])  # doctest: +SKIP
        array([1.3], dtype=float32)
    """

    kind: ClassVar[str] = "text-regressor"
    monitors: ClassVar[tuple[str, ...]] = NUMBER_MONITORS
    levels_: np.ndarray | None

    @arguments_of(TextClassifier, without=OF_CLASSES)
    def __init__(self, *, loss: str = "squared", monitor: str = "loss", **others: Any) -> None:
        self._store({"loss": loss, "monitor": monitor, **others})

    def _learn(
        self, plan: FitPlan, X: Any, y: Any, sample_weight: Any, validation_data: tuple[Any, ...] | None, **options: Any
    ) -> None:
        check_choice("loss", self.loss, LOSSES)
        texts, numbers, weights = check_data(X, y, sample_weight, check_numbers, pairs=True)
        levels = None
        if self.loss == "ordinal":
            levels = known_values(self, "levels_", find_levels(numbers), "ratings")
        self._fit_rows(
            plan,
            Rows(texts, numbers, weights),
            None if validation_data is None else Rows(*number_validation(validation_data, levels)),
            split=lambda seed: number_split(numbers, self.validation_fraction, seed),
            build=lambda num_tokens, size, **words: self._build(
                num_tokens, size, levels, numbers=numbers, weights=weights, words=words
            ),
            fitted={"levels_": levels},
            **options,
        )

    def predict(self, X: Any) -> np.ndarray:
        """The number of each text, ``[rows]`` float32, in the unit of the targets.

        Raises:
            NotFittedError: `fit` has not been called.
            DataError: X is not a column of texts.
        """
        check_is_fitted(self)
        return self._predict_texts(check_texts(X, pairs=True), ())

    def predict_levels(self, X: Any) -> np.ndarray:
        """With ``loss="ordinal"`` the probability of each rating, ``[rows, levels]``, in the order of ``levels_``.

        Raises:
            NotFittedError: `fit` has not been called.
            DataError: X is not a column of texts.
            ValueError: The loss is another one, which gives a number and no probabilities.
        """
        check_is_fitted(self)
        if self.levels_ is None:
            raise ValueError(f"loss={self.loss!r} gives numbers and no probabilities of ratings; loss='ordinal' does")
        head: Any = self.network_.head
        return self._predict_texts(check_texts(X, pairs=True), (len(self.levels_),), head.probabilities)

    def _scorer(self) -> Score | None:
        return None if self.monitor in _MEASURED else functools.partial(number_score, self.monitor)

    def _describe(self) -> dict[str, Any]:
        return {
            "tokenizer": self._reading_state(),
            "labels": [] if self.levels_ is None else self.levels_.astype(int).tolist(),
            "metrics": {"n_truncated": self.n_truncated_},
        }

    def _restore(self, bundle: Bundle) -> nn.Module:
        words = self._restore_reading(bundle.tokenizer)
        self.levels_ = np.array(bundle.labels, dtype=np.float64) if self.loss == "ordinal" else None
        self.n_truncated_ = bundle.metrics["n_truncated"]
        embedding_size = bundle.weights["embedding.weight"].shape[1]
        return self._build(self.encoder_.num_tokens, embedding_size, self.levels_, words=words)

    def _build(
        self,
        num_tokens: int,
        embedding_size: int,
        levels: np.ndarray | None,
        *,
        words: Mapping[str, Any],
        numbers: np.ndarray | None = None,
        weights: np.ndarray | None = None,
    ) -> SequenceNetwork:
        """The network, its head set to the spread of the numbers or, in loading, to that of the bundle."""
        options = {"embedding_size": embedding_size, **words, **self._arguments((*NETWORK, *CHARACTERS))}
        if levels is not None:
            counts: list[float] | None = None
            if numbers is not None:
                counts = np.bincount(np.searchsorted(levels, numbers), weights, len(levels)).tolist()
            return SequenceOrdinal(num_tokens, levels.tolist(), counts=counts, **options)
        mean, spread = 0.0, 1.0
        if numbers is not None:
            mean = float(np.average(numbers, weights=weights))
            spread = float(np.sqrt(np.average((numbers - mean) ** 2, weights=weights)))
        return SequenceRegressor(num_tokens, loss=self.loss, mean=mean, scale=spread, **options)
