"""The parts of a recipe's data, whatever its examples are, and what is said and done of them all alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from tidegate.data.sources import duplicated_texts

__all__ = ["Splits", "fit_texts", "repeated_note", "targets_of"]

Examples = TypeVar("Examples")


@dataclass(frozen=True)
class Splits(Generic[Examples]):
    """The parts of a data set, of texts or sentences; labels of validation and test are those of the training data."""

    train: Examples
    validation: Examples | None
    test: Examples | None
    unlabelled: list[str] | None = None

    def parts(self) -> dict[str, Examples]:
        """Name -> examples, of the parts that are there."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: examples for name, examples in named.items() if examples is not None}


def targets_of(examples: Any) -> Any:
    """What is learned of texts: their labels, or their targets."""
    return examples.targets if hasattr(examples, "targets") else examples.labels


def fit_texts(model: Any, splits: Splits[Any], **options: Any) -> None:
    """Fit an estimator on the parts of a recipe's texts."""
    held = splits.validation
    validation = None if held is None else (held.texts, targets_of(held))
    if splits.unlabelled is not None:
        options["unlabelled"] = splits.unlabelled
    model.fit(splits.train.texts, targets_of(splits.train), validation_data=validation, **options)


def repeated_note(
    name: str, known: Sequence[Any], texts: Sequence[Any], origins: Sequence[str], unit: str = "texts"
) -> list[str]:
    """A statement on those of a part that stand in the training data too, if there are any.

    Args:
        name: Of the part.
        known: The training texts.
        texts, origins: Those of the part, and where each stands.
        unit: What they are called.
    """
    twins = duplicated_texts(known, texts)
    return [
        f"{len(twins):,} of {len(texts):,} {name} {unit} also stand in the training data (the first: "
        f"{origins[twin]}); the result on them says nothing of new {unit}"
        for twin in twins[:1]
    ]
