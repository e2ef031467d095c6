"""The model card of a run, ``model_card.md``: what the model is for, learned from, reaches, and where it ends.

The headings are those of Mitchell et al. 2019 (Model Cards for Model Reporting, arXiv:1810.03993), filled in from the
run. What a run cannot know is said to be unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidegate.reporting.markdown import escape, is_number, listed, section, share, spread_cells, table
from tidegate.reporting.markup import duration, in_order, number, percent, value

__all__ = ["CardFacts", "render_card"]

_FEW, _RARE, _UNKNOWN, _NARROW = 1000, 30, 0.05, 0.1
# Figures of a test as people say them, in the order in which they are shown.
_MEASURES = {
    "accuracy": "accuracy",
    "joint_accuracy": "tags and intent both right",
    "intent_accuracy": "accuracy of intents",
    "sentence_accuracy": "sentences wholly right",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1 of segments",
    "precision": "precision of segments",
    "recall": "recall of segments",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "roc_auc": "area under the ROC curve",
    "average_precision": "average precision",
    "matthews": "Matthews correlation",
    "mae": "mean absolute error",
    "mse": "mean squared error",
    "rmse": "root mean squared error",
    "r2": "R²",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "log_loss": "log loss (nats)",
    "perplexity": "perplexity",
    "bits_per_character": "bits per character",
    "calibration_error": "calibration error",
}
_USES = {
    "text-classifier": "say which of the labels below a text bears",
    "linear-text-classifier": "say which of the labels below a text bears",
    "text-ensemble": "say which of the labels below a text bears",
    "language-model": "say how likely a text is, and go on with one, as the training texts would",
    "sequence-tagger": "tag the tokens of a sentence, or find its segments, as the training sentences were tagged",
    "sequence-tagger-ensemble": "tag the tokens of a sentence, or find its segments, as the training ones were tagged",
    "text-stack": "say which of the labels below a text bears",
    "contextual-text-classifier": "say which of the labels below a text bears",
    "multi-label-text-classifier": "say which of the labels below a text bears, several of them or none",
    "multi-label-text-ensemble": "say which of the labels below a text bears, several of them or none",
    "text-regressor": "give a text a number, as the training texts were given",
    "text-regressor-ensemble": "give a text a number, as the training texts were given",
    "multi-task-text": "answer several questions on a text at once",
    "multi-task-text-ensemble": "answer several questions on a text at once",
}


@dataclass(frozen=True)
class CardFacts:
    """What a model card is made of.

    Attributes:
        run: What ``metrics.json`` holds of the run.
        task: The recipe's.
        kind: The saved model's.
        unit: What examples are called, as ``"texts"``.
        sources: Part of the data -> where it is from.
        labels: What the model may answer; empty for a number.
        size: Bytes of the saved model.
        parameters: Numbers in it that were learned.
        members: Models of which it is made.
        vocabulary: Tokens or terms that it knows, or None.
        tasks: Of a model of several tasks what each may answer, as ``labels``.
        numbers: Part of the data -> the numbers to be learned there, where they are numbers.
        unknown: Part of the data -> share of its tokens that the vocabulary lacks.
        scripts: Script -> share of the training texts' letters, the most frequent first.
        settings: Section of the recipe -> keys and values that are not the estimator's defaults.
        example: What a row of input looks like in Python.
        calibration: Expected calibration error on the test data, or None.
        date: When the run ended, as ``"2026-01-31"``.
    """

    run: Mapping[str, Any]
    task: str
    kind: str
    unit: str
    sources: Mapping[str, str]
    labels: Sequence[str | int] = ()
    tasks: Mapping[str, Sequence[str | int]] = field(default_factory=dict)
    numbers: Mapping[str, Sequence[float]] = field(default_factory=dict)
    size: int = 0
    parameters: int = 0
    members: int = 1
    vocabulary: int | None = None
    unknown: Mapping[str, float] = field(default_factory=dict)
    scripts: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    example: str = '"not bad at all"'
    calibration: float | None = None
    date: str = ""


def render_card(facts: CardFacts) -> str:
    """The card as Markdown."""
    parts = [
        f"# Model card: {escape(facts.run.get('title', facts.task))}",
        "Written by `tidegate train` from what the run knows, after Mitchell et al. 2019 "
        "(https://arxiv.org/abs/1810.03993). What people know of the data and of its use has to be added by them.",
        section("Model details", _details(facts)),
        section("Intended use", _use(facts)),
        section("Factors", _factors(facts)),
        section("Training data", _data(facts)),
        section("Evaluation data and metrics", _metrics(facts)),
        section("Quantitative analysis", _analysis(facts)),
        section("Ethical considerations", _ethics()),
        section("Caveats and recommendations", _caveats(facts)),
        section("How to load it", _loading(facts)),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


# --- the sections


def _details(facts: CardFacts) -> list[str]:
    run = facts.run
    recipe, environment, timing = run.get("recipe", {}), run.get("environment", {}), run.get("timing", {})
    machine = ", ".join(str(environment[name]) for name in ("processor", "platform") if environment.get(name)) + (
        f", {environment['cores']} cores" if environment.get("cores") else ""
    )
    versions = ", ".join(
        f"{name} {environment[name]}" for name in ("tidegate", "torch", "python", "numpy") if name in environment
    )
    made = f"{facts.members} models averaged, " if facts.members > 1 else ""
    rows: dict[str, Any] = {
        "kind": f"{facts.kind} (task {facts.task})",
        "size": f"{made}{facts.parameters:,} learned numbers, {facts.size / 1e6:.1f} MB",
        "date": facts.date,
        "versions": versions,
        "hardware": machine,
        "time": f"{duration(timing['train'])} of training" if "train" in timing else "",
        "seed": recipe.get("training", {}).get("random_state"),
    }
    epochs = run.get("history") or ()
    if epochs and run.get("best_epoch"):
        rows["epochs"] = f"{run['best_epoch']} of {len(epochs)} kept, chosen on validation data"
    details = table(("fact", "value"), [(name, said) for name, said in rows.items() if said not in (None, "")])
    settings = [
        f"- {section}: " + ", ".join(f"{escape(key)} = {escape(value(said))}" for key, said in keys.items())
        for section, keys in facts.settings.items()
        if keys
    ]
    told = "What was set otherwise than the estimator has it; `recipe.yaml` beside this file has every option:"
    return [details, *([told, "\n".join(settings)] if settings else [])]


def _use(facts: CardFacts) -> list[str]:
    what = _USES.get(facts.kind, f"answer as the training {facts.unit} of the task {facts.task} were answered")
    lines = [f"It is made to {what}, for {facts.unit} of the kind that it learned from: {_kinds(facts)}."]
    if facts.labels and "multi-label" in facts.kind:
        lines.append(f"Labels: {listed(facts.labels)}. A text that none of them fits may get none.")
    elif facts.labels:
        lines.append(
            f"Labels: {listed(facts.labels)}. It answers with one of these whatever it is given, texts that none of "
            "them fits among them."
        )
    if facts.tasks:
        each = [f"{escape(name)} ({listed(found) if found else 'a number'})" for name, found in facts.tasks.items()]
        lines.append(f"Tasks: {'; '.join(each)}.")
    lines.append(
        "Out of scope: texts of other languages, sources or times than the training data, and decisions on persons "
        "that nobody looks at."
    )
    return lines


def _factors(facts: CardFacts) -> list[str]:
    text = facts.run.get("recipe", {}).get("text", {})
    lines = []
    if facts.scripts:
        shares = ", ".join(f"{escape(name)} {percent(share)}" for name, share in facts.scripts.items())
        lines.append(f"Letters of the training {facts.unit} by script: {shares}.")
    if "tokenizer" in text:
        known = f", a vocabulary of {facts.vocabulary:,} entries" if facts.vocabulary else ""
        lines.append(f"Texts are cut into tokens by the tokeniser {escape(text['tokenizer'])}{known}.")
    elif facts.vocabulary:
        lines.append(f"It knows {facts.vocabulary:,} tokens by themselves.")
    if facts.unknown:
        shares = ", ".join(f"{percent(facts.unknown[name])} of the {name} tokens" for name in in_order(facts.unknown))
        lines.append(f"Unknown to it are {shares}.")
    lines.append("Of the people who wrote the texts, and of whom they speak, the run knows nothing.")
    return lines


def _data(facts: CardFacts) -> list[str]:
    counts, classes = facts.run.get("counts", {}), facts.run.get("class_counts", {})
    parts = in_order(counts)
    whole = facts.sources.get("source", "")
    rows = [(part, f"{counts[part]:,}", facts.sources.get(part) or whole) for part in parts]
    lines = [table(("part", facts.unit, "source"), rows)]
    fraction = facts.run.get("recipe", {}).get("training", {}).get("validation_fraction")
    if "validation" not in counts and fraction:
        lines.append(f"Of the training part {percent(fraction)} chose the model and were not learned from.")
    if facts.numbers:
        lines.append("The numbers to be found:")
        rows = [(part, *spread_cells(facts.numbers[part])) for part in in_order(facts.numbers)]
        lines.append(table(("part", "mean", "standard deviation", "least", "median", "most"), rows))
    labels = list(dict.fromkeys(label for part in parts for label in classes.get(part, {})))
    if labels and len(labels) <= 100:
        lines.append("Balance of what is to be found:")
        totals = {part: max(1, sum(classes.get(part, {}).values())) for part in parts}
        cells = [
            (label, *(share(classes.get(part, {}).get(label, 0), totals[part]) for part in parts)) for label in labels
        ]
        lines.append(table(("label", *parts), cells))
    return lines


def _metrics(facts: CardFacts) -> list[str]:
    test, baseline = facts.run.get("test"), facts.run.get("baseline")
    if not test:
        return ["There was no test part, so that nothing is known of how well it does on new texts."]
    lines = []
    for title, figures in _parts_of(test):
        count = figures.get("count")
        rows = []
        for name, words in _MEASURES.items():
            if is_number(figures.get(name)):
                rows.append((words, number(figures[name], 4), _spread(name, figures)))
        if rows:
            where = f" of {escape(title)}" if title else ""
            told = f"{count:,} test {facts.unit}" if count else f"Test {facts.unit}"
            lines += [f"{told}{where}:", table(("measure", "value", "95% interval"), rows)]
        if "guess" in figures:
            lines.append(
                f"Always the median of the test numbers would err by {number(figures['guess'], 4)} on average."
            )
        if (most := _majority(facts, title, figures)) is not None:
            lines.append(f"Always the most frequent label would be right in {percent(most)}.")
        own = (baseline or {}).get("tasks", {}).get(title) if title else baseline
        if own and "name" in own:
            lines.append(_against(figures, own))
    if any("interval" in figures for _, figures in _parts_of(test)):
        lines.append(
            "Intervals follow from the number of test examples (Wilson's of accuracies, of normal errors of mean "
            "absolute errors, by a bootstrap of F1 of segments); they say nothing of the spread between training seeds."
        )
    return lines


def _analysis(facts: CardFacts) -> list[str]:
    test = facts.run.get("test") or {}
    lines = []
    for title, figures in _parts_of(test):
        rows = figures.get("per_class") or figures.get("per_type") or ()
        if rows:
            cells = [
                (
                    "(segment)" if row["label"] == "" else row["label"],
                    *(number(row[name], 4) for name in ("precision", "recall", "f1")),
                    f"{row['support']:,}",
                )
                for row in rows[:100]
            ]
            lines += [f"By label of {escape(title)}:"] if title else []
            lines.append(table(("label", "precision", "recall", "F1", "test examples"), cells))
        if sizes := figures.get("by_size"):
            cells = [
                (
                    f"{row['low']:.4g} to {row['high']:.4g}",
                    *(number(row[name], 4) for name in ("mae", "bias")),
                    row["count"],
                )
                for row in sizes
            ]
            lines += [f"By size of {escape(title)}:" if title else "By the size of the right number:"]
            lines.append(table(("right number", "mean absolute error", "mean of predicted less right", "texts"), cells))
    if facts.calibration is not None:
        lines.append(
            f"Expected calibration error {facts.calibration:.3f}: by so much its probability of the label that it "
            "gives differs, on average, from how often that label is right."
        )
    return lines or ["Figures by label are not known."]


def _ethics() -> list[str]:
    return [
        "A model repeats what its training data hold: whatever is unfair in how they were chosen or labelled is in "
        "its answers. It was not tested on groups of people apart from each other. Whether the data may be used, and "
        "whether they hold what is private, the run cannot know."
    ]


def _caveats(facts: CardFacts) -> list[str]:
    run = facts.run
    found = [*_weak_labels(facts), *_test_size(facts)]
    for part, unknown in facts.unknown.items():
        if part != "train" and unknown > _UNKNOWN:
            found.append(
                f"{percent(unknown)} of the {part} tokens are unknown to it; texts of more unknown words are answered "
                "from less."
            )
    if facts.calibration is not None and facts.calibration > _UNKNOWN:
        found.append("Its probabilities are not to be taken at their word; see the calibration error above.")
    if not run.get("test"):
        found.append("Test it on labelled texts of your own before use: `tidegate evaluate model.tg FILE`.")
    found += [escape(note) for note in run.get("notes", ())]
    found.append("Test it again on texts of the place and time of its use; language moves on.")
    return ["\n".join(f"- {line}" for line in found)]


def _loading(facts: CardFacts) -> list[str]:
    lines = [
        "```python",
        "import tidegate",
        "",
        'model = tidegate.load("model.tg")',
        f"model.predict([{facts.example}])",
        "```",
        "",
        "```",
        "tidegate predict model.tg FILE      # a line a text",
        "```",
    ]
    return ["\n".join(lines)]


# --- pieces


def _kinds(facts: CardFacts) -> str:
    named = [facts.sources[part] for part in ("source", "train") if facts.sources.get(part)]
    return escape(named[0]) if named else "see the training data"


def _parts_of(test: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """A test's figures; of several tasks those of each, under its name."""
    tasks = {name: part for name, part in test.items() if isinstance(part, Mapping) and "count" in part}
    nested = test.get("tasks")
    if isinstance(nested, Mapping):
        tasks |= {name: part for name, part in nested.items() if isinstance(part, Mapping)}
    own = [("", test)] if any(is_number(test.get(name)) for name in _MEASURES) else []
    return own + list(tasks.items())


