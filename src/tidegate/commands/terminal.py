"""How the command line shows results: tables and lines for people, JSON for machines."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from tidegate.jobs import Training


__all__ = [
    "accuracy_line",
    "class_table",
    "json_line",
    "judgement_line",
    "label_line",
    "make_cell",
    "make_console",
    "make_table",
    "number_line",
    "pair_table",
    "plain_line",
    "print_json",
    "print_line",
    "print_result",
    "print_training",
    "training_json",
]


def make_console() -> Console:
    """Standard output, its text printed as it is."""
    from rich.console import Console

    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False)


def print_line(console: Console, text: str) -> None:
    """Print one line, whatever the width of the terminal."""
    console.print(clean(text), soft_wrap=True)


def print_result(value: Any, text: str, as_json: bool) -> None:
    """Print what a command found: for machines its value as JSON, for people a line or two."""
    if as_json:
        print_json(value)
    else:
        print_line(make_console(), text)


def clean(text: str) -> str:
    """Text from data without what a terminal would obey."""
    return "".join(character if character.isprintable() or character == "\n" else "\ufffd" for character in text)


def make_cell(text: object) -> Any:
    """A cell of a table, its text taken as it is."""
    from rich.text import Text

    return Text(clean(str(text)))


def make_table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table; the columns named in `right` hold numbers."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left")
    return table


def pair_table(title: str, pairs: dict[str, str]) -> Table:
    """Names and values in two columns."""
    table = make_table(title, "")
    for name, value in pairs.items():
        table.add_row(make_cell(name), make_cell(value))
    return table


def class_table(metrics: dict[str, Any]) -> Table:
    """Precision, recall and F1 of each class; of numbers the errors of each fifth of the texts."""
    if "tasks" in metrics:
        rows = [
            {**row, "label": f"{name}: {row['label']}"}
            for name, own in metrics["tasks"].items()
            for row in own.get("per_class", ())
        ]
        return class_table({"per_class": rows})
    if "by_size" in metrics:
        table = make_table("right number", "texts", "MAE", "bias", right=("texts", "MAE", "bias"))
        for row in metrics["by_size"]:
            ends = f"{row['low']:.4g} to {row['high']:.4g}"
            table.add_row(make_cell(ends), f"{row['count']:,}", f"{row['mae']:.4f}", f"{row['bias']:+.4f}")
        return table
    numbers = ("precision", "recall", "f1", "support")
    table = make_table("label" if "per_class" in metrics else "type", *numbers, right=numbers)
    for row in metrics["per_class"] if "per_class" in metrics else metrics["per_type"]:
        table.add_row(
            make_cell("(segment)" if row["label"] == "" else row["label"]),
            *(f"{row[name]:.4f}" for name in numbers[:3]),
            f"{row['support']:,}",
        )
    return table


def accuracy_line(metrics: dict[str, Any]) -> str:
    """The headline of a judgement."""
    return (
        f"accuracy {metrics['accuracy']:.4f} ± {metrics['standard_error']:.4f}, macro F1 {metrics['macro_f1']:.4f}, "
        f"log loss {metrics['log_loss']:.4f}"
    )


def label_line(metrics: dict[str, Any]) -> str:
    """The headline of a judgement of several labels a text."""
    names = {"micro_f1": "micro F1", "macro_f1": "macro F1", "average_precision": "average precision"}
    told = ", ".join(f"{name} {metrics[key]:.4f}" for key, name in names.items())
    return f"{told}, all labels right {metrics['accuracy']:.4f}"


def number_line(metrics: dict[str, Any]) -> str:
    """The headline of a judgement of numbers."""
    names = {"mae": "MAE", "rmse": "RMSE", "r2": "R2", "pearson": "Pearson", "spearman": "Spearman"}
    return ", ".join(f"{name} {metrics[key]:.4f}" for key, name in names.items())


def _baseline_line(baseline: dict[str, Any]) -> str:
    if "mae" in baseline:
        return number_line(baseline)
    return label_line(baseline) if "micro_f1" in baseline else f"accuracy {baseline['accuracy']:.4f}"


def judgement_line(metrics: dict[str, Any]) -> str:
    """The headline of a judgement of labels, numbers or tags, with what it was made on."""
    if "tasks" in metrics:
        return "".join(f"\n    {name}: {judgement_line(own)}" for name, own in metrics["tasks"].items())
    if "label_accuracy" in metrics:
        return f"{label_line(metrics)} on {metrics['count']:,} texts"
    if "mae" in metrics:
        return f"{number_line(metrics)} on {metrics['count']:,} texts"
    if "tokens" not in metrics:
        return f"{accuracy_line(metrics)} on {metrics['count']:,} texts"
    low, high = metrics["interval"]
    intent = ""
    if "intent_accuracy" in metrics:
        intent = f", intent accuracy {metrics['intent_accuracy']:.4f}, both right {metrics['joint_accuracy']:.4f}"
    if metrics["scheme"] == "plain":
        main = f"accuracy of tags {metrics['accuracy']:.4f} (95% {low:.4f} to {high:.4f}){intent}"
        return f"{main} on {metrics['count']:,} sentences, {metrics['tokens']:,} tokens"
    return (
        f"F1 {metrics['f1']:.4f} (95% {low:.4f} to {high:.4f}), precision {metrics['precision']:.4f}, "
        f"recall {metrics['recall']:.4f}, token accuracy {metrics['accuracy']:.4f}{intent} on {metrics['count']:,} "
        f"sentences, {metrics['segments']:,} segments"
    )


def print_training(console: Console, title: str, run: Training) -> None:
    """What a run ends with: results, baseline, sentences it never saw, and where the files are."""
    chosen = "" if run.validation_accuracy is None else f", validation accuracy {run.validation_accuracy:.4f}"
    if run.validation_f1 is not None:
        chosen += f", F1 {run.validation_f1:.4f}"
    learned = f"best of {run.epochs} epochs: {run.best_epoch}{chosen}" if run.epochs else f"fitted{chosen}"
    print_line(console, f"\n{title}\n  {learned}; {run.seconds:.0f} s in all")
    if run.test is not None:
        print_line(console, f"  test {judgement_line(run.test)}")
    for baseline in [] if run.baseline is None else run.baseline.get("tasks", {"": run.baseline}).values():
        print_line(console, f"  baseline {_baseline_line(baseline)}: {baseline['name']}")
    if run.test is not None:
        console.print(class_table(run.test))
    if run.predictions:
        print_line(console, "Sentences it never saw:")
        for item in run.predictions:
            print_line(console, f"  {item.as_example()}")
        print_line(console, "")
    if run.report is not None:
        print_line(console, f"Report  {run.report}")
    if run.card is not None:
        print_line(console, f"Card    {run.card}")
    print_line(console, f"Model   {run.model}")


def training_json(run: Training) -> dict[str, Any]:
    """A run as plain values."""
    import dataclasses

    values = dataclasses.asdict(run)
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def print_json(value: object) -> None:
    """Print a value as JSON, in UTF-8 whatever the terminal's locale."""
    from tidegate.reporting.facts import json_safe

    sys.stdout.buffer.write(json.dumps(json_safe(value), indent=2, ensure_ascii=False).encode("utf-8") + b"\n")
    sys.stdout.buffer.flush()


def json_line(prediction: Any) -> str:
    """A prediction as a line of JSON."""
    return json.dumps(prediction.as_json(), ensure_ascii=False) + "\n"


def plain_line(prediction: Any) -> str:
    """A prediction as a line for people."""
    return prediction.as_line() + "\n"
