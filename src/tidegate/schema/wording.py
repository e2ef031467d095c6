"""How errors of a recipe are worded: where, which key, what was expected and found, and the nearest legal name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic_core import ErrorDetails

from tidegate.errors import nearest
from tidegate.schema.located_yaml import Document, KeyPath, dotted
from tidegate.schema.sections import BaselineOptions, Sections
from tidegate.schema.tasks import SECTIONS, TASKS, section_keys, section_type

__all__ = ["explain", "joined", "shown_value"]

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "a text",
    "string_too_short": "one character",
    "string_too_long": "one character",
    "list_type": "a list",
    "too_short": "the names of the columns",
    "string_pattern_mismatch": "auto, cpu or cuda",
    "dict_type": "a section (keys with values)",
    "model_type": "a section (keys with values)",
    "model_attributes_type": "a section (keys with values)",
    "typed_dict_type": "a section (keys with values)",
}
_BOUNDS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "of at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "of at most"),
}


def explain(error: ErrorDetails, document: Document, task: str) -> str:
    """One line for what pydantic found wrong with a recipe of a task."""
    kind, context = error["type"], error.get("ctx", {})
    # Of a key that may be one thing or another, pydantic names the one that it tried.
    path = tuple(key for key in error["loc"] if not (isinstance(key, str) and "[" in key))
    place, name = document.place(path), dotted(path)
    if kind == "extra_forbidden":
        return f"{place}: {_unknown_key(path, task)}"
    if kind == "missing":
        return f"{place}: the key {name} is missing.{_purpose(path)}"
    suffix = " or null" if _nullable(path, task) else ""
    found = shown_value(error["input"])
    if kind == "literal_error":
        legal = [*_literals(path, task), *(["null"] if suffix else [])]
        guess = nearest(str(error["input"]), legal)
        # What stands inside a list or a mapping has its own words.
        return f"{place}: {name}: expected {joined(legal) if legal else context['expected']}, found {found}.{guess}"
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return f"{place}: {name}: expected a number {words} {context[key]}{suffix}, found {found}."
    expected = "true, false or a section" if path == ("output", "baseline") else _EXPECTED.get(kind)
    if kind == "too_short" and path[-1] != "header":
        expected = "one entry at least"
    if expected is None:
        return f"{place}: {name}: {error['msg']}; found {found}."
    return f"{place}: {name}: expected {expected}{suffix}, found {found}."


def _unknown_key(path: KeyPath, task: str) -> str:
    parent, key = path[:-1], str(path[-1])
    if not parent:
        legal: Iterable[str] = Sections.model_fields
    elif len(parent) == 1 and parent[0] in Sections.model_fields:
        legal = section_keys(str(parent[0]), task)
    else:
        legal = BaselineOptions.__annotations__
    guess = nearest(key, legal)
    if not guess:
        others = [name for name in Sections.model_fields if name != "task" and (name,) != parent]
        homes = [name for name in others if key in section_keys(name, task)]
        guess = f" It belongs in the section {homes[0]!r}." if homes else ""
    where = f"the section {dotted(parent)!r}" if parent else "a recipe"
    return f"{dotted(path)}: unknown key.{guess} Legal keys of {where}: {', '.join(legal)}."


def _purpose(path: KeyPath) -> str:
    return {
        ("task",): " Write: task: text-classification",
        ("data",): " Write for example: data: {source: bundled:reviews_en}",
    }.get(path, "")  # pyright: ignore[reportCallIssue, reportArgumentType]


def _annotation(path: KeyPath, task: str) -> Any:
    if path == ("task",):
        return Literal[*TASKS]
    if path and isinstance(path[-1], int):  # a place in a list
        return next(iter(get_args(_annotation(path[:-1], task))), None)
    if len(path) == 2 and path[0] in ("data", *SECTIONS):
        return get_type_hints(section_type(str(path[0]), task)).get(str(path[1]))
    if path == ("output", "baseline", "tokenizer"):
        return get_type_hints(BaselineOptions)["tokenizer"]
    return (
        get_type_hints(section_type("output", task)).get(str(path[1]))
        if len(path) == 2 and path[0] == "output"
        else None
    )


def _nullable(path: KeyPath, task: str) -> bool:
    return path[:1] != ("output",) and type(None) in get_args(_annotation(path, task))


def _literals(path: KeyPath, task: str) -> list[str]:
    annotation = _annotation(path, task)
    options = [annotation, *get_args(annotation)]
    return [str(value) for option in options if get_origin(option) is Literal for value in get_args(option)]


def shown_value(value: object) -> str:
    """A value of a recipe in words: its kind, and what it is."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text {value[:60]!r}"
    return "a list" if isinstance(value, list) else "a section" if isinstance(value, dict) else repr(value)[:60]


def joined(names: Iterable[str]) -> str:
    """``a, b or c``."""
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last