def _spread(name: str, figures: Mapping[str, Any]) -> str:
    """The interval of a figure: of the main one ``interval``, of another one ``NAME_interval``."""
    # The interval of a tagger is that of F1, unless its tags mark no segments.
    main = "f1" if figures.get("scheme", "plain") != "plain" else "accuracy" if "accuracy" in figures else "mae"
    interval = figures.get("interval") if name == main else figures.get(f"{name}_interval")
    if not interval:
        return ""
    error = (
        f" (standard error {number(figures['standard_error'], 4)})"
        if name == main and "standard_error" in figures
        else ""
    )
    return f"{number(interval[0], 4)} to {number(interval[1], 4)}{error}"


def _against(test: Mapping[str, Any], baseline: Mapping[str, Any]) -> str:
    name = next((name for name in ("accuracy", "mae", "rmse", "r2") if name in baseline and name in test), None)
    if name is None:
        return f"Baseline: {escape(baseline.get('name', ''))}."
    difference = test[name] - baseline[name]
    lower = name in ("mae", "rmse")
    better = difference < 0 if lower else difference > 0
    words = "better" if better else "worse" if difference else "the same"
    told = f" by {abs(difference):.4f}" if difference else ""
    interval = test.get("interval") if name == "accuracy" else None
    unsure = ""
    if interval and interval[0] <= baseline[name] <= interval[1]:
        unsure = " That is inside the interval above: on another test set of this size the order may turn."
    return (
        f"Baseline ({escape(baseline['name'])}): {_MEASURES[name]} {number(baseline[name], 4)}; the model is "
        f"{words}{told}.{unsure}"
    )


