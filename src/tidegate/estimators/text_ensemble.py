"""Several classifiers of texts as one: of seeds or of one run's snapshots, averaged, in one bundle, and distilled."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import ClassifierMixin, clone
from sklearn.utils.validation import check_is_fitted

from tidegate.data.seeds import derive_seed
from tidegate.deploy.bundle import Bundle, installed_versions
from tidegate.errors import DataError
from tidegate.estimators.base import check_choice, check_data, check_labels, check_texts, resolve_seed, stratified_split
from tidegate.estimators.members import check_members, pack_members, unpack_members
from tidegate.estimators.neural import part_records
from tidegate.estimators.saved import SavedEstimator
from tidegate.estimators.snapshots import fit_snapshots
from tidegate.estimators.text_classifier import TextClassifier
from tidegate.reporting.metrics import decide

__all__ = ["TextEnsemble"]

_log = logging.getLogger(__name__)
# A label that the ensemble gives a text with less probability than this is not taught to a student.
_LEAST = 0.01


class TextEnsemble(ClassifierMixin, SavedEstimator):
    """Classifiers that differ in their seeds, or that one run passed through, and of which the mean probability counts.

    All of them learn from the same texts and are judged on the same ones held out. For bags, boosting and stacks,
    scikit-learn's own ``BaggingClassifier``, ``AdaBoostClassifier`` and ``StackingClassifier`` take a
    :class:`TextClassifier`; what comes out of those is saved by pickle alone, a TextEnsemble in one bundle.

    Args:
        estimator: What each member is; None is ``TextClassifier()``.
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
    members_: list[TextClassifier]
    classes_: np.ndarray

    def __init__(
        self,
        estimator: TextClassifier | None = None,
        *,
        members: int = 5,
        by: str = "seeds",
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.members = members
        self.by = by
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
        loggers: Sequence[str] = (),
        unlabelled: Any = None,
    ) -> Self:
        """Train every member; arguments as those of :meth:`TextClassifier.fit`.

        Each keeps its checkpoints in ``member-1``, ``member-2`` ... of `run_folder`, snapshots in ``snapshots``; with
        `resume`, members that are finished are not trained again. Each has records of its own, so that `loggers` are
        names.

        Raises:
            ValueError: `members` is below 2, or an argument of the estimator is out of range.
            DataError, TidegateError, KeyboardInterrupt: As of :meth:`TextClassifier.fit`.
        """
        if not isinstance(self.members, (int, np.integer)) or isinstance(self.members, bool) or self.members < 2:
            raise ValueError(f"members must be a whole number of at least 2; found {self.members!r}")
        check_choice("by", self.by, ("seeds", "snapshots"))
        member = TextClassifier() if self.estimator is None else self.estimator
        if getattr(member, "warm_start", False):
            raise ValueError(
                "warm_start has no effect in an ensemble, which trains new members in each fit; leave it out"
            )
        given = member.random_state if self.random_state is None else self.random_state
        random_state = resolve_seed(given)
        started = time.perf_counter()
        held: tuple[Any, ...] | None = validation_data
        if held is None and member.validation_fraction > 0:
            texts, labels, weights = check_data(X, y, sample_weight, pairs=True)
            targets = np.unique(labels, return_inverse=True)[1]
            rows, places = stratified_split(targets, member.validation_fraction, derive_seed(random_state, "split"))
            if len(places):
                held = ([texts[place] for place in places], labels[places])
                held = held if weights is None else (*held, weights[places])
                X, y = [texts[row] for row in rows], labels[rows]
                sample_weight = None if weights is None else weights[rows]
        options: dict[str, Any] = {"resume": resume, "unlabelled": unlabelled}
        trained: list[TextClassifier] = []
        for number in range(1, int(self.members) + 1 if self.by == "seeds" else 1):
            _log.info("member %d of %d", number, self.members)
            model: Any = clone(member)
            model.set_params(random_state=derive_seed(random_state, "member", number) % 2**31)
            name = f"member-{number}"
            folder = None if run_folder is None else Path(run_folder) / name
            records = part_records(loggers, run_folder, name)
            model.fit(X, y, sample_weight, held, run_folder=folder, loggers=records, **options)
            trained.append(model)
        if self.by == "snapshots":
            model = clone(member)
            model.set_params(random_state=derive_seed(random_state, "snapshots") % 2**31)
            folder = None if run_folder is None else Path(run_folder) / "snapshots"
            options["loggers"] = part_records(loggers, run_folder, "snapshots")
            trained = fit_snapshots(model, int(self.members), X, y, sample_weight, held, run_folder=folder, **options)
        self.members_, self.classes_ = trained, trained[0].classes_
        self.random_state_ = random_state
        self.member_accuracies_: list[float] = []
        self.validation_accuracy_: float | None = None
        self.threshold_: float | None = None if isinstance(trained[0].threshold, str) else trained[0].threshold
        if held is not None:
            weights = held[2] if len(held) == 3 else None
            if trained[0].threshold == "tuned":
                labels = check_labels(held[1], len(held[0]))
                told = self.predict_proba(held[0])
                self.threshold_ = trained[0].tune(np.searchsorted(self.classes_, labels), told, weights)
            self.validation_accuracy_ = float(self.score(held[0], held[1], weights))
            self.member_accuracies_ = [float(model.score(held[0], held[1], weights)) for model in trained]
        self.timing_ = {"train": time.perf_counter() - started}
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """The members' mean probability of each class, ``[rows, classes]``, in the order of ``classes_``.

        Raises:
            NotFittedError: `fit` has not been called.
            DataError: X is not a column of texts.
        """
        check_is_fitted(self)
        texts = check_texts(X, pairs=True)
        return np.mean([model.predict_proba(texts) for model in self.members_], axis=0)

    def predict(self, X: Any) -> np.ndarray:
        """The label of the highest mean probability of each text, ``[rows]``; with a threshold, by that."""
        return self.classes_[decide(self.predict_proba(X), self.threshold_)]

    def distil(self, X: Any, student: TextClassifier | None = None, **fit: Any) -> TextClassifier:
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
    def reads_pairs(self) -> bool:
        """Whether the members read pairs of texts."""
        check_is_fitted(self)
        return self.members_[0].reads_pairs

    @property
    def tokenizer(self) -> str:
        """How the members cut texts."""
        return str((TextClassifier() if self.estimator is None else self.estimator).tokenizer)

    @property
    def notes(self) -> list[str]:
        """What the members reach by themselves."""
        what = "members" if self.by == "seeds" else self.by
        if not self.member_accuracies_:
            return [f"an ensemble of {len(self.members_)} {what}"]
        listed = ", ".join(f"{accuracy:.4f}" for accuracy in self.member_accuracies_)
        return [
            f"an ensemble of {len(self.members_)} {what}: validation accuracy {self.validation_accuracy_:.4f}; "
            f"the {what} alone {listed}"
        ]

    # --- the bundle

    def to_bundle(self) -> Bundle:
        """All members as plain values.

        Raises:
            NotFittedError: `fit` has not been called.
        """
        check_is_fitted(self)
        return Bundle(
            kind=self.kind,
            config={"by": self.by, "random_state": self.random_state_},
            tokenizer={},
            labels=self.classes_.tolist(),
            metrics={
                "validation_accuracy": self.validation_accuracy_,
                "member_accuracies": self.member_accuracies_,
                "threshold": self.threshold_,
                "timing": self.timing_,
            },
            weights={},
            versions=installed_versions(),
            members=pack_members(self.members_),
        )

    @classmethod
    def _from_parts(cls, bundle: Bundle) -> Self:
        trained = unpack_members(bundle)
        if not all(isinstance(model, TextClassifier) for model in trained):
            raise ValueError(f"members of the kinds {', '.join(part.kind for part in bundle.members)}")
        if check_members(trained).tolist() != bundle.labels:
            raise ValueError(f"members with the labels {trained[0].classes_.tolist()[:10]}")
        first: Any = clone(trained[0])
        model = cls(first, members=len(trained), by=bundle.config["by"], random_state=bundle.config["random_state"])
        model.members_, model.classes_ = trained, trained[0].classes_
        model.random_state_ = bundle.config["random_state"]
        model.validation_accuracy_ = bundle.metrics["validation_accuracy"]
        model.member_accuracies_ = bundle.metrics["member_accuracies"]
        model.threshold_ = bundle.metrics.get("threshold")
        model.timing_ = bundle.metrics["timing"]
        return model
