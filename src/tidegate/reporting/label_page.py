"""The sections of a report on several labels a text: F1, each label, calibration, the worst texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tidegate.reporting.facts import LabelFacts
from tidegate.reporting.markup import (
    card,
    cut_text,
    duration,
    figure,
    number,
    percent,
    section,
    table,
    text,
    tiles,
)
from tidegate.reporting.target_plots import reliability_diagram

__all__ = ["label_sections"]


def label_sections(facts: LabelFacts, notes: str) -> tuple[str, ...]:
    """The parts of the page from its head to the curves."""
    return (
        _headline(facts),
        notes,
        section("Test set by label", _by_label(facts), _reliability(facts)),
        section("Worst mistakes", _mistakes(facts)),
    )


def _headline(facts: LabelFacts) -> str:
    test = facts.test
    if not test:
        return ""
    keys = ("micro_f1", "macro_f1", "average_precision", "accuracy")
    rows = [("this model", *(number(test[key], 4) for key in keys))]
    if facts.baseline is not None:
        rows.append((str(facts.baseline["name"]), *(number(facts.baseline[key], 4) for key in keys)))
    low, high = test["interval"]
    said = test["labels_per_text"]
    boxes = [
        ("all labels right", percent(test["accuracy"])),
        ("ROC AUC", number(test["roc_auc"], 3)),
        ("labels a text", f"{said['right']:.2f}, predicted {said['predicted']:.2f}"),
        ("test texts", f"{test['count']:,}"),
    ]
    if facts.history:
        boxes.append(("epochs", f"{len(facts.history)}"))
    if "train" in facts.timing:
        boxes.append(("training", duration(facts.timing["train"])))
    heads = ("", "micro F1", "macro F1", "average precision", "all right")
    return (
        '<div class="card headline"><div><p class="small">micro F1 on the test set</p>'
        f'<p class="figure">{number(test["micro_f1"], 3)}</p><p class="small">every label right in '
        f"{percent(test['accuracy'])}, 95% interval {100 * low:.1f} to {percent(high)}<br>over {test['count']:,} test "
        f'texts</p></div><div class="scroll">{table(heads, rows, 0)}</div></div>{tiles(boxes)}'
    )


def _by_label(facts: LabelFacts) -> str:
    if not facts.test:
        return ""
    heads = ("label", "precision", "recall", "F1", "average precision", "threshold", "texts")
    rows = [
        (
            entry["label"],
            *(number(entry[key], 3) for key in ("precision", "recall", "f1", "average_precision", "threshold")),
            f"{entry['support']:,}",
        )
        for entry in facts.test["per_class"]
    ]
    return card(table(heads, rows))


def _reliability(facts: LabelFacts) -> str:
    test = facts.test
    if not test:
        return ""
    curves: dict[str, Any] = {"this model": test["reliability"]}
    said = (
        "How often a label is there where the model gives it such a probability, all labels together. The expected "
        f"calibration error is {percent(test['calibration_error'])}."
    )
    if before := test.get("uncalibrated"):
        curves["before"] = before["reliability"]
        said += (
            f" Before the temperature of {test['temperature']:.3f} it was {percent(before['calibration_error'])}, and "
            f"the log-loss {number(before['log_loss'], 4)} instead of {number(test['log_loss'], 4)}."
        )
    return figure(reliability_diagram(curves), said)


def _mistakes(facts: LabelFacts) -> str:
    if not facts.mistakes:
        return ""

    def named(labels: Sequence[Any]) -> str:
        return text(", ".join(map(str, labels))) or "none"

    items = "".join(
        f'<li>{cut_text(item.text)}<div class="verdict"><span>right labels <span class="right">{named(item.labels)}'
        f'</span></span><span>model said <span class="wrong">{named(item.predicted)}</span></span>'
        f"{f'<span>{text(item.origin)}</span>' if item.origin else ''}</div></li>"
        for item in facts.mistakes
    )
    return f'<div class="card"><ol class="mistakes">{items}</ol></div>'
