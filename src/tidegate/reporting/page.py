"""The page of a run's report: from facts to one self-contained HTML document.

Each section is a function from the facts to HTML, and gives an empty string where there is nothing to show.
"""

from __future__ import annotations

import math
import string
from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np
import yaml

import tidegate
from tidegate.reporting import plots
from tidegate.reporting.facts import LabelFacts, Mistake, MultiTaskFacts, NumberFacts, RunFacts, TaggingFacts, json_safe
from tidegate.reporting.label_page import label_sections
from tidegate.reporting.markup import card as _card
from tidegate.reporting.markup import cut_text as _cut_text
from tidegate.reporting.markup import duration as _duration
from tidegate.reporting.markup import figure as _figure
from tidegate.reporting.markup import finite as _finite
from tidegate.reporting.markup import in_order as _in_order
from tidegate.reporting.markup import number as _number
from tidegate.reporting.markup import pairs as _pairs
from tidegate.reporting.markup import percent as _percent
from tidegate.reporting.markup import section as _section
from tidegate.reporting.markup import table as _table
from tidegate.reporting.markup import text as _text
from tidegate.reporting.markup import tiles as _tiles
from tidegate.reporting.metrics import accuracy_standard_error, wilson_interval
from tidegate.reporting.multitask_page import multitask_sections
from tidegate.reporting.number_page import number_sections
from tidegate.reporting.tagging_page import tagging_sections
from tidegate.reporting.target_plots import reliability_diagram

_MOST_CLASSES = 12  # classes that get a column of their own in the table of counts


def render_page(facts: RunFacts) -> str:
    """The whole report as an HTML document that needs no other file and no network."""
    if isinstance(facts, TaggingFacts):
        judged = tagging_sections(facts, _notes(facts))
    elif isinstance(facts, LabelFacts):
        judged = label_sections(facts, _notes(facts))
    elif isinstance(facts, NumberFacts):
        judged = number_sections(facts, _notes(facts))
    elif isinstance(facts, MultiTaskFacts):
        judged = multitask_sections(facts, _notes(facts), _class_sections)
    else:
        judged = _class_sections(facts, _notes(facts))
    sections = (
        f'<header><p class="kind">tidegate training report</p><h1>{_text(facts.title)}</h1></header>',
        *judged,
        _section("Learning curves", _curves(facts)),
        _section("Learning rate", _rates(facts)),
        _section("Data", _counts(facts), _lengths(facts)),
        _section("Recipe", _recipe(facts)),
        _section("Timing", _timing(facts)),
        _section("Environment", _environment(facts)),
        f"<footer>Written by tidegate {tidegate.__version__}. "
        "The same facts for programs stand in <code>metrics.json</code> beside this page.</footer>",
    )
    template = string.Template(resources.files("tidegate.reporting").joinpath("page.html").read_text("utf-8"))
    return template.substitute(title=_text(facts.title), body="\n".join(filter(None, sections)))


def _class_sections(facts: RunFacts, notes: str) -> tuple[str, ...]:
    """The parts of a classification's page from its head to the curves."""
    return (
        _headline(facts),
        notes,
        _section("Test set by class", _by_class(facts), _reliability(facts)),
        _section("Worst mistakes", _mistakes(facts)),
    )


