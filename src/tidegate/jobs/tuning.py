"""What ``tidegate tune`` does: trials of a recipe, the best one written out, a page on all of them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import secrets
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.config import Recipe, load_recipe
from tidegate.data.seeds import derive_seed
from tidegate.errors import RecipeError, TidegateError, require
from tidegate.jobs.run_folder import write_text
from tidegate.jobs.splits import Splits
from tidegate.jobs.tasks import Task, task_of
from tidegate.jobs.tuning_space import Choice, Range, Space, default_space, override, parse_space

__all__ = ["Trial", "Tuning", "tune"]

# Keys that make a loss another figure.
_OF_LOSS = ("training.loss", "model.regression_loss", "training.task_weights", "model.intent_weight")
BEST_FILE, REPORT_FILE, TRIALS_FILE, STORAGE_FILE = "best.yaml", "tune.html", "trials.json", "study.db"
_FAILURE = "failure"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trial:
    """One try: its number, what became of it (``complete``, ``pruned`` or ``fail``), its values and its metric."""

    number: int
    state: str
    values: dict[str, Any]
    metric: float | None
    epochs: int
    seconds: float


@dataclass(frozen=True)
class Tuning:
    """What a search found.

    Attributes:
        folder: Where its files are.
        storage: Where its trials are kept.
        monitor: The validation metric that was compared.
        best: The best trial, or None where none was finished.
        default: The metric of the recipe as it is, which is the first trial where its values lie within the space.
        trials: All of the study, in their order.
        importances: Key -> share of the metric's spread that it explains, where enough trials were finished.
        recipe: The best recipe, ready to train.
        report: The page.
        seconds: Time of this call.
        interrupted: Whether Ctrl-C ended it.
    """

    folder: Path
    storage: str
    monitor: str
    best: Trial | None
    default: float | None
    trials: list[Trial]
    importances: dict[str, float]
    recipe: Path | None
    report: Path
    seconds: float
    interrupted: bool


def tune(
    name: str | Path,
    *,
    search: Sequence[str] = (),
    overrides: Sequence[str] = (),
    data_dir: str | Path | None = None,
    trials: int = 20,
    timeout: float | None = None,
    sampler: str = "tpe",
    prune: bool = True,
    storage: str | None = None,
    out: str | Path | None = None,
    seed: int | None = None,
    runs: str | Path = "runs",
    shown: Callable[[Trial, Trial | None], None] | None = None,
) -> Tuning:
    """Search the keys of a recipe for the best validation metric.

    The study lies in a storage, by default ``study.db`` in the folder: called again with the same folder, the search
    goes on, also where it was killed; several processes may work on one storage at once.

    Args:
        name: The recipe.
        search: ``KEY=VALUES`` or ``KEY=LOW..HIGH``, see `tuning_space`; none takes its default space of the task.
        overrides: Values over the recipe's, in every trial.
        data_dir: Folder that the recipe's data paths are relative to.
        trials: Finished trials at most, those of earlier calls included.
        timeout: Seconds after which no trial is begun.
        sampler: ``"tpe"``, ``"random"``, ``"grid"`` or ``"gp"``.
        prune: Whether bad trials are ended early.
        storage: SQLite file, ``.journal`` file or URL.
        out: Folder of the results; None takes ``runs/<recipe>-tune``.
        seed: Of the sampler; None draws one.
        runs: Folder of the results that have no `out`.
        shown: Called after each trial with it and the best so far.

    Raises:
        RecipeError: The recipe or the space is not valid.
        DataError: The data cannot be used.
        TidegateError: The storage cannot be used, or is that of another study; no trial could be finished.
    """
    started = time.perf_counter()
    require("torch", "train")
    optuna: Any = require("optuna", "tune")
    from tidegate.reporting.scores import sign_of
    from tidegate.training.study import make_sampler, open_study, optuna_errors

    if trials < 1:
        raise RecipeError(f"--trials must be at least 1; found {trials}.")

    def load(more: Sequence[str] = (), check_files: bool = False) -> Recipe:
        return load_recipe(name, overrides=[*overrides, *more], data_dir=data_dir, check_files=check_files)

    recipe = load(check_files=True)
    name = recipe.path  # whatever comes to be called like it, as the folder of the results
    task = task_of(recipe.task)
    space = parse_space(search or default_space(recipe.task, recipe.arguments), load)
    if recipe.arguments.get("devices", 1) != 1 or any(item.key == "training.devices" for item in space):
        raise RecipeError(
            f"{recipe.path}: tune trains each trial in one process, so that it can be ended early; leave out "
            "training.devices, and run several searches on one --storage instead."
        )
    alone = task.make(**recipe.arguments)
    monitor = task.monitor(alone)
    sign = sign_of(monitor)
    if monitor == "loss" and (changing := [item.key for item in space if item.key in _OF_LOSS]):
        raise RecipeError(
            f"--search {changing[0]}: losses of different {changing[0]} cannot be compared; set training.monitor to "
            "another figure."
        )
    try:
        drawn = make_sampler(sampler, lambda: {item.key: item.grid() for item in space}, seed)
    except ValueError as error:
        raise RecipeError(f"--sampler: {error}") from None
    splits = task.read(recipe)
    if splits.validation is None and not alone.validation_fraction:
        raise RecipeError(
            f"{recipe.path}: there are no validation data to compare trials by: name data.validation, or set "
            "training.validation_fraction above 0."
        )
    folder = Path(out) if out is not None else Path(runs) / f"{recipe.name}-tune"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TidegateError(f"{folder}: the folder cannot be made: {error.strerror or error}.") from None
    place = storage or str(folder / STORAGE_FILE)
    facts = {
        "the recipe": dict(recipe.arguments),
        "the data": _digest(splits),
        "the space": [repr(item) for item in space],
    }
    study = open_study(place, recipe.name, facts, drawn, maximize=True, prune=prune)
    begun = len(study.get_trials(deepcopy=False))
    if begun and seed is not None and sampler != "grid":
        # The sampler of a search that goes on would draw the first trials again.
        study.sampler = make_sampler(sampler, dict, derive_seed(seed, "sampler", begun) % 2**32)
    objective = _Objective(task, load, space, splits, monitor, sign)

    def finished(study: Any, trial: Any) -> None:
        found = _read(study, space, sign)
        this = next(item for item in found if item.number == trial.number)
        _log.info(_line(this, monitor))
        if shown is not None:
            shown(this, _best(found, sign))

    interrupted = False
    with optuna_errors(place):
        if sampler != "grid" and not study.get_trials(deepcopy=False):
            study.enqueue_trial(_defaults(alone, space))
        counted = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED, optuna.trial.TrialState.FAIL)
        enough = optuna.study.MaxTrialsCallback(trials, states=counted)
        if len(study.get_trials(deepcopy=False, states=counted)) < trials:
            try:
                study.optimize(objective, timeout=timeout, callbacks=[finished, enough], catch=(TidegateError,))
            except KeyboardInterrupt:
                interrupted = True
        found = _read(study, space, sign)
    best = _best(found, sign)
    if best is None and not interrupted:
        raise TidegateError(f"{place}: none of {len(found)} trials was finished. {_failures(study)}")
    chosen: Recipe | None = None
    if best is not None:
        chosen = load([override(key, value) for key, value in best.values.items()])
        arguments = task.make(**chosen.arguments).get_params(deep=False)
        arguments.pop("verbose", None)
        write_text(folder / BEST_FILE, chosen.resolved(arguments))
    importances = _importances(study)
    _write_pages(folder, recipe.name, monitor, found, importances)
    first = next((trial for trial in found if trial.number == 0 and trial.state == "complete"), None)
    return Tuning(
        folder=folder,
        storage=place,
        monitor=monitor,
        best=best,
        default=first.metric if first is not None and first.values == _as_it_is(alone, space) else None,
        trials=found,
        importances=importances,
        recipe=None if chosen is None else folder / BEST_FILE,
        report=folder / REPORT_FILE,
        seconds=time.perf_counter() - started,
        interrupted=interrupted,
    )


class _Objective:
    """A trial: the recipe with the values drawn, trained on the splits."""

    def __init__(
        self, task: Task, load: Callable[..., Recipe], space: Space, splits: Splits[Any], monitor: str, sign: float
    ) -> None:
        self.task, self.load, self.space = task, load, space
        self.splits, self.monitor, self.sign = splits, monitor, sign

    def __call__(self, trial: Any) -> float:
        from tidegate.training.study import Pruning

        try:
            values = {item.key: item.value(_suggest(trial, item)) for item in self.space}
            arguments = dict(self.load([override(key, value) for key, value in values.items()]).arguments)
            arguments["verbose"] = False
            if arguments.get("random_state") is None:
                arguments["random_state"] = secrets.randbits(31)
            model = self.task.make(**arguments)
            self.task.fit(model, self.splits, callbacks=[Pruning(trial, self.monitor, self.sign)])
        except (TidegateError, ValueError) as error:
            # Values that are legal one by one and not together, as two options that exclude each other.
            trial.set_user_attr(_FAILURE, str(error))
            raise TidegateError(str(error)) from error
        reached = _reached(model, self.monitor)
        if reached is None:
            raise TidegateError(
                "there are no validation data to compare trials by: too few rows to set any aside; name data.validation"
            )
        return self.sign * reached


def _reached(model: Any, monitor: str) -> float | None:
    """The validation figure of a fitted model: of its best epoch, or, where it learns in no epochs, its own."""
    history = getattr(model, "history_", None)
    if history is None:
        return getattr(model, f"validation_{monitor}_")
    return history[model.best_epoch_ - 1].get(f"validation_{monitor}")


def _suggest(trial: Any, item: Choice | Range) -> Any:
    if isinstance(item, Choice):
        return trial.suggest_categorical(item.key, item.grid())
    if item.whole:
        return trial.suggest_int(item.key, item.low, item.high, step=item.step or 1, log=item.log)
    return trial.suggest_float(item.key, item.low, item.high, step=item.step, log=item.log)


def _defaults(model: Any, space: Space) -> dict[str, Any]:
    """What a sampler would draw for the recipe's own values of the keys of the space, where they lie within it."""
    from tidegate.estimators.base import plain_value

    arguments, drawn = model.get_params(deep=False), {}
    for item in space:
        with contextlib.suppress(ValueError):
            drawn[item.key] = item.drawn(plain_value(arguments[item.key.split(".")[-1]]))
    return drawn


