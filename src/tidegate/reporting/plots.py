"""The report's figures as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tidegate.errors import require
from tidegate.reporting.drawing import (
    DASHES,
    FONT_SIZE,
    GRID,
    INK,
    MUTED,
    PAPER,
    SERIES,
    centred,
    new_figure,
    percent_axis,
    placeholder,
    set_legend,
    set_title,
    shortened,
    to_svg,
    visible,
    width_of,
)
from tidegate.reporting.scores import sign_of

__all__ = [
    "confusion_matrix",
    "learning_curves",
    "learning_rate_curve",
    "length_histogram",
    "search_history",
    "search_importances",
    "visible",
]


def learning_curves(
    history: Sequence[Mapping[str, Any]], best_epoch: int | None = None, monitor: str | None = None
) -> list[str]:
    """SVGs of the losses, of the validation accuracy and of the monitor; only of those that were measured.

    Args:
        history: one dict an epoch, see :class:`tidegate.reporting.facts.RunFacts`.
        best_epoch: the epoch to mark as the one whose weights were kept.
        monitor: the validation metric that chose it.
    """
    panels = [
        ("loss", "Loss", {"train_loss": "training", "validation_loss": "validation"}, False),
        ("accuracy", "Validation accuracy", {"validation_accuracy": "validation"}, True),
    ]
    if monitor is not None and monitor not in ("loss", "accuracy"):
        title = f"Validation {monitor.replace('_', ' ')}"
        panels.append(("monitor", title, {f"validation_{monitor}": "validation"}, False))
    drawings = []
    for name, title, keys, percent in panels:
        curves = {word: curve for key, word in keys.items() if (curve := _curve(history, key))[0]}
        if not curves:
            continue
        figure, axes = new_figure(430, 270, left=52, right=16, top=34, bottom=44)
        for place, (word, (epochs, values)) in enumerate(curves.items()):
            series = 1 if word == "validation" else 0
            axes.plot(
                epochs,
                values,
                color=SERIES[series],
                linestyle=DASHES[place],
                linewidth=2.2,
                marker="o",
                markersize=4.5 if len(epochs) < 30 else 0,
                label=word,
            )
        epochs = sorted({epoch for curve, _ in curves.values() for epoch in curve})
        if best_epoch in epochs:
            axes.axvline(best_epoch, color=MUTED, linewidth=1, linestyle=(0, (2, 3)), label="kept", zorder=0)
        margin = max(0.4, 0.04 * (epochs[-1] - epochs[0]))
        axes.set_xlim(epochs[0] - margin, epochs[-1] + margin)
        axes.set_xlabel("epoch", color=MUTED)
        axes.margins(y=0.12)
        if percent:
            percent_axis(axes)
        set_title(axes, title)
        set_legend(axes)
        drawings.append(to_svg(figure, name, f"{title} by epoch", []))
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
    names = [shortened(str(label), 24) for label in classes]
    size = min(float(FONT_SIZE), cell * 0.72)
    longest = max(width_of(name) for name in names) * size
    flat = max(width_of(name) for name in names) * size <= cell * 0.95
    left, bottom = 44 + longest, 40 + (size * 1.4 if flat else longest)
    extent = cell * len(classes)
    figure, axes = new_figure(left + extent + 14, extent + bottom + 12, left=left, right=14, top=12, bottom=bottom)
    rectangle = require("matplotlib.patches", "train").Rectangle
    for row, column in zip(*np.nonzero(counts), strict=True):
        share = float(shares[row, column])
        axes.add_patch(
            rectangle((column, row), 1, 1, facecolor=SERIES[0 if row == column else 1], alpha=0.12 + 0.88 * share)
        )
    # 24 pixels hold the figures of a cell; a matrix of many classes shows its shades alone.
    for row, column in np.ndindex(counts.shape) if cell >= 24 else ():
        axes.text(
            column + 0.5,
            row + 0.5,
            f"{counts[row, column]:,}",
            ha="center",
            va="center_baseline",
            color=PAPER if shares[row, column] > 0.5 else INK,
            fontsize=min(16, cell * 0.3),
        )
    axes.set_xlim(0, len(classes))
    axes.set_ylim(len(classes), 0)
    for line in range(len(classes) + 1):
        axes.axhline(line, color=GRID, linewidth=1)
        axes.axvline(line, color=GRID, linewidth=1)
    middles = np.arange(len(classes)) + 0.5
    places = [placeholder(place, name) for place, name in enumerate(names)]
    axes.set_xticks(middles, places, fontsize=size, color=INK)
    if not flat:
        for label in axes.get_xticklabels():
            label.set(rotation=90, rotation_mode="anchor", ha="right", va="center")
    axes.set_yticks(middles, places, fontsize=size, color=INK)
    axes.tick_params(length=0, pad=5)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    figure.text(0.5 * (left + left + extent) / figure.bbox.width, 10 / figure.bbox.height, "predicted", **centred())
    figure.text(
        14 / figure.bbox.width, (bottom + extent / 2) / figure.bbox.height, "right label", rotation=90, **centred()
    )
    return to_svg(figure, "confusion", "Confusion matrix", names)


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
    figure, axes = new_figure(430, 270, left=52, right=16, top=34, bottom=44)
    names = []
    for place, (name, lengths) in enumerate(splits.items()):
        heights, _ = np.histogram(np.minimum(lengths, edges[-1] - 1), bins=edges)
        series = place % len(SERIES)
        axes.stairs(
            heights / len(lengths),
            edges,
            color=SERIES[series],
            linewidth=1.8,
            linestyle=DASHES[series],
            label=placeholder(place, shortened(name, 12)),
        )
        if place == 0:
            axes.stairs(heights / len(lengths), edges, fill=True, color=SERIES[series], alpha=0.22)
        names.append(shortened(name, 12))
    if max_tokens is not None and max_tokens <= edges[-1]:
        axes.axvline(max_tokens, color=MUTED, linewidth=1.2, linestyle=(0, (2, 3)), label="cut")
    axes.set_xlim(0, edges[-1])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("tokens", color=MUTED)
    percent_axis(axes)
    set_legend(axes)
    return to_svg(figure, "lengths", "Histogram of the texts' numbers of tokens", names)


def search_history(monitor: str, trials: Sequence[Mapping[str, Any]]) -> str:
    """An SVG of the metric of each trial of a search, and of the best so far.

    Args:
        monitor: The metric, of which `sign_of` knows whether the lowest is best.
        trials: ``number``, ``state`` and ``metric`` of each, in their order.
    """
    finished = [trial for trial in trials if trial["state"] == "complete" and trial["metric"] is not None]
    pruned = [trial for trial in trials if trial["state"] == "pruned" and trial["metric"] is not None]
    best: list[float] = []
    for trial in finished:
        better = min if sign_of(monitor) < 0 else max
        best.append(better([*best[-1:], trial["metric"]]))
    figure, axes = new_figure(430, 270, left=58, right=16, top=34, bottom=44)
    if pruned:
        places = [trial["number"] for trial in pruned]
        axes.plot(places, [trial["metric"] for trial in pruned], "x", color=MUTED, label="ended early")
    places = [trial["number"] for trial in finished]
    axes.plot(places, [trial["metric"] for trial in finished], "o", color=SERIES[0], markersize=4.5, label="trial")
    axes.plot(places, best, color=SERIES[1], linewidth=2.2, drawstyle="steps-post", label="best so far")
    axes.set_xlabel("trial", color=MUTED)
    axes.margins(y=0.12)
    set_title(axes, f"Validation {monitor}")
    set_legend(axes)
    told = (
        f"Validation {monitor} of {len(finished)} finished trials; the best is {best[-1]:.4f}." if best else "No trial."
    )
    return to_svg(figure, "history", told, ())


def search_importances(importances: Mapping[str, float]) -> str:
    """An SVG of how much of a metric's spread each key explains, the most important at the top."""
    ranked = sorted(importances.items(), key=lambda item: item[1])
    height = 60 + 26 * len(ranked)
    figure, axes = new_figure(430, height, left=170, right=30, top=34, bottom=34)
    axes.grid(False)
    axes.barh(range(len(ranked)), [share for _, share in ranked], color=SERIES[0], height=0.62)
    axes.yaxis.set_major_locator(require("matplotlib.ticker", "train").FixedLocator(range(len(ranked))))
    axes.set_yticklabels([placeholder(place, key) for place, (key, _) in enumerate(ranked)])
    axes.xaxis.set_major_formatter(require("matplotlib.ticker", "train").FuncFormatter(lambda x, _: f"{100 * x:.0f}%"))
    axes.xaxis.set_major_locator(require("matplotlib.ticker", "train").MaxNLocator(nbins=5))
    set_title(axes, "What mattered")
    told = "; ".join(f"{key} {share:.0%}" for key, share in reversed(ranked))
    return to_svg(figure, "importances", told, [key.split(".")[-1] for key, _ in ranked])


def learning_rate_curve(rates: Sequence[float], losses: Sequence[float], chosen: float | None) -> str:
    """An SVG of the training loss while the learning rate rises, and of the rate that it suggests."""
    figure, axes = new_figure(430, 270, left=52, right=16, top=34, bottom=44)
    axes.set_xscale("log")
    axes.plot(rates, losses, color=SERIES[0], linewidth=2.2, label="loss")
    if chosen is not None:
        axes.axvline(chosen, color=MUTED, linewidth=1, linestyle=(0, (2, 3)), label="suggested")
    axes.set_xlabel("learning rate", color=MUTED)
    set_title(axes, "Loss by learning rate")
    set_legend(axes)
    told = f"The loss while the learning rate rises from {rates[0]:.1e} to {rates[-1]:.1e}."
    return to_svg(figure, "rates", told, ())


def _curve(history: Sequence[Mapping[str, Any]], key: str) -> tuple[list[int], list[float]]:
    """The epochs in which a finite value of this key was measured, and those values."""
    points = [
        (int(record.get("epoch", place + 1)), float(record[key]))
        for place, record in enumerate(history)
        if record.get(key) is not None and math.isfinite(record[key])
    ]
    return [epoch for epoch, _ in points], [value for _, value in points]
