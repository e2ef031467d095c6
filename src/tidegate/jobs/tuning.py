"""What ``tidegate tune`` does: trials of a recipe, the best one written out, a page on all of them."""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.config import Recipe, load_recipe
from tidegate.data.seeds import derive_seed
from tidegate.errors import RecipeError, TidegateError, require
from tidegate.jobs.run_folder import write_text
from tidegate.jobs.splits import Splits
from tidegate.jobs.text_data import read_splits
from tidegate.jobs.tuning_space import Choice, Range, Space, override, parse_space

__all__ = ["Trial", "Tuning", "tune"]

BEST_FILE, REPORT_FILE, TRIALS_FILE, STORAGE_FILE = "best.yaml", "tune.html", "trials.json", "study.db"
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
        default: The metric of the recipe as it is, which is the first trial.
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
        search: ``KEY=VALUES`` or ``KEY=LOW..HIGH``, see `tuning_space`; none takes its default space.
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
    from tidegate.training.study import make_sampler, open_study, optuna_errors

    if trials < 1:
        raise RecipeError(f"--trials must be at least 1; found {trials}.")

    def load(more: Sequence[str] = (), check_files: bool = False) -> Recipe:
        return load_recipe(name, overrides=[*overrides, *more], data_dir=data_dir, check_files=check_files)

    recipe = load(check_files=True)
    if recipe.sections.task != "text-classification":
        raise RecipeError(f"{recipe.path}: tune searches recipes of the task text-classification; found another one.")
    space = parse_space(search, load)
    if recipe.arguments.get("devices", 1) != 1 or any(item.key == "training.devices" for item in space):
        raise RecipeError(
            f"{recipe.path}: tune trains each trial in one process, so that it can be ended early; leave out "
            "training.devices, and run several searches on one --storage instead."
        )
    try:
        drawn = make_sampler(sampler, lambda: {item.key: item.grid() for item in space}, seed)
    except ValueError as error:
        raise RecipeError(f"--sampler: {error}") from None
    splits = read_splits(recipe)
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
    monitor, sign = _monitor(recipe)
    study = open_study(place, recipe.name, facts, drawn, maximize=True, prune=prune)
    begun = len(study.get_trials(deepcopy=False))
    if begun and seed is not None and sampler != "grid":
        # The sampler of a search that goes on would draw the first trials again.
        study.sampler = make_sampler(sampler, dict, derive_seed(seed, "sampler", begun) % 2**32)
    objective = _Objective(load, space, splits, monitor, sign)

    def finished(study: Any, trial: Any) -> None:
        found = _read(study, sign)
        this = next(item for item in found if item.number == trial.number)
        _log.info(_line(this, monitor))
        if shown is not None:
            shown(this, _best(found, sign))

    interrupted = False
    with optuna_errors(place):
        if sampler != "grid" and not study.get_trials(deepcopy=False):
            study.enqueue_trial(_defaults(recipe, space))
        counted = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED, optuna.trial.TrialState.FAIL)
        enough = optuna.study.MaxTrialsCallback(trials, states=counted)
        if len(study.get_trials(deepcopy=False, states=counted)) < trials:
            try:
                study.optimize(objective, timeout=timeout, callbacks=[finished, enough], catch=(TidegateError,))
            except KeyboardInterrupt:
                interrupted = True
        found = _read(study, sign)
    best = _best(found, sign)
    if best is None and not interrupted:
        raise TidegateError(f"{place}: none of {len(found)} trials was finished; the log says why.")
    return _write(folder, place, recipe, load, monitor, best, found, _importances(study), interrupted, started)


class _Objective:
    """A trial: the recipe with the values drawn, trained on the splits."""

    def __init__(
        self, load: Callable[..., Recipe], space: Space, splits: Splits[Any], monitor: str, sign: float
    ) -> None:
        self.load, self.space, self.splits, self.monitor, self.sign = load, space, splits, monitor, sign

    def __call__(self, trial: Any) -> float:
        from tidegate.estimators.text_classifier import TextClassifier
        from tidegate.training.study import Pruning

        values = {item.key: _suggest(trial, item) for item in self.space}
        arguments = dict(self.load([override(key, value) for key, value in values.items()]).arguments)
        arguments["verbose"] = False
        if arguments.get("random_state") is None:
            arguments["random_state"] = secrets.randbits(31)
        held = self.splits.validation
        model = TextClassifier(**arguments)
        try:
            model.fit(
                self.splits.train.texts,
                self.splits.train.labels,
                validation_data=None if held is None else (held.texts, held.labels),
                callbacks=[Pruning(trial, self.monitor, self.sign)],
            )
        except ValueError as error:
            # Values that are legal one by one and not together, as two options that exclude each other.
            raise TidegateError(str(error)) from error
        best = model.history_[model.best_epoch_ - 1][f"validation_{self.monitor}"]
        if best is None:
            raise TidegateError("there are no validation data to compare trials by; set training.validation_fraction")
        trial.set_user_attr("epochs", len(model.history_))
        return self.sign * best


