"""Rows of two texts: questions that may mean the same, a premise and a hypothesis, two halves of one whole.

A pair is a tuple of two texts and stands wherever a text may stand.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tidegate.errors import DataError

__all__ = ["BETWEEN", "Pair", "flatten", "is_pair", "read_pair_line", "shown", "texts_of"]

Pair = tuple[str, str]
# What stands between the texts of a pair where it is shown in one line.
BETWEEN = " ⇄ "


def is_pair(text: Any) -> bool:
    """Whether a row is a pair of texts."""
    return isinstance(text, tuple)


def texts_of(text: Any) -> tuple[str, ...]:
    """The texts of a row: itself, or both of a pair."""
    return text if isinstance(text, tuple) else (text,)


def flatten(rows: Sequence[Any]) -> tuple[list[str], int]:
    """All texts of some rows and how many there are in a row: the first ones of all, then the second ones.

    Raises:
        DataError: Some rows are pairs and some are not.
    """
    pairs = sum(map(is_pair, rows))
    if not pairs:
        return list(rows), 1
    if pairs < len(rows):
        raise DataError(f"expected pairs of texts in all rows or in none, found {pairs} of {len(rows)}")
    return [first for first, _ in rows] + [second for _, second in rows], 2


def shown(text: Any) -> str:
    """A row in words: a text as it is, a pair with a mark between its texts."""
    return BETWEEN.join(texts_of(text))


def read_pair_line(line: str) -> Pair:
    """A pair from a line: two texts with a tab between them, a JSON list of two, or a JSON object of two values.

    Raises:
        DataError: It is none of these.
    """
    if line.lstrip()[:1] in ("[", "{") and "\t" not in line:
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        texts = list(value.values()) if isinstance(value, dict) else value
    else:
        texts = line.split("\t")
    if isinstance(texts, list) and len(texts) == 2 and all(isinstance(text, str) for text in texts):
        return texts[0], texts[1]
    raise DataError(
        f"expected two texts with a tab between them, or a JSON list of two, since the model reads pairs; "
        f"found {line!r:.80}"
    )
