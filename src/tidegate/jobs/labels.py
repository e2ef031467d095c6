"""What the commands do with models of several labels a text: read sets of labels, judge, evaluate, predict."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidegate.config import Recipe
from tidegate.data.bundled import bundled_path, load_reviews
from tidegate.data.pairs import shown
from tidegate.data.sources import is_whole_number
from tidegate.data.text_targets import TextTargets, label_set_reader, read_text_targets
from tidegate.errors import DataError, nearest
from tidegate.jobs.classification import decision_notes
from tidegate.jobs.pairs import pair_columns, rows_to_read
from tidegate.jobs.run_steps import timed, truncation_notes
from tidegate.jobs.splits import Splits
from tidegate.jobs.tasks import Task, Trained, estimator
from tidegate.jobs.text_data import check_first_rows, data_notes, read_judged, read_parts, read_unlabelled
from tidegate.reporting.facts import LabelFacts

if TYPE_CHECKING:
    from tidegate.estimators.multi_label_text_classifier import MultiLabelTextClassifier

__all__ = ["LabelSetPrediction", "multi_label_task"]

SEPARATOR = ";"


@dataclass(frozen=True)
class LabelSetPrediction:
    """What a model says of a text: its labels, and the probability of each that there is."""

    text: Any
    labels: list[Any]
    probabilities: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        """What `predict --json` prints."""
        return {"text": self.text, "labels": self.labels, "probabilities": self.probabilities}

    def as_line(self) -> str:
        """What `predict` prints: the labels, each with its probability; of no label an empty line."""
        return "\t".join(f"{label} {self.probabilities[str(label)]:.4f}" for label in self.labels)

    def as_example(self) -> str:
        """What `train` prints of a sentence to try."""
        return f"{', '.join(map(str, self.labels)) or '(none)'}  {shown(self.text)}"


def multi_label_task() -> Task:
    """How a recipe of several labels a text is run."""
    return Task(
        unit="texts",
        make=estimator("MultiLabelTextClassifier"),
        read=_read,
        notes=data_notes,
        facts=LabelFacts,
        test=_test,
        baseline=_baseline,
        describe=_describe,
        say=_say,
        evaluate=_evaluate,
        predict=_predict,
        first_rows=check_first_rows,
        ensemble=estimator("MultiLabelTextEnsemble"),
    )


def _read(recipe: Recipe) -> Splits[TextTargets]:
    data: Any = recipe.sections.data
    if recipe.bundled is not None:
        parts = {part: _load_bundled(recipe.bundled, part) for part in ("train", "validation", "test")}
    else:
        read = functools.partial(_read_sets, label_separator=data.get("label_separator", SEPARATOR))
        parts = read_parts(recipe, read)
    everything = [label for examples in parts.values() for labels in examples.targets for label in labels]
    if not everything:
        raise DataError(
            f"{recipe.document.place(('data',))}: no text has a label. Check the column data.label and "
            "data.label_separator."
        )
    if all(is_whole_number(label) for label in everything):
        parts = {
            name: TextTargets(examples.texts, [list(map(int, labels)) for labels in examples.targets], examples.origins)
            for name, examples in parts.items()
        }
    return Splits(parts["train"], parts.get("validation"), parts.get("test"), read_unlabelled(recipe))


def _read_sets(source: Any, *, label_separator: str, **options: Any) -> TextTargets:
    return read_text_targets(source, label_set_reader(label_separator), **options)


def _load_bundled(name: str, part: str) -> TextTargets:
    examples = load_reviews(bundled_path(name).name.split(".")[0].rpartition("_")[2], part)
    return TextTargets(examples.texts, [[label] for label in examples.labels or []], examples.origins)


def _targets(model: MultiLabelTextClassifier, examples: TextTargets) -> Any:
    """The indicator matrix of the labels of examples, ``"1"`` as 1 where that is the model's."""
    from tidegate.estimators.label_data import check_label_rows, indicate

    known = {str(label): label for label in model.classes_.tolist()}
    sets = []
    for labels, origin in zip(examples.targets, examples.origins, strict=True):
        for label in labels:
            if str(label) not in known:
                listed = ", ".join(repr(name) for name in list(known.values())[:20])
                raise DataError(
                    f"{origin}: the label {label!r} is not one that the model was trained on ({listed})."
                    f"{nearest(str(label), known)}"
                )
        sets.append([known[str(label)] for label in labels])
    return indicate(check_label_rows(sets, len(sets)), model.classes_)[0]


