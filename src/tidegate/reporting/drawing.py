"""What every figure of a report is drawn with: Matplotlib without pyplot, coloured by the page's CSS variables.

Text stays text, so that the browser picks the fonts and Chinese labels show on any machine. Words from the user's data
never pass through Matplotlib: it draws a placeholder, for which the escaped words are put in afterwards.
"""

from __future__ import annotations

import html
import io
import re
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tidegate.errors import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Matplotlib draws in these colours; each stands for one of the page's variables, which differ in light and dark.
INK, MUTED, GRID, PAPER = "#010101", "#020202", "#030303", "#040404"
SERIES = ("#050505", "#060606", "#070707")
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--line",
    PAPER: "--card",
    SERIES[0]: "--series-1",
    SERIES[1]: "--series-2",
    SERIES[2]: "--series-3",
}
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
FONT_SIZE = 12


def new_figure(
    width: float, height: float, *, left: float, right: float, top: float, bottom: float
) -> tuple[Figure, Axes]:
    """A figure of so many CSS pixels with one pair of axes inside the margins."""
    figure = require("matplotlib.figure", "train").Figure(figsize=(width / 72, height / 72), dpi=72)
    figure.patch.set_visible(False)
    axes = figure.add_axes(
        (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    )
    axes.patch.set_visible(False)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.grid(axis="y", color=GRID, linewidth=1)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=FONT_SIZE, labelcolor=MUTED, pad=6)
    axes.xaxis.label.set_fontsize(FONT_SIZE)
    axes.xaxis.set_major_locator(require("matplotlib.ticker", "train").MaxNLocator(nbins=8, integer=True))
    return figure, axes


def centred() -> dict[str, Any]:
    """The options of a word that stands in the middle of its place."""
    return {"ha": "center", "va": "center", "color": MUTED, "fontsize": FONT_SIZE, "rotation_mode": "anchor"}


def set_title(axes: Axes, words: str) -> None:
    """The name of a figure, at its top left."""
    axes.set_title(words, loc="left", fontsize=FONT_SIZE + 1, color=INK, fontweight="bold", pad=14)


def set_legend(axes: Axes) -> None:
    """The names of the curves, in a row at the top right; a figure of one nameless thing needs none."""
    handles, _ = axes.get_legend_handles_labels()
    if len(handles) > 1:
        legend = axes.legend(
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
            ncols=len(handles),
            frameon=False,
            fontsize=FONT_SIZE,
            labelcolor=MUTED,
            handlelength=1.6,
            columnspacing=1.2,
            borderaxespad=0.2,
        )
        legend.set_zorder(5)


def percent_axis(axes: Axes) -> None:
    """Shares on the vertical axis in percent."""
    ticker = require("matplotlib.ticker", "train")
    axes.yaxis.set_major_locator(ticker.MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{100 * value:.4g}%"))


def shortened(words: str, most: int) -> str:
    """A line of text of at most so many characters."""
    words = " ".join(words.split())
    return words if len(words) <= most else words[: most - 1] + "…"


def width_of(words: str) -> float:
    """Width of a line of text in em, near enough to leave room for it: Chinese characters are one em wide."""
    return sum(1.0 if unicodedata.east_asian_width(character) in "WF" else 0.58 for character in words)


def placeholder(place: int, words: str) -> str:
    """What Matplotlib draws, and measures, in the stead of ``words``: about as wide, and of plain characters."""
    return f"@@{place}{'_' * max(0, round((width_of(words) - 4.6) / 0.5))}@@"


def to_svg(figure: Figure, name: str, description: str, words: Sequence[str]) -> str:
    """The figure as an ``<svg>`` element: coloured by CSS variables, its ids marked by ``name``, ``words`` put in."""
    matplotlib = require("matplotlib", "train")
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tidegate"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    width, height = round(figure.bbox.width), round(figure.bbox.height)
    svg = re.sub(
        r"<svg[^>]*>",
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="{html.escape(description)}">',
        svg,
        count=1,
    )
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r'(?<=\s)id="', f'id="{name}-', svg)
    svg = re.sub(r'(xlink:)?href="#', f'href="#{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-")
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--sans)", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return re.sub(r"@@(\d+)_*@@", lambda match: html.escape(visible(words[int(match[1])])), svg).strip()


def visible(words: str) -> str:
    """The text with what no page may hold, control characters and lone surrogates, shown as the replacement sign."""
    return "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" else c for c in words)
