"""What a run leaves of its epochs: a CSV table always, TensorBoard and MLflow where they are asked for.

Both go through Lightning's loggers, and so may any other logger of Lightning's. They stay in the run's folder, unless
MLFLOW_TRACKING_URI names another store. A resumed run goes on in the same records, without an epoch twice.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger

from tidegate.atomic_files import replacing
from tidegate.errors import TidegateError, nearest, require

__all__ = ["RECORDS", "Record", "Recorder", "as_records", "record_results", "write_epochs"]

RECORDS = ("tensorboard", "mlflow")
EPOCHS_FILE = "epochs.csv"
# The runs of a folder in MLflow's store, by part; a run that goes on needs its id.
_RUNS_FILE = "mlflow.json"


@dataclass(frozen=True)
class Record:
    """A place where a run, or a part of it, is recorded.

    Attributes:
        kind: One of :data:`RECORDS`.
        folder: The folder of the whole run.
        part: What is recorded of it, as ``"member-1"``; empty for the run itself.
    """

    kind: str
    folder: Path
    part: str = ""


def as_records(loggers: Sequence[str | Record | Logger], folder: Path | None) -> list[Record | Logger]:
    """The records that a user asks for, checked before there is anything to record.

    Args:
        loggers: Names of :data:`RECORDS`, or loggers of Lightning's.
        folder: The run's folder, which a record that is named needs.

    Raises:
        ValueError: A name is unknown, or there is no folder.
        MissingExtraError: The package of a record is not installed.
    """
    found: list[Record | Logger] = []
    for item in [loggers] if isinstance(loggers, str) else loggers:
        if isinstance(item, Logger):
            found.append(item)
            continue
        record = item
        if not isinstance(record, Record):
            if record not in RECORDS:
                raise ValueError(
                    f"loggers must be {' or '.join(RECORDS)}, or loggers of Lightning's; found {record!r}."
                    f"{nearest(str(record), RECORDS)}"
                )
            if folder is None:
                raise ValueError(f"loggers={record!r} needs run_folder, the folder that the records go to")
            record = Record(record, folder)
        require(record.kind, "records")
        found.append(record)
    return found


class Recorder:
    """Writes the epochs of one fit into its records.

    Args:
        records: Where.
        folder: Where the CSV table goes, or None.
        hyperparameters: What the model is made of, plain values by name.
        history: The epochs that are done already, of a run that goes on.
    """

    def __init__(
        self,
        records: Sequence[Record | Logger],
        folder: Path | None,
        hyperparameters: Mapping[str, Any],
        history: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.table = None if folder is None else folder / EPOCHS_FILE
        self.hyperparameters = _flat(hyperparameters)
        self.loggers: list[Logger] = []
        self._recorded: dict[int, int] = {}
        for record in records:
            logger, recorded = (record, len(history)) if isinstance(record, Logger) else _open(record, len(history))
            self._recorded[id(logger)] = recorded
            self.loggers.append(logger)
            if not isinstance(logger, TensorBoardLogger):
                _log_hyperparameters(logger, self.hyperparameters)
        if history:
            self.write(history)
        elif self.table is not None:
            self.table.unlink(missing_ok=True)  # of an earlier run

    def write(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Write the epochs that were done; those that a record has already are left out of it.

        Raises:
            TidegateError: The CSV table cannot be written.
        """
        if self.table is not None:
            write_epochs(self.table, history)
        for logger in self.loggers:
            for entry in history[self._recorded[id(logger)] :]:
                _log_metrics(logger, _numbers(entry), entry["epoch"])
            self._recorded[id(logger)] = max(self._recorded[id(logger)], len(history))
            logger.save()

    def finish(self, history: Sequence[Mapping[str, Any]], best_epoch: int) -> None:
        """Say which epoch was kept; TensorBoard shows the hyper-parameters beside its figures."""
        kept = _numbers(history[best_epoch - 1])
        best = {f"best_{name}": value for name, value in kept.items() if name.startswith(("train_", "validation_"))}
        for logger in self.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(self.hyperparameters, best, step=best_epoch)
            else:
                _log_metrics(logger, best, best_epoch)