def _headline(facts: RunFacts) -> str:
    test = facts.test
    if not test:
        return ""
    accuracy, count = float(test["accuracy"]), int(test["count"])
    low, high = wilson_interval(accuracy, count)
    rows = [("this model", accuracy, low, high, "")]
    verdict = ""
    if facts.baseline is not None:
        other = float(facts.baseline["accuracy"])
        rows.append((str(facts.baseline["name"]), other, *wilson_interval(other, count), " other"))
        verdict = _verdict(accuracy, other, count)
    support = [entry["support"] for entry in test["per_class"]]
    majority = test["per_class"][int(np.argmax(support))]
    guess = max(support) / count
    # The scale starts at the share of the commonest label where that leaves both models to its right.
    ends = [value for row in rows for value in row[2:4]] + [guess]
    start, end = math.floor(min(ends) * 20) / 20, min(1.0, math.ceil(max(ends) * 20) / 20)
    end = max(end, start + 0.05)

    def place(value: float) -> str:
        return f"{100 * (value - start) / (end - start):.2f}%"

    scale = "".join(
        f'<div class="row"><div class="name">{_text(name)}</div><div class="track">'
        f'<div class="range{kind}" style="left:{place(left)};right:{place(start + end - right)}"></div>'
        f'<div class="dot{kind}" style="left:{place(value)}"></div></div>'
        f'<div class="value">{_percent(value)}</div></div>'
        for name, value, left, right, kind in rows
    )
    tiles = [
        ("macro F1", _number(test.get("macro_f1"), 3)),
        ("log-loss, nats", _number(test.get("log_loss"), 3)),
        ("test texts", f"{count:,}"),
    ]
    if facts.history:
        tiles.append(("epochs", f"{len(facts.history)}"))
    if "train" in facts.timing:
        tiles.append(("training", _duration(facts.timing["train"])))
    return (
        '<div class="card headline"><div><p class="small">test accuracy</p>'
        f'<p class="figure">{100 * accuracy:.1f}<span>%</span></p>'
        f'<p class="small">95% interval {100 * low:.1f} to {_percent(high)}<br>over {count:,} test texts</p></div>'
        f'<div><div class="scale">{scale}</div><p class="small">{verdict} Always answering '
        f"“{_text(majority['label'])}” would be right for {_percent(guess)}. "
        f"Bars are 95% intervals on a scale from {100 * start:.0f}% to {100 * end:.0f}%.</p></div></div>{_tiles(tiles)}"
    )


def _verdict(accuracy: float, other: float, count: int) -> str:
    """One honest sentence on the model beside its baseline."""
    difference = accuracy - other
    error = math.hypot(accuracy_standard_error(accuracy, count), accuracy_standard_error(other, count))
    points = f"{abs(100 * difference):.1f} points"
    if round(abs(100 * difference), 1) == 0.0:
        return "The model and the baseline are equally accurate here."
    side = "above" if difference > 0 else "below"
    sure = "" if abs(difference) >= 2 * error else ", so it is not sure that one is better"
    return (
        f"The model stands {points} {side} the baseline; the standard error of such a difference is "
        f"{100 * error:.1f} points{sure}."
    )


def _notes(facts: RunFacts) -> str:
    if not facts.notes:
        return ""
    items = "".join(f"<li>{_text(note)}</li>" for note in facts.notes)
    return f'<div class="card notes"><ul>{items}</ul></div>'


def _by_class(facts: RunFacts) -> str:
    if not facts.test:
        return ""
    entries = facts.test["per_class"]
    rows = [
        (entry["label"], *(_number(entry[key], 3) for key in ("precision", "recall", "f1")), f"{entry['support']:,}")
        for entry in entries
    ]
    table = _card(_table(("label", "precision", "recall", "F1", "texts"), rows))
    drawing = plots.confusion_matrix(facts.test["confusion"], [entry["label"] for entry in entries])
    wide = len(entries) > 4
    caption = "Each row is a right label, each column what the model said; shades are shares of the row."
    figure = _figure(drawing, caption, wide=wide)
    return table + figure if wide else f'<div class="grid two">{table}{figure}</div>'


