"""The sections of a regression's report: its error, predicted beside right numbers, errors by size, worst texts."""

from __future__ import annotations

from tidegate.reporting.facts import NumberFacts
from tidegate.reporting.markup import card, cut_text, duration, figure, number, section, table, text, tiles
from tidegate.reporting.target_plots import error_histogram, predicted_by_right

__all__ = ["number_sections"]


def number_sections(facts: NumberFacts, notes: str) -> tuple[str, ...]:
    """The parts of the page from its head to the curves."""
    return (
        _headline(facts),
        notes,
        section("Test set", _pictures(facts), _by_size(facts)),
        section("Texts missed by most", _mistakes(facts)),
    )


def _headline(facts: NumberFacts) -> str:
    test = facts.test
    if not test:
        return ""
    heads = ("", "MAE", "RMSE", "R²", "Pearson", "Spearman")
    keys = ("mae", "rmse", "r2", "pearson", "spearman")
    rows = [("this model", *(number(test[key], 4) for key in keys))]
    if facts.baseline is not None:
        rows.append((str(facts.baseline["name"]), *(number(facts.baseline[key], 4) for key in keys)))
    rows.append(("always the median", number(test["guess"], 4), "–", "–", "–", "–"))
    low, high = test["interval"]
    boxes = [("R²", number(test["r2"], 3)), ("Spearman", number(test["spearman"], 3))]
    boxes.append(("bias", f"{test['bias']:+.3f}"))
    boxes.append(("test texts", f"{test['count']:,}"))
    if facts.history:
        boxes.append(("epochs", f"{len(facts.history)}"))
    if "train" in facts.timing:
        boxes.append(("training", duration(facts.timing["train"])))
    return (
        '<div class="card headline"><div><p class="small">mean absolute error on the test set</p>'
        f'<p class="figure">{number(test["mae"], 3)}</p>'
        f'<p class="small">95% interval {number(low, 3)} to {number(high, 3)}<br>over {test["count"]:,} test texts</p>'
        f'</div><div class="scroll">{table(heads, rows, 0)}</div></div>{tiles(boxes)}'
    )


def _pictures(facts: NumberFacts) -> str:
    if not facts.test or not facts.predicted:
        return ""
    truth, predicted = facts.truth, facts.predicted
    pictures = figure(predicted_by_right(truth, predicted), "Points on the dotted line are right.")
    return f'<div class="grid two">{pictures}{figure(error_histogram(truth, predicted))}</div>'


def _by_size(facts: NumberFacts) -> str:
    if not facts.test:
        return ""
    rows = [
        (
            f"{entry['low']:.4g} to {entry['high']:.4g}",
            f"{entry['count']:,}",
            number(entry["mae"], 3),
            f"{entry['bias']:+.3f}",
        )
        for entry in facts.test["by_size"]
    ]
    return card(table(("right number", "texts", "MAE", "bias"), rows))


def _mistakes(facts: NumberFacts) -> str:
    if not facts.mistakes:
        return ""
    items = "".join(
        f'<li>{cut_text(item.text)}<div class="verdict"><span>right number <span class="right">{item.target:.4g}'
        f'</span></span><span>model said <span class="wrong">{item.predicted:.4g}</span></span>'
        f"{f'<span>{text(item.origin)}</span>' if item.origin else ''}</div></li>"
        for item in facts.mistakes
    )
    return f'<div class="card"><ol class="mistakes">{items}</ol></div>'
