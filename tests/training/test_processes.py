from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Callback, LightningModule, Trainer

from tidegate.data.batch import rows_of_rank
from tidegate.errors import TidegateError
from tidegate.training.batches import EncodedBatches
from tidegate.training.fit import FitResult, fit
from tidegate.training.processes import check_devices
from training.test_fit import assert_same, figures
from training.toy import toy_batches, toy_network, toy_settings

PLAIN: dict[str, Any] = {"dropout": 0.0, "embedding_dropout": 0.0, "word_dropout": 0.0}
PATIENCE = 120.0


def weighed(rows: int, seed: int = 0, **options: Any) -> EncodedBatches:
    return toy_batches(rows, seed, weights=np.random.default_rng(seed + 9).uniform(0.2, 3.0, rows), **options)


def train(devices: int, network: Any = None, callbacks: Any = (), **changes: Any) -> tuple[Any, FitResult]:
    where = {name: changes.pop(name) for name in ("run_folder", "resume", "fingerprint") if name in changes}
    network = toy_network(**PLAIN) if network is None else network
    # 65 rows in batches of 16: of the last one, a single row, one process has nothing.
    sources = weighed(65), weighed(31, 1, shuffle=False)
    settings = toy_settings(devices=devices, **changes)
    return network, fit(network, *sources, settings, callbacks=callbacks, **where)


def assert_close(first: tuple[Any, FitResult], second: tuple[Any, FitResult]) -> None:
    for (name, tensor), other in zip(first[0].state_dict().items(), second[0].state_dict().values(), strict=True):
        torch.testing.assert_close(tensor, other, rtol=1e-4, atol=1e-5, msg=name)
    np.testing.assert_allclose(figures(first[1]), figures(second[1]), rtol=1e-4)
    assert first[1].best_epoch == second[1].best_epoch


def ranks() -> dict[int, tuple[int, str]]:
    """The other ranks that there are: process -> the one that started it, and its job."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if "tidegate.training.rank" in words and state != "Z":
            found[int(folder.name)] = int(parent), words[3]
    return found


def started_by_this_process() -> list[int]:
    return [process for process, (parent, _) in ranks().items() if parent == os.getpid()]


def test_the_parts_of_a_batch_are_the_batch() -> None:
    weights = np.arange(20.0)
    for count, world in ((16, 2), (7, 3), (1, 2), (2, 4)):
        rows = np.arange(3, 3 + count)
        parts = [
            (part, np.array(own)) for part, own in (rows_of_rank(rows, weights, rank, world) for rank in range(world))
        ]
        taken = [row for part, own in parts for row, weight in zip(part, own, strict=True) if weight]
        assert sorted(taken) == rows.tolist()
        assert sum(own.sum() for _, own in parts) == weights[rows].sum()
        assert all(len(part) == len(own) > 0 for part, own in parts)
        assert max(len(part) for part, _ in parts) - min(len(part) for part, _ in parts) <= 1
        unweighed = [rows_of_rank(rows, None, rank, world)[1] for rank in range(world)]
        assert sum(own.sum() for own in unweighed if own is not None) == count
    assert rows_of_rank(rows, None, 0, 1)[1] is None


def test_two_processes_train_as_one_does() -> None:
    changes: dict[str, Any] = {"accumulate": 2, "l2": 0.01, "ema_decay": 0.9, "gradient_clip": 0.5, "max_epochs": 3}
    threads, known = torch.get_num_threads(), dict(os.environ)
    one, two = train(1, **changes), train(2, **changes)
    assert_close(one, two)
    assert torch.get_num_threads() == threads and dict(os.environ) == known
    assert not torch.distributed.is_initialized()
    assert started_by_this_process() == []


class KillsAnother(Callback):
    """Ends rank 1 in the second epoch."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_rank == 1 and trainer.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_process_that_dies_ends_the_run_and_its_epochs_are_kept(tmp_path: Path) -> None:
    with pytest.raises(TidegateError, match=r"process 2 of 2 was ended by signal 9\. The others were ended"):
        train(2, callbacks=[KillsAnother()], run_folder=tmp_path, max_epochs=3)
    assert started_by_this_process() == []
    assert not torch.distributed.is_initialized()
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()  # of the epoch that was finished


@pytest.mark.parametrize("devices", [0, -1, True, 1.5, "2", None])
def test_no_number_of_processes(devices: Any) -> None:
    with pytest.raises(ValueError, match=f"devices must be a whole number of at least 1; found {devices!r}"):
        toy_settings(devices=devices)


