"""What of the data that a recipe names does not go together, whatever it learns."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tidegate.data.files import checked_encoding
from tidegate.errors import DataError
from tidegate.schema.located_yaml import Document

__all__ = ["data_problems", "idle_problems"]


def data_problems(
    sections: Any,
    document: Document,
    bundled: str | None,
    *,
    find: Callable[[str], object],
    idle: Callable[[], tuple[Iterable[str], str]],
) -> list[str]:
    """A line for each thing wrong with where the data come from.

    Args:
        sections: The recipe's.
        document: The recipe with its places.
        bundled: The name of the bundled data, if it names such.
        find: From this name to the data; raises DataError where there are none.
        idle: The keys that have no effect where the data come from, and why.
    """
    data = sections.data
    if ("source" in data) == ("train" in data):
        found = "both" if "source" in data else "neither"
        return [f"{document.place(('data',))}: data: expected either source or train, found {found}."]
    problems = []
    if bundled is not None:
        problems += _raised(document, "source", lambda: find(bundled))
    problems += idle_problems(data, document, *idle())
    if bundled is None:
        problems += _raised(document, "encoding", lambda: checked_encoding(data.get("encoding", "utf-8")))
    if "validation_fraction" in sections.training and (bundled is not None or "validation" in data):
        problems.append(
            f"{document.place(('training', 'validation_fraction'))}: training.validation_fraction has no effect: the "
            "data have a validation part. Remove one of the two."
        )
    return problems


def idle_problems(data: Any, document: Document, keys: Iterable[str], reason: str) -> list[str]:
    """A line for each of some keys that the section data has, though it has no effect."""
    named = [key for key in keys if key in data]
    return [f"{document.place(('data', key))}: data.{key} has no effect: {reason}. Remove it." for key in named]


def _raised(document: Document, key: str, check: Callable[[], object]) -> list[str]:
    try:
        check()
    except DataError as error:
        return [f"{document.place(('data', key))}: data.{key}: {error}"]
    return []
