"""What stands at a path is the old file or the whole new one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest

from tidegate.atomic_files import is_abandoned, replace_by_copy, replacing


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
        assert [other.name for other in tmp_path.iterdir() if is_abandoned(other)] == [Path(file.name).name]
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()], ids=["full", "Ctrl-C"])
def test_whatever_ends_the_writing_the_old_file_stays(error: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fail(file: BinaryIO) -> None:
        file.write(b"new")
        raise error

    with pytest.raises(type(error)), replacing(path) as file:
        fail(file)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_file_that_does_not_reach_the_disk_replaces_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"), replacing(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_killed_process_leaves_the_old_file_and_one_that_is_known_as_abandoned(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    code = (
        "import os, pathlib, sys; from tidegate.atomic_files import replacing\n"
        "with replacing(pathlib.Path(sys.argv[1])) as file: file.write(b'new'); file.flush(); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -9
    assert path.read_bytes() == b"old"
    (left,) = (other for other in tmp_path.iterdir() if other != path)
    assert is_abandoned(left)


@pytest.mark.parametrize("links", [True, False])
def test_a_copy_stays_when_its_source_is_replaced(links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError("no links here")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    source, path = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"first")
    path.write_bytes(b"old")
    for _ in range(2):  # a move between two links to one file does nothing
        replace_by_copy(source, path)
    with replacing(source) as file:
        file.write(b"second")
    assert (source.read_bytes(), path.read_bytes()) == (b"second", b"first")
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]
    with pytest.raises(FileNotFoundError):
        replace_by_copy(tmp_path / "none", path)
    assert path.read_bytes() == b"first"


@pytest.mark.parametrize("name", [".gitignore", "a.bin.17.0123abcd.partial", ".17.0123abcd.partial", ".a.bin.partial"])
def test_files_of_others_are_not_taken_for_abandoned(name: str) -> None:
    assert not is_abandoned(Path(name))
