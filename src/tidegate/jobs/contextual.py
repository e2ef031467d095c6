"""What the commands do with classifiers over a pre-trained encoder beside what they do with all of texts."""

from __future__ import annotations

import dataclasses

from tidegate.config import Recipe
from tidegate.data.sources import TextExamples
from tidegate.errors import require
from tidegate.jobs.classification import classification_task
from tidegate.jobs.splits import Splits
from tidegate.jobs.tasks import Task, estimator
from tidegate.jobs.text_data import read_splits

__all__ = ["contextual_task"]

_make = estimator("ContextualTextClassifier")


def contextual_task() -> Task:
    """How a recipe of contextual text classification is run: as one of text classification, by another estimator."""
    return dataclasses.replace(classification_task(), make=_make, read=_read)


def _read(recipe: Recipe) -> Splits[TextExamples]:
    """The data of a recipe, once its encoder is found."""
    from tidegate.features.contextual import locate_encoder

    require("transformers", "bert")
    locate_encoder(_make(**recipe.arguments).encoder)
    return read_splits(recipe)
