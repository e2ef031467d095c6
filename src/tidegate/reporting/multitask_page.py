"""The sections of the report of several tasks: all of them in one table, then each as a run of its own shows it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from tidegate.reporting.facts import MultiTaskFacts, NumberFacts, RunFacts
from tidegate.reporting.markup import card, duration, number, percent, section, table, text, tiles
from tidegate.reporting.number_page import number_sections

__all__ = ["multitask_sections"]

# Kind of a task -> the figure that it is judged by, and the words for it.
_FIGURES = {"classification": ("accuracy", "accuracy"), "regression": ("mae", "mean absolute error")}


def multitask_sections(
    facts: MultiTaskFacts, notes: str, class_sections: Callable[[RunFacts, str], tuple[str, ...]]
) -> tuple[str, ...]:
    """The parts of the page from its head to the curves.

    Args:
        facts: Of the run.
        notes: What is to be known of it, as HTML.
        class_sections: From the facts of a run of one classification, and its notes, to its sections.
    """
    each = [_task(facts, task, class_sections) for task in (facts.test or {}).get("tasks", ())]
    return (_headline(facts), notes, *each)


def _headline(facts: MultiTaskFacts) -> str:
    if not facts.test:
        return ""
    baselines = (facts.baseline or {}).get("tasks", {})
    heads = ["task", "figure", "together", "95% interval"]
    heads += ["alone", "difference"] if facts.single else []
    heads += ["TF-IDF, linear"] if baselines else []
    rows = []
    for task, found in facts.test["tasks"].items():
        for place, (key, words) in enumerate(_shown(facts.kinds[task])):
            show = percent if key == "accuracy" else lambda value: number(value, 4)
            interval = found["interval"] if key in ("accuracy", "mae") else None
            row = [task if not place else "", words, show(found[key])]
            row.append("–" if interval is None else f"{show(interval[0])} to {show(interval[1])}")
            if facts.single:
                other = facts.single.get(task)
                row += ["–", "–"] if other is None else [show(other[key]), _difference(found, other, key)]
            if baselines:
                other = baselines.get(task, {}).get(key)
                row.append("–" if other is None else show(other))
            rows.append(row)
    boxes = [("tasks", f"{len(facts.kinds)}"), ("test texts", f"{facts.test['count']:,}")]
    if facts.history:
        boxes.append(("epochs", f"{len(facts.history)}"))
    if "train" in facts.timing:
        boxes.append(("training", duration(facts.timing["train"])))
    words = "One encoder learned all of these together."
    if facts.single:
        words += (
            " Beside it stands a model of each task alone, of the same arguments and the same seed; a difference above "
            "zero is a gain of learning together. One below two standard errors may be chance, and what other seeds "
            "would move comes on top."
        )
    return f"<p>{text(words)}</p>{card(table(heads, rows))}{tiles(boxes)}"


def _shown(kind: str) -> tuple[tuple[str, str], ...]:
    if kind == "regression":
        return ("mae", "mean absolute error"), ("r2", "R²"), ("spearman", "Spearman")
    return ("accuracy", "accuracy"), ("macro_f1", "macro F1")


def _difference(together: Mapping[str, Any], alone: Mapping[str, Any], key: str) -> str:
    """The gain of learning together, in points where it is a share; below zero where it is a loss."""
    gain = alone[key] - together[key] if key == "mae" else together[key] - alone[key]
    said = f"{100 * gain:+.1f} points" if key == "accuracy" else f"{gain:+.4f}"
    # Metrics have the standard error of their main figure alone.
    if key in ("accuracy", "mae"):
        error = math.hypot(together["standard_error"], alone["standard_error"])
        said += "" if abs(gain) >= 2 * error else ", which may be chance"
    return said


def _task(facts: MultiTaskFacts, task: str, class_sections: Callable[[RunFacts, str], tuple[str, ...]]) -> str:
    found: Mapping[str, Any] = (facts.test or {})["tasks"][task]
    own: dict[str, Any] = {
        "title": task,
        "test": found,
        "baseline": (facts.baseline or {}).get("tasks", {}).get(task),
        "mistakes": facts.mistakes.get(task, ()),
    }
    if facts.kinds[task] == "regression":
        own |= facts.answers.get(task, {})
        parts = number_sections(NumberFacts(**own), "")
    else:
        parts = class_sections(RunFacts(**own), "")
    # Headings of a run of its own stand one step lower here.
    body = "".join(parts).replace("<h2>", "<h3>").replace("</h2>", "</h3>")
    return section(f"Task {task}: {facts.kinds[task]}", body)
