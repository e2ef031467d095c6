"""Pieces of a report's page: from values to HTML, every word of the user's made safe."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tidegate.reporting import plots
from tidegate.reporting.facts import json_safe

_LONGEST_TEXT = 700  # characters of a mistake shown; metrics.json holds the whole text
_SPLIT_ORDER = ("train", "validation", "test")


def section(title: str, *parts: str) -> str:
    """A part of the page under a heading; nothing where its parts are empty."""
    body = "".join(filter(None, parts))
    return f'<section class="stack"><h2>{text(title)}</h2>{body}</section>' if body else ""


def card(body: str) -> str:
    """A box, which scrolls sideways where it is too wide."""
    return f'<div class="card scroll">{body}</div>'


def figure(drawing: str, caption: str = "", *, wide: bool = False) -> str:
    """A drawing in a box with words below it."""
    kind = " wide" if wide else ""
    words = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
    return f'<figure class="card{kind}"><div class="scroll">{drawing}</div>{words}</figure>'


def table(heads: Iterable[Any], rows: Sequence[Sequence[Any]], marked: int | None = None) -> str:
    """A table whose first column names its rows; the row in place ``marked`` is set off."""
    top = "".join(f'<th scope="col">{text(head)}</th>' for head in heads)
    kept = ' class="kept"'
    body = "".join(
        f"<tr{kept if place == marked else ''}>"
        f'<th scope="row">{text(row[0])}</th>{"".join(f"<td>{text(cell)}</td>" for cell in row[1:])}</tr>'
        for place, row in enumerate(rows)
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def pairs(values: Mapping[str, Any]) -> str:
    """Names and values in two columns."""
    items = "".join(f"<dt>{text(key)}</dt><dd>{text(value(entry))}</dd>" for key, entry in values.items())
    return f"<dl>{items}</dl>"


def value(value: Any) -> str:
    """A value of a recipe as JSON writes it; texts as they are, and a list of texts a line each."""
    value = json_safe(value)
    if isinstance(value, list) and value and all(isinstance(entry, str) for entry in value):
        return "\n".join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def text(value: Any) -> str:
    """Any user's text, made safe to stand in HTML, between tags or in a quoted attribute."""
    return html.escape(plots.visible(str(value)))


def language(words: str) -> str:
    """Marks Chinese, so that the browser takes Chinese letter shapes and not Japanese ones."""
    return ' lang="zh"' if any("\u4e00" <= character <= "\u9fff" for character in words) else ""


def cut_text(words: str) -> str:
    """A user's text as a paragraph, a long one without its middle."""
    if not words.strip():
        return '<p class="cut"><em>(an empty text)</em></p>'
    if len(words) <= _LONGEST_TEXT:
        return f'<p dir="auto"{language(words)}>{text(words)}</p>'
    head, tail = words[: _LONGEST_TEXT * 2 // 3], words[-_LONGEST_TEXT // 3 :]
    left_out = len(words) - len(head) - len(tail)
    return (
        f'<p class="cut" dir="auto"{language(head)}>{text(head)} '
        f"<em>[… {left_out:,} characters left out …]</em> {text(tail)}</p>"
    )


def tiles(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and figures in a row of small boxes."""
    boxes = "".join(f'<div class="card"><span class="small">{text(k)}</span><b>{text(v)}</b></div>' for k, v in pairs)
    return f'<div class="tiles">{boxes}</div>'


def in_order(splits: Iterable[str]) -> list[str]:
    """The names of parts of the data, the usual ones first."""
    splits = list(splits)
    return [name for name in _SPLIT_ORDER if name in splits] + [name for name in splits if name not in _SPLIT_ORDER]


def finite(value: Any) -> bool:
    """Whether there is a number, and it is finite."""
    return value is not None and math.isfinite(value)


def number(value: Any, digits: int) -> str:
    """A number with so many digits after the point, or a dash."""
    return f"{value:,.{digits}f}" if finite(value) else "–"


def percent(value: Any) -> str:
    """A share in percent, or a dash."""
    return f"{100 * value:.1f}%" if finite(value) else "–"


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
