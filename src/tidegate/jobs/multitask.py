"""What the commands do with models of several tasks: fit, judge beside models of one task, evaluate, predict."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.config import TABLES_ONLY, TAGGED_ONLY
from tidegate.data.bundled import PREFIX, bundled_path
from tidegate.data.sources import TextExamples, is_table, read_records
from tidegate.data.targets import TargetExamples, align_targets, read_target_examples
from tidegate.errors import DataError, nearest
from tidegate.jobs.multitask_data import check_first_targets, read_target_splits, target_notes
from tidegate.jobs.run_steps import check_idle, noted_warnings, timed, truncation_notes
from tidegate.jobs.splits import Splits, fit_texts
from tidegate.jobs.tasks import Task, Trained, estimator
from tidegate.reporting.facts import MultiTaskFacts
from tidegate.reporting.task_scores import task_figure

if TYPE_CHECKING:
    from tidegate.estimators.multi_task_text_model import MultiTaskTextModel

__all__ = ["TasksPrediction", "multitask_task"]

_ROWS_LOOKED_AT = 100  # for the fields of JSON Lines, whose objects may differ
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TasksPrediction:
    """What a model says of a text: of each task ``label`` and ``probabilities``, or ``number``."""

    text: str
    tasks: dict[str, dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        """What `predict --json` prints."""
        return {"text": self.text, "tasks": self.tasks}

    def as_line(self) -> str:
        """What `predict` prints: of each task the label and its probability, or the number."""
        return "\t".join(self._said(4))

    def as_example(self) -> str:
        """What `train` prints of a sentence to try."""
        return f"{', '.join(self._said(3))}  {self.text}"

    def _said(self, digits: int) -> list[str]:
        said = []
        for task, answer in self.tasks.items():
            if "number" in answer:
                said.append(f"{task} {answer['number']:+.{digits}f}")
            else:
                said.append(f"{task} {answer['label']} {answer['probabilities'][str(answer['label'])]:.{digits}f}")
        return said


def multitask_task() -> Task:
    """How a recipe of several tasks is run."""
    return Task(
        unit="texts",
        make=estimator("MultiTaskTextModel"),
        read=read_target_splits,
        notes=target_notes,
        fit=_fit,
        facts=MultiTaskFacts,
        test=_test,
        baseline=_baselines,
        describe=_describe,
        say=_say,
        evaluate=_evaluate,
        predict=_predict,
        first_rows=check_first_targets,
        monitor=lambda model: task_figure(model.tasks, model.monitor),
        ensemble=estimator("MultiTaskTextEnsemble"),
    )


def _fit(
    model: MultiTaskTextModel,
    splits: Splits[TargetExamples],
    *,
    run_folder: Path | None = None,
    resume: bool = False,
    **options: Any,
) -> None:
    if run_folder is not None and not resume:
        for folder in run_folder.glob("single-*"):
            shutil.rmtree(folder, ignore_errors=True)  # of the run that this one replaces
    fit_texts(model, splits, run_folder=run_folder, resume=resume, **options)


def _test(trained: Trained) -> dict[str, Any]:
    """The test metrics, beside those of models of one task where the recipe wants them."""
    model, test, output = trained.model, trained.test, trained.recipe.sections.output
    with timed(trained.timing, "test"):
        outputs = model.predict_outputs(test.texts)
        metrics = _metrics(model, test, outputs)
        mistakes = {task: _worst(model, test, outputs, task) for task in metrics["tasks"]}
    judged: dict[str, Any] = {
        "test": metrics,
        "mistakes": mistakes,
        "token_lengths": {"test": model.encoder_.encode(test.texts).lengths.tolist()},
    }
    judged["answers"] = {
        task: {"truth": own.targets[task], "predicted": outputs[task][_present(test, task)].tolist()}
        for task, kind in _kinds(model).items()
        if kind == "regression" and task in metrics["tasks"]
        for own in [test.of_task(task)]
    }
    if getattr(output, "single_tasks", False):
        with timed(trained.timing, "single tasks"), noted_warnings(trained.notes):
            judged["single"] = _single_tasks(model, trained.splits, trained.folder)
    return judged


def _describe(model: MultiTaskTextModel, splits: Splits[TargetExamples]) -> dict[str, Any]:
    return {"kinds": _kinds(model), "class_counts": _class_counts(model, splits)}


def _say(model: MultiTaskTextModel, lengths: dict[str, list[int]]) -> list[str]:
    notes = truncation_notes(model, lengths)
    if getattr(model, "task_weights", None) == "uncertainty":  # members have weights of their own
        weights = ", ".join(f"{task} {weight:.3g}" for task, weight in model.task_weights_.items())
        notes.insert(0, f"the weights that the tasks' losses were learned to have: {weights}")
    return notes


def _single_tasks(model: MultiTaskTextModel, splits: Splits[TargetExamples], folder: Path) -> dict[str, Any]:
    """The test metrics of a model a task, of the same arguments and seed, by task.

    Of an ensemble they are ensembles. Their checkpoints are in ``single-1``, ``single-2`` ... of the run's folder; what
    is trained there already, of a run that was resumed, is not trained again.
    """
    from sklearn.base import clone

    found: dict[str, Any] = {}
    one, prefix = (model, "") if hasattr(model, "network_") else (model.members_[0], "estimator__")
    for number, (task, kind) in enumerate(_kinds(model).items(), start=1):
        _log.info("training a model of the task %s alone, %d of %d", task, number, len(model.tasks_))
        alone: Any = clone(model)
        own = {"tasks": {task: kind}, "task_weights": None, "task_sampling": "joint", "sampling_temperature": None}
        own["monitor"] = one.monitor if one.monitor.startswith(f"{task}_") or one.monitor == "loss" else "mean"
        own["regression_loss"] = one.regression_loss if kind == "regression" else "squared"
        own = {prefix + name: value for name, value in own.items()}
        alone.set_params(**own, random_state=model.random_state_)
        parts = {name: examples.of_task(task) for name, examples in splits.parts().items()}
        _fit(
            alone,
            Splits(parts["train"], parts.get("validation"), None, splits.unlabelled),
            run_folder=folder / f"single-{number}",
            resume=True,
        )
        if len(parts["test"]):
            outputs = alone.predict_outputs(parts["test"].texts)
            found[task] = _metrics(alone, parts["test"], outputs)["tasks"][task]
    return found


def _baselines(trained: Trained, tokenizer: str) -> dict[str, Any]:
    """TF-IDF under a linear model, by task."""
    from tidegate.reporting.compare import ridge_baseline, tfidf_baseline

    found: dict[str, Any] = {}
    for task, kind in _kinds(trained.model).items():
        _log.info("training the TF-IDF baseline of the task %s", task)
        train, test = trained.splits.train.of_task(task), trained.test.of_task(task)
        if not len(test):
            continue
        if kind == "regression":
            own = [(part.texts, part.targets[task]) for part in (train, test)]
            found[task] = ridge_baseline(own[0], own[1], tokenizer=tokenizer)
        else:
            labelled = [TextExamples(part.texts, part.targets[task], part.origins) for part in (train, test)]
            found[task] = tfidf_baseline(labelled[0], labelled[1], tokenizer=tokenizer)
    return {"tasks": found}


def _metrics(model: MultiTaskTextModel, examples: TargetExamples, outputs: Mapping[str, Any]) -> dict[str, Any]:
    """``count``, and under ``tasks`` the metrics of each task over the texts that have its target."""
    from tidegate.reporting.metrics import classification_metrics
    from tidegate.reporting.number_metrics import number_metrics

    found: dict[str, Any] = {}
    for task, classes in model.classes_.items():
        rows = _present(examples, task)
        if not rows:
            continue
        truth, said = [examples.targets[task][row] for row in rows], outputs[task][rows]
        if classes is None:
            found[task] = number_metrics(truth, said)
        else:
            found[task] = classification_metrics(truth, said, classes.tolist())
    return {"count": len(examples), "tasks": found}


def _worst(model: MultiTaskTextModel, examples: TargetExamples, outputs: Mapping[str, Any], task: str) -> list[Any]:
    from tidegate.reporting.metrics import worst_mistakes
    from tidegate.reporting.number_metrics import worst_errors

    own, said, classes = examples.of_task(task), outputs[task][_present(examples, task)], model.classes_[task]
    if classes is None:
        return worst_errors(own.texts, own.targets[task], said, own.origins)
    return worst_mistakes(own.texts, own.targets[task], said, classes.tolist(), own.origins)


def _present(examples: TargetExamples, task: str) -> list[int]:
    return [row for row, value in enumerate(examples.targets.get(task, ())) if value is not None]


def _kinds(model: MultiTaskTextModel) -> dict[str, str]:
    return {task.name: task.kind for task in model.tasks_}


def _class_counts(model: MultiTaskTextModel, splits: Splits[TargetExamples]) -> dict[str, dict[str, int]]:
    """Of each part the counts of labels, named with their task."""
    return {
        name: {
            f"{task}: {label}": count
            for task, kind in _kinds(model).items()
            if kind == "classification"
            for label, count in Counter(value for value in examples.targets[task] if value is not None).items()
        }
        for name, examples in splits.parts().items()
    }


# --- evaluate, predict


def _evaluate(model: MultiTaskTextModel, data: str, columns: dict[str, str | None], **reading: Any) -> dict[str, Any]:
    """``count`` and the metrics of those ``tasks`` that the data have targets of.

    Raises:
        DataError: The data cannot be read as said, have targets of no task, or a label that a task does not know.
    """
    check_idle([name for name in reading if name in TAGGED_ONLY], "texts with targets")
    named = {name: value for name, value in columns.items() if value is not None}
    part, split = named.pop("part", None), named.pop("split", None)
    kinds = _kinds(model)
    chosen = _named_columns(named.pop("label", None), kinds)
    if data.startswith(PREFIX):
        check_idle([*named, *reading, *(() if split is None else ("split",))], "bundled data")
        path, part, split = str(bundled_path(data)), part or "test", "split"
    else:
        path = data
        if not is_table(Path(data)):
            check_idle([name for name in reading if name in TABLES_ONLY], f"{data}, which is no CSV or TSV file")
    fields = dict.fromkeys(
        field for record in islice(read_records(path, **reading), _ROWS_LOOKED_AT) for field in record.fields
    )
    # Tasks that were named must be there; of the others those that are.
    own = {task: kind for task, kind in kinds.items() if task in chosen or (not chosen and task in fields)}
    if not own:
        raise DataError(
            f"{path}: there are targets of none of the tasks {', '.join(kinds)}; found the columns "
            f"{', '.join(map(repr, fields))}. Name their columns: label='TASK=COLUMN,TASK=COLUMN'"
        )
    parts: dict[str, Any] = {} if part is None else {"split": split or "split", "parts": _part_names(data, part)}
    examples = read_target_examples([path], own, columns=chosen, **named, **parts, **reading)
    classes = {task: None if found is None else found.tolist() for task, found in model.classes_.items()}
    examples = align_targets(examples, {task: classes[task] for task in own})
    metrics = _metrics(model, examples, model.predict_outputs(examples.texts))
    if not metrics["tasks"]:
        raise DataError(f"{path}: no text has a target of the tasks {', '.join(own)}")
    return metrics


def _named_columns(label: str | None, tasks: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """Task -> column, from ``"TASK=COLUMN,TASK=COLUMN"``."""
    chosen = {}
    for item in () if label is None else label.split(","):
        task, equals, column = (piece.strip() for piece in item.partition("="))
        if not equals or not column:
            raise DataError(f"label={label!r}: expected TASK=COLUMN,TASK=COLUMN with the tasks {', '.join(tasks)}")
        if task not in tasks:
            raise DataError(f"label={label!r}: {task!r} is none of the tasks {', '.join(tasks)}.{nearest(task, tasks)}")
        chosen[task] = column
    return chosen


def _part_names(data: str, part: str) -> list[str]:
    # Bundled data call it valid.
    return ["valid"] if data.startswith(PREFIX) and part == "validation" else [part]


def _predict(model: MultiTaskTextModel, texts: list[str]) -> list[TasksPrediction]:
    if not texts:
        return []
    outputs = model.predict_outputs(texts)
    predictions = []
    for row, text in enumerate(texts):
        answers: dict[str, dict[str, Any]] = {}
        for task, classes in model.classes_.items():
            if classes is None:
                answers[task] = {"number": round(float(outputs[task][row]), 6)}
                continue
            labels, said = classes.tolist(), outputs[task][row]
            answers[task] = {
                "label": labels[int(said.argmax())],
                "probabilities": {
                    str(label): round(float(value), 6) for label, value in zip(labels, said, strict=True)
                },
            }
        predictions.append(TasksPrediction(text, answers))
    return predictions