def _as_it_is(model: Any, space: Space) -> dict[str, Any] | None:
    """The recipe's own values of the keys of the space; None where one lies outside."""
    drawn = _defaults(model, space)
    return {item.key: item.value(drawn[item.key]) for item in space} if len(drawn) == len(space) else None


def _digest(splits: Splits[Any]) -> str:
    digest = hashlib.sha256()
    rows = [row for part in splits.parts().values() for row in zip(*_columns(part), strict=True)]
    for row in (*rows, *((text,) for text in splits.unlabelled or ())):
        digest.update("".join(f"{value}\0" for value in row).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _columns(part: Any) -> Iterable[list[Any]]:
    """What there is of each row of a part: its text or sentence, and all that is learned of it."""
    for name in ("texts", "sentences", "labels", "targets", "tags", "intents"):
        column = getattr(part, name, None)
        yield from column.values() if isinstance(column, dict) else () if column is None else (column,)


def _read(study: Any, space: Space, sign: float) -> list[Trial]:
    items, found = {item.key: item for item in space}, []
    for trial in study.get_trials(deepcopy=False):
        state = trial.state.name.lower()
        if state in ("waiting", "running"):
            continue
        told = list(trial.intermediate_values.values())
        value = trial.value if state == "complete" else max(told, default=None) if state == "pruned" else None
        duration = trial.duration.total_seconds() if trial.duration is not None else 0.0
        metric = None if value is None else sign * value
        values = {key: items[key].value(drawn) for key, drawn in trial.params.items()}
        found.append(Trial(trial.number, state, values, metric, len(told), duration))
    return found


def _best(trials: Sequence[Trial], sign: float) -> Trial | None:
    finished = [trial for trial in trials if trial.state == "complete" and trial.metric is not None]
    return max(finished, key=lambda trial: sign * (trial.metric or 0.0), default=None)


def _failures(study: Any) -> str:
    """What the first trial failed of, where one did."""
    told = (trial.user_attrs.get(_FAILURE) for trial in study.get_trials(deepcopy=False))
    first = next((reason for reason in told if reason), None)
    return "Give more --trials." if first is None else f"The first failed: {first}"


def _importances(study: Any) -> dict[str, float]:
    optuna: Any = require("optuna", "tune")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of few trials, or of such as hardly differ
            return dict(optuna.importance.get_param_importances(study))
    except (ValueError, RuntimeError):  # too few trials, or all alike
        return {}


def _line(trial: Trial, monitor: str) -> str:
    values = ", ".join(f"{key.split('.')[-1]} {_short(value)}" for key, value in trial.values.items())
    metric = "failed" if trial.metric is None else f"{monitor} {trial.metric:.4f}"
    ended = " (ended early)" if trial.state == "pruned" else ""
    epochs = f"{trial.epochs} epochs, " if trial.epochs else ""
    return f"trial {trial.number}: {metric}{ended} in {epochs}{trial.seconds:.0f} s: {values}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _write_pages(folder: Path, name: str, monitor: str, trials: Sequence[Trial], importances: dict[str, float]) -> None:
    """The trials as JSON, and a page on them."""
    from tidegate.reporting.tuning import render_tuning

    rows = [vars(trial) for trial in trials]
    facts = {"monitor": monitor, "trials": rows, "importances": importances}
    write_text(folder / TRIALS_FILE, json.dumps(facts, indent=1, ensure_ascii=False))
    write_text(folder / REPORT_FILE, render_tuning(name, monitor, rows, importances))
