"""What the commands do with classifiers of texts: fit, judge, evaluate, predict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tidegate.data.bundled import bundled_path, load_reviews
from tidegate.data.pairs import shown
from tidegate.data.sources import TextExamples, align_labels, read_text_examples
from tidegate.jobs.pairs import pair_columns, rows_to_read
from tidegate.jobs.run_steps import timed, truncation_notes
from tidegate.jobs.splits import Splits
from tidegate.jobs.tasks import Task, Trained, estimator
from tidegate.jobs.text_data import check_first_rows, data_notes, read_judged, read_splits
from tidegate.reporting.facts import RunFacts

__all__ = ["Prediction", "classification_task", "decision_notes", "read_labelled"]

Label = str | int


@dataclass(frozen=True)
class Prediction:
    """What a model says of a text, or of a pair of them: the most probable label, and the probability of each."""

    text: Any
    label: Label
    probabilities: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        """What `predict --json` prints."""
        return {"text": self.text, "label": self.label, "probabilities": self.probabilities}

    def as_line(self) -> str:
        """What `predict` prints: the label and its probability."""
        return f"{self.label}\t{self.probabilities[str(self.label)]:.4f}"

    def as_example(self) -> str:
        """What `train` prints of a sentence to try."""
        return f"{self.label} {self.probabilities[str(self.label)]:.3f}  {shown(self.text)}"


def classification_task() -> Task:
    """How a recipe of text classification is run."""
    return Task(
        unit="texts",
        make=estimator("TextClassifier"),
        read=read_splits,
        notes=data_notes,
        facts=RunFacts,
        test=_test,
        baseline=_baseline,
        describe=_describe,
        say=_say,
        evaluate=evaluate_texts,
        predict=predict_texts,
        first_rows=check_first_rows,
        ensemble=estimator("TextEnsemble"),
    )


def _test(trained: Trained) -> dict[str, Any]:
    from tidegate.reporting.metrics import worst_mistakes

    model, examples, counts = trained.model, trained.test, None
    labels = examples.labels or []
    with timed(trained.timing, "test"):
        if hasattr(model, "predict_counted"):
            probabilities, counts = model.predict_counted(examples.texts)
        else:
            probabilities = model.predict_proba(examples.texts)
        test = _metrics(model, labels, probabilities)
        threshold, classes = getattr(model, "threshold_", None), model.classes_.tolist()
        mistakes = worst_mistakes(examples.texts, labels, probabilities, classes, examples.origins, threshold=threshold)
    lengths = {} if counts is None else {"test": counts.tolist()}
    return {"test": test, "mistakes": mistakes, "token_lengths": lengths}


def _baseline(trained: Trained, tokenizer: str) -> dict[str, Any]:
    from tidegate.reporting.compare import tfidf_baseline

    return tfidf_baseline(trained.splits.train, trained.test, tokenizer=tokenizer)


def _describe(model: Any, splits: Splits[TextExamples]) -> dict[str, Any]:
    return {"class_counts": {name: dict(Counter(part.labels or [])) for name, part in splits.parts().items()}}


def _say(model: Any, lengths: dict[str, list[int]]) -> list[str]:
    return [*decision_notes(model), *truncation_notes(model, lengths)]


def evaluate_texts(model: Any, data: str, columns: dict[str, Any], **reading: Any) -> dict[str, Any]:
    """``classification_metrics`` of a classifier on labelled texts.

    Raises:
        DataError: The data cannot be read as said, or have a label that the model does not know.
    """
    columns = {**columns, "text": pair_columns(columns.get("text"), getattr(model, "reads_pairs", False))}
    examples = read_labelled(data, columns, **reading)
    labels = align_labels(examples, model.classes_.tolist())
    return _metrics(model, labels, model.predict_proba(examples.texts))


def _metrics(model: Any, labels: Sequence[Label], probabilities: Any) -> dict[str, Any]:
    """``classification_metrics`` of what a model decides; of a calibrated one with the figures of its raw outputs."""
    import numpy as np

    from tidegate.reporting.calibration import calibration_figures, softened
    from tidegate.reporting.metrics import classification_metrics

    classes = model.classes_.tolist()
    metrics = classification_metrics(labels, probabilities, classes, threshold=getattr(model, "threshold_", None))
    calibration = getattr(model, "calibration_", None)
    if calibration is not None:
        places = np.array([classes.index(label) for label in labels])
        raw = softened(probabilities, 1 / calibration["temperature"])
        metrics |= {"temperature": calibration["temperature"], "uncalibrated": calibration_figures(raw, places)}
    return metrics


def decision_notes(model: Any) -> list[str]:
    """What was set on validation data after training, in sentences."""
    notes = []
    found = getattr(model, "calibration_", None)
    if found is not None:
        before, after = found["before"], found["after"]
        notes.append(
            f"a temperature of {found['temperature']:.3f} was fitted on the validation data: there the calibration "
            f"error went from {before['calibration_error']:.2%} to {after['calibration_error']:.2%}, the log-loss from "
            f"{before['log_loss']:.4f} to {after['log_loss']:.4f}"
        )
    threshold = getattr(model, "threshold_", None)
    if isinstance(threshold, float) and getattr(model, "threshold", None) == "tuned":
        notes.append(
            f"the threshold was tuned on the validation data: {model.classes_[1]} is predicted from a probability of "
            f"{threshold:.4f} on"
        )
    return notes


def read_labelled(data: str, columns: dict[str, Any], **reading: Any) -> TextExamples:
    """Labelled texts of a file or folder, or of bundled data.

    Args:
        data: The file or folder, or ``bundled:reviews_en``.
        columns: ``text``, ``label`` and ``split``, as far as they were named, and the ``part`` to read.
        reading: How a file is read, as `read_text_examples` takes it.

    Raises:
        DataError: They cannot be read, or something of it has no effect on them.
    """
    return read_judged(data, columns, read_text_examples, _load_bundled, **reading)


def _load_bundled(data: str, part: str) -> TextExamples:
    return load_reviews(bundled_path(data).name.split(".")[0].rpartition("_")[2], part)


def predict_texts(model: Any, texts: list[Any]) -> list[Prediction]:
    """The labels of texts with their probabilities; of a model of pairs, of lines with two texts each.

    Raises:
        DataError: The model reads pairs, and a line holds none.
    """
    if not texts:
        return []
    texts = rows_to_read(model, texts)
    from tidegate.reporting.metrics import decide

    classes = model.classes_.tolist()
    probabilities = model.predict_proba(texts)
    decided = decide(probabilities, getattr(model, "threshold_", None)).tolist()
    return [
        Prediction(
            text=text,
            label=classes[place],
            probabilities={str(name): round(float(value), 6) for name, value in zip(classes, row, strict=True)},
        )
        for text, place, row in zip(texts, decided, probabilities, strict=True)
    ]
