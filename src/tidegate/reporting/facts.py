"""The facts of one run: what the report shows and metrics.json keeps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Mistake:
    """A test text that the model labelled wrongly.

    Attributes:
        text: the text as it was read.
        label: the right label.
        predicted: the label that the model gave.
        probability: the model's probability of ``predicted``, from 0 to 1.
        origin: where the text stands, such as ``reviews.csv:17``.
    """

    text: str
    label: str | int
    predicted: str | int
    probability: float
    origin: str = ""


@dataclass(frozen=True)
class RunFacts:
    """Everything that is known of one training run. Only the title is needed; the report leaves out what is not there.

    Attributes:
        title: what the report is called, such as the recipe's name.
        recipe: the resolved recipe, section by section.
        counts: examples in each split, ``{"train": 8056, "validation": 1007, "test": 1007}``.
        class_counts: examples of each label in each split, ``{"train": {"positive": 4214, ...}, ...}``.
        token_lengths: tokens of each text before truncation, in each split.
        history: one dict an epoch with ``epoch``, ``train_loss`` and what else was measured of ``validation_loss``,
            ``validation_accuracy``, ``tokens_per_second`` and ``seconds``.
        best_epoch: the epoch whose weights were kept, as it is numbered in ``history``.
        test: the result of :func:`tidegate.reporting.metrics.classification_metrics` on the test set.
        baseline: the result of :func:`tidegate.reporting.compare.tfidf_baseline`, which is a dict with ``name`` and
            ``accuracy``.
        mistakes: the worst mistakes on the test set, worst first.
        timing: seconds of each part of the run, ``{"train": 61.2, ...}``; that of ``train`` also stands at
            the top of the report.
        environment: versions, processor, threads and the like.
        notes: warnings and statements, such as how many texts were truncated.
        rate_search: of the learning-rate finder ``rates``, ``losses`` and ``suggestion``, where it was asked.
    """

    title: str
    recipe: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    class_counts: Mapping[str, Mapping[Any, int]] = field(default_factory=dict)
    token_lengths: Mapping[str, Sequence[int]] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    best_epoch: int | None = None
    test: Mapping[str, Any] | None = None
    baseline: Mapping[str, Any] | None = None
    mistakes: Sequence[Any] = ()
    timing: Mapping[str, float] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    rate_search: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class TaggingFacts(RunFacts):
    """What is known of a run that trained a tagger; counts are of sentences, and ``class_counts`` of types of segments.

    Attributes:
        test: the result of :func:`tidegate.reporting.tagging.tagging_metrics` on the test set.
        mistakes: :class:`tidegate.reporting.tagging.TaggingMistake` values.
        transitions: ``tags``, ``scores`` [K, K] and ``allowed`` [K, K] (or None) of a CRF.
        inspection: of one sentence, a row a token with ``token``, ``tag``, ``emission``, ``transition``,
            ``probability`` and ``emission_tag``, the tag that the emissions alone would give.
    """

    transitions: Mapping[str, Any] | None = None
    inspection: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class NumberFacts(RunFacts):
    """What is known of a run that trained a regression.

    Attributes:
        test: the result of :func:`tidegate.reporting.number_metrics.number_metrics` on the test set.
        baseline: the result of :func:`tidegate.reporting.compare.ridge_baseline`.
        mistakes: :class:`tidegate.reporting.number_metrics.NumberMistake` values.
        truth: the right numbers of the test set.
        predicted: what the model says, in the same order.
    """

    truth: Sequence[float] = ()
    predicted: Sequence[float] = ()


@dataclass(frozen=True)
class MultiTaskFacts(RunFacts):
    """What is known of a run that trained a model of several tasks.

    Attributes:
        kinds: task -> ``"classification"`` or ``"regression"``.
        class_counts: of each split the counts of labels, each named with its task, as ``"tone: positive"``.
        test: ``count``, and under ``tasks`` of each task the result of
            :func:`tidegate.reporting.metrics.classification_metrics` or
            :func:`tidegate.reporting.number_metrics.number_metrics` over the texts that have its target.
        single: task -> the same of a model of this task alone, where there are such.
        baseline: under ``tasks`` of each task the result of :func:`tidegate.reporting.compare.tfidf_baseline` or
            :func:`tidegate.reporting.compare.ridge_baseline`.
        mistakes: task -> its worst mistakes.
        answers: regression -> ``truth`` and ``predicted``, the right numbers of the test texts and those of the model.
    """

    kinds: Mapping[str, str] = field(default_factory=dict)
    single: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    mistakes: Any = field(default_factory=dict)
    answers: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelFacts(RunFacts):
    """What is known of a run that trained a model of several labels a text; ``class_counts`` are of labels.

    Attributes:
        test: the result of :func:`tidegate.reporting.label_metrics.label_metrics` on the test set.
        baseline: the result of :func:`tidegate.reporting.compare.label_baseline`.
        mistakes: :class:`tidegate.reporting.label_metrics.LabelMistake` values.
    """


def json_safe(value: Any) -> Any:
    """The value as JSON can hold it: NaN and infinity become null, arrays lists, keys and anything else text."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate cannot be written as UTF-8
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.generic | np.ndarray):
        return json_safe(value.tolist())
    if is_dataclass(value) and not isinstance(value, type):
        return json_safe(asdict(value))
    if isinstance(value, Mapping):
        return {json_safe(str(key)): json_safe(entry) for key, entry in value.items()}
    if isinstance(value, Sequence | set | frozenset):
        return [json_safe(entry) for entry in value]
    return json_safe(str(value))
