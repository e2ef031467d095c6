"""What surrounds the steps of a run: their time, their warnings, and how a run that broke off is finished."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tidegate.config import Recipe, load_recipe
from tidegate.errors import DataError, RecipeError, TidegateError
from tidegate.jobs.run_folder import CHECKPOINTS, RATE_FILE, RECIPE_FILE, write_text

_log = logging.getLogger(__name__)


# Tasks whose estimators look for a learning rate.
_FINDING = ("text-classification", "text-regression", "multi-label-text-classification", "multi-task-text")


def check_idle(names: Iterable[str], where: str) -> None:
    """Refuse what was said of data on which it has no effect.

    Raises:
        DataError: Something was.
    """
    if listed := ", ".join(f"{name}=" for name in names):
        raise DataError(f"{listed} has no effect on {where}; remove it")


@contextlib.contextmanager
def finished_by_resuming(folder: Path) -> Iterator[None]:
    """What goes wrong after training, as on a full disk, costs no epoch; its error says how to finish the run."""
    try:
        yield
    except TidegateError as error:
        raise type(error)(
            f"{str(error).rstrip('.')}. The trained epochs are kept; once this is mended, finish the run with: "
            f"--resume --out {folder}"
        ) from error


@contextlib.contextmanager
def refusals_named(recipe: Recipe) -> Iterator[None]:
    """What an estimator says against its arguments, which are legal one by one, is said of the recipe.

    Raises:
        RecipeError: It refused them.
    """
    try:
        yield
    except ValueError as error:
        raised = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)][-1]
        if isinstance(error, TidegateError) or not raised.startswith("tidegate."):
            raise
        raise RecipeError(f"{recipe.path}: {error}") from error


@contextlib.contextmanager
def timed(timing: dict[str, float], name: str) -> Iterator[None]:
    """The seconds that a step takes go into `timing` under its name."""
    started = time.perf_counter()
    yield
    timing[name] = time.perf_counter() - started


@contextlib.contextmanager
def noted_warnings(notes: list[str]) -> Iterator[None]:
    """Warnings for the user go to the notes and the log, once each; those for programmers pass."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            yield
        finally:
            texts = dict.fromkeys(str(item.message) for item in caught if issubclass(item.category, UserWarning))
            for text in texts:
                _log.warning(text)
            notes += texts


def resolved_recipe(recipe: Recipe, model: Any) -> str:
    """The recipe of a run with every option of its estimator, as YAML."""
    # How much a run said is a matter of its command, and its seed was perhaps drawn.
    said = {"verbose": recipe.arguments["verbose"]} if "verbose" in recipe.arguments else {}
    seed = {"random_state": getattr(model, "random_state_", model.random_state)}
    others = {name: value for name, value in model.get_params().items() if name != "verbose"}
    return recipe.resolved({**others, **said, **seed})


def check_device(recipe: Recipe, arguments: dict[str, Any]) -> None:
    """Refuse a device that is not here, or more of them than there are.

    Raises:
        RecipeError: It is not.
    """
    from tidegate.estimators.base import resolve_device
    from tidegate.training.processes import check_devices

    key = "device"
    try:
        device = resolve_device(arguments.get("device", "auto"))
        key = "devices"
        check_devices(arguments.get("devices", 1), device)
    except ValueError as error:
        raise RecipeError(f"{recipe.document.place(('training', key))}: training.{key}: {error}") from None


def check_craft(
    recipe: Recipe, alone: str | None, *, members: int, snapshots: bool, find_rate: bool, resume: bool
) -> None:
    """Refuse members, or a search for the learning rate, where there can be none.

    Args:
        recipe: Of the run.
        alone: Why its models are not averaged, or None where they are.
        members, snapshots, find_rate, resume: As of ``train``.

    Raises:
        RecipeError: The recipe is of another task, there is no whole number of members, or the run is resumed.
    """
    if find_rate and (resume or recipe.task not in _FINDING):
        raise RecipeError(
            f"--find-lr looks before a new run of a recipe of the task {' or '.join(_FINDING)}; a run that is resumed "
            "keeps its rate."
        )
    if members < 1:
        raise RecipeError(f"--members must be 1 or more; found {members}.")
    if members > 1 and alone is not None:
        raise RecipeError(f"--members {members}: the task {recipe.task} has no ensembles: {alone}.")
    if snapshots and members < 2:
        raise RecipeError("--snapshots says where the members of an ensemble come from: give --members, 2 or more.")


