"""What the commands do with classifiers of texts: fit, judge, evaluate, predict."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.config import TABLES_ONLY, TAGGED_ONLY, Recipe
from tidegate.data.bundled import PREFIX, bundled_path, load_reviews
from tidegate.data.pairs import shown
from tidegate.data.sources import TextExamples, align_labels, is_table, read_text_examples
from tidegate.jobs.pairs import pair_columns, rows_to_read
from tidegate.jobs.run_folder import RECIPE_FILE, REPORT_FILE
from tidegate.jobs.run_steps import Task, add_metrics, check_idle, noted_warnings, timed, truncation_notes
from tidegate.jobs.text_data import Splits, check_first_rows, data_notes, read_splits

if TYPE_CHECKING:
    from tidegate.estimators.text_classifier import TextClassifier

__all__ = [
    "Prediction",
    "classification_task",
    "decision_notes",
    "finished_run",
    "fit_texts",
    "judge_texts",
    "read_judged",
    "read_labelled",
    "run_facts",
]

Label = str | int

_log = logging.getLogger(__name__)


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
        make=_make,
        read=read_splits,
        notes=data_notes,
        fit=fit_texts,
        judge=judge_texts,
        evaluate=evaluate_texts,
        predict=predict_texts,
        first_rows=check_first_rows,
    )


def _make(**arguments: Any) -> TextClassifier:
    from tidegate.estimators.text_classifier import TextClassifier

    return TextClassifier(**arguments)


def fit_texts(model: Any, splits: Splits, **options: Any) -> None:
    """Fit an estimator on the parts of a recipe's data."""
    held = splits.validation
    validation = None if held is None else (held.texts, held.labels)
    if splits.unlabelled is not None:
        options["unlabelled"] = splits.unlabelled
    model.fit(splits.train.texts, splits.train.labels, validation_data=validation, **options)


def judge_texts(recipe: Recipe, model: Any, splits: Splits, run: Any, timing: dict[str, float], started: float) -> Any:
    """Test metrics, baseline, report and predictions of a model that was just trained."""
    from tidegate.jobs.linear import strongest_notes
    from tidegate.reporting.facts import RunFacts
    from tidegate.reporting.metrics import worst_mistakes

    output: Any = recipe.sections.output
    classes, notes = model.classes_.tolist(), list(run.notes)
    timing |= model.timing_
    neural = hasattr(model, "network_")
    lengths = {name: values.tolist() for name, values in model.token_lengths.items()} if neural else {}
    test = baseline = None
    mistakes: Sequence[Any] = ()
    if splits.test is not None:
        _log.info("testing on %s texts", f"{len(splits.test):,}")
        with timed(timing, "test"):
            if neural:
                probabilities, counts = model.predict_counted(splits.test.texts)
                lengths["test"] = counts.tolist()
            else:
                probabilities = model.predict_proba(splits.test.texts)
            labels = splits.test.labels or []
            test = _metrics(model, labels, probabilities)
            threshold = getattr(model, "threshold_", None)
            mistakes = worst_mistakes(
                splits.test.texts, labels, probabilities, classes, splits.test.origins, threshold=threshold
            )
        add_metrics(run.model, {"test": test})
        if output.baseline is not None:
            from tidegate.reporting.compare import tfidf_baseline

            _log.info("training the TF-IDF baseline")
            with timed(timing, "baseline"), noted_warnings(notes):
                own = getattr(model, "tokenizer", "words")  # an encoder of the BERT family has its own
                own = "words" if own == "bpe" else own
                tokenizer: str = output.baseline.get("tokenizer") or own
                baseline = tfidf_baseline(splits.train, splits.test, tokenizer=tokenizer)
    elif output.baseline is not None:
        notes.append("there is no test part, so neither the model nor the baseline was tested")
    notes += decision_notes(model)
    own_notes = getattr(model, "notes", None)
    for note in own_notes or (truncation_notes(model, lengths) if neural else strongest_notes(model)):
        _log.info(note)
        notes.append(note)
    timing["total"] = time.perf_counter() - started
    facts = RunFacts(
        **run_facts(recipe, model, splits, run),
        class_counts={name: dict(Counter(examples.labels or [])) for name, examples in splits.parts().items()},
        token_lengths=lengths,
        test=test,
        baseline=baseline,
        mistakes=mistakes,
        timing=timing,
        notes=notes,
    )
    return finished_run(run, facts, output, predict_texts(model, output.try_), started)


def run_facts(recipe: Recipe, model: Any, splits: Any, run: Any) -> dict[str, Any]:
    """What the facts of every run on texts begin with: title, recipe, counts, history, environment, rate search."""
    from tidegate.environment import describe_environment
    from tidegate.schema.located_yaml import parse_document

    neural = hasattr(model, "network_")
    return {
        "title": recipe.sections.output.title or recipe.name,
        "recipe": parse_document((run.folder / RECIPE_FILE).read_text(encoding="utf-8"), RECIPE_FILE).value,
        "counts": {name: len(examples) for name, examples in splits.parts().items()},
        "history": model.history_ if neural else (),
        "best_epoch": model.best_epoch_ if neural else None,
        "environment": describe_environment().summary(),
        "rate_search": run.rate_search,
    }


def finished_run(run: Any, facts: Any, output: Any, predictions: list[Any], started: float) -> Any:
    """Write the report, or the metrics alone, and complete the ``Training``."""
    from tidegate.reporting.report import write_metrics, write_report

    report = write_report(run.folder, facts) if output.report else None
    if report is None:
        (run.folder / REPORT_FILE).unlink(missing_ok=True)  # of a run that was resumed, and is of other facts
        write_metrics(run.folder, facts)
    return dataclasses.replace(
        run,
        report=report,
        test=facts.test,
        baseline=facts.baseline,
        predictions=predictions,
        notes=list(facts.notes),
        seconds=time.perf_counter() - started,
    )


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


def read_judged(
    data: str,
    columns: dict[str, Any],
    read: Callable[..., Any],
    bundled: Callable[[str, str], Any],
    **reading: Any,
) -> Any:
    """What `evaluate` judges a model on.

    Args:
        data, columns, reading: As of `read_labelled`.
        read: ``read(path, text=..., label=..., split=..., split_value=..., **reading)``.
        bundled: From the name of bundled data and a part to the same.

    Raises:
        DataError: They cannot be read, or something of it has no effect on them.
    """
    check_idle([name for name in reading if name in TAGGED_ONLY], "texts with labels")
    named = {name: value for name, value in columns.items() if value is not None}
    part = named.pop("part", None)
    if data.startswith(PREFIX):
        check_idle([*named, *reading], "bundled data")
        return bundled(data, part or "test")
    if not is_table(Path(data)):
        check_idle([name for name in reading if name in TABLES_ONLY], f"{data}, which is no CSV or TSV file")
    split = named.pop("split", "split")
    parts = {} if part is None else {"split": split, "split_value": part}
    return read(data, **named, **parts, **reading)


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
