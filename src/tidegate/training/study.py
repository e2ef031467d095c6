"""A search by Optuna: where its trials are kept, what draws them, and how a bad one is ended early."""

from __future__ import annotations

import importlib
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning

from tidegate.errors import TidegateError, nearest, require

__all__ = ["SAMPLERS", "Pruning", "make_sampler", "open_study", "optuna_errors"]

SAMPLERS = ("tpe", "random", "grid", "gp")
_FACTS = "tidegate"
# A process that writes no sign of life for so long is taken for dead, and its trial is run again.
_HEARTBEAT, _GRACE = 30, 90


def make_sampler(name: str, grid: Callable[[], Mapping[str, Any]], seed: int | None) -> Any:
    """What draws the trials.

    Args:
        name: ``"tpe"`` (Bergstra et al. 2011), ``"random"``, ``"grid"``, or ``"gp"``, a Gaussian process.
        grid: Gives the values of each key, for ``"grid"``.
        seed: Of the draws; None draws one, as several processes on one study should.

    Raises:
        ValueError: There is no such sampler.
    """
    samplers = require("optuna.samplers", "tune")
    if name == "grid":
        return samplers.GridSampler(grid(), seed=seed)
    if name not in SAMPLERS:
        raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}; found {name!r}.{nearest(name, SAMPLERS)}")
    kind = {"tpe": samplers.TPESampler, "random": samplers.RandomSampler, "gp": samplers.GPSampler}[name]
    return kind(seed=seed)


def open_study(storage: str, name: str, facts: Mapping[str, Any], sampler: Any, *, maximize: bool, prune: bool) -> Any:
    """The study in a storage, begun or gone on with.

    Args:
        storage: An SQLite file (``.db``), a journal file (``.journal``), or the URL of a database.
        name: The study's name there.
        facts: What must be equal for trials to belong together: the recipe, the data, the space.
        sampler: As `make_sampler` gave it.
        maximize: Whether a higher value is better.
        prune: Whether trials that are worse than the median of the others at the same epoch are ended.

    Raises:
        TidegateError: The storage cannot be opened, or holds another study of this name.
    """
    optuna = require("optuna", "tune")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1) if prune else optuna.pruners.NopPruner()
    wanted = json.loads(json.dumps(dict(facts), sort_keys=True))
    with optuna_errors(storage):
        study = optuna.create_study(
            storage=_storage(storage),
            study_name=name,
            load_if_exists=True,
            sampler=sampler,
            pruner=pruner,
            direction="maximize" if maximize else "minimize",
        )
        found = study.user_attrs.get(_FACTS)
        if found is None and not study.get_trials(deepcopy=False):
            study.set_user_attr(_FACTS, wanted)
            found = wanted
    if found != wanted:
        different = [key for key in wanted if (found or {}).get(key) != wanted[key]] or ["the study"]
        raise TidegateError(
            f"{storage}: this storage holds another study named {name!r}: {', '.join(different)} differ. Go on with "
            "that search by its own recipe and options, or name another --storage or --out."
        )
    return study


def _storage(storage: str) -> Any:
    optuna: Any = importlib.import_module("optuna")
    if "://" not in storage and Path(storage).suffix in (".journal", ".log"):
        backend = optuna.storages.journal.JournalFileBackend(storage)
        return optuna.storages.JournalStorage(backend)
    url = storage if "://" in storage else f"sqlite:///{Path(storage).resolve()}"
    engine = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else None
    return optuna.storages.RDBStorage(
        url,
        engine_kwargs=engine,
        heartbeat_interval=_HEARTBEAT,
        grace_period=_GRACE,
        heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=3),
    )


@contextmanager
def optuna_errors(storage: str) -> Iterator[None]:
    """What goes wrong in the storage as one message, and Optuna's warnings of its experiments silenced."""
    optuna: Any = importlib.import_module("optuna")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            yield
        except TidegateError:
            raise
        except (OSError, ValueError, KeyError, ImportError, optuna.exceptions.OptunaError) as error:
            raise _unusable(storage, error) from error
        except Exception as error:
            if type(error).__module__.partition(".")[0] != "sqlalchemy":
                raise
            raise _unusable(storage, error) from error


def _unusable(storage: str, error: Exception) -> TidegateError:
    told = str(error).splitlines()[0] if str(error) else type(error).__name__
    return TidegateError(
        f"{storage}: the storage of the search cannot be used: {told}. Expected an SQLite file, a .journal file or the "
        "URL of a database; name another with --storage."
    )


class Pruning(lightning.Callback):
    """Tells a trial its metric after each epoch, and ends it where the study's pruner says so.

    Args:
        trial: Optuna's.
        monitor: The validation metric.
        sign: 1 where higher is better, else -1; what the trial is told is turned so that higher is better.
    """

    def __init__(self, trial: Any, monitor: str, sign: float) -> None:
        self.trial, self.monitor, self.sign = trial, f"validation_{monitor}", sign

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Report, and prune."""
        value = trainer.callback_metrics.get(self.monitor)
        if value is None:
            return
        self.trial.report(self.sign * float(value), trainer.current_epoch)
        if self.trial.should_prune():
            raise require("optuna", "tune").TrialPruned
