"""Pairs of texts in a recipe and on the command line: ``text: [question1, question2]``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticCustomError

from tidegate.data.pairs import is_pair, read_pair_line
from tidegate.errors import DataError

if TYPE_CHECKING:
    from tidegate.config import Recipe

__all__ = ["PAIR_TASKS", "one_or_two", "pair_columns", "pair_problems", "rows_to_read", "text_or_pair"]

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


def pair_problems(recipe: Recipe) -> list[str]:
    """What of a recipe's pairs does not go together, a line each."""
    named = dict(recipe.sections.data).get("text")
    pairs = isinstance(named, list)
    place = recipe.document.place(("data", "text"))
    if pairs and recipe.task not in PAIR_TASKS:
        tasks = " and ".join(PAIR_TASKS)
        return [
            f"{place}: data.text: the task {recipe.task} reads one text a row, found two columns. {tasks} read pairs."
        ]
    tried: Sequence[Any] = recipe.sections.output.try_
    wrong = [number for number, text in enumerate(tried) if is_pair(text) != pairs]
    expected = "two texts, as [first, second], since data.text names two columns" if pairs else "one text"
    return [
        f"{recipe.document.place(('output', 'try', number))}: output.try[{number}]: expected {expected}."
        for number in wrong
    ]


def pair_columns(text: str | None, pairs: bool) -> str | list[str] | None:
    """The columns that ``--text`` names, for a model that reads pairs or one that does not.

    Raises:
        DataError: A model of pairs is not told both.
    """
    if not pairs:
        return text
    names = [name.strip() for name in (text or "").split(",")]
    if len(names) != 2 or not all(names):
        found = "none" if text is None else repr(text)
        raise DataError(f"the model reads pairs of texts: expected both columns, as --text first,second; found {found}")
    return names


def rows_to_read(model: Any, rows: Sequence[Any]) -> list[Any]:
    """Lines as a model reads them: texts, or pairs between tabs or in JSON; what is a pair already stays.

    Raises:
        DataError: A line holds no pair, and the model reads pairs.
    """
    if not getattr(model, "reads_pairs", False):
        return list(rows)
    return [row if is_pair(row) else read_pair_line(row) for row in rows]
