from __future__ import annotations

import os
from pathlib import Path

import pytest

from tidegate.errors import DataError
from tidegate.jobs.out_file import check_out_file


def test_a_file_that_can_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "old.tg").write_bytes(b"old")
    check_out_file(tmp_path / "new.tg")
    check_out_file(tmp_path / "old.tg")
    assert [item.name for item in tmp_path.iterdir()] == ["old.tg"]
    assert (tmp_path / "old.tg").read_bytes() == b"old"


def test_what_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        check_out_file(tmp_path / "none" / "m.tg")
    with pytest.raises(DataError, match="expected the name of a file, found a folder"):
        check_out_file(tmp_path)

    def refuse(self: Path) -> None:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(DataError, match=r"m\.tg: cannot be written: Permission denied; choose another place"):
        check_out_file(tmp_path / "m.tg")
