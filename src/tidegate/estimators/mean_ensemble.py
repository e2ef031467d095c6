"""What ensembles of one kind of estimator share: their members are trained, judged, saved and made of a file alike."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from sklearn.base import clone
from sklearn.utils import Tags, get_tags
from sklearn.utils.validation import check_is_fitted

from tidegate.data.seeds import derive_seed
from tidegate.deploy.bundle import Bundle, installed_versions
from tidegate.estimators.base import check_choice, check_texts, resolve_seed, validation_parts
from tidegate.estimators.members import check_kinds, pack_members, unpack_members
from tidegate.estimators.neural import part_records
from tidegate.estimators.saved import SavedEstimator
from tidegate.estimators.snapshots import fit_snapshots
from tidegate.estimators.text_network import Rows

if TYPE_CHECKING:
    from tidegate.data.encoder import TextEncoder

__all__ = ["MeanEnsemble", "MeanProbabilities"]

_log = logging.getLogger(__name__)


class MeanEnsemble(SavedEstimator):
    """Base of estimators that are several of one kind, of different seeds or of one run, and say the mean of them.

    A subclass names its bundle's ``kind``, gives the methods below `_read`, and predicts with `_mean`.

    Attributes:
        members_: The fitted members.
        validation_score_: `figure` of the mean of the members on the data held out, or None.
        member_scores_: The same of each by itself.
        random_state_: The seed in use.
        timing_: Seconds spent on ``train``.
    """

    made_of: ClassVar[tuple[str, ...]]  # Kinds of the members.
    figure: str = "accuracy"  # By what they are judged, in words.
    members_: list[Any]
    validation_score_: float | None
    member_scores_: list[float]
    random_state_: int
    timing_: dict[str, float]

    def __init__(self, estimator: Any = None, *, members: int = 5, by: str = "seeds", random_state: Any = None) -> None:
        self.estimator = estimator
        self.members = members
        self.by = by
        self.random_state = random_state

    def __sklearn_tags__(self) -> Tags:
        return get_tags(self._member())

    # --- what a subclass gives

    def _read(self, X: Any, y: Any, sample_weight: Any) -> Rows:
        """X, y and weights, checked."""
        raise NotImplementedError

    def _split(self, targets: Any, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """The places of the rows that train and of those that are held out."""
        raise NotImplementedError

    def _like(self, y: Any, targets: Any) -> Any:
        """Some of the targets that `_read` gave, in a form that says what y said."""
        del y
        return targets

    def _default(self) -> Any:
        """What a member is where none is given."""
        raise NotImplementedError

    def _answers(self, model: Any) -> Any:
        """What a fitted member may answer, as a bundle's labels hold it; all members must have the same."""
        raise NotImplementedError

    def _take(self, members: list[Any]) -> None:
        """Become an ensemble of fitted members: set the attributes that are theirs."""
        self.members_ = members

    def _settle(self, X: Any, y: Any, sample_weight: Any) -> None:
        """Set, on the data held out, what the ensemble decides for itself."""

    def _score(self, model: Any, X: Any, y: Any, sample_weight: Any) -> float:
        """`figure` of a member, or of the ensemble itself."""
        return float(model.score(X, y, sample_weight))

    def _decisions(self) -> dict[str, Any]:
        """What the subclass puts into the metrics of the bundle."""
        return {}

    def _restore_decisions(self, metrics: dict[str, Any]) -> None:
        """Set what `_decisions` gave."""

    # --- fitting

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
        """Train every member; arguments as those of its own ``fit``.

        Each keeps its checkpoints in ``member-1``, ``member-2`` ... of `run_folder`, snapshots in ``snapshots``; with
        `resume`, members that are finished are not trained again. Each has records of its own, so that `loggers` are
        names.

        Raises:
            ValueError: `members` is below 2, or an argument of the estimator is out of range.
            DataError, TidegateError, KeyboardInterrupt: As of the member's ``fit``.
        """
        more = {} if unlabelled is None else {"unlabelled": unlabelled}
        return self._fit(X, y, sample_weight, validation_data, run_folder, loggers, {"resume": resume, **more})

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        validation_data: tuple[Any, ...] | None,
        run_folder: str | os.PathLike[str] | None,
        loggers: Sequence[str],
        options: dict[str, Any],
    ) -> Self:
        member = self._checked_member()
        random_state = resolve_seed(member.random_state if self.random_state is None else self.random_state)
        started = time.perf_counter()
        data, held = (X, y, sample_weight), validation_data
        if held is None and member.validation_fraction > 0:
            data, held, options = self._hold_out(member, data, derive_seed(random_state, "split"), options)

        def learn(name: str, seed: int, train: Callable[..., Any]) -> Any:
            model: Any = clone(member)
            model.set_params(random_state=seed % 2**31)
            folder = None if run_folder is None else Path(run_folder) / name
            records = part_records(loggers, run_folder, name)
            return train(model, *data, held, run_folder=folder, loggers=records, **options)

        if self.by == "snapshots":
            count, seed = int(self.members), derive_seed(random_state, "snapshots")
            trained = learn("snapshots", seed, lambda model, *data, **more: fit_snapshots(model, count, *data, **more))
        else:
            trained = []
            for number in range(1, int(self.members) + 1):
                _log.info("member %d of %d", number, self.members)
                seed = derive_seed(random_state, "member", number)
                trained.append(learn(f"member-{number}", seed, lambda model, *data, **more: model.fit(*data, **more)))
        self._take(trained)
        self.random_state_ = random_state
        self.validation_score_, self.member_scores_ = None, []
        if held is not None:
            judged = self._judged(held)
            self._settle(*judged)
            self.validation_score_ = self._score(self, *judged)
            self.member_scores_ = [self._score(model, *judged) for model in trained]
        self.timing_ = {"train": time.perf_counter() - started}
        return self

    def _hold_out(
        self, member: Any, data: tuple[Any, Any, Any], seed: int, options: dict[str, Any]
    ) -> tuple[tuple[Any, Any, Any], tuple[Any, ...] | None, dict[str, Any]]:
        """What members learn from, what they are judged on, if any, and the options of their ``fit``."""
        rows = self._read(*data)
        train, places = self._split(rows.targets, member.validation_fraction, seed)
        if not len(places):
            return data, None, options
        learned, held = rows.take(train), rows.take(places)
        aside = (held.texts, held.targets) if held.weights is None else (held.texts, held.targets, held.weights)
        return (learned.texts, self._like(data[1], learned.targets), learned.weights), aside, options

    def _judged(self, held: tuple[Any, ...]) -> tuple[Any, Any, Any]:
        """X, y and weights of the data held out."""
        texts, targets, weights = validation_parts(held)
        return texts, targets, None if weights is None else np.asarray(weights, dtype=np.float64)

    def _member(self) -> Any:
        return self._default() if self.estimator is None else self.estimator

    def _checked_member(self) -> Any:
        if not isinstance(self.members, (int, np.integer)) or isinstance(self.members, bool) or self.members < 2:
            raise ValueError(f"members must be a whole number of at least 2; found {self.members!r}")
        check_choice("by", self.by, ("seeds", "snapshots"))
        member = self._member()
        kind = getattr(member, "kind", None)
        if kind not in self.made_of:
            raise ValueError(
                f"{type(self).__name__} is made of the kinds {', '.join(self.made_of)}; found {type(member).__name__}"
            )
        if getattr(member, "warm_start", False):
            raise ValueError(
                "warm_start has no effect in an ensemble, which trains new members in each fit; leave it out"
            )
        return member

    # --- predicting, as all members do

    def _mean(self, said: Callable[[Any], np.ndarray]) -> np.ndarray:
        """The mean of what the members say."""
        check_is_fitted(self, "members_")
        return np.mean([said(model) for model in self.members_], axis=0)

    @property
    def reads_pairs(self) -> bool:
        """Whether the members read pairs of texts."""
        check_is_fitted(self, "members_")
        return getattr(self.members_[0], "reads_pairs", False)

    @property
    def encoder_(self) -> TextEncoder:
        """What reads texts for the first member, as for all that learned from the same ones."""
        check_is_fitted(self, "members_")
        return self.members_[0].encoder_

    @property
    def token_lengths(self) -> dict[str, np.ndarray]:
        """Tokens of each text that the members learned from and were judged on, before any cut; not saved."""
        check_is_fitted(self, "members_")
        return self.members_[0].token_lengths

    @property
    def tokenizer(self) -> str:
        """How the members cut texts."""
        return str(getattr(self._member(), "tokenizer", "words"))

    @property
    def max_tokens(self) -> int | None:
        """The longest text that the members read whole, in tokens, or None."""
        return self._member().max_tokens

    @property
    def truncation(self) -> str:
        """Which part of a longer one they read."""
        return str(self._member().truncation)

    @property
    def notes(self) -> list[str]:
        """What the members reach by themselves."""
        what = "members" if self.by == "seeds" else self.by
        if not self.member_scores_:
            return [f"an ensemble of {len(self.members_)} {what}"]
        listed = ", ".join(f"{score:.4f}" for score in self.member_scores_)
        return [
            f"an ensemble of {len(self.members_)} {what}: validation {self.figure} {self.validation_score_:.4f}; "
            f"the {what} alone {listed}"
        ]

    # --- the bundle

    def to_bundle(self) -> Bundle:
        """All members as plain values.

        Raises:
            NotFittedError: `fit` has not been called.
        """
        check_is_fitted(self, "members_")
        return Bundle(
            kind=self.kind,
            config={"by": self.by, "random_state": self.random_state_},
            tokenizer={},
            labels=self._answers(self.members_[0]),
            metrics={
                "validation_score": self.validation_score_,
                "member_scores": self.member_scores_,
                "timing": self.timing_,
                **self._decisions(),
            },
            weights={},
            versions=installed_versions(),
            members=pack_members(self.members_),
        )

    @classmethod
    def _from_parts(cls, bundle: Bundle) -> Self:
        trained, metrics = unpack_members(bundle), bundle.metrics
        check_kinds(trained, cls.made_of)
        first: Any = clone(trained[0])
        model = cls(first, members=len(trained), by=bundle.config["by"], random_state=bundle.config["random_state"])
        for number, member in enumerate(trained):
            if (found := model._answers(member)) != bundle.labels:
                raise ValueError(f"member {number} has the labels {found[:10]}")
        model._take(trained)
        model.random_state_ = bundle.config["random_state"]
        # Files of before there were other ensembles than those of classifiers.
        older = "validation_accuracy" in metrics
        model.validation_score_ = metrics["validation_accuracy" if older else "validation_score"]
        model.member_scores_ = metrics["member_accuracies" if older else "member_scores"]
        model.timing_ = metrics["timing"]
        model._restore_decisions(metrics)
        return model


class MeanProbabilities(MeanEnsemble):
    """Base of the ensembles of classifiers, whose probabilities are averaged.

    Attributes:
        classes_: Labels in the order of the columns of ``predict_proba``.
    """

    classes_: np.ndarray

    def predict_proba(self, X: Any) -> np.ndarray:
        """The members' mean probability of each class, ``[rows, classes]``, in the order of ``classes_``.

        Raises:
            NotFittedError: `fit` has not been called.
            DataError: X is not a column of texts.
        """
        texts = check_texts(X, pairs=True)
        return self._mean(lambda model: model.predict_proba(texts))

    def predict_counted(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """What `predict_proba` gives, and the number of tokens of each text before any cut, ``[rows]``."""
        check_is_fitted(self, "members_")
        texts = check_texts(X, pairs=True)
        first, counts = self.members_[0].predict_counted(texts)
        return np.mean([first, *(model.predict_proba(texts) for model in self.members_[1:])], axis=0), counts

    def _answers(self, model: Any) -> list[Any]:
        return model.classes_.tolist()

    def _take(self, members: list[Any]) -> None:
        super()._take(members)
        self.classes_ = members[0].classes_