# What a run has in its folder, by what it trains.
_PARTS = {
    "snapshots": ("snapshots",),
    "several models": ("member-*",),
    "one model": (CHECKPOINTS, "pretrain", "adapt"),
}


def resumed_arguments(arguments: dict[str, Any], folder: Path, members: int, snapshots: bool) -> dict[str, Any]:
    """The arguments of a run that goes on, with the seed that was drawn for it where the recipe names none.

    Raises:
        TidegateError: The run in the folder is of one model and not of several, or the other way round.
    """
    begun = next((kind for kind, names in _PARTS.items() if any(any(folder.glob(name)) for name in names)), None)
    asked = "one model" if members == 1 else "snapshots" if snapshots else "several models"
    if begun not in (None, asked):
        cure = {"one model": "leave out --members", "several models": "give --members, as many as it was begun with"}
        cure["snapshots"] = "give --members and --snapshots"
        raise TidegateError(f"{folder}: the run to resume is of {begun}: {cure[str(begun)]}.")
    recipe = folder / RECIPE_FILE
    if arguments.get("random_state") is not None or not recipe.is_file():
        return arguments
    drawn = load_recipe(recipe, check_files=False).arguments.get("random_state")
    return {**arguments, "random_state": drawn}


def find_rate_for(model: Any, texts: list[str], labels: Any, folder: Path, notes: list[str]) -> dict[str, Any]:
    """Look for a learning rate, or take what the run in the folder found; the model learns by it, and it is noted."""
    kept = folder / RATE_FILE
    if kept.is_file():
        found = json.loads(kept.read_text(encoding="utf-8"))
    else:
        found = vars(model.find_learning_rate(texts, labels))
        write_text(kept, json.dumps(found))
    rate = float(f"{found['suggestion']:.2g}")
    notes.append(f"the learning-rate finder suggests {rate:g}, which is taken (the recipe has {model.learning_rate:g})")
    _log.info(notes[-1])
    model.set_params(learning_rate=rate)
    return found


def add_metrics(path: Path, metrics: dict[str, Any]) -> None:
    """Write further metrics into a saved model."""
    from tidegate.deploy.bundle import load_bundle, save_bundle

    bundle = load_bundle(path)
    save_bundle(path, dataclasses.replace(bundle, metrics={**bundle.metrics, **metrics}))


def record_run(run: Any, model: Any, loggers: list[str]) -> None:
    """Put the test metrics of a finished run, and those of its baseline, into its records.

    Args:
        run: The finished ``Training``.
        model: What it trained; of an ensemble, what each member is.
        loggers: Of the names that a recipe's ``output.log`` has.
    """
    from tidegate.estimators.base import plain_value
    from tidegate.training.records import record_results

    figures = {}
    for part, values in (("test", run.test or {}), ("baseline", run.baseline or {})):
        figures |= {f"{part}_{name}": value for name, value in values.items()}
        for task, own in values.get("tasks", {}).items():
            figures |= {f"{part}_{task}_{name}": value for name, value in own.items()}
    arguments = {name: plain_value(value) for name, value in model.get_params(deep=False).items()}
    record_results(loggers, run.folder, arguments, figures, epoch=run.best_epoch)


def truncation_notes(model: Any, lengths: dict[str, list[int]]) -> list[str]:
    """A sentence on the texts of which a model with ``max_tokens`` reads a part, where there are any."""
    limit = model.max_tokens
    if limit is None:
        return []
    cut = {name: sum(length > limit for length in values) for name, values in lengths.items()}
    stated = ", ".join(f"{count:,} of {len(lengths[name]):,} {name} texts" for name, count in cut.items() if count)
    kept = {"head": "first", "tail": "last"}.get(model.truncation)
    what = f"their {kept} {limit:,} tokens" if kept else f"{limit:,} tokens, the first quarter and the last three,"
    return [f"longer than max_tokens={limit} were {stated}; the model reads {what}"] if stated else []