def _majority(facts: CardFacts, title: str, figures: Mapping[str, Any]) -> float | None:
    """The share of the test examples that have the most frequent label of the training data, where each has one."""
    counts = facts.run.get("class_counts", {})
    if "accuracy" not in figures or figures.get("scheme") or "multi-label" in facts.kind:
        return None
    prefix = f"{title}: " if title else ""
    train = {label: count for label, count in counts.get("train", {}).items() if str(label).startswith(prefix)}
    test = {label: count for label, count in counts.get("test", {}).items() if str(label).startswith(prefix)}
    if not train or not test:
        return None
    return test.get(max(train, key=lambda label: train[label]), 0) / sum(test.values())


def _weak_labels(facts: CardFacts) -> list[str]:
    found = []
    for title, figures in _parts_of(facts.run.get("test") or {}):
        where = f" ({escape(title)})" if title else ""
        rows = [row for row in figures.get("per_class") or figures.get("per_type") or () if row["support"]]
        if len(rows) < 2:
            continue
        mean = sum(row["f1"] for row in rows) / len(rows)
        weakest = sorted(rows, key=lambda row: row["f1"])
        low = [row for row in weakest if row["f1"] < mean - _NARROW][:5] or weakest[:1]
        named = ", ".join(f"{escape(row['label'])} (F1 {row['f1']:.3f}, {row['support']:,} examples)" for row in low)
        found.append(f"Weakest{where}: {named}.")
        if rare := [escape(row["label"]) for row in rows if row["support"] < _RARE]:
            found.append(
                f"Fewer than {_RARE} test examples{where} have the labels {', '.join(rare[:10])}"
                f"{' and more' if len(rare) > 10 else ''}: their figures say little."
            )
    return found


def _test_size(facts: CardFacts) -> list[str]:
    test = facts.run.get("test")
    if not test:
        return ["Nothing is known of its accuracy on texts that it did not learn from."]
    count, interval = test.get("count"), test.get("interval")
    if not count or count >= _FEW:
        return []
    wide = f" The interval is {interval[1] - interval[0]:.3f} wide." if interval else ""
    return [f"The test set is small ({count:,} {facts.unit}): do not tell models apart by it that are close.{wide}"]
