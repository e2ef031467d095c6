"""What the commands do with classifiers over a pre-trained encoder beside what they do with all of texts."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from tidegate.config import Recipe
from tidegate.errors import require
from tidegate.jobs.run_steps import Task
from tidegate.jobs.text_data import Splits, read_splits

if TYPE_CHECKING:
    from tidegate.estimators.contextual_text_classifier import ContextualTextClassifier

__all__ = ["contextual_task"]


def contextual_task() -> Task:
    """How a recipe of contextual text classification is run: as one of text classification, by another estimator."""
    from tidegate.jobs.classification import classification_task

    return dataclasses.replace(classification_task(), make=_make, read=_read)


def _make(**arguments: Any) -> ContextualTextClassifier:
    from tidegate.estimators.contextual_text_classifier import ContextualTextClassifier

    return ContextualTextClassifier(**arguments)


def _read(recipe: Recipe) -> Splits:
    """The data of a recipe, once its encoder is found."""
    from tidegate.features.contextual import locate_encoder

    require("transformers", "bert")
    locate_encoder(_make(**recipe.arguments).encoder)
    return read_splits(recipe)