def _reliability(facts: RunFacts) -> str:
    test = facts.test
    if not test or not test.get("reliability"):
        return ""
    curves = {"this model": test["reliability"]}
    said = (
        "How often the model is right where it is so sure: on the dotted line its probabilities mean what they say. "
        f"The expected calibration error is {_percent(test['calibration_error'])}."
    )
    before = test.get("uncalibrated")
    if before:
        curves["before"] = before["reliability"]
        said += (
            f" Before the temperature of {test['temperature']:.3f} it was {_percent(before['calibration_error'])}, and "
            f"the log-loss {_number(before['log_loss'], 4)} instead of {_number(test['log_loss'], 4)}."
        )
    names = ("roc_auc", "average_precision", "matthews", "calibration_error", "log_loss")
    rows = [(name.replace("_", " "), _number(test.get(name), 4)) for name in names]
    if test.get("threshold") is not None:
        rows.append(("threshold", _number(test["threshold"], 4)))
    figure = _figure(reliability_diagram(curves), said)
    return f'<div class="grid two">{figure}{_card(_table(("figure", "test set"), rows))}</div>'


def _mistakes(facts: RunFacts) -> str:
    if not facts.mistakes:
        return ""
    items = "".join(_mistake(mistake) for mistake in facts.mistakes)
    return (
        "<p>The wrong answers that the model was surest of. They show what it has not learned, and often which "
        f'labels of the data are doubtful.</p><div class="card"><ol class="mistakes">{items}</ol></div>'
    )


def _mistake(mistake: Mistake) -> str:
    origin = f"<span>{_text(mistake.origin)}</span>" if mistake.origin else ""
    return (
        f'<li>{_cut_text(mistake.text)}<div class="verdict">'
        f'<span>right label <span class="right">{_text(mistake.label)}</span></span>'
        f'<span>model said <span class="wrong">{_text(mistake.predicted)}</span>, '
        f"{_percent(mistake.probability)} sure</span>{origin}</div></li>"
    )


def _curves(facts: RunFacts) -> str:
    if not facts.history:
        return ""
    training = facts.recipe.get("training")
    monitor = training.get("monitor") if isinstance(training, Mapping) else None
    drawings = plots.learning_curves(facts.history, facts.best_epoch, monitor)
    figures = "".join(_figure(drawing) for drawing in drawings)
    columns: dict[str, tuple[str, Any]] = {
        "train_loss": ("training loss", lambda value: _number(value, 4)),
        "validation_loss": ("validation loss", lambda value: _number(value, 4)),
        "validation_accuracy": ("validation accuracy", _percent),
        "validation_f1": ("validation F1", _percent),
        "validation_intent_accuracy": ("validation intent accuracy", _percent),
        **{key: (key.replace("_", " "), lambda value: _number(value, 4)) for key in _measured(facts)},
        "tokens_per_second": ("tokens/s", lambda value: _number(value, 0)),
        "seconds": ("seconds", lambda value: _number(value, 1)),
    }
    kept = [key for key in columns if any(record.get(key) is not None for record in facts.history)]
    numbers = [record.get("epoch", place + 1) for place, record in enumerate(facts.history)]
    rows = [
        (
            f"{number} (kept)" if number == facts.best_epoch else number,
            *(columns[key][1](record.get(key)) for key in kept),
        )
        for number, record in zip(numbers, facts.history, strict=True)
    ]
    marked = numbers.index(facts.best_epoch) if facts.best_epoch in numbers else None
    table = _table(("epoch", *(columns[key][0] for key in kept)), rows, marked)
    grid = f'<div class="grid two">{figures}</div>' if figures else ""
    return f"{grid}<details><summary>Every epoch in figures</summary>{_card(table)}</details>"


def _measured(facts: RunFacts) -> list[str]:
    """The keys of validation metrics in the history that have no words of their own."""
    known = ("loss", "accuracy", "f1", "intent_accuracy")
    keys = dict.fromkeys(key for record in facts.history for key in record if key.startswith("validation_"))
    return [key for key in keys if key.removeprefix("validation_") not in known]


def _rates(facts: RunFacts) -> str:
    found = facts.rate_search
    if not found:
        return ""
    drawing = plots.learning_rate_curve(found["rates"], found["losses"], found["suggestion"])
    return _figure(drawing, f"The finder suggests {found['suggestion']:.2e}, where the loss falls fastest.")