def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_devices(2, "cuda")
    with pytest.raises(ValueError, match="devices=3 needs as many GPUs, and there are 2 here"):
        check_devices(3, "cuda")
    with pytest.raises(ValueError, match='names one GPU, and devices=2 takes several; use device="cuda"'):
        check_devices(2, "cuda:1")


def test_what_cannot_travel_is_told() -> None:
    class Stream:
        def __len__(self) -> int:
            return 1

        def epoch(self, epoch: int) -> Any:
            yield from toy_batches().epoch(epoch)

    with pytest.raises(ValueError, match="devices=2: Stream cannot be divided among processes"):
        fit(toy_network(), Stream(), None, toy_settings(devices=2))

    class Locked(Callback):
        def __init__(self) -> None:
            self.file = sys.stdout

    with pytest.raises(ValueError, match=r"cannot be sent to another process: .*leave out the callback"):
        train(2, callbacks=[Locked()])


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"unfreeze_every": 1, "layer_rate_decay": 0.5, "schedule": "one-cycle"},
        {"frozen": "encoder"},
        {"optimizer": "asgd", "average_trigger": 1, "learning_rate": 0.5},
        {"optimizer": "sgd", "momentum": 0.9, "schedule": "plateau", "monitor": "loss", "accumulate": 3},
    ],
)
def test_several_processes_train_as_one_does_whatever_the_settings(changes: dict[str, Any]) -> None:
    for devices in (2, 3):
        assert_close(train(1, **changes), train(devices, **changes))


@pytest.mark.slow
def test_runs_of_several_processes_repeat_and_resume_bit_for_bit(tmp_path: Path) -> None:
    # With dropout: each process draws masks of its own, the same ones in every run.
    for devices in (2, 3):
        whole = train(devices, toy_network())
        assert_same(train(devices, toy_network()), whole)
        folder = tmp_path / str(devices)
        train(devices, toy_network(), run_folder=folder, max_epochs=2)
        assert_same(train(devices, toy_network(seed=5), run_folder=folder, resume=True), whole)


class Poison(Callback):
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_rank == 1 and trainer.current_epoch == 1 and batch_idx == 2:
            with torch.no_grad():
                next(pl_module.parameters()).fill_(math.nan)


class Fails(Callback):
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_rank == 1 and batch_idx == 2:
            raise OSError("the disk of this process is gone")


@pytest.mark.slow
def test_what_goes_wrong_in_another_process_is_told_here() -> None:
    with pytest.warns(UserWarning, match="training diverged in epoch 2: the training loss is nan at batch 3"):
        train(2, callbacks=[Poison()])
    with pytest.raises(TidegateError, match="process 2 of 2 failed with exit status 1: OSError: the disk of this"):
        train(2, callbacks=[Fails()])
    assert started_by_this_process() == []


SCRIPT = """
import sys
sys.path[:0] = {paths!r}
from training.toy import toy_batches, toy_network, toy_settings
from tidegate.training.fit import fit
print("starting", flush=True)
try:
    result = fit(toy_network(), toy_batches(), None, toy_settings(devices=2, max_epochs=100000), run_folder={folder!r})
    print("interrupted" if result.interrupted else "finished", len(result.history), flush=True)
except BaseException as error:
    print(type(error).__name__, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_one_that_started_it(number: signal.Signals, tmp_path: Path) -> None:
    tests = Path(__file__).parents[1]
    script = SCRIPT.format(paths=[str(tests), str(tests.parent / "src")], folder=str(tmp_path))
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    limit = time.monotonic() + PATIENCE

    try:
        while not (tmp_path / "checkpoints" / "last.ckpt").exists():
            assert process.poll() is None and time.monotonic() < limit
            time.sleep(0.05)
        (job,) = {job for parent, job in ranks().values() if parent == process.pid}
        process.send_signal(number)
        out = process.communicate(timeout=PATIENCE)[0].decode()
    finally:
        process.kill()
        process.wait()
    while any(its == job for _, its in ranks().values()):  # which may have another parent by now
        assert time.monotonic() < limit
        time.sleep(0.05)
    if number == signal.SIGINT:
        assert out.splitlines()[-1].startswith("interrupted ")
    if number == signal.SIGTERM:
        assert out.splitlines()[-1] == "SIGTERMException"
