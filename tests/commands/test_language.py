"""``tidegate language``: a language model from a file of texts, judged, and read by a recipe."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tidegate
from estimators.test_text_language_model import counting
from tidegate.cli import app

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
