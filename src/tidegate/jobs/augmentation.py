"""What ``tidegate augment`` does: the changes that training makes to texts, to be looked at before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tidegate.config import Recipe
from tidegate.errors import RecipeError, require
from tidegate.jobs.text_data import read_splits

__all__ = ["Preview", "preview"]


@dataclass(frozen=True)
class Preview:
    """A text as the model reads it, and what becomes of it in some epochs."""

    text: str
    changed: list[str]


def preview(recipe: Recipe, *, count: int = 5, epochs: int = 2) -> list[Preview]:
    """The first texts of a recipe's training data, and what its augmentation makes of them.

    Args:
        recipe: Of the task text-classification.
        count: Texts.
        epochs: Changes of each.

    Raises:
        RecipeError: The recipe changes nothing, or its changes cannot be made.
        DataError: The data cannot be used.
    """
    require("torch", "train")
    from tidegate.estimators.text_classifier import TextClassifier

    if recipe.sections.task != "text-classification":
        raise RecipeError(f"{recipe.path}: expected a recipe of the task text-classification.")
    model: Any = TextClassifier(**recipe.arguments)
    texts = read_splits(recipe).train.texts
    try:
        encoder, augmenter = model.make_augmenter(texts)
    except ValueError as error:
        raise RecipeError(f"{recipe.path}: {error}") from None
    if augmenter is None:
        raise RecipeError(
            f"{recipe.path}: the recipe changes no text. Set for example: --set training.augment_swap=0.1"
        )
    between = "" if model.tokenizer in ("characters", "bpe") else " "

    def shown(ids: Any) -> str:
        return between.join(encoder.vocabulary.decode(ids.tolist()))

    return [
        Preview(shown(augmenter.ids[row]), [shown(augmenter(row, epoch)) for epoch in range(epochs)])
        for row in range(min(count, len(texts)))
    ]
