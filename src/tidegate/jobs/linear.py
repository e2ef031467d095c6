"""What the commands do with linear classifiers beside what they do with all classifiers of texts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.jobs.classification import classification_task, decision_notes
from tidegate.jobs.splits import Splits, fit_texts
from tidegate.jobs.tasks import Task, estimator

if TYPE_CHECKING:
    from tidegate.estimators.linear_text_classifier import LinearTextClassifier

__all__ = ["linear_task"]

_TERMS = 12


def linear_task() -> Task:
    """How a recipe of linear text classification is run: as one of text classification, but for the fitting."""
    return dataclasses.replace(
        classification_task(),
        make=_make,
        fit=_fit,
        say=_say,
        monitor=lambda model: "accuracy",
        ensemble=None,
        alone="nothing is drawn in fitting a linear model, so that all members would be equal",
    )


def _make(**arguments: Any) -> LinearTextClassifier:
    # It has no progress to show, so that `verbose` has nothing to say to it.
    make = estimator("LinearTextClassifier")
    return make(**{name: value for name, value in arguments.items() if name != "verbose"})


def _fit(
    model: LinearTextClassifier,
    splits: Splits[Any],
    *,
    run_folder: Path | None = None,
    resume: bool = False,
    loggers: Sequence[str] = (),
    callbacks: Sequence[Any] = (),
) -> None:
    # Seconds of work leave nothing to resume from, and no epochs to record or to end early.
    del run_folder, resume, loggers, callbacks
    fit_texts(model, splits)


def _say(model: LinearTextClassifier, lengths: dict[str, list[int]]) -> list[str]:
    """For each class a sentence on the terms that speak most for it."""
    notes = [f"C={model.C_:g}" if model.classifier != "naive-bayes" else f"alpha={model.alpha:g}"]
    for name, terms in model.strongest_terms(_TERMS).items():
        notes.append(f"what speaks most for {name}: {', '.join(repr(term) for term, _ in terms)}")
    return [*decision_notes(model), *notes]
