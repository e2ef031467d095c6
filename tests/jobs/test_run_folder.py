from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest

from tidegate.errors import TidegateError
from tidegate.jobs.run_folder import prepare_run_folder, write_text


def prepare(out: Path | None, runs: Path, *, resume: bool = False, overwrite: bool = False) -> Path:
    return prepare_run_folder("tiny", out, resume=resume, overwrite=overwrite, runs=runs)


def finish(folder: Path) -> None:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").touch()
    (folder / "model.tg").touch()


def test_new_runs_have_folders_of_their_own(tmp_path: Path):
    folders = [prepare(None, tmp_path) for _ in range(3)]
    assert len(set(folders)) == 3
    for folder in folders:
        assert folder.is_dir()
        assert list(folder.iterdir()) == []
        assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d(-\d)?", folder.name)
        assert folder.parent == tmp_path / "tiny"


def test_out_names_the_folder_and_may_hold_other_files(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "notes.txt").touch()
    assert prepare(tmp_path / "a", tmp_path) == tmp_path / "a"
    assert prepare(tmp_path / "b" / "c", tmp_path).is_dir()


def test_a_run_is_replaced_only_when_asked_and_other_files_stay(tmp_path: Path):
    finish(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(TidegateError, match=r"already holds a run\. Go on with it \(--resume\), replace it"):
        prepare(tmp_path, tmp_path)
    assert (tmp_path / "model.tg").exists()
    assert prepare(tmp_path, tmp_path, overwrite=True) == tmp_path
    assert not (tmp_path / "model.tg").exists()
    assert (tmp_path / "notes.txt").exists()


def test_the_latest_run_with_a_checkpoint_is_resumed(tmp_path: Path):
    for name in ("2026-01-01_00-00-00", "2026-01-02_00-00-00"):
        finish(tmp_path / "tiny" / name)
    (tmp_path / "tiny" / "2026-01-03_00-00-00").mkdir()
    assert prepare(None, tmp_path, resume=True) == tmp_path / "tiny" / "2026-01-02_00-00-00"
    older = tmp_path / "tiny" / "2026-01-01_00-00-00"
    assert prepare(older, tmp_path, resume=True) == older


def test_nothing_to_resume_says_what_was_looked_for(tmp_path: Path):
    for out in (None, tmp_path):
        with pytest.raises(TidegateError, match=r"there is no run to resume: expected checkpoints/last\.ckpt"):
            prepare(out, tmp_path, resume=True)


def test_a_run_that_was_killed_in_its_first_epoch_is_resumed_by_its_recipe(tmp_path: Path):
    for name in ("2026-01-01_00-00-00", "2026-01-02_00-00-00"):
        (tmp_path / "tiny" / name).mkdir(parents=True)
        (tmp_path / "tiny" / name / "recipe.yaml").touch()
    newest = tmp_path / "tiny" / "2026-01-02_00-00-00"
    assert prepare(None, tmp_path, resume=True) == prepare(newest, tmp_path, resume=True) == newest
    finish(tmp_path / "tiny" / "2025-12-31_00-00-00")  # a run that got farther goes before
    assert prepare(None, tmp_path, resume=True).name == "2025-12-31_00-00-00"


def test_what_a_killed_process_left_half_written_is_removed(tmp_path: Path):
    finish(tmp_path)
    (tmp_path / "member-1").mkdir()
    half = "17.0123abcd.partial"
    abandoned = [f".recipe.yaml.{half}", f".model.tg.{half}", ".probe-17", f"member-1/.epochs.csv.{half}"]
    kept = [".gitignore", "recipe.yaml", ".recipe.yaml", f"notes.yaml.{half}", ".17.partial", "member-1/epochs.csv"]
    for name in (*abandoned, *kept):
        (tmp_path / name).touch()
    prepare(tmp_path, tmp_path, resume=True)
    assert [name for name in (*abandoned, *kept) if (tmp_path / name).exists()] == kept


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(TidegateError, match=r"file/run: the run's folder cannot be written: Not a directory"):
        prepare(tmp_path / "file" / "run", tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_says_so(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(TidegateError, match="Permission denied"):
        prepare(tmp_path / "run", tmp_path)


def test_a_full_disk_is_found_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(path: Path, data: bytes) -> None:
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(TidegateError, match=r"No space left on device\. Choose another with --out, or free some space"):
        prepare(tmp_path / "run", tmp_path)
    assert list((tmp_path / "run").iterdir()) == []


def test_write_text_names_the_file(tmp_path: Path):
    write_text(tmp_path / "a.yaml", "坏")
    assert (tmp_path / "a.yaml").read_text(encoding="utf-8") == "坏"
    with pytest.raises(TidegateError, match=r"none/a\.yaml: the file could not be written: No such file"):
        write_text(tmp_path / "none" / "a.yaml", "")


def test_write_text_keeps_the_old_file_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_text(tmp_path / "a.yaml", "old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(TidegateError, match=r"a\.yaml: the file could not be written: No space left on device"):
            write_text(tmp_path / "a.yaml", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.yaml"]
    assert (tmp_path / "a.yaml").read_text(encoding="utf-8") == "old"


def test_an_empty_folder_of_checkpoints_is_no_run(tmp_path: Path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    assert prepare(tmp_path / "run", tmp_path) == tmp_path / "run"
