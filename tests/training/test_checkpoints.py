from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch

from tidegate.errors import TidegateError
from tidegate.training.checkpoints import AtomicCheckpoints, CheckpointFolder, read_checkpoint


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    AtomicCheckpoints().save_checkpoint({"weights": torch.arange(3.0), "epoch": 2}, tmp_path / "a.ckpt")
    found = AtomicCheckpoints().load_checkpoint(tmp_path / "a.ckpt")
    assert torch.equal(found["weights"], torch.arange(3.0))
    assert found["epoch"] == 2


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.ckpt"
    AtomicCheckpoints().save_checkpoint({"epoch": 1}, path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TidegateError, match=r"a\.ckpt: .*No space left on device; free some space"):
        AtomicCheckpoints().save_checkpoint({"epoch": 2}, path)
    assert read_checkpoint(path) == {"epoch": 1}
    assert os.listdir(tmp_path) == ["a.ckpt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_open = open
    monkeypatch.setattr("tidegate.atomic_files.open", lambda *_: real_open("/dev/full", "wb"), raising=False)
    with pytest.raises(TidegateError, match="cannot write the checkpoint"):
        AtomicCheckpoints().save_checkpoint({"weights": torch.zeros(100_000)}, tmp_path / "a.ckpt")
    assert os.listdir(tmp_path) == []


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("harm",)


def test_nothing_but_plain_values_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weights": Harmful()}, tmp_path / "a.ckpt")
    with pytest.raises(TidegateError, match=r"cannot read the checkpoint .*a\.ckpt"):
        read_checkpoint(tmp_path / "a.ckpt")
    (tmp_path / "b.ckpt").write_bytes(pickle.dumps(Harmful(), protocol=2))
    with pytest.raises(TidegateError, match=r"cannot read the checkpoint .*b\.ckpt"):
        read_checkpoint(tmp_path / "b.ckpt")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a checkpoint", b"\x00" * 100])
def test_a_damaged_file_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_bytes(content)
    with pytest.raises(TidegateError, match=r"cannot read the checkpoint .*a\.ckpt.*start the run again"):
        read_checkpoint(tmp_path / "a.ckpt")


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    AtomicCheckpoints().save_checkpoint({"weights": torch.arange(1000.0)}, tmp_path / "a.ckpt")
    content = (tmp_path / "a.ckpt").read_bytes()
    (tmp_path / "a.ckpt").write_bytes(content[: len(content) // 2])
    with pytest.raises(TidegateError, match="cannot read the checkpoint"):
        read_checkpoint(tmp_path / "a.ckpt")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file, not a folder")
    with pytest.raises(TidegateError, match=r"cannot write to the run folder .*checkpoints"):
        CheckpointFolder(tmp_path / "run").prepare(resume=False)


def test_a_bit_that_fell_over_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    AtomicCheckpoints().save_checkpoint({"weights": torch.arange(1000.0)}, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40  # among the weights, of which torch reads whatever they are
    path.write_bytes(content)
    assert not torch.equal(torch.load(path, weights_only=True)["weights"], torch.arange(1000.0))
    with pytest.raises(
        TidegateError, match=r"cannot read the checkpoint .*a\.ckpt: .* is damaged; start the run again"
    ):
        read_checkpoint(path)


def test_what_a_killed_process_left_half_written_is_removed(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    assert folder.prepare(resume=True) is None
    folder.last.touch()
    (folder.folder / ".last.ckpt.4711.0123abcd.partial").touch()
    (folder.folder / "notes.txt").touch()
    assert folder.prepare(resume=True) == folder.last
    assert sorted(path.name for path in folder.folder.iterdir()) == ["last.ckpt", "notes.txt"]


def test_the_best_checkpoint_stays_when_the_last_one_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError("no links here")

    for name in ("links", "none"):
        folder = CheckpointFolder(tmp_path / name)
        folder.prepare(resume=False)
        AtomicCheckpoints().save_checkpoint({"epoch": 1}, folder.last)
        folder.keep_best()
        folder.keep_best()  # as a resumed run does; a rename between two links to one file does nothing
        AtomicCheckpoints().save_checkpoint({"epoch": 2}, folder.last)
        assert (read_checkpoint(folder.best), read_checkpoint(folder.last)) == ({"epoch": 1}, {"epoch": 2})
        assert sorted(os.listdir(folder.folder)) == ["best.ckpt", "last.ckpt"]
        monkeypatch.setattr(os, "link", refuse)