def _counts(facts: RunFacts) -> str:
    splits = _in_order({**facts.counts, **facts.class_counts})
    if not splits:
        return ""
    totals: dict[Any, int] = {}
    for counts in facts.class_counts.values():
        for label, count in counts.items():
            totals[label] = totals.get(label, 0) + count
    shown = list(totals) if len(totals) <= _MOST_CLASSES else sorted(totals, key=lambda c: -totals[c])[:_MOST_CLASSES]
    rows, tagged = [], isinstance(facts, TaggingFacts)  # whose labels are those of segments, many a sentence
    for split in splits:
        counts = facts.class_counts.get(split, {})
        total = facts.counts.get(split, sum(counts.values()))
        whole = sum(counts.values()) if tagged else total
        cells = [
            f"{counts.get(label, 0):,} ({counts.get(label, 0) / whole:.0%})" if counts and whole else "–"
            for label in shown
        ]
        rows.append((split, f"{total:,}", *cells))
    more = (
        f"<p class='small'>{len(totals) - len(shown):,} rarer labels are not shown.</p>"
        if len(totals) > len(shown)
        else ""
    )
    return _card(_table(("split", "sentences" if tagged else "texts", *shown), rows) + more)


def _lengths(facts: RunFacts) -> str:
    lengths = {split: facts.token_lengths[split] for split in _in_order(facts.token_lengths)}
    lengths = {split: values for split, values in lengths.items() if len(values)}
    if not lengths:
        return ""
    limit = _max_tokens(facts.recipe)
    quantiles = {"median": 0.5, "90%": 0.9, "99%": 0.99, "longest": 1.0}
    rows = [
        (split, *(f"{int(np.quantile(values, q, method='higher')):,}" for q in quantiles.values()))
        for split, values in lengths.items()
    ]
    caption = "Share of texts by their number of tokens, before truncation; the last bar gathers everything longer."
    if limit is not None:
        beyond = sum(int((np.asarray(values) > limit).sum()) for values in lengths.values())
        total = sum(len(values) for values in lengths.values())
        caption += f" Texts are cut at {limit:,} tokens, which shortens {beyond:,} of {total:,}."
    figure = _figure(plots.length_histogram(lengths, limit), caption)
    table = _card(_table(("tokens", *quantiles), rows))
    return f'<div class="grid two">{figure}{table}</div>'


def _recipe(facts: RunFacts) -> str:
    if not facts.recipe:
        return ""
    plain = {key: value for key, value in facts.recipe.items() if not isinstance(value, Mapping)}
    groups = {"general": plain, **{key: value for key, value in facts.recipe.items() if isinstance(value, Mapping)}}
    cards = "".join(
        f'<div class="card"><h3>{_text(name)}</h3>{_pairs(values)}</div>' for name, values in groups.items() if values
    )
    source = yaml.safe_dump(json_safe(facts.recipe), allow_unicode=True, sort_keys=False, width=100)
    return f'<div class="columns">{cards}</div><details><summary>As YAML</summary><pre>{_text(source)}</pre></details>'


def _timing(facts: RunFacts) -> str:
    seconds = {name: value for name, value in facts.timing.items() if _finite(value)}
    if not seconds:
        return ""
    longest = max(max(seconds.values()), 1e-9)
    rows = "".join(
        f'<tr><th scope="row">{_text(name)}</th><td class="bar"><i style="width:{100 * value / longest:.1f}%"></i></td>'
        f"<td>{_duration(value)}</td></tr>"
        for name, value in seconds.items()
    )
    return _card(f"<table><tbody>{rows}</tbody></table>")


def _environment(facts: RunFacts) -> str:
    return _card(_pairs(facts.environment)) if facts.environment else ""


def _max_tokens(recipe: Mapping[str, Any]) -> int | None:
    text = recipe.get("text")
    limit = text.get("max_tokens") if isinstance(text, Mapping) else None
    return limit if isinstance(limit, int) else None
