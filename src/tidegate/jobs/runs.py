"""The commands that every task of a recipe has, without a terminal: train, evaluate, predict, validate."""

from __future__ import annotations

import dataclasses
import logging
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tidegate.config import Recipe, load_recipe
from tidegate.errors import TidegateError, require
from tidegate.jobs.judging import judge
from tidegate.jobs.run_card import write_card
from tidegate.jobs.run_folder import MODEL_FILE, RATE_FILE, RECIPE_FILE, prepare_run_folder, write_text
from tidegate.jobs.run_steps import (
    check_craft,
    check_device,
    check_idle,
    find_rate_for,
    finished_by_resuming,
    noted_warnings,
    record_run,
    refusals_named,
    resolved_recipe,
    resumed_arguments,
    timed,
)
from tidegate.jobs.splits import targets_of
from tidegate.jobs.tasks import task_of, task_of_kind

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """What a training run left.

    Attributes:
        folder: The run's folder.
        model: The bundle of the best epoch.
        report: The HTML report, if one was asked for and the run was finished.
        epochs: Epochs that were finished.
        best_epoch: The one whose weights were kept.
        validation_accuracy: Its accuracy on the validation data, if there are any; of tags, that of tokens.
        validation_f1: Its F1 of segments there, where tags were learned.
        test: ``classification_metrics`` or ``tagging_metrics`` on the test data, if there are any.
        baseline: Name, accuracy and more of the TF-IDF baseline, if one was asked for.
        predictions: What the model says of the sentences in ``output.try``: `Prediction` or `TaggedText`.
        notes: Warnings and statements.
        seconds: Time the run took.
        interrupted: Whether Ctrl-C ended training; then only the model and the checkpoints are there.
        rate_search: What the learning-rate finder saw, where it was asked.
        card: The model card, of a run that was finished.
    """

    folder: Path
    model: Path
    report: Path | None
    epochs: int
    best_epoch: int
    validation_accuracy: float | None
    validation_f1: float | None
    test: dict[str, Any] | None
    baseline: dict[str, Any] | None
    predictions: list[Any]
    notes: list[str]
    seconds: float
    interrupted: bool
    rate_search: dict[str, Any] | None = None
    card: Path | None = None


@dataclass(frozen=True)
class Evaluation:
    """How a saved model does on labelled data: ``metrics`` is the result of ``classification_metrics``."""

    model: str
    data: str
    metrics: dict[str, Any]
    seconds: float


@dataclass(frozen=True)
class Check:
    """A recipe that was found valid, and what its data files hold."""

    recipe: Recipe
    data: dict[str, str] = field(default_factory=dict)


# --- train


def train(
    recipe: Recipe,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    verbose: bool | None = None,
    runs: str | Path = "runs",
    members: int = 1,
    snapshots: bool = False,
    find_rate: bool = False,
) -> Training:
    """Train, judge and save the model of a recipe.

    Args:
        recipe: What to do.
        out: Folder of the run; None takes a new one, ``runs/<recipe>/<date and time>``.
        resume: Whether to go on with the run in ``out``, or with the latest one of this recipe.
        overwrite: Whether a run that ``out`` already holds may be replaced.
        verbose: Whether to show progress, over what the recipe says.
        runs: Folder of the runs that have no ``out``.
        members: Models that are trained from seeds of their own and averaged, in one file.
        snapshots: Whether the members are those that one run passes through, instead.
        find_rate: Whether the learning rate is looked for first, and what is found goes over the recipe's.

    Raises:
        RecipeError: A setting does not work on this machine.
        DataError: The data cannot be used; the message names file and line.
        TidegateError: The folder cannot be written, there is no run to resume, or the process was told to end.
        KeyboardInterrupt: Ctrl-C came before the first epoch was finished, or after training.
    """
    started = time.perf_counter()
    require("torch", "train")
    require("lightning", "train")
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    task = task_of(recipe.task)
    alone = task.alone if task.ensemble is None else None
    check_craft(recipe, alone, members=members, snapshots=snapshots, find_rate=find_rate, resume=resume)
    arguments = dict(recipe.arguments)
    if verbose is not None:
        arguments["verbose"] = verbose
    if not resume and arguments.get("random_state") is None:
        arguments["random_state"] = secrets.randbits(31)
    check_device(recipe, arguments)
    folder = prepare_run_folder(recipe.name, out, resume=resume, overwrite=overwrite, runs=Path(runs))
    if resume:
        arguments = resumed_arguments(arguments, folder, members, snapshots)
    notes: list[str] = []
    timing: dict[str, float] = {}
    with timed(timing, "reading"):
        splits = task.read(recipe)
        notes += task.notes(splits)
    for note in notes:
        _log.warning(note)
    counts = ", ".join(f"{len(examples):,} {name}" for name, examples in splits.parts().items())
    _log.info("read %s %s; the run goes to %s", counts, task.unit, folder)

    loggers: list[str] = [*recipe.sections.output.log]
    for name in loggers:
        require(name, "records")
    one: Any = task.make(**arguments)
    found: dict[str, Any] | None = None
    if not resume:
        (folder / RATE_FILE).unlink(missing_ok=True)
    if find_rate or (folder / RATE_FILE).is_file():
        with timed(timing, "finding the rate"), noted_warnings(notes), refusals_named(recipe):
            found = find_rate_for(one, splits.train.texts, targets_of(splits.train), folder, notes)
    model: Any = one
    if members > 1 and task.ensemble is not None:
        model = task.ensemble(estimator=one, members=members, by="snapshots" if snapshots else "seeds")
    if not resume:
        write_text(folder / RECIPE_FILE, resolved_recipe(recipe, one))
    interrupted = False
    with noted_warnings(notes), refusals_named(recipe):
        try:
            task.fit(model, splits, run_folder=folder, resume=resume, **({"loggers": loggers} if loggers else {}))
        except KeyboardInterrupt:
            if not hasattr(model, "network_"):
                raise
            interrupted = True
        except SIGTERMException:
            raise TidegateError(
                f"the run was terminated from outside; go on with it from its last epoch: --resume --out {folder}"
            ) from None
    with finished_by_resuming(folder):
        model_file = model.save(folder / MODEL_FILE)
        write_text(folder / RECIPE_FILE, resolved_recipe(recipe, one))
    history = getattr(model, "history_", [])  # of a model that learns in epochs
    best = history[model.best_epoch_ - 1] if history else {}
    result = Training(
        folder=folder,
        model=model_file,
        report=None,
        epochs=len(history),
        best_epoch=model.best_epoch_ if history else 0,
        validation_accuracy=best.get("validation_accuracy", getattr(model, "validation_accuracy_", None)),
        validation_f1=best.get("validation_f1"),
        test=None,
        baseline=None,
        predictions=[],
        notes=notes,
        seconds=time.perf_counter() - started,
        interrupted=interrupted,
        rate_search=found,
    )
    if interrupted:
        return result
    with finished_by_resuming(folder):
        result = judge(task, recipe, model, splits, result, timing, started)
        if loggers:
            record_run(result, one, loggers)
        card = write_card(recipe, model, splits, task.unit, folder, model_file)
        return dataclasses.replace(result, card=card)


