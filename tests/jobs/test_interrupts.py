"""What Ctrl-C leaves of a training that saves one file, and how it is gone on with."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tidegate
from estimators.test_text_language_model import counting
from tidegate import TextLanguageModel
from tidegate.deploy.bundle import load_bundle
from tidegate.errors import DataError, TidegateError
from tidegate.jobs.interrupts import fit_into, how_to_go_on, run_beside, stopping
from tidegate.training.checkpoints import AtomicCheckpoints
from tidegate.training.selection import Selection

TEXTS = counting(80)
ARGUMENTS: dict[str, Any] = {
    "hidden_size": 8, "min_count": 1, "max_epochs": 4, "learning_rate": 0.02, "random_state": 3, "verbose": False
}  # fmt: skip


def train(out: Path, **how: bool) -> bool:
    model = TextLanguageModel(**ARGUMENTS)
    return fit_into(out, model, partial(model.fit, TEXTS), **how)


@pytest.fixture
def ctrl_c_after(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The numbers of finished epochs after which Ctrl-C is pressed."""
    presses: set[int] = set()
    finish = Selection.on_train_epoch_end

    def finish_and_press(self: Selection, trainer: Any, module: Any) -> None:
        finish(self, trainer, module)
        if len(self.history) in presses:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Selection, "on_train_epoch_end", finish_and_press)
    return presses


def test_a_finished_training_leaves_the_model_alone(tmp_path: Path) -> None:
    assert not train(tmp_path / "m.tg")
    assert [item.name for item in tmp_path.iterdir()] == ["m.tg"]


def test_ctrl_c_saves_the_best_so_far_and_resuming_ends_as_if_unbroken(tmp_path: Path, ctrl_c_after: set[int]) -> None:
    train(tmp_path / "whole.tg")
    ctrl_c_after.add(2)
    assert train(tmp_path / "m.tg")
    assert len(tidegate.load(tmp_path / "m.tg").history_) == 2
    assert (run_beside(tmp_path / "m.tg") / "checkpoints" / "last.ckpt").is_file()
    assert "--resume" in how_to_go_on(tmp_path / "m.tg")
    with pytest.raises(TidegateError, match=r"a training of m\.tg was broken off\. Go on with it \(--resume\), or"):
        train(tmp_path / "m.tg")
    assert not train(tmp_path / "m.tg", resume=True)
    assert not run_beside(tmp_path / "m.tg").exists()
    weights, wanted = (load_bundle(tmp_path / name).weights for name in ("m.tg", "whole.tg"))
    assert weights.keys() == wanted.keys()
    for name, array in weights.items():
        np.testing.assert_array_equal(array, wanted[name])


def test_overwriting_begins_anew_and_there_must_be_something_to_resume(tmp_path: Path, ctrl_c_after: set[int]) -> None:
    ctrl_c_after.add(1)
    assert train(tmp_path / "m.tg")
    (run_beside(tmp_path / "m.tg") / "mine.txt").touch()
    ctrl_c_after.clear()
    assert not train(tmp_path / "m.tg", overwrite=True)
    assert len(tidegate.load(tmp_path / "m.tg").history_) == 4
    assert [item.name for item in run_beside(tmp_path / "m.tg").iterdir()] == ["mine.txt"]
    with pytest.raises(TidegateError, match=r"n\.tg\.run: there is no training to go on with"):
        train(tmp_path / "n.tg", resume=True)
    with pytest.raises(DataError, match="there is no folder"):
        train(tmp_path / "none" / "n.tg")


def test_ctrl_c_before_the_first_epoch_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def press(self: Selection, trainer: Any, module: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Selection, "on_train_epoch_start", press, raising=False)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "m.tg")
    assert not list(tmp_path.iterdir())


def test_ctrl_c_before_the_first_checkpoint_saves_the_model_and_nothing_to_go_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(self: AtomicCheckpoints, *_: Any, **options: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(AtomicCheckpoints, "save_checkpoint", press)
        assert train(tmp_path / "m.tg")
    assert len(tidegate.load(tmp_path / "m.tg").history_) == 1
    assert [item.name for item in tmp_path.iterdir()] == ["m.tg"]
    assert "begun anew" in how_to_go_on(tmp_path / "m.tg")
    assert not train(tmp_path / "m.tg")


def test_the_first_ctrl_c_asks_and_the_second_breaks_off() -> None:
    before = signal.getsignal(signal.SIGINT)
    with stopping() as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
