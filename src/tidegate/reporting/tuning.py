"""The page of a search: its trials, the course of the best, and which keys mattered."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import tidegate
from tidegate.reporting.markup import card, duration, figure, number, section, table, text
from tidegate.reporting.plots import search_history, search_importances
from tidegate.reporting.scores import sign_of

__all__ = ["render_tuning"]


def render_tuning(
    name: str, monitor: str, trials: Sequence[Mapping[str, Any]], importances: Mapping[str, float]
) -> str:
    """The page as an HTML document that needs no other file and no network.

    Args:
        name: The recipe's.
        monitor: The validation metric that was compared.
        trials: ``number, state, values, metric, epochs, seconds`` of each; `sign_of` knows which metric is best low.
        importances: Key -> share of the metric's spread that it explains.
    """
    lower = sign_of(monitor) < 0
    finished = [trial for trial in trials if trial["state"] == "complete"]
    ranked = sorted(trials, key=lambda trial: _rank(trial, lower))
    keys = list(dict.fromkeys(key for trial in trials for key in trial["values"]))
    rows = [
        [
            f"{trial['number']}" + (" (ended early)" if trial["state"] == "pruned" else ""),
            "failed" if trial["metric"] is None else number(trial["metric"], 4),
            *(_short(trial["values"].get(key)) for key in keys),
            trial["epochs"],
            duration(trial["seconds"]),
        ]
        for trial in ranked
    ]
    heads = ["trial", monitor, *(key.split(".")[-1] for key in keys), "epochs", "time"]
    pruned = sum(trial["state"] == "pruned" for trial in trials)
    failed = sum(trial["state"] == "fail" for trial in trials)
    said = f"{len(finished)} trials finished, {pruned} ended early, {failed} failed."
    drawings = [figure(search_history(monitor, trials))] if finished else []
    if importances:
        drawings.append(figure(search_importances(importances), "By functional analysis of variance over the trials."))
    sections = (
        f'<header><p class="kind">tidegate search</p><h1>{text(name)}</h1></header>',
        card(f"<p>{text(said)}</p>"),
        section("Course", "".join(drawings)),
        section("Trials, the best first", card(table(heads, rows, 0 if finished else None))),
        f"<footer>Written by tidegate {tidegate.__version__}. The same facts for programs stand in "
        "<code>trials.json</code> beside this page.</footer>",
    )
    template = string.Template(resources.files("tidegate.reporting").joinpath("page.html").read_text("utf-8"))
    return template.substitute(title=text(f"{name}: search"), body="\n".join(filter(None, sections)))


def _rank(trial: Mapping[str, Any], lower: bool) -> tuple[int, float]:
    metric = trial["metric"]
    if metric is None:
        return (2, 0.0)
    return (0 if trial["state"] == "complete" else 1, metric if lower else -metric)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else "" if value is None else str(value)
