"""Pieces of a page in Markdown, every word of the user's made safe."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from tidegate.reporting import plots
from tidegate.reporting.markup import finite, percent

__all__ = ["escape", "is_number", "listed", "section", "share", "spread_cells", "table"]

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&!])")
# What would begin a list.
_MARKER = re.compile(r"^(\d*)([-+.)])(?=\s|$)")
_SHOWN = 12


def escape(words: Any) -> str:
    """Any user's text as one line of Markdown that shows it as it is, HTML and tables included."""
    line = _SPECIAL.sub(r"\\\1", " ".join(plots.visible(str(words)).split()))
    return _MARKER.sub(r"\1\\\2", line)


def section(title: str, parts: Iterable[str]) -> str:
    """A heading and its paragraphs; empty ones are left out."""
    return "\n\n".join([f"## {title}", *filter(None, parts)])


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table, its cells made safe."""
    lines = [" | ".join(map(escape, heads)), " | ".join("---" for _ in heads)]
    lines += [" | ".join(escape(cell) for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def listed(labels: Sequence[str | int]) -> str:
    """The first labels, and how many more there are."""
    more = f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
    return ", ".join(escape(label) for label in labels[:_SHOWN]) + more


def share(count: int, total: int) -> str:
    """A count, and its share of all."""
    return f"{count:,} ({percent(count / total)})"


def spread_cells(numbers: Sequence[float]) -> list[str]:
    """Mean, standard deviation, least, median and most of some numbers."""
    ordered = sorted(numbers)
    spread = statistics.pstdev(ordered)
    return [
        f"{v:.4g}" for v in (statistics.fmean(ordered), spread, ordered[0], statistics.median(ordered), ordered[-1])
    ]


def is_number(said: Any) -> bool:
    """Whether a value is a number, and finite."""
    return isinstance(said, (int, float)) and not isinstance(said, bool) and finite(said)
