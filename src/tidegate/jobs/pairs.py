"""Pairs of texts on the command line: which columns hold them, and lines that do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tidegate.data.pairs import is_pair, read_pair_line
from tidegate.errors import DataError

__all__ = ["pair_columns", "rows_to_read"]


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
