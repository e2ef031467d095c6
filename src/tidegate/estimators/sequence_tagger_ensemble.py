"""Several taggers as one, of which the mean probabilities of the tags at each token count."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from tidegate.estimators.base import check_sample_weight
from tidegate.estimators.mean_ensemble import MeanEnsemble
from tidegate.estimators.mean_tag_decoding import MeanTagDecoder
from tidegate.estimators.sequence_tagger import SequenceTagger
from tidegate.estimators.tag_predictions import TagPredictions
from tidegate.estimators.tagging_data import check_intents, check_sentences, check_tags

__all__ = ["SequenceTaggerEnsemble"]


class SequenceTaggerEnsemble(MeanEnsemble, TagPredictions):
    """Taggers that differ in their seeds, or that one run passed through, averaged.

    What is averaged is the probability of each tag at each token, which a CRF gives over all sequences of tags, and of
    each segment; the tags of a sentence are the legal ones with the greatest product of these means, found by Viterbi
    (posterior decoding). Averaged weights of CRFs would be another model than the average of them. All members learn
    from the same sentences and are judged on the same ones held out.

    Args:
        estimator: What each member is; None is ``SequenceTagger()``.
        members: How many.
        by: ``"seeds"``, or ``"snapshots"`` of one run, as of :class:`TextEnsemble`.
        random_state: The seed that the members' are derived from; None takes that of `estimator`.

    Attributes:
        members_: The fitted taggers.
        tags_, tag_scheme_, intents_: As of :class:`SequenceTagger`.
        validation_score_: F1 of segments (accuracy of tokens, where tags mark none) of the mean of the members on the
            sentences held out, or None.
        member_scores_: Those of each by itself.
        random_state_, timing_: As of :class:`TextEnsemble`.

    Example:
        >>> tagger = SequenceTaggerEnsemble(SequenceTagger(max_epochs=5), members=3).fit(X, y)  # doctest: +SKIP
    """

    kind: ClassVar[str] = "sequence-tagger-ensemble"
    made_of: ClassVar[tuple[str, ...]] = ("sequence-tagger",)

    def fit(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        validation_data: tuple[Any, ...] | None = None,
        *,
        intents: Any = None,
        run_folder: str | os.PathLike[str] | None = None,
        resume: bool = False,
        loggers: Sequence[str] = (),
    ) -> Self:
        """Train every member; arguments as those of :meth:`SequenceTagger.fit`, folders as of :meth:`TextEnsemble.fit`.

        Raises:
            ValueError: `members` is below 2, or an argument of the estimator is out of range.
            DataError, TidegateError, KeyboardInterrupt: As of :meth:`SequenceTagger.fit`.
        """
        options = {"resume": resume, "intents": intents}
        return self._fit(X, y, sample_weight, validation_data, run_folder, loggers, options)

    @property
    def model_scheme(self) -> str:
        """The scheme of the tags that the members' networks know."""
        return str(self._member().model_scheme)

    # --- parts of the fit, and the bundle

    def _decoder(self) -> MeanTagDecoder:
        check_is_fitted(self, "members_")
        return MeanTagDecoder([model._decoder() for model in self.members_])

    def _default(self) -> SequenceTagger:
        return SequenceTagger()

    def _hold_out(
        self, member: Any, data: tuple[Any, Any, Any], seed: int, options: dict[str, Any]
    ) -> tuple[tuple[Any, Any, Any], tuple[Any, ...] | None, dict[str, Any]]:
        sentences, given = check_sentences(data[0]), options["intents"]
        tags, weights = check_tags(data[1], sentences), check_sample_weight(data[2], len(sentences))
        intents = None if given is None else check_intents(given, len(sentences))
        there = [row for row, tokens in enumerate(sentences) if tokens and (weights is None or weights[row] > 0)]
        order = np.random.default_rng(seed).permutation(there).tolist()
        size = min(max(1, round(member.validation_fraction * len(order))), len(order) - 1)
        if size < 1:
            return data, None, options

        def part(rows: list[int]) -> tuple[Any, Any, Any]:
            chosen = None if intents is None else [intents[row] for row in rows]
            return [sentences[row] for row in rows], [tags[row] for row in rows], chosen

        rows = sorted(order[size:])
        *learned, said = part(rows)
        *held, told = part(sorted(order[:size]))
        taken = None if weights is None else weights[rows]
        return (learned[0], learned[1], taken), (*held, *([] if told is None else [told])), {**options, "intents": said}

    def _judged(self, held: tuple[Any, ...]) -> tuple[Any, Any, Any]:
        return held[0], held[1], None

    def _score(self, model: Any, X: Any, y: Any, sample_weight: Any) -> float:
        del sample_weight  # sentences held out weigh the same
        return float(model.score(X, y))

    def _answers(self, model: Any) -> list[Any]:
        return list(model.tags_)

    def _take(self, members: list[Any]) -> None:
        super()._take(members)
        first = members[0]
        self.tags_, self.tag_scheme_, self.intents_ = first.tags_, first.tag_scheme_, first.intents_
        if any((model.tag_scheme_, model.intents_) != (self.tag_scheme_, self.intents_) for model in members):
            raise ValueError("members of different schemes or intents")
        self.figure = "accuracy of tags" if self.tag_scheme_ == "plain" else "F1 of segments"
