"""The folder of a run: where it stands, whether it can be written, and what may be replaced."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from datetime import datetime
from pathlib import Path

from tidegate.atomic_files import is_abandoned, replacing
from tidegate.errors import TidegateError

MODEL_FILE, RECIPE_FILE, REPORT_FILE, METRICS_FILE = "model.tg", "recipe.yaml", "report.html", "metrics.json"
RATE_FILE = "rate_search.json"  # what the learning-rate finder saw, so that a resumed run has the same rate
CARD_FILE, EPOCHS_FILE = "model_card.md", "epochs.csv"
CHECKPOINTS = "checkpoints"
_PROBE = re.compile(r"\.probe-\d+")
# What a run's records leave beside these files (`training/records.py`).
RECORDS = ("tensorboard", "mlflow.db", "mlflow.json", "mlflow-artifacts")


def prepare_run_folder(name: str, out: str | Path | None, *, resume: bool, overwrite: bool, runs: Path) -> Path:
    """A folder that can be written, for a new run or the one to resume.

    Args:
        name: The recipe's name, by which runs are filed.
        out: The folder; None takes a new one, ``runs/<name>/<date and time>``, or with `resume` the latest there.
        resume: Whether to go on with the run that the folder holds, from its beginning where no epoch was finished.
        overwrite: Whether a run that the folder holds may be replaced.
        runs: Folder of the runs that have no `out`.

    Raises:
        TidegateError: The folder cannot be written, holds a run, or with `resume` holds none.
    """
    if resume:
        return _resumable_folder(name, out, runs)
    if out is None:
        stem = runs / name / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        numbered = (stem.with_name(f"{stem.name}-{number}") for number in range(2, 1000))
        folder = next(path for path in (stem, *numbered) if not path.exists())
    else:
        folder = Path(out)
    _check_writable(folder)
    if (folder / MODEL_FILE).exists() or _holds_checkpoints(folder, "*.ckpt"):
        if not overwrite:
            raise TidegateError(
                f"{folder}: the folder already holds a run. Go on with it (--resume), replace it (--overwrite), or "
                "choose another folder (--out)."
            )
        for name in (MODEL_FILE, RECIPE_FILE, REPORT_FILE, METRICS_FILE, CARD_FILE, EPOCHS_FILE, *RECORDS):
            if (folder / name).is_dir():
                shutil.rmtree(folder / name)
            (folder / name).unlink(missing_ok=True)
    return folder


def _resumable_folder(name: str, out: str | Path | None, runs: Path) -> Path:
    if out is not None:
        candidates = [Path(out)]
    else:
        parent = runs / name
        candidates = sorted(parent.iterdir(), reverse=True) if parent.is_dir() else []
    # A run that was killed before its first epoch was finished has left its recipe, and with that its seed.
    begun = [folder for folder in candidates if _holds_checkpoints(folder, "last.ckpt")]
    begun += [folder for folder in candidates if (folder / RECIPE_FILE).is_file()]
    if begun:
        _check_writable(begun[0])
        _remove_abandoned(begun[0])
        return begun[0]
    place = out if out is not None else runs / name
    raise TidegateError(
        f"{place}: there is no run to resume: expected {CHECKPOINTS}/last.ckpt, which a run writes after its first "
        f"epoch, or its {RECIPE_FILE}. Train without --resume, or name the folder of a run with --out."
    )


def _holds_checkpoints(folder: Path, name: str) -> bool:
    """Whether a run left checkpoints: its own, or those of its pre-training or of its members below it."""
    return any((folder / CHECKPOINTS).glob(name)) or any(folder.glob(f"*/{CHECKPOINTS}/{name}"))


def _remove_abandoned(folder: Path) -> None:
    """Remove half-written files that a killed process left beside those of a run, and beside those of its parts."""
    for place in (folder, *(item for item in folder.iterdir() if item.is_dir())):
        for path in place.iterdir():
            if is_abandoned(path) or _PROBE.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    path.unlink()


def _check_writable(folder: Path) -> None:
    """Make the folder and write a file into it, so that a run fails before its training rather than after."""
    probe = folder / f".probe-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"\0" * 4096)
        probe.unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            probe.unlink()
        raise TidegateError(
            f"{folder}: the run's folder cannot be written: {error.strerror or error}. "
            "Choose another with --out, or free some space."
        ) from None


def write_text(path: Path, text: str) -> None:
    """Write a file whole, or leave what was there.

    Raises:
        TidegateError: It cannot be written.
    """
    try:
        with replacing(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise TidegateError(f"{path}: the file could not be written: {error.strerror or error}.") from None