# --- evaluate, predict


def evaluate(
    model: str | Path,
    data: str,
    *,
    text: str | None = None,
    label: str | None = None,
    part: str | None = None,
    split: str | None = None,
    **reading: Any,
) -> Evaluation:
    """Judge a saved model on labelled data.

    Args:
        model: A ``.tg`` file.
        data: A file or folder of texts, or ``bundled:reviews_en``.
        text, label, split: Columns of the file, where they are not of these names.
        part: The part to judge on: a value of the column ``split``. None takes the whole file, or the test part of
            bundled data.
        reading: How the file is read: ``delimiter``, ``quote``, ``encoding``, ``errors``, ``header``, as in
            ``read_text_examples``; ``label_separator`` for a model of several labels a text; for a tagger
            ``format``, ``token_column``, ``tag_column``, ``unit``, ``encoding``,
            ``errors``, as in ``read_tagged``.

    Raises:
        BundleError: The model cannot be read.
        DataError: The data cannot be read, have a label that the model does not know, or `reading` has no effect on
            them: any of it on bundled data; delimiter, quote and header on what is no CSV or TSV file.
    """
    started = time.perf_counter()
    estimator = _load(model)
    columns = {"text": text, "label": label, "split": split, "part": part}
    if "multi-label" not in estimator.kind and "label_separator" in reading:
        check_idle(["label_separator"], "data with one label a text")
    metrics = task_of_kind(estimator.kind).evaluate(estimator, data, columns, **reading)
    return Evaluation(str(model), data, metrics, time.perf_counter() - started)


def predict(model: str | Path, batches: Iterable[list[str]]) -> Iterator[list[Any]]:
    """Predict batch after batch; the model is loaded at once, so that a bad file fails before any text is read.

    Raises:
        BundleError: The model cannot be read.
    """
    estimator = _load(model)
    task = task_of_kind(estimator.kind)
    return (task.predict(estimator, batch) for batch in batches)


def _load(path: str | Path) -> Any:
    from tidegate.deploy.bundle import load_bundle

    load_bundle(path)  # a file that is no model says so even where torch is missing
    require("torch", "train")
    from tidegate.estimators.loading import load

    return load(path)


# --- validate


def validate(name: str | Path, *, overrides: Sequence[str] = (), data_dir: str | Path | None = None) -> Check:
    """Check a recipe and the first row of each of its data files, without torch.

    Raises:
        RecipeError: The recipe is not valid.
        DataError: A data file cannot be read as the recipe says.
    """
    recipe = load_recipe(name, overrides=overrides, data_dir=data_dir)
    return Check(recipe, task_of(recipe.task).first_rows(recipe))
