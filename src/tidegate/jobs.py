"""What each command does, without a terminal: train, evaluate, predict, validate."""

from __future__ import annotations

import dataclasses
import logging
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.config import TABLES_ONLY, TAGGED_ONLY, Recipe, load_recipe
from tidegate.data.bundled import PREFIX, bundled_path, load_reviews
from tidegate.data.sources import align_labels, is_table, read_text_examples
from tidegate.errors import DataError, TidegateError, require
from tidegate.recipe_data import Splits, check_first_rows, data_notes, read_splits
from tidegate.run_folder import MODEL_FILE, RECIPE_FILE, REPORT_FILE, prepare_run_folder, write_text
from tidegate.run_steps import (
    Task,
    add_metrics,
    check_craft,
    check_device,
    find_rate_for,
    finished_by_resuming,
    make_ensemble,
    noted_warnings,
    resolved_recipe,
    timed,
    truncation_notes,
)

if TYPE_CHECKING:
    from tidegate.estimators.text_classifier import TextClassifier

Label = str | int

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """What a model says of a text: the most probable label, and the probability of each."""

    text: str
    label: Label
    probabilities: dict[str, float]


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

    task = _task(recipe)
    check_craft(recipe, members=members, find_rate=find_rate, resume=resume)
    arguments = dict(recipe.arguments)
    if verbose is not None:
        arguments["verbose"] = verbose
    if not resume and arguments.get("random_state") is None:
        arguments["random_state"] = secrets.randbits(31)
    check_device(recipe, arguments)
    folder = prepare_run_folder(recipe.name, out, resume=resume, overwrite=overwrite, runs=Path(runs))
    notes: list[str] = []
    timing: dict[str, float] = {}
    with timed(timing, "reading"):
        splits = task.read(recipe)
        notes += task.notes(splits)
    for note in notes:
        _log.warning(note)
    counts = ", ".join(f"{len(examples):,} {name}" for name, examples in splits.parts().items())
    _log.info("read %s %s; the run goes to %s", counts, task.unit, folder)

    one: Any = task.make(**arguments)
    found: Any = None
    if find_rate:
        with timed(timing, "finding the rate"), noted_warnings(notes):
            found = find_rate_for(one, splits.train.texts, splits.train.labels, notes)
    model = one if members == 1 else make_ensemble(one, members, folder, resume)
    if not resume:
        write_text(folder / RECIPE_FILE, resolved_recipe(recipe, one))
    interrupted = False
    with noted_warnings(notes):
        try:
            task.fit(model, splits, run_folder=folder, resume=resume)
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
    best = history[model.best_epoch_ - 1] if history else {"validation_accuracy": model.validation_accuracy_}
    result = Training(
        folder=folder,
        model=model_file,
        report=None,
        epochs=len(history),
        best_epoch=model.best_epoch_ if history else 0,
        validation_accuracy=best["validation_accuracy"],
        validation_f1=best.get("validation_f1"),
        test=None,
        baseline=None,
        predictions=[],
        notes=notes,
        seconds=time.perf_counter() - started,
        interrupted=interrupted,
        rate_search=None if found is None else vars(found),
    )
    if interrupted:
        return result
    with finished_by_resuming(folder):
        return task.judge(recipe, model, splits, result, timing, started)


def _task(recipe: Recipe) -> Task:
    if recipe.task == "sequence-tagging":
        from tidegate.tagging_jobs import tagging_task

        return tagging_task()
    if recipe.task == "linear-text-classification":
        from tidegate.linear_jobs import make_linear

        return Task("texts", make_linear, read_splits, data_notes, _fit_linear, _judge)
    from tidegate.estimators.text_classifier import TextClassifier

    return Task("texts", TextClassifier, read_splits, data_notes, _fit, _judge)


def _fit(model: Any, splits: Splits, **options: Any) -> None:
    held = splits.validation
    validation = None if held is None else (held.texts, held.labels)
    if splits.unlabelled is not None:
        options["unlabelled"] = splits.unlabelled
    model.fit(splits.train.texts, splits.train.labels, validation_data=validation, **options)


def _fit_linear(model: Any, splits: Splits, *, run_folder: Path, resume: bool) -> None:
    del run_folder, resume  # seconds of work leave nothing to resume from
    _fit(model, splits)