def _metrics(model: MultiLabelTextClassifier, targets: Any, probabilities: Any) -> dict[str, Any]:
    from tidegate.reporting.calibration import calibration_figures, softened
    from tidegate.reporting.label_metrics import label_metrics

    metrics = label_metrics(targets, probabilities, model.classes_.tolist(), model.threshold_)
    if model.calibration_ is not None:
        temperature = model.calibration_["temperature"]
        raw = softened(probabilities, 1 / temperature, labels=True)
        metrics |= {"temperature": temperature, "uncalibrated": calibration_figures(raw, targets)}
    return metrics


def _test(trained: Trained) -> dict[str, Any]:
    from tidegate.reporting.label_metrics import worst_label_mistakes

    model, examples = trained.model, trained.test
    targets, classes = _targets(model, examples), model.classes_.tolist()
    with timed(trained.timing, "test"):
        probabilities, counts = model.predict_counted(examples.texts)
        test = _metrics(model, targets, probabilities)
    mistakes = worst_label_mistakes(examples.texts, targets, probabilities, classes, model.threshold_, examples.origins)
    return {"test": test, "mistakes": mistakes, "token_lengths": {"test": counts.tolist()}}


def _baseline(trained: Trained, tokenizer: str) -> dict[str, Any]:
    from tidegate.reporting.compare import label_baseline

    model = trained.model
    train, test = ((part.texts, _targets(model, part)) for part in (trained.splits.train, trained.test))
    return label_baseline(train, test, model.classes_.tolist(), tokenizer=tokenizer)


def _describe(model: MultiLabelTextClassifier, splits: Splits[TextTargets]) -> dict[str, Any]:
    parts = splits.parts()
    counts = {name: dict(Counter(label for labels in parts[name].targets for label in labels)) for name in parts}
    return {"class_counts": counts}


def _say(model: MultiLabelTextClassifier, lengths: dict[str, list[int]]) -> list[str]:
    return [*_decision_notes(model), *truncation_notes(model, lengths)]


def _decision_notes(model: MultiLabelTextClassifier) -> list[str]:
    if model.threshold != "tuned":
        return decision_notes(model)
    limits = zip(model.classes_.tolist(), model.threshold_.tolist(), strict=True)
    listed = ", ".join(f"{label} {limit:.3f}" for label, limit in limits)
    calibrated = decision_notes(model) if model.calibration_ is not None else []
    said = f"the probabilities from which on labels are predicted were tuned on the validation data: {listed}"
    return [*calibrated[:1], said]


def _evaluate(model: MultiLabelTextClassifier, data: str, columns: dict[str, Any], **reading: Any) -> dict[str, Any]:
    columns = {**columns, "text": pair_columns(columns.get("text"), model.reads_pairs)}
    separator = reading.pop("label_separator", None)
    if separator is not None and data.startswith("bundled:"):
        raise DataError("label_separator= has no effect on bundled data; remove it")
    read = functools.partial(_read_sets, label_separator=separator or SEPARATOR)
    examples = read_judged(data, columns, read, _load_bundled, **reading)
    return _metrics(model, _targets(model, examples), model.predict_proba(examples.texts))


def _predict(model: MultiLabelTextClassifier, texts: list[Any]) -> list[LabelSetPrediction]:
    if not texts:
        return []
    texts = rows_to_read(model, texts)
    probabilities = model.predict_proba(texts)
    names = model.classes_.tolist()
    return [
        LabelSetPrediction(
            text=text,
            labels=[name for name, there in zip(names, decided, strict=True) if there],
            probabilities={str(name): round(float(value), 6) for name, value in zip(names, row, strict=True)},
        )
        for text, row, decided in zip(texts, probabilities, model.decide(probabilities), strict=True)
    ]
