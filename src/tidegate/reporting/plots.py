"""The report's figures as inline SVG, drawn by Matplotlib without pyplot, coloured by the page's CSS variables.

Text stays text, so that the browser picks the fonts and Chinese labels show on any machine. Words from the user's data
never pass through Matplotlib: it draws a placeholder, for which the escaped words are put in afterwards.
"""

from __future__ import annotations

import html
import io
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tidegate.errors import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Matplotlib draws in these colours; each stands for one of the page's variables, which differ in light and dark.
_INK, _MUTED, _GRID, _PAPER = "#010101", "#020202", "#030303", "#040404"
_SERIES = ("#050505", "#060606", "#070707")
_VARIABLES = {
    _INK: "--ink",
    _MUTED: "--muted",
    _GRID: "--line",
    _PAPER: "--card",
    _SERIES[0]: "--series-1",
    _SERIES[1]: "--series-2",
    _SERIES[2]: "--series-3",
}
_DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
_FONT_SIZE = 12


def learning_curves(history: Sequence[Mapping[str, Any]], best_epoch: int | None = None) -> list[str]:
    """One SVG of the training and validation loss and one of the validation accuracy; only those that were measured.

    Args:
        history: one dict an epoch, see :class:`tidegate.reporting.facts.RunFacts`.
        best_epoch: the epoch to mark as the one whose weights were kept.
    """
    panels = (
        ("loss", "Loss", {"train_loss": "training", "validation_loss": "validation"}, False),
        ("accuracy", "Validation accuracy", {"validation_accuracy": "validation"}, True),
    )
    drawings = []
    for name, title, keys, percent in panels:
        curves = {word: curve for key, word in keys.items() if (curve := _curve(history, key))[0]}
        if not curves:
            continue
        figure, axes = _figure(430, 270, left=52, right=16, top=34, bottom=44)
        for place, (word, (epochs, values)) in enumerate(curves.items()):
            series = 1 if word == "validation" else 0
            axes.plot(
                epochs,
                values,
                color=_SERIES[series],
                linestyle=_DASHES[place],
                linewidth=2.2,
                marker="o",
                markersize=4.5 if len(epochs) < 30 else 0,
                label=word,
            )
        epochs = sorted({epoch for curve, _ in curves.values() for epoch in curve})
        if best_epoch in epochs:
            axes.axvline(best_epoch, color=_MUTED, linewidth=1, linestyle=(0, (2, 3)), label="kept", zorder=0)
        margin = max(0.4, 0.04 * (epochs[-1] - epochs[0]))
        axes.set_xlim(epochs[0] - margin, epochs[-1] + margin)
        axes.set_xlabel("epoch", color=_MUTED)
        axes.margins(y=0.12)
        if percent:
            _percent_axis(axes)
        _title(axes, title)
        _legend(axes)
        drawings.append(_svg(figure, name, f"{title} by epoch", []))
    return drawings