def _suggest(trial: Any, item: Choice | Range) -> Any:
    if isinstance(item, Choice):
        # Optuna keeps plain values alone; a list, say, is drawn by its place.
        if all(value is None or isinstance(value, bool | int | float | str) for value in item.values):
            return trial.suggest_categorical(item.key, item.values)
        return item.values[trial.suggest_categorical(item.key, tuple(range(len(item.values))))]
    if item.whole:
        return trial.suggest_int(item.key, item.low, item.high, step=item.step or 1, log=item.log)
    return trial.suggest_float(item.key, item.low, item.high, step=item.step, log=item.log)


def _defaults(recipe: Recipe, space: Space) -> dict[str, Any]:
    """The recipe's own values of the keys of the space, where they lie within it."""
    from tidegate.estimators.text_classifier import TextClassifier

    arguments = TextClassifier(**recipe.arguments).get_params()
    values = {}
    for item in space:
        value = arguments.get(item.key.split(".")[-1])
        if isinstance(item, Choice):
            within = value in item.values
        else:
            within = isinstance(value, int | float) and item.low <= value <= item.high
        if within:
            values[item.key] = value
    return values


def _monitor(recipe: Recipe) -> tuple[str, float]:
    from tidegate.estimators.text_classifier import TextClassifier
    from tidegate.reporting.scores import sign_of

    monitor = TextClassifier(**recipe.arguments).monitor
    return monitor, sign_of(monitor)


def _digest(splits: Splits[Any]) -> str:
    digest = hashlib.sha256()
    for part in splits.parts().values():
        for text, label in zip(part.texts, part.labels or [], strict=True):
            digest.update(f"{text}\0{label}\0".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _read(study: Any, sign: float) -> list[Trial]:
    found = []
    for trial in study.get_trials(deepcopy=False):
        state = trial.state.name.lower()
        if state in ("waiting", "running"):
            continue
        told = list(trial.intermediate_values.values())
        value = trial.value if state == "complete" else max(told, default=None) if state == "pruned" else None
        duration = trial.duration.total_seconds() if trial.duration is not None else 0.0
        metric = None if value is None else sign * value
        found.append(Trial(trial.number, state, dict(trial.params), metric, len(told), duration))
    return found


def _best(trials: Sequence[Trial], sign: float) -> Trial | None:
    finished = [trial for trial in trials if trial.state == "complete" and trial.metric is not None]
    return max(finished, key=lambda trial: sign * (trial.metric or 0.0), default=None)


def _importances(study: Any) -> dict[str, float]:
    optuna: Any = require("optuna", "tune")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The number of trials is too small")
            return dict(optuna.importance.get_param_importances(study))
    except (ValueError, RuntimeError):  # too few trials, or all alike
        return {}


def _line(trial: Trial, monitor: str) -> str:
    values = ", ".join(f"{key.split('.')[-1]} {_short(value)}" for key, value in trial.values.items())
    metric = "failed" if trial.metric is None else f"{monitor} {trial.metric:.4f}"
    ended = " (ended early)" if trial.state == "pruned" else ""
    return f"trial {trial.number}: {metric}{ended} in {trial.epochs} epochs, {trial.seconds:.0f} s: {values}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _write(
    folder: Path,
    storage: str,
    recipe: Recipe,
    load: Callable[..., Recipe],
    monitor: str,
    best: Trial | None,
    trials: list[Trial],
    importances: dict[str, float],
    interrupted: bool,
    started: float,
) -> Tuning:
    from tidegate.estimators.text_classifier import TextClassifier
    from tidegate.reporting.tuning import render_tuning

    path = None
    if best is not None:
        chosen = load([override(key, value) for key, value in best.values.items()])
        path = folder / BEST_FILE
        arguments = {**TextClassifier(**chosen.arguments).get_params()}
        write_text(path, chosen.resolved({name: value for name, value in arguments.items() if name != "verbose"}))
    rows = [vars(trial) for trial in trials]
    write_text(
        folder / TRIALS_FILE,
        json.dumps({"monitor": monitor, "trials": rows, "importances": importances}, indent=1, ensure_ascii=False),
    )
    write_text(folder / REPORT_FILE, render_tuning(recipe.name, monitor, rows, importances))
    first = next((trial.metric for trial in trials if trial.number == 0 and trial.state == "complete"), None)
    return Tuning(
        folder=folder,
        storage=storage,
        monitor=monitor,
        best=best,
        default=first,
        trials=trials,
        importances=importances,
        recipe=path,
        report=folder / REPORT_FILE,
        seconds=time.perf_counter() - started,
        interrupted=interrupted,
    )