def write_epochs(path: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """The epochs of a run as CSV, one a row; the file is replaced whole, or stays as it was.

    Raises:
        TidegateError: It cannot be written.
    """
    names = list(dict.fromkeys(name for entry in history for name in entry))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    try:
        with replacing(path) as file:
            file.write(stream.getvalue().encode())
    except OSError as error:
        raise TidegateError(f"{path}: the epochs could not be written: {error.strerror or error}") from error


def record_results(
    kinds: Sequence[str], folder: Path, hyperparameters: Mapping[str, Any], results: Mapping[str, Any], epoch: int
) -> None:
    """Put what a finished run was judged by into its records.

    Args:
        kinds: Of :data:`RECORDS`.
        folder: The run's.
        hyperparameters: Of the model, for a record in which the run itself has no epochs.
        results: Figures by name, and what else, which is left out; an interval becomes two figures.
        epoch: The epoch that was kept, or 0.
    """
    figures = _numbers(results)
    for kind in kinds:
        if kind == "tensorboard":
            logger, _ = _open(Record(kind, folder, "test"), 0)
            logger.log_metrics(figures, step=epoch)
            logger.finalize("success")
            continue
        record = Record(kind, folder)
        logger, _ = _open(record, 1)  # goes on with the run that trained
        _log_hyperparameters(logger, _flat(hyperparameters))
        known = logger.experiment.get_run(logger.run_id).data.metrics
        if new := {name: value for name, value in figures.items() if known.get(_ascii(name)) != value}:
            _log_metrics(logger, new, epoch)
        logger.finalize("success")


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers among some values, those of an interval by the names of its ends."""
    found: dict[str, float] = {}
    for name, value in values.items():
        if name == "epoch":
            continue
        named = {name: value}
        if name.endswith("interval") and isinstance(value, (list, tuple)) and len(value) == 2:
            named = {f"{name}_low": value[0], f"{name}_high": value[1]}
        found |= {
            key: float(item)
            for key, item in named.items()
            if isinstance(item, (int, float)) and not isinstance(item, bool) and math.isfinite(item)
        }
    return found


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments one by one: what holds others, as weights by labels, is one text."""
    return {
        name: json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list, tuple)) else value
        for name, value in values.items()
    }


def _ascii(name: str) -> str:
    """A metric's name as MLflow takes it, different names staying different: of a task, it may be Chinese."""
    return re.sub(r"[^\w.\- /]", lambda found: f"u{ord(found[0]):x}", name, flags=re.ASCII)


def _log_metrics(logger: Any, figures: Mapping[str, float], epoch: int) -> None:
    mlflow = isinstance(logger, MLFlowLogger)
    logger.log_metrics({_ascii(name) if mlflow else name: value for name, value in figures.items()}, step=epoch)


def _open(record: Record, done: int) -> tuple[Any, int]:
    """The logger of a record, and how many epochs the record has already.

    Args:
        record: What to open.
        done: The epochs that the run has behind it; 0 begins the record anew.
    """
    return (_open_tensorboard if record.kind == "tensorboard" else _open_mlflow)(record, done)


def _open_tensorboard(record: Record, done: int) -> tuple[TensorBoardLogger, int]:
    name = "tensorboard" if not record.part else f"tensorboard/{record.part}"
    before = list((record.folder / name).glob("events.out.tfevents.*"))
    if not done:
        for file in before:
            file.unlink()
    if not before:
        done = 0
    # What was written of an epoch that the checkpoint knows nothing of is hidden by its readers.
    logger = TensorBoardLogger(
        record.folder, name="", version=name, default_hp_metric=False, purge_step=done + 1 if done else None
    )
    return logger, done


def _open_mlflow(record: Record, done: int) -> tuple[MLFlowLogger, int]:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # records are for their owner
    runs = record.folder / _RUNS_FILE
    known: dict[str, dict[str, Any]] = json.loads(runs.read_text(encoding="utf-8")) if runs.is_file() else {}
    folder = record.folder.resolve()
    own, server = folder / "mlflow.db", os.environ.get("MLFLOW_TRACKING_URI")
    before = known.get(record.part) if done else None
    if before and not before["server"] and not own.is_file():
        before = None  # its store is gone
    if before:
        server = before["server"]
    uri = server or f"sqlite:///{own}"
    name = "/".join(filter(None, (folder.parent.name, folder.name, record.part)))
    with _quiet_mlflow():
        logger = MLFlowLogger(
            experiment_name=os.environ.get("MLFLOW_EXPERIMENT_NAME", "tidegate"),
            run_name=name,
            tracking_uri=uri,
            artifact_location=None if server else folder.joinpath("mlflow-artifacts").as_uri(),
            run_id=before["run"] if before else None,
        )
        client = logger.experiment
        recorded = 0
        if before:
            points = client.get_metric_history(logger.run_id, "train_loss")
            recorded = max((point.step for point in points), default=0)
    # No address of the run's own store, so that its folder may move.
    known[record.part] = {"run": str(logger.run_id), "server": server or None}
    record.folder.mkdir(parents=True, exist_ok=True)
    with replacing(runs) as file:
        file.write(json.dumps(known, indent=2).encode() + b"\n")
    return logger, recorded


def _log_hyperparameters(logger: Logger, hyperparameters: Mapping[str, Any]) -> None:
    values = dict(hyperparameters)
    if isinstance(logger, MLFlowLogger):
        # MLflow refuses another value of a name that it has, as max_epochs of a run that goes on.
        known = logger.experiment.get_run(str(logger.run_id)).data.params
        values = {name: value for name, value in values.items() if name not in known}
    if values:
        logger.log_hyperparams(values)


@contextmanager
def _quiet_mlflow() -> Iterator[None]:
    """MLflow without its talk of tables and experiments; its errors still speak."""
    import mlflow

    del mlflow  # it sets its loggers up when it is imported
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic", "lightning.pytorch.loggers.mlflow")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