def _judge(
    recipe: Recipe, model: Any, splits: Splits, run: Training, timing: dict[str, float], started: float
) -> Training:
    """Test metrics, baseline, report and predictions of a model that was just trained."""
    from tidegate.environment import describe_environment
    from tidegate.linear_jobs import strongest_notes
    from tidegate.located_yaml import parse_document
    from tidegate.reporting.metrics import classification_metrics, worst_mistakes
    from tidegate.reporting.report import RunFacts, write_metrics, write_report

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
                encoded = model.encoder_.encode(splits.test.texts)
                lengths["test"] = encoded.lengths.tolist()
                probabilities = model.predict_encoded(encoded.ids)
            else:
                probabilities = model.predict_proba(splits.test.texts)
            test = classification_metrics(splits.test.labels or [], probabilities, classes)
            mistakes = worst_mistakes(
                splits.test.texts, splits.test.labels or [], probabilities, classes, splits.test.origins
            )
        add_metrics(run.model, {"test": test})
        if output.baseline is not None:
            from tidegate.reporting.compare import tfidf_baseline

            _log.info("training the TF-IDF baseline")
            with timed(timing, "baseline"), noted_warnings(notes):
                own = "words" if model.tokenizer == "bpe" else model.tokenizer
                tokenizer: str = output.baseline.get("tokenizer") or own
                baseline = tfidf_baseline(splits.train, splits.test, tokenizer=tokenizer)
    elif output.baseline is not None:
        notes.append("there is no test part, so neither the model nor the baseline was tested")
    own_notes = getattr(model, "notes", None)
    for note in own_notes or (truncation_notes(model, lengths) if neural else strongest_notes(model)):
        _log.info(note)
        notes.append(note)
    timing["total"] = time.perf_counter() - started
    facts = RunFacts(
        title=output.title or recipe.name,
        recipe=parse_document((run.folder / RECIPE_FILE).read_text(encoding="utf-8"), RECIPE_FILE).value,
        counts={name: len(examples) for name, examples in splits.parts().items()},
        class_counts={name: dict(Counter(examples.labels or [])) for name, examples in splits.parts().items()},
        token_lengths=lengths,
        history=model.history_ if neural else (),
        best_epoch=model.best_epoch_ if neural else None,
        test=test,
        baseline=baseline,
        mistakes=mistakes,
        timing=timing,
        environment=describe_environment().summary(),
        notes=notes,
        rate_search=run.rate_search,
    )
    report = write_report(run.folder, facts) if output.report else None
    if report is None:
        (run.folder / REPORT_FILE).unlink(missing_ok=True)  # of a run that was resumed, and is of other facts
        write_metrics(run.folder, facts)
    return dataclasses.replace(
        run,
        report=report,
        test=test,
        baseline=baseline,
        predictions=_predictions(model, output.try_),
        notes=notes,
        seconds=time.perf_counter() - started,
    )


# --- evaluate, predict


def evaluate(
    model: str | Path,
    data: str,
    *,
    text: str = "text",
    label: str = "label",
    part: str | None = None,
    split: str = "split",
    **reading: Any,
) -> Evaluation:
    """Judge a saved model on labelled data.

    Args:
        model: A ``.tg`` file.
        data: A file or folder of texts, or ``bundled:reviews_en``.
        text, label, split: Columns of the file.
        part: The part to judge on: a value of the column ``split``. None takes the whole file, or the test part of
            bundled data.
        reading: How the file is read: ``delimiter``, ``quote``, ``encoding``, ``errors``, ``header``, as in
            ``read_text_examples``; for a tagger ``format``, ``token_column``, ``tag_column``, ``unit``, ``encoding``,
            ``errors``, as in ``read_tagged``.

    Raises:
        BundleError: The model cannot be read.
        DataError: The data cannot be read, have a label that the model does not know, or `reading` has no effect on
            them: any of it on bundled data; delimiter, quote and header on what is no CSV or TSV file.
    """
    started = time.perf_counter()
    estimator = _load(model)
    if estimator.kind == "sequence-tagger":
        from tidegate.tagging_jobs import evaluate_tagger

        given = {"text": text != "text", "label": label != "label", "split": split != "split"}
        _check_idle([name for name, set_ in given.items() if set_], "tagged sentences")
        return Evaluation(
            str(model), data, evaluate_tagger(estimator, data, part, **reading), time.perf_counter() - started
        )
    _check_idle([name for name in reading if name in TAGGED_ONLY], "texts with labels")
    from tidegate.reporting.metrics import classification_metrics

    if data.startswith(PREFIX):
        _check_idle(reading, "bundled data")
        language = bundled_path(data).name.split(".")[0].rpartition("_")[2]
        examples = load_reviews(language, part or "test")
    else:
        if not is_table(Path(data)):
            _check_idle([name for name in reading if name in TABLES_ONLY], f"{data}, which is no CSV or TSV file")
        parts = {} if part is None else {"split": split, "split_value": part}
        examples = read_text_examples(data, text=text, label=label, **parts, **reading)
    classes = estimator.classes_.tolist()
    labels = align_labels(examples, classes)
    metrics = classification_metrics(labels, estimator.predict_proba(examples.texts), classes)
    return Evaluation(str(model), data, metrics, time.perf_counter() - started)


def _check_idle(names: Iterable[str], where: str) -> None:
    if listed := ", ".join(f"{name}=" for name in names):
        raise DataError(f"{listed} has no effect on {where}; remove it")


def predict(model: str | Path, batches: Iterable[list[str]]) -> Iterator[list[Any]]:
    """Predict batch after batch; the model is loaded at once, so that a bad file fails before any text is read.

    Raises:
        BundleError: The model cannot be read.
    """
    estimator = _load(model)
    if estimator.kind == "sequence-tagger":
        from tidegate.tagging_jobs import tag_texts

        return (tag_texts(estimator, batch) for batch in batches)
    return (_predictions(estimator, batch) for batch in batches)


def _predictions(model: TextClassifier, texts: list[str]) -> list[Prediction]:
    if not texts:
        return []
    classes = model.classes_.tolist()
    probabilities = model.predict_proba(texts)
    return [
        Prediction(
            text=text,
            label=classes[int(row.argmax())],
            probabilities={str(name): round(float(value), 6) for name, value in zip(classes, row, strict=True)},
        )
        for text, row in zip(texts, probabilities, strict=True)
    ]


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
    if recipe.task == "sequence-tagging":
        from tidegate.tagging_data import check_first_sentences

        return Check(recipe, check_first_sentences(recipe))
    return Check(recipe, check_first_rows(recipe))