def confusion_matrix(confusion: Sequence[Sequence[int]], classes: Sequence[Any]) -> str:
    """The confusion matrix as SVG: a row for each right label, shaded by the share of that label, counts written in.

    Args:
        confusion: C rows of C counts; row = right label, column = predicted label.
        classes: the C labels.
    """
    counts = np.asarray(confusion, dtype=np.int64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cell = min(92.0, max(15.0, 420.0 / len(classes)))
    names = [_shortened(str(label), 24) for label in classes]
    size = min(float(_FONT_SIZE), cell * 0.72)
    longest = max(_width(name) for name in names) * size
    flat = max(_width(name) for name in names) * size <= cell * 0.95
    left, bottom = 44 + longest, 40 + (size * 1.4 if flat else longest)
    extent = cell * len(classes)
    figure, axes = _figure(left + extent + 14, extent + bottom + 12, left=left, right=14, top=12, bottom=bottom)
    rectangle = require("matplotlib.patches", "train").Rectangle
    for row, column in zip(*np.nonzero(counts), strict=True):
        share = float(shares[row, column])
        axes.add_patch(
            rectangle((column, row), 1, 1, facecolor=_SERIES[0 if row == column else 1], alpha=0.12 + 0.88 * share)
        )
    # 24 pixels hold the figures of a cell; a matrix of many classes shows its shades alone.
    for row, column in np.ndindex(counts.shape) if cell >= 24 else ():
        axes.text(
            column + 0.5,
            row + 0.5,
            f"{counts[row, column]:,}",
            ha="center",
            va="center_baseline",
            color=_PAPER if shares[row, column] > 0.5 else _INK,
            fontsize=min(16, cell * 0.3),
        )
    axes.set_xlim(0, len(classes))
    axes.set_ylim(len(classes), 0)
    for line in range(len(classes) + 1):
        axes.axhline(line, color=_GRID, linewidth=1)
        axes.axvline(line, color=_GRID, linewidth=1)
    middles = np.arange(len(classes)) + 0.5
    places = [_placeholder(place, name) for place, name in enumerate(names)]
    axes.set_xticks(middles, places, fontsize=size, color=_INK)
    if not flat:
        for label in axes.get_xticklabels():
            label.set(rotation=90, rotation_mode="anchor", ha="right", va="center")
    axes.set_yticks(middles, places, fontsize=size, color=_INK)
    axes.tick_params(length=0, pad=5)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    figure.text(0.5 * (left + left + extent) / figure.bbox.width, 10 / figure.bbox.height, "predicted", **_centred())
    figure.text(
        14 / figure.bbox.width, (bottom + extent / 2) / figure.bbox.height, "right label", rotation=90, **_centred()
    )
    return _svg(figure, "confusion", "Confusion matrix", names)


def length_histogram(token_lengths: Mapping[str, Sequence[int]], max_tokens: int | None = None) -> str:
    """The share of texts by their number of tokens, one outline a split, as SVG.

    Texts beyond the longest one in two hundred are gathered in the last bar.

    Args:
        token_lengths: tokens of each text, in each split; at least one split is not empty.
        max_tokens: where texts were cut; marked where it falls within the figure.
    """
    splits = {name: np.asarray(lengths) for name, lengths in token_lengths.items() if len(lengths)}
    everything = np.concatenate(list(splits.values()))
    top = max(1, math.ceil(float(np.quantile(everything, 0.995))))
    width = max(1, math.ceil(top / 40))
    edges = np.arange(0, top + 2 * width, width)
    figure, axes = _figure(430, 270, left=52, right=16, top=34, bottom=44)
    names = []
    for place, (name, lengths) in enumerate(splits.items()):
        heights, _ = np.histogram(np.minimum(lengths, edges[-1] - 1), bins=edges)
        series = place % len(_SERIES)
        axes.stairs(
            heights / len(lengths),
            edges,
            color=_SERIES[series],
            linewidth=1.8,
            linestyle=_DASHES[series],
            label=_placeholder(place, _shortened(name, 12)),
        )
        if place == 0:
            axes.stairs(heights / len(lengths), edges, fill=True, color=_SERIES[series], alpha=0.22)
        names.append(_shortened(name, 12))
    if max_tokens is not None and max_tokens <= edges[-1]:
        axes.axvline(max_tokens, color=_MUTED, linewidth=1.2, linestyle=(0, (2, 3)), label="cut")
    axes.set_xlim(0, edges[-1])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("tokens", color=_MUTED)
    _percent_axis(axes)
    _legend(axes)
    return _svg(figure, "lengths", "Histogram of the texts' numbers of tokens", names)


def search_history(monitor: str, trials: Sequence[Mapping[str, Any]]) -> str:
    """An SVG of the metric of each trial of a search, and of the best so far.

    Args:
        monitor: The metric; of ``loss`` the lowest is best.
        trials: ``number``, ``state`` and ``metric`` of each, in their order.
    """
    finished = [trial for trial in trials if trial["state"] == "complete" and trial["metric"] is not None]
    pruned = [trial for trial in trials if trial["state"] == "pruned" and trial["metric"] is not None]
    best: list[float] = []
    for trial in finished:
        better = min if monitor == "loss" else max
        best.append(better([*best[-1:], trial["metric"]]))
    figure, axes = _figure(430, 270, left=58, right=16, top=34, bottom=44)
    if pruned:
        places = [trial["number"] for trial in pruned]
        axes.plot(places, [trial["metric"] for trial in pruned], "x", color=_MUTED, label="ended early")
    places = [trial["number"] for trial in finished]
    axes.plot(places, [trial["metric"] for trial in finished], "o", color=_SERIES[0], markersize=4.5, label="trial")
    axes.plot(places, best, color=_SERIES[1], linewidth=2.2, drawstyle="steps-post", label="best so far")
    axes.set_xlabel("trial", color=_MUTED)
    axes.margins(y=0.12)
    _title(axes, f"Validation {monitor}")
    _legend(axes)
    told = (
        f"Validation {monitor} of {len(finished)} finished trials; the best is {best[-1]:.4f}." if best else "No trial."
    )
    return _svg(figure, "history", told, ())


def search_importances(importances: Mapping[str, float]) -> str:
    """An SVG of how much of a metric's spread each key explains, the most important at the top."""
    ranked = sorted(importances.items(), key=lambda item: item[1])
    height = 60 + 26 * len(ranked)
    figure, axes = _figure(430, height, left=170, right=30, top=34, bottom=34)
    axes.grid(False)
    axes.barh(range(len(ranked)), [share for _, share in ranked], color=_SERIES[0], height=0.62)
    axes.yaxis.set_major_locator(require("matplotlib.ticker", "train").FixedLocator(range(len(ranked))))
    axes.set_yticklabels([_placeholder(place, key) for place, (key, _) in enumerate(ranked)])
    axes.xaxis.set_major_formatter(require("matplotlib.ticker", "train").FuncFormatter(lambda x, _: f"{100 * x:.0f}%"))
    axes.xaxis.set_major_locator(require("matplotlib.ticker", "train").MaxNLocator(nbins=5))
    _title(axes, "What mattered")
    told = "; ".join(f"{key} {share:.0%}" for key, share in reversed(ranked))
    return _svg(figure, "importances", told, [key.split(".")[-1] for key, _ in ranked])


def learning_rate_curve(rates: Sequence[float], losses: Sequence[float], chosen: float | None) -> str:
    """An SVG of the training loss while the learning rate rises, and of the rate that it suggests."""
    figure, axes = _figure(430, 270, left=52, right=16, top=34, bottom=44)
    axes.set_xscale("log")
    axes.plot(rates, losses, color=_SERIES[0], linewidth=2.2, label="loss")
    if chosen is not None:
        axes.axvline(chosen, color=_MUTED, linewidth=1, linestyle=(0, (2, 3)), label="suggested")
    axes.set_xlabel("learning rate", color=_MUTED)
    _title(axes, "Loss by learning rate")
    _legend(axes)
    told = f"The loss while the learning rate rises from {rates[0]:.1e} to {rates[-1]:.1e}."
    return _svg(figure, "rates", told, ())


def _figure(
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
    axes.spines["bottom"].set_color(_GRID)
    axes.grid(axis="y", color=_GRID, linewidth=1)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=_FONT_SIZE, labelcolor=_MUTED, pad=6)
    axes.xaxis.label.set_fontsize(_FONT_SIZE)
    axes.xaxis.set_major_locator(require("matplotlib.ticker", "train").MaxNLocator(nbins=8, integer=True))
    return figure, axes


def _centred() -> dict[str, Any]:
    return {"ha": "center", "va": "center", "color": _MUTED, "fontsize": _FONT_SIZE, "rotation_mode": "anchor"}


def _title(axes: Axes, words: str) -> None:
    axes.set_title(words, loc="left", fontsize=_FONT_SIZE + 1, color=_INK, fontweight="bold", pad=14)


def _legend(axes: Axes) -> None:
    """The names of the curves, in a row at the top right; a figure of one nameless thing needs none."""
    handles, _ = axes.get_legend_handles_labels()
    if len(handles) > 1:
        legend = axes.legend(
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
            ncols=len(handles),
            frameon=False,
            fontsize=_FONT_SIZE,
            labelcolor=_MUTED,
            handlelength=1.6,
            columnspacing=1.2,
            borderaxespad=0.2,
        )
        legend.set_zorder(5)


def _percent_axis(axes: Axes) -> None:
    ticker = require("matplotlib.ticker", "train")
    axes.yaxis.set_major_locator(ticker.MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{100 * value:.4g}%"))


def _curve(history: Sequence[Mapping[str, Any]], key: str) -> tuple[list[int], list[float]]:
    """The epochs in which a finite value of this key was measured, and those values."""
    points = [
        (int(record.get("epoch", place + 1)), float(record[key]))
        for place, record in enumerate(history)
        if record.get(key) is not None and math.isfinite(record[key])
    ]
    return [epoch for epoch, _ in points], [value for _, value in points]


def _shortened(words: str, most: int) -> str:
    words = " ".join(words.split())
    return words if len(words) <= most else words[: most - 1] + "…"


def _width(words: str) -> float:
    """Width of a line of text in em, near enough to leave room for it: Chinese characters are one em wide."""
    return sum(1.0 if unicodedata.east_asian_width(character) in "WF" else 0.58 for character in words)


def _placeholder(place: int, words: str) -> str:
    """What Matplotlib draws, and measures, in the stead of ``words``: about as wide, and of plain characters."""
    return f"@@{place}{'_' * max(0, round((_width(words) - 4.6) / 0.5))}@@"


def _svg(figure: Figure, name: str, description: str, words: Sequence[str]) -> str:
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
