"""The figures by which each of several tasks is judged, and what of them may choose an epoch."""

from __future__ import annotations

from collections.abc import Mapping

from tidegate.reporting.scores import CLASS_MONITORS, NUMBER_MONITORS

__all__ = ["MAIN_FIGURES", "TASK_FIGURES", "task_figure", "task_monitors"]

# Kind of a task -> what a monitor may name of it, and what it is judged by where nothing is named.
TASK_FIGURES = {"classification": CLASS_MONITORS, "regression": NUMBER_MONITORS}
MAIN_FIGURES = {"classification": "accuracy", "regression": "r2"}


def task_monitors(kinds: Mapping[str, str]) -> tuple[str, ...]:
    """What may choose the epoch: ``mean``, ``loss``, a task, which stands for its main figure, or ``TASK_FIGURE``.

    Args:
        kinds: Task -> ``"classification"`` or ``"regression"``.
    """
    named = [f"{name}_{figure}" for name, kind in kinds.items() for figure in TASK_FIGURES[kind]]
    return ("mean", "loss", *kinds, *named)


def task_figure(kinds: Mapping[str, str], monitor: str) -> str:
    """What a history calls the figure that a monitor stands for: of a task by itself, ``TASK_FIGURE``."""
    return f"{monitor}_{MAIN_FIGURES[kinds[monitor]]}" if monitor in kinds else monitor
