from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger

from tidegate.errors import MissingExtraError, TidegateError
from tidegate.training.fit import FitResult, fit
from tidegate.training.records import Record, as_records, record_results, write_epochs
from training.toy import toy_batches, toy_network, toy_settings

FIGURES = ("train_loss", "validation_loss", "validation_accuracy")


def train(folder: Path, *loggers: Any, resume: bool = False, hyperparameters: Any = None, **changes: Any) -> FitResult:
    return fit(
        toy_network(),
        toy_batches(),
        toy_batches(30, 1, shuffle=False),
        toy_settings(**changes),
        run_folder=folder,
        resume=resume,
        loggers=as_records(loggers, folder),
        hyperparameters=hyperparameters or {"hidden_size": 8, "cell": "gru"},
    )


def table(folder: Path) -> list[dict[str, str]]:
    with open(folder / "epochs.csv", encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def assert_same(rows: list[dict[str, str]], result: FitResult) -> None:
    assert [int(row["epoch"]) for row in rows] == [entry["epoch"] for entry in result.history]
    for name in FIGURES:
        assert [float(row[name]) for row in rows] == [entry[name] for entry in result.history]


def scalars(folder: Path, part: str = "") -> dict[str, list[tuple[int, float]]]:
    """Tag -> steps and values, as TensorBoard reads them."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder / "tensorboard" / part))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


# --- the table


def test_the_epochs_are_always_in_a_table(tmp_path: Path) -> None:
    result = train(tmp_path, max_epochs=3)
    assert_same(table(tmp_path), result)
    assert not (tmp_path / "tensorboard").exists()


def test_a_resumed_run_has_each_epoch_once(tmp_path: Path) -> None:
    first = train(tmp_path, max_epochs=2)
    assert len(table(tmp_path)) == 2
    second = train(tmp_path, max_epochs=4, resume=True)
    assert_same(table(tmp_path), second)
    assert second.history[:2] == first.history


def test_a_new_run_in_the_folder_begins_a_new_table(tmp_path: Path) -> None:
    train(tmp_path, max_epochs=3)
    result = train(tmp_path, max_epochs=1)
    assert_same(table(tmp_path), result)


def test_epochs_with_other_figures_share_a_table(tmp_path: Path) -> None:
    write_epochs(tmp_path / "epochs.csv", [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": None, "好": 1}])
    assert (tmp_path / "epochs.csv").read_text(encoding="utf-8") == "epoch,loss,好\n1,0.5,\n2,,1\n"
    with pytest.raises(TidegateError, match="could not be written"):
        write_epochs(tmp_path / "none" / "epochs.csv", [])


# --- what is asked for


def test_what_is_no_record_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"found 'tensorbord'\. Did you mean 'tensorboard'"):
        as_records(["tensorbord"], tmp_path)
    with pytest.raises(ValueError, match="loggers='tensorboard' needs run_folder"):
        as_records("tensorboard", None)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingExtraError, match=r"'mlflow', which is not installed.*tidegate\[records\]"):
        as_records(["mlflow"], tmp_path)


def test_any_logger_of_lightning_may_record(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path / "own", name="", version="")
    result = train(tmp_path / "run", logger, max_epochs=2)
    with open(tmp_path / "own" / "metrics.csv", encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["train_loss"]]
    assert [(int(row["step"]), float(row["train_loss"])) for row in rows] == [
        (entry["epoch"], entry["train_loss"]) for entry in result.history
    ]


# --- TensorBoard


def test_tensorboard_has_each_epoch_once_after_a_kill(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    train(tmp_path, "tensorboard", max_epochs=2)
    last = tmp_path / "checkpoints" / "last.ckpt"
    kept = last.read_bytes()
    train(tmp_path, "tensorboard", max_epochs=3, resume=True)
    last.write_bytes(kept)  # as if the process had been killed after it recorded epoch 3, before its checkpoint
    (tmp_path / "checkpoints" / "best.ckpt").write_bytes(kept)
    result = train(tmp_path, "tensorboard", max_epochs=4, resume=True)
    found = scalars(tmp_path)
    for name in FIGURES:
        assert found[name] == [(entry["epoch"], pytest.approx(entry[name])) for entry in result.history]
    best = result.history[result.best_epoch - 1]
    assert found["best_validation_accuracy"][-1] == (result.best_epoch, pytest.approx(best["validation_accuracy"]))
    assert "best_seconds" not in found


def test_a_record_asked_for_on_resuming_has_the_epochs_before(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    train(tmp_path, max_epochs=2)
    train(tmp_path, "tensorboard", max_epochs=3, resume=True)
    assert [step for step, _ in scalars(tmp_path)["train_loss"]] == [1, 2, 3]


def test_a_new_run_begins_a_new_record(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    train(tmp_path, "tensorboard", max_epochs=3)
    train(tmp_path, "tensorboard", max_epochs=1)
    assert [step for step, _ in scalars(tmp_path)["train_loss"]] == [1]


def test_parts_of_a_run_have_records_of_their_own(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    for number in (1, 2):
        train(tmp_path / f"member-{number}", Record("tensorboard", tmp_path, f"member-{number}"), max_epochs=number)
    assert [len(scalars(tmp_path, f"member-{number}")["train_loss"]) for number in (1, 2)] == [1, 2]


def test_results_are_recorded_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    results = {"accuracy": 0.75, "interval": [0.5, 0.9], "per_class": [{"f1": 1}], "name": "x", "nan": float("nan")}
    for _ in range(2):
        record_results(["tensorboard"], tmp_path, {}, results, epoch=3)
    assert scalars(tmp_path, "test") == {
        "accuracy": [(3, 0.75)],
        "interval_low": [(3, 0.5)],
        "interval_high": [(3, pytest.approx(0.9))],
    }


# --- MLflow, which takes ten seconds to make its tables


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mlflow_keeps_one_run_over_resumption_and_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    train(tmp_path / "first", "mlflow", max_epochs=2, hyperparameters={"class_weight": {"好!": 2}, "cell": "gru"})
    tmp_path = (tmp_path / "first").rename(tmp_path / "moved")
    result = train(tmp_path, "mlflow", max_epochs=4, resume=True)
    for _ in range(2):
        figures = {"test_accuracy": 0.75, "test_评分_mae": 1.5, "test_标签_mae": 2.5}
        record_results(["mlflow"], tmp_path, {"hidden_size": 8}, figures, epoch=result.best_epoch)
    client = tracking.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'tidegate'")
    (run,) = client.search_runs([experiment.experiment_id])
    for name in FIGURES:
        points = [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]
        assert points == [(entry["epoch"], entry[name]) for entry in result.history]
    for name, value in (("test_accuracy", 0.75), ("test_u8bc4u5206_mae", 1.5), ("test_u6807u7b7e_mae", 2.5)):
        assert [point.value for point in client.get_metric_history(run.info.run_id, name)] == [value]
    assert run.data.params == {"hidden_size": "8", "cell": "gru", "class_weight": '{"好!": 2}'}
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.runName"] == f"{tmp_path.parent.name}/first"
