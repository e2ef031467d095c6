"""Bad input, each kind from the command line to its one message: nothing is half-written and no traceback is shown.

Ctrl-C, lines for ``predict`` and labels that ``evaluate`` does not know stand in ``test_cli.py``.
"""

from __future__ import annotations

import errno
import json
import lzma
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from typer.testing import CliRunner

import tidegate
from tidegate.atomic_files import replacing
from tidegate.cli import app
from tidegate.deploy import bundle as bundle_module
from tidegate.deploy.bundle import load_bundle
from tidegate.jobs import run_folder as run_folder_module
from tidegate.reporting import report as report_module
from tidegate.training import checkpoints as checkpoints_module
from tiny_reviews import rows, write_csv

RECIPE = """\
task: text-classification
data: {train: train.csv, test: test.csv}
text: {min_count: 1}
model: {embedding_size: 8, hidden_size: 8}
training: {max_epochs: 1, batch_size: 16, random_state: 3, device: cpu, validation_fraction: 0.2}
"""


def call(*arguments: object, code: int = 0) -> tuple[str, str]:
    """Standard output and standard error of a command that must end with a code and no traceback."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.stderr
    assert "not foreseen" not in result.stderr
    return result.stdout, result.stderr


def failure(*arguments: object) -> str:
    """The one message of a command that fails, without what it logged before."""
    stdout, stderr = call(*arguments, code=1)
    assert stdout == ""
    *logged, message = stderr.splitlines()
    assert message.startswith("tidegate: ")
    assert not any(line.startswith("tidegate: ") for line in logged)
    return message.removeprefix("tidegate: ")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    write_csv(tmp_path / "train.csv", rows(40, 1))
    write_csv(tmp_path / "test.csv", rows(10, 2))
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_csv(folder / "train.csv", rows(40, 1))
    write_csv(folder / "test.csv", rows(10, 2))
    (folder / "tiny.yaml").write_text(RECIPE, encoding="utf-8")
    call("train", folder / "tiny.yaml", "--out", folder / "run", "-q", "--set", "training.learning_rate=0.05")
    return folder / "run" / "model.tg"


def fail_training(recipe: Path, *options: str) -> str:
    """The message of a training that ends before it leaves a model, a recipe, or a checkpoint."""
    run = recipe.parent / "run"
    message = failure("train", recipe, "--out", run, *options)
    assert not run.exists() or list(run.iterdir()) == []
    return message


# --- files


@pytest.mark.parametrize("name", ["train.csv", "test.csv", "train.tsv", "train.jsonl", "train.csv.xz"])
def test_an_empty_file(recipe: Path, name: str):
    path = recipe.parent / name
    path.write_bytes(lzma.compress(b"") if name.endswith(".xz") else b"")
    message = fail_training(recipe, "--set", f"data.{name.split('.')[0]}={name}")
    assert message.startswith(f"{path}: the file is empty; expected ")


def test_a_file_of_a_header_alone(recipe: Path, model: Path):
    path = recipe.parent / "test.csv"
    path.write_text("text,label\n")
    assert fail_training(recipe) == f"{path}: there are no rows"
    assert failure("evaluate", model, path) == f"{path}: there are no rows"


def test_an_empty_recipe_and_an_empty_model(recipe: Path, tmp_path: Path):
    (tmp_path / "empty.yaml").touch()
    (tmp_path / "empty.tg").touch()
    _, stderr = call("validate", tmp_path / "empty.yaml", code=2)
    assert stderr.startswith(f"tidegate: {tmp_path / 'empty.yaml'}")
    assert failure("evaluate", tmp_path / "empty.tg", tmp_path / "test.csv").startswith(
        f"{tmp_path / 'empty.tg'}: expected a tidegate model (.tg), found an empty file."
    )


def test_bytes_that_are_not_utf_8(recipe: Path, model: Path):
    path = recipe.parent / "test.csv"
    path.write_bytes(path.read_bytes() + b"pos,caf\xe9 good\n")
    for message in (fail_training(recipe), failure("evaluate", model, path)):
        assert message.startswith(f"{path}:12: expected UTF-8 text, found the byte 0xe9; save the file as UTF-8")


def test_a_nul_byte(recipe: Path, model: Path):
    path = recipe.parent / "test.csv"
    path.write_bytes(path.read_bytes() + b"pos,go\0od\n")
    for message in (fail_training(recipe), failure("evaluate", model, path)):
        assert message.startswith(f"{path}:12: found a NUL byte, which no text file holds.")


def test_a_wrong_column_lists_those_there_are(recipe: Path, model: Path):
    folder = recipe.parent
    for key, name in [("text", "texts"), ("label", "Label")]:
        message = fail_training(recipe, "--set", f"data.{key}={name}")
        assert message.startswith(f"{folder / 'train.csv'}:1: there is no column {name!r}; found 'label', 'text'.")
        assert message.endswith(f"Did you mean {key!r}?")
        message = failure("evaluate", model, folder / "test.csv", f"--{key}", name)
        assert message.startswith(f"{folder / 'test.csv'}:1: there is no column {name!r}; found 'label', 'text'.")


# --- labels


def test_a_label_that_is_missing(recipe: Path, model: Path):
    path = write_csv(recipe.parent / "train.csv", [*rows(5, 1), (" ", "good")])
    for message in (fail_training(recipe), failure("evaluate", model, path)):
        assert message == "train.csv:7: the label is missing (column 'label' is empty)"


def test_a_label_of_the_test_data_that_training_never_saw(recipe: Path):
    write_csv(recipe.parent / "test.csv", [("pos", "good"), ("poss", "good")])
    assert fail_training(recipe) == (
        "test.csv:3: the label 'poss' is not one that the model was trained on ('neg', 'pos'). Did you mean 'pos'?"
    )


def test_one_class_only(recipe: Path, model: Path):
    path = write_csv(recipe.parent / "train.csv", [("pos", text) for _, text in rows(40, 1)])
    assert fail_training(recipe) == (
        f"{recipe}:2: expected training texts of two classes at least; all 40 have the label 'pos'. "
        "Check the column data.label."
    )
    # To judge on one class is no mistake.
    found = json.loads(call("evaluate", model, path, "--json")[0])["metrics"]
    assert [row["support"] for row in found["per_class"]] == [0, 40]
    assert found["accuracy"] == found["per_class"][1]["recall"]


# --- texts


def test_empty_texts_train_are_judged_and_predict(recipe: Path, model: Path):
    folder = recipe.parent
    write_csv(folder / "train.csv", [*rows(40, 1), ("pos", ""), ("neg", " \u3000")])
    write_csv(folder / "test.csv", [("pos", ""), ("neg", "bad awful")])
    _, stderr = call("train", recipe, "--out", folder / "run")
    assert "warning: 2 of 42 train texts are empty (the first: train.csv:42)" in stderr
    assert "warning: 1 of 2 test texts are empty (the first: test.csv:2)" in stderr
    metrics = json.loads(call("evaluate", folder / "run" / "model.tg", folder / "test.csv", "--json")[0])["metrics"]
    assert metrics["count"] == 2
    (folder / "lines.txt").write_text("\n<br />\n \n")
    found = [json.loads(line) for line in call("predict", model, folder / "lines.txt", "--json")[0].splitlines()]
    # Nothing, a tag and a space are all zero tokens, so one answer holds for them.
    assert [item["text"] for item in found] == ["", "<br />", " "]
    assert len({json.dumps(item["probabilities"]) for item in found}) == 1
    assert sum(found[0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_texts_that_are_all_empty_cannot_train(recipe: Path):
    write_csv(recipe.parent / "train.csv", [("pos", ""), ("neg", "")] * 10)
    run = recipe.parent / "run"
    assert "texts are all empty" in failure("train", recipe, "--out", run)
    assert [path.name for path in run.iterdir() if path.is_file()] == ["recipe.yaml"]


def test_a_text_of_100_000_tokens(recipe: Path):
    folder = recipe.parent
    long = "the good film " * 33_333 + "good"
    write_csv(folder / "train.csv", [*rows(40, 1), ("pos", long)])
    write_csv(folder / "test.csv", [("pos", long), ("neg", "bad")])
    _, stderr = call("train", recipe, "--out", folder / "cut", "--set", "text.max_tokens=50")
    assert "longer than max_tokens=50 were 1 of 41 train texts, 1 of 2 test texts; the model reads" in stderr
    whole = folder / "whole"
    call("train", recipe, "--out", whole, "-q", "--set", "text.max_tokens=null", "--set", "model.pooling=mean")
    facts = json.loads((whole / "metrics.json").read_text(encoding="utf-8"))
    assert facts["token_lengths"]["train"][-1] == facts["token_lengths"]["test"][0] == 100_000
    assert not any("longer than" in note for note in facts["notes"])
    assert np.isfinite(facts["test"]["log_loss"])


@pytest.mark.parametrize("count", [2, 7])
def test_fewer_rows_than_a_batch(recipe: Path, count: int):
    folder = recipe.parent
    write_csv(folder / "train.csv", [("pos", "good"), ("neg", "bad")] * (count // 2) + [("pos", "great")] * (count % 2))
    call("train", recipe, "--out", folder / "run", "-q", "--set", "training.batch_size=512")
    facts = json.loads((folder / "run" / "metrics.json").read_text(encoding="utf-8"))
    assert facts["counts"] == {"train": count, "test": 10}
    assert np.isfinite(facts["history"][0]["train_loss"])
    assert facts["test"]["count"] == 10


# --- the output folder


def test_an_output_folder_that_is_a_file_or_may_not_be_written(recipe: Path, monkeypatch: pytest.MonkeyPatch):
    out = recipe.parent / "taken"
    out.write_text("mine")
    assert failure("train", recipe, "--out", out).startswith(f"{out}: the run's folder cannot be written: File exists.")
    assert out.read_text() == "mine"

    def refused(self: Path, data: bytes) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    # Root may write anywhere, and tests run as root in containers.
    monkeypatch.setattr(Path, "write_bytes", refused)
    message = fail_training(recipe)
    assert message.startswith(f"{recipe.parent / 'run'}: the run's folder cannot be written: Permission denied.")
    assert "Choose another with --out" in message


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_disk_that_is_full_at_a_checkpoint(recipe: Path, monkeypatch: pytest.MonkeyPatch):
    run = recipe.parent / "run"

    def half(checkpoint: dict[str, Any], file: BinaryIO) -> None:
        file.write(b"PK\x03\x04")
        file.flush()
        full()

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints_module.torch, "save", half)
        message = failure("train", recipe, "--out", run)
    assert message.startswith(f"cannot write the checkpoint {run / 'checkpoints'}")
    assert "No space left on device" in message
    assert files(run) == ["epochs.csv", "recipe.yaml"]
    # Nothing of a run was kept, so the same command does, once there is room.
    call("train", recipe, "--out", run, "-q")
    assert (run / "report.html").is_file()


def test_a_disk_that_is_full_at_a_later_checkpoint_keeps_the_one_before(recipe: Path, monkeypatch: pytest.MonkeyPatch):
    run, save, calls = recipe.parent / "run", checkpoints_module.torch.save, 0
    options = ["-q", "--set", "training.max_epochs=3", "--set", "training.patience=3"]

    def half(checkpoint: dict[str, Any], file: BinaryIO) -> None:
        nonlocal calls
        calls += 1
        if checkpoint["epoch"] < 1:
            save(checkpoint, file)
        else:
            file.write(b"PK\x03\x04")
            full()

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints_module.torch, "save", half)
        assert "No space left on device" in failure("train", recipe, "--out", run, *options)
    assert calls > 1
    assert files(run) == ["checkpoints/best.ckpt", "checkpoints/last.ckpt", "epochs.csv", "recipe.yaml"]
    call("train", recipe, "--out", run, "--resume", *options)
    call("train", recipe, "--out", recipe.parent / "unbroken", *options)
    expected = load_bundle(recipe.parent / "unbroken" / "model.tg").weights
    for name, array in load_bundle(run / "model.tg").weights.items():
        np.testing.assert_array_equal(array, expected[name])


def test_a_disk_that_is_full_at_the_bundle(recipe: Path, monkeypatch: pytest.MonkeyPatch):
    run = recipe.parent / "run"

    def half(file: BinaryIO, entries: Any) -> None:
        file.write(b"PK\x03\x04")
        full()

    with monkeypatch.context() as patch:
        patch.setattr(bundle_module, "_write_zip", half)
        message = failure("train", recipe, "--out", run)
    assert message.startswith(f"{run / 'model.tg'}: ")
    assert "No space left on device" in message
    assert files(run) == ["checkpoints/best.ckpt", "checkpoints/last.ckpt", "epochs.csv", "recipe.yaml"]
    call("train", recipe, "--out", run, "--resume", "-q")
    assert zipfile.is_zipfile(run / "model.tg")
    assert set(tidegate.load(run / "model.tg").predict(["good", "bad"])) <= {"neg", "pos"}


@contextmanager
def replacing_on_a_full_disk(path: Path) -> Iterator[BinaryIO]:
    with replacing(path) as file:
        yield file
        full()


@pytest.mark.parametrize(
    ("module", "kept"),
    [
        (run_folder_module, []),
        (report_module, ["checkpoints/best.ckpt", "checkpoints/last.ckpt", "epochs.csv", "model.tg", "recipe.yaml"]),
    ],
    ids=["recipe", "report"],
)
def test_a_disk_that_is_full_at_the_recipe_or_the_report(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, module: Any, kept: list[str]
):
    monkeypatch.setattr(module, "replacing", replacing_on_a_full_disk)
    message = failure("train", recipe, "--out", recipe.parent / "run")
    assert str(recipe.parent / "run") in message
    assert "No space left on device" in message
    assert files(recipe.parent / "run") == kept
