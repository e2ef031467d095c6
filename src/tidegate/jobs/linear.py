"""What the commands do with linear classifiers beside what they do with all classifiers of texts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.jobs.run_steps import Task

if TYPE_CHECKING:
    from tidegate.estimators.linear_text_classifier import LinearTextClassifier

__all__ = ["linear_task", "strongest_notes"]

_TERMS = 12


def linear_task() -> Task:
    """How a recipe of linear text classification is run: as one of text classification, but for the fitting."""
    from tidegate.jobs.classification import classification_task

    return dataclasses.replace(classification_task(), make=_make, fit=_fit)


def _fit(model: Any, splits: Any, *, run_folder: Path, resume: bool, loggers: Sequence[str] = ()) -> None:
    from tidegate.jobs.classification import fit_texts

    del run_folder, resume, loggers  # seconds of work leave nothing to resume from, and no epochs to record
    fit_texts(model, splits)


def _make(**arguments: Any) -> LinearTextClassifier:
    """The estimator of a recipe; it has no progress to show, so that ``verbose`` has nothing to say to it."""
    from tidegate.estimators.linear_text_classifier import LinearTextClassifier

    return LinearTextClassifier(**{name: value for name, value in arguments.items() if name != "verbose"})


def strongest_notes(model: LinearTextClassifier) -> list[str]:
    """For each class a sentence on the terms that speak most for it."""
    notes = [f"C={model.C_:g}" if model.classifier != "naive-bayes" else f"alpha={model.alpha:g}"]
    for name, terms in model.strongest_terms(_TERMS).items():
        notes.append(f"what speaks most for {name}: {', '.join(repr(term) for term, _ in terms)}")
    return notes
