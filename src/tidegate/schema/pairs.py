"""Pairs of texts in a recipe: ``text: [question1, question2]``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic_core import PydanticCustomError

from tidegate.data.pairs import is_pair
from tidegate.schema.located_yaml import Document

__all__ = ["PAIR_TASKS", "one_or_two", "pair_problems", "text_or_pair"]

PAIR_TASKS = ("text-classification", "text-regression", "multi-label-text-classification")


def one_or_two(value: object) -> object:
    """The name of a column, or of the two of a pair; a list of one is the name in it."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) not in (1, 2):
        raise PydanticCustomError("columns", "expected the name of a column, or of two for pairs: [first, second]")
    if len(set(names)) < len(names):
        raise PydanticCustomError("columns", "expected two different columns for pairs")
    return names[0] if len(names) == 1 else names


def text_or_pair(value: object) -> object:
    """A text to try, or two of a pair."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts) or len(texts) not in (1, 2):
        raise PydanticCustomError("text", "expected a text, or two for a pair: [first, second]")
    return texts[0] if len(texts) == 1 else (texts[0], texts[1])


def pair_problems(sections: Any, document: Document) -> list[str]:
    """What of a recipe's pairs does not go together, a line each."""
    named = dict(sections.data).get("text")
    pairs = isinstance(named, list)
    place = document.place(("data", "text"))
    if pairs and sections.task not in PAIR_TASKS:
        tasks = " and ".join(PAIR_TASKS)
        return [
            f"{place}: data.text: the task {sections.task} reads one text a row, found two columns. {tasks} read pairs."
        ]
    tried: Sequence[Any] = sections.output.try_
    wrong = [number for number, text in enumerate(tried) if is_pair(text) != pairs]
    expected = "two texts, as [first, second], since data.text names two columns" if pairs else "one text"
    return [
        f"{document.place(('output', 'try', number))}: output.try[{number}]: expected {expected}." for number in wrong
    ]
