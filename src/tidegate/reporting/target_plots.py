"""Figures of predicted numbers and of probabilities, as inline SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tidegate.errors import require
from tidegate.reporting.drawing import (
    DASHES,
    MUTED,
    SERIES,
    new_figure,
    percent_axis,
    set_legend,
    set_title,
    to_svg,
)

__all__ = ["error_histogram", "predicted_by_right", "reliability_diagram"]

_MOST_POINTS = 1500


def predicted_by_right(truth: Sequence[float], predicted: Sequence[float]) -> str:
    """An SVG with a point for each text, of many for an evenly spaced share of them, and the line where they are equal.

    Args:
        truth: the right numbers.
        predicted: what the model says.
    """
    right, said = np.asarray(truth, dtype=float), np.asarray(predicted, dtype=float)
    chosen = np.unique(np.linspace(0, len(right) - 1, min(len(right), _MOST_POINTS)).astype(int))
    figure, axes = new_figure(430, 330, left=56, right=16, top=34, bottom=44)
    ends = [float(min(right.min(), said.min())), float(max(right.max(), said.max()))]
    axes.plot(ends, ends, color=MUTED, linewidth=1.2, linestyle=(0, (2, 3)), label="equal")
    axes.plot(right[chosen], said[chosen], "o", color=SERIES[0], markersize=3.2, alpha=0.45, markeredgewidth=0)
    _plain_ticks(axes.xaxis)
    axes.set_xlabel("right number", color=MUTED)
    set_title(axes, "Predicted by right number")
    return to_svg(figure, "predicted", f"Predicted and right numbers of {len(chosen):,} texts", [])


def error_histogram(truth: Sequence[float], predicted: Sequence[float]) -> str:
    """An SVG of the share of texts by predicted less right number; errors beyond one in two hundred at each end are
    gathered in the last bars.

    Args:
        truth: the right numbers.
        predicted: what the model says.
    """
    errors = np.asarray(predicted, dtype=float) - np.asarray(truth, dtype=float)
    low, high = np.quantile(errors, [0.005, 0.995])
    if high <= low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, 32)
    heights, _ = np.histogram(np.clip(errors, low, high), bins=edges)
    figure, axes = new_figure(430, 330, left=56, right=16, top=34, bottom=44)
    axes.stairs(heights / len(errors), edges, fill=True, color=SERIES[0], alpha=0.5)
    axes.axvline(0, color=MUTED, linewidth=1.2, linestyle=(0, (2, 3)))
    axes.set_ylim(bottom=0)
    _plain_ticks(axes.xaxis)
    axes.set_xlabel("predicted less right", color=MUTED)
    percent_axis(axes)
    set_title(axes, "Errors")
    return to_svg(figure, "errors", "Histogram of the errors", [])


def reliability_diagram(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """An SVG of how often what was said with some confidence was right, beside the line where both are equal.

    Args:
        curves: name -> bins, as `tidegate.reporting.scores.reliability_bins` gives them; three curves at most.
    """
    figure, axes = new_figure(430, 330, left=56, right=16, top=34, bottom=44)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1.2, linestyle=(0, (2, 3)), label="calibrated")
    for place, (name, bins) in enumerate(curves.items()):
        axes.plot(
            [entry["confidence"] for entry in bins],
            [entry["accuracy"] for entry in bins],
            color=SERIES[place],
            linestyle=DASHES[place],
            linewidth=2.2,
            marker="o",
            markersize=4.5,
            label=name,
        )
    lowest = min((entry["low"] for bins in curves.values() for entry in bins), default=0.0)
    axes.set_xlim(lowest, 1.02)
    ticker = require("matplotlib.ticker", "train")
    _plain_ticks(axes.xaxis)
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{100 * value:.4g}%"))
    axes.set_xlabel("confidence", color=MUTED)
    percent_axis(axes)
    set_title(axes, "Right")
    set_legend(axes)
    return to_svg(figure, "reliability", "Share of right answers by their confidence", [])


def _plain_ticks(axis: Any) -> None:
    axis.set_major_locator(require("matplotlib.ticker", "train").MaxNLocator(nbins=7))
