"""Classifiers of texts of different kinds as one: their probabilities, weighed by hand or by logistic regression."""

from __future__ import annotations

import inspect
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import ClassifierMixin, clone
from sklearn.model_selection import StratifiedKFold
from sklearn.utils.validation import check_is_fitted

from tidegate.data.seeds import derive_seed
from tidegate.deploy.bundle import Bundle, installed_versions
from tidegate.errors import DataError
from tidegate.estimators.base import (
    check_choice,
    check_data,
    check_texts,
    check_validation,
    plain_value,
    resolve_seed,
    stratified_split,
)
from tidegate.estimators.members import check_members, member_probabilities, pack_members, unpack_members
from tidegate.estimators.saved import SavedEstimator
from tidegate.features.stacking import Stacking, fit_stacking, stack_cross_fitted

__all__ = ["TextStack"]

_log = logging.getLogger(__name__)


class TextStack(ClassifierMixin, SavedEstimator):
    """Classifiers of any kinds, recurrent and linear ones, whose probabilities are joined (Wolpert 1992).

    With ``weights="fit"`` a logistic regression over the members' log odds is fitted to texts that they did not learn
    from: those of ``validation_data``, a share of X that is set aside, or, with `folds`, all of X, each text judged by
    members that learned from the other folds. :meth:`join` does so with classifiers that are fitted already.

    Args:
        estimators: What the members are, as a list; None is a linear and a recurrent classifier.
        weights: ``"fit"``; ``"equal"``, the mean of the probabilities; or a number a member, for their weighted mean.
        folds: Parts of X that are judged by members which learned from the others, before all members learn from all of
            X; None fits the weights on the validation data.
        C: Inverse strength of the logistic regression's penalty.
        validation_fraction: Share of each class set aside when `fit` is given no ``validation_data`` and no `folds`.
        random_state: The seed that those of the members are derived from; None is a new one.

    Attributes:
        members_: The fitted classifiers.
        classes_: Labels in the order of the columns of ``predict_proba``.
        stacking_: How their probabilities are joined.
        member_accuracies_: Of each member on the texts that the weights were fitted on; empty where there were none.
        validation_accuracy_: Of all together on these; for fitted weights, five parts of them judged by weights that
            were fitted on the others. None where there were none.
        random_state_: The seed in use, or None after :meth:`join`.
        timing_: Seconds spent on ``train``.

    Example:
        >>> from tidegate import LinearTextClassifier, TextClassifier
        >>> model = TextStack([LinearTextClassifier(), TextClassifier()]).fit(texts, labels)  # doctest: +SKIP
    """

    kind: ClassVar[str] = "text-stack"
    members_: list[Any]
    classes_: np.ndarray
    stacking_: Stacking
    member_accuracies_: list[float]
    validation_accuracy_: float | None
    random_state_: int | None
    timing_: dict[str, float]

    def __init__(
        self,
        estimators: Sequence[Any] | None = None,
        *,
        weights: str | Sequence[float] = "fit",
        folds: int | None = None,
        C: float = 1.0,
        validation_fraction: float = 0.1,
        random_state: Any = None,
    ) -> None:
        self.estimators = estimators
        self.weights = weights
        self.folds = folds
        self.C = C
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        validation_data: tuple[Any, ...] | None = None,
        *,
        run_folder: str | os.PathLike[str] | None = None,
        resume: bool = False,
        unlabelled: Any = None,
    ) -> Self:
        """Train every member and fit the weights.

        Args:
            X, y, sample_weight, validation_data, resume: As of :meth:`TextClassifier.fit`.
            run_folder: Where members keep checkpoints, in ``member-1``, ``member-2``... and ``fold-1/member-1``...
            unlabelled: Further texts for those members that learn from such.

        Raises:
            ValueError: An argument is out of range.
            DataError, TidegateError, KeyboardInterrupt: As of :meth:`TextClassifier.fit`.
        """
        self._check_arguments()
        texts, labels, weights = check_data(X, y, sample_weight)
        classes, targets = np.unique(labels, return_inverse=True)
        random_state, started = resolve_seed(self.random_state), time.perf_counter()
        members = self._members(random_state)
        options: dict[str, Any] = {"resume": resume, "unlabelled": unlabelled}
        folder = None if run_folder is None else Path(run_folder)
        held = validation_data
        rows = np.arange(len(texts))
        if held is None and self.folds is None and self.validation_fraction > 0:
            seed = derive_seed(random_state, "split")
            rows, places = stratified_split(targets, self.validation_fraction, seed)
            if len(places):
                held = _part(texts, labels, weights, places)
            elif self.weights == "fit":
                raise DataError("too few rows to set any aside for the weights; give more, or weights='equal'")
        if held is None and self.folds is None and self.weights == "fit":
            raise ValueError("weights='fit' needs texts that no member learns from; set validation_fraction, or folds")
        judged: tuple[np.ndarray, np.ndarray, np.ndarray | None] | None = None
        if self.folds is not None:
            judged = self._out_of_fold(members, texts, labels, weights, targets, folder, options, random_state)
        trained = _train(members, _part(texts, labels, weights, rows), held, folder, options)
        if judged is None and held is not None:
            held_texts, held_targets, held_weights = check_validation(held, classes)
            judged = member_probabilities(trained, held_texts), held_targets, held_weights
        self._settle(trained, judged)
        self.random_state_ = random_state
        self.timing_ = {"train": time.perf_counter() - started}
        return self

    @classmethod
    def join(
        cls,
        models: Sequence[Any],
        X: Any = None,
        y: Any = None,
        sample_weight: Any = None,
        *,
        weights: str | Sequence[float] = "fit",
        C: float = 1.0,
    ) -> Self:
        """Classifiers that are fitted already as one.

        Args:
            models: Fitted classifiers of the same labels.
            X, y, sample_weight: Texts that no member learned from, with their labels; only ``"fit"`` needs them.
            weights, C: As of the class.

        Raises:
            ValueError: An argument is out of range, or ``weights="fit"`` without texts.
            DataError: The members cannot be joined, or the texts not used.
        """
        stack = cls([clone(model) for model in models], weights=weights, C=C)
        stack._check_arguments()
        classes = check_members(models)
        started = time.perf_counter()
        judged = None
        if X is not None:
            texts, targets, row_weights = check_validation((X, y, sample_weight), classes)
            judged = member_probabilities(models, texts), targets, row_weights
        elif weights == "fit":
            raise ValueError("weights='fit' needs texts that no member learned from: give X and y, or weights='equal'")
        stack._settle(list(models), judged)
        stack.random_state_ = None
        stack.timing_ = {"train": time.perf_counter() - started}
        return stack

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class, ``[rows, classes]``, in the order of ``classes_``.

        Raises:
            NotFittedError: `fit` has not been called.
            DataError: X is not a column of texts.
        """
        check_is_fitted(self)
        return self.stacking_.probabilities(member_probabilities(self.members_, check_texts(X)))

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each text, ``[rows]``."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    @property
    def tokenizer(self) -> str:
        """How the first member cuts texts."""
        return str(getattr(self.members_[0], "tokenizer", "words"))

    @property
    def notes(self) -> list[str]:
        """What the members are, how they are weighed, and what they reach by themselves."""
        check_is_fitted(self)
        listed = ", ".join(model.kind for model in self.members_)
        notes = [f"an ensemble of {len(self.members_)} members ({listed}), joined by {self.stacking_.describe()}"]
        if self.member_accuracies_:
            alone = ", ".join(f"{accuracy:.4f}" for accuracy in self.member_accuracies_)
            notes.append(f"on held-out texts {self.validation_accuracy_:.4f} together; the members alone {alone}")
        return notes

    # --- parts of the fit

    def _check_arguments(self) -> None:
        if isinstance(self.weights, str):
            check_choice("weights", self.weights, ("fit", "equal"))
        whole = isinstance(self.folds, (int, np.integer)) and not isinstance(self.folds, bool)
        if self.folds is not None and (not whole or int(self.folds) < 2):
            raise ValueError(f"folds must be a whole number of at least 2, or None; found {self.folds!r}")
        if self.folds is not None and self.weights != "fit":
            raise ValueError(f"folds={self.folds} has no effect with weights={self.weights!r}; leave it out")
        if not self.C > 0:
            raise ValueError(f"C must be above 0; found {self.C!r}")
        if not 0 <= self.validation_fraction < 1:
            raise ValueError(f"validation_fraction must be in [0, 1); found {self.validation_fraction!r}")

    def _members(self, random_state: int) -> list[Any]:
        """The members as they are before they learn, each with a seed of its own where it has none."""
        if self.estimators is None:
            from tidegate.estimators.linear_text_classifier import LinearTextClassifier
            from tidegate.estimators.text_classifier import TextClassifier

            given: list[Any] = [LinearTextClassifier(), TextClassifier()]
        else:
            given = list(self.estimators)
        if len(given) < 2:
            raise ValueError(f"estimators must be at least two; found {len(given)}")
        made: list[Any] = [clone(model) for model in given]
        for number, model in enumerate(made, start=1):
            if "random_state" in model.get_params() and model.random_state is None:
                model.set_params(random_state=derive_seed(random_state, "member", number) % 2**31)
        return made

    def _out_of_fold(
        self,
        members: list[Any],
        texts: list[str],
        labels: np.ndarray,
        weights: np.ndarray | None,
        targets: np.ndarray,
        folder: Path | None,
        options: dict[str, Any],
        random_state: int,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """What members say of each text that learned from the other folds."""
        count = int(self.folds or 0)
        if np.bincount(targets).min() < count:
            raise DataError(f"folds={count} needs as many texts of each label; one has {np.bincount(targets).min()}")
        seed = derive_seed(random_state, "folds") % 2**32
        said = np.empty((len(members), len(texts), int(targets.max()) + 1))
        splitter = StratifiedKFold(count, shuffle=True, random_state=seed)
        for number, (rows, places) in enumerate(splitter.split(targets, targets), start=1):
            _log.info("fold %d of %d", number, count)
            below = None if folder is None else folder / f"fold-{number}"
            trained = _train(members, _part(texts, labels, weights, rows), None, below, options)
            said[:, places] = member_probabilities(trained, [texts[place] for place in places])
        return said, targets, weights

    def _settle(self, models: list[Any], judged: tuple[np.ndarray, np.ndarray, np.ndarray | None] | None) -> None:
        """Weigh the members by what they said of texts, and say how good they are on these."""
        self.classes_ = check_members(models)
        self.members_ = models
        self.member_accuracies_, self.validation_accuracy_ = [], None
        fitted = isinstance(self.weights, str) and self.weights == "fit"
        if fitted and judged is not None:  # `fit` and `join` have seen to it that it is not None
            said, targets, weights = judged
            self.stacking_ = fit_stacking(said, targets, weights, C=float(self.C))
            together = stack_cross_fitted(said, targets, weights, C=float(self.C))
        else:
            shares = [1.0] * len(models) if isinstance(self.weights, str) else [float(share) for share in self.weights]
            self.stacking_ = Stacking.mean(shares, len(models))
            together = None if judged is None else self.stacking_.probabilities(judged[0])
        if judged is not None and together is not None:
            said, targets, weights = judged
            self.member_accuracies_ = [_accuracy(one, targets, weights) for one in said]
            self.validation_accuracy_ = _accuracy(together, targets, weights)

    # --- the bundle

    def to_bundle(self) -> Bundle:
        """The members and their weights as plain values.

        Raises:
            NotFittedError: `fit` has not been called.
        """
        check_is_fitted(self)
        own = {name: plain_value(value) for name, value in self.get_params(deep=False).items() if name != "estimators"}
        return Bundle(
            kind=self.kind,
            config={**own, "random_state": self.random_state_},
            tokenizer={},
            labels=self.classes_.tolist(),
            metrics={
                "member_accuracies": self.member_accuracies_,
                "validation_accuracy": self.validation_accuracy_,
                "timing": self.timing_,
            },
            weights=self.stacking_.to_arrays(),
            versions=installed_versions(),
            members=pack_members(self.members_),
        )

    @classmethod
    def _from_parts(cls, bundle: Bundle) -> Self:
        models = unpack_members(bundle)
        stack = cls([clone(model) for model in models], **bundle.config)
        stack.members_, stack.classes_ = models, np.array(bundle.labels)
        if check_members(models).tolist() != bundle.labels:
            raise ValueError(f"members with the labels {models[0].classes_.tolist()[:10]}")
        stack.stacking_ = Stacking.from_arrays(bundle.weights, len(models), len(bundle.labels))
        stack.member_accuracies_ = bundle.metrics["member_accuracies"]
        stack.validation_accuracy_ = bundle.metrics["validation_accuracy"]
        stack.timing_ = bundle.metrics["timing"]
        stack.random_state_ = bundle.config["random_state"]
        return stack


def _part(texts: list[str], labels: np.ndarray, weights: np.ndarray | None, rows: np.ndarray) -> tuple[Any, ...]:
    chosen = [texts[row] for row in rows], labels[rows]
    return chosen if weights is None else (*chosen, weights[rows])


def _train(
    members: list[Any],
    data: tuple[Any, ...],
    held: tuple[Any, ...] | None,
    folder: Path | None,
    options: dict[str, Any],
) -> list[Any]:
    """Copies of the members that have learned; each is told what its `fit` can be told."""
    trained = []
    takers = [name for model in members for name in inspect.signature(model.fit).parameters]
    if options["unlabelled"] is not None and "unlabelled" not in takers:
        raise ValueError("unlabelled has no effect: none of the members learns from unlabelled texts")
    for number, member in enumerate(members, start=1):
        model: Any = clone(member)
        _log.info("member %d of %d: %s", number, len(members), model.kind)
        known = inspect.signature(model.fit).parameters
        given = {**options, "run_folder": None if folder is None else folder / f"member-{number}"}
        weights = data[2] if len(data) == 3 else None
        model.fit(*data[:2], weights, held, **{name: value for name, value in given.items() if name in known})
        trained.append(model)
    return trained


def _accuracy(probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray | None) -> float:
    return float(np.average(probabilities.argmax(axis=1) == targets, weights=weights))
