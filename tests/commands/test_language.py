"""``tidegate language``: a language model from a file of texts, judged, and read by a recipe."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import tidegate
from estimators.test_text_language_model import counting
from tidegate.cli import app
from tidegate.training.selection import Selection

SMALL = ["--size", "12", "--epochs", "4", "--min-count", "1", "--rate", "0.02"]


def write_texts(folder: Path) -> Path:
    path = folder / "texts.txt"
    path.write_text("\n".join([*counting(150), "", " "]) + "\n", encoding="utf-8")
    return path


def test_a_model_is_trained_and_judged(tmp_path: Path) -> None:
    path, out = write_texts(tmp_path), tmp_path / "lm.tg"
    done = CliRunner().invoke(app, ["language", "train", str(path), "--out", str(out), "--json", "-q", *SMALL])
    assert done.exit_code == 0, done.output
    said = json.loads(done.output)
    assert said["tokens"] == 8
    model = tidegate.load(out)
    assert model.bidirectional and model.hidden_size == 12
    judged = CliRunner().invoke(app, ["language", "evaluate", str(out), str(path), "--json"])
    assert json.loads(judged.output)["perplexity"] == pytest.approx(model.perplexity(counting(150)))
    words = ["language", "train", str(path), "--out", str(out), "-q", *SMALL, "--forward", "--layers", "2"]
    done = CliRunner().invoke(app, words)
    assert "8 tokens known" in done.output and "model.language_model=" in done.output
    assert not tidegate.load(out).bidirectional


def test_a_language_model_labels_nothing_and_says_what_it_is_for(tmp_path: Path) -> None:
    path, out = write_texts(tmp_path), tmp_path / "lm.tg"
    CliRunner().invoke(app, ["language", "train", str(path), "--out", str(out), "-q", *SMALL, "--epochs", "1"])
    for words in (["predict", str(out), str(path)], ["evaluate", str(out), str(path)]):
        done = CliRunner().invoke(app, words)
        assert done.exit_code != 0
        assert "labels no texts; judge it by `tidegate language evaluate`" in " ".join(done.output.split())


def test_what_cannot_be(tmp_path: Path) -> None:
    path = write_texts(tmp_path)
    done = CliRunner().invoke(app, ["language", "train", str(path), "--out", str(tmp_path / "none" / "lm.tg")])
    assert done.exit_code != 0 and "there is no folder" in done.output
    done = CliRunner().invoke(app, ["language", "evaluate", str(path), str(path)])
    assert done.exit_code != 0


def test_ctrl_c_keeps_the_best_epoch_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = write_texts(tmp_path), tmp_path / "lm.tg"
    words = ["language", "train", str(path), "--out", str(out), "-q", *SMALL]
    finish = Selection.on_train_epoch_end

    def finish_and_press(self: Selection, trainer: Any, module: Any) -> None:
        finish(self, trainer, module)
        if len(self.history) == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(Selection, "on_train_epoch_end", finish_and_press)
        done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 130
    assert json.loads(done.stdout)["interrupted"] is True
    assert "interrupted after 1 epochs. The best so far (epoch 1, perplexity" in " ".join(done.stderr.split())
    assert len(tidegate.load(out).history_) == 1
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1 and "(--resume), or begin anew (--overwrite)" in " ".join(done.output.split())
    done = CliRunner().invoke(app, [*words, "--resume", "--overwrite"])
    assert done.exit_code == 2
    done = CliRunner().invoke(app, [*words, "--resume"])
    assert done.exit_code == 0 and len(tidegate.load(out).history_) == 4
    assert sorted(item.name for item in tmp_path.iterdir()) == ["lm.tg", "texts.txt"]


def test_texts_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes("一二三四五六\n".encode("gb18030") * 30)
    words = ["language", "train", str(tmp_path / "t.txt"), "--out", str(tmp_path / "lm.tg"), "-q", *SMALL, "--json"]
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == 1 and "expected UTF-8 text" in refused.output
    done = CliRunner().invoke(app, [*words, "--encoding", "gb18030", "--epochs", "1"])
    assert json.loads(done.stdout)["tokens"] == 7
    judged = ["language", "evaluate", str(tmp_path / "lm.tg"), str(tmp_path / "t.txt"), "--encoding", "gb18030"]
    assert "perplexity" in CliRunner().invoke(app, judged).stdout
