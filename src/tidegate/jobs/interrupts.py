"""What Ctrl-C leaves: a training that ends with what was learned so far, and can be gone on with."""

from __future__ import annotations

import contextlib
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from tidegate.atomic_files import is_abandoned
from tidegate.errors import TidegateError
from tidegate.jobs.out_file import check_out_file
from tidegate.jobs.run_folder import CHECKPOINTS, EPOCHS_FILE

__all__ = ["fit_into", "how_to_go_on", "run_beside", "stopping"]


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets, for work that ends itself soon; a second one raises KeyboardInterrupt."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.getsignal(signal.SIGINT)

    def ask(number: int, frame: FrameType | None) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def run_beside(out: str | Path) -> Path:
    """The folder of checkpoints that a training keeps beside its model until it is finished, ``OUT.run``."""
    return Path(f"{out}.run")


def fit_into(
    out: str | Path, model: Any, fit: Callable[..., Any], *, resume: bool = False, overwrite: bool = False
) -> bool:
    """Train a model with its checkpoints beside the file that it is saved into, and save it.

    The checkpoints stay when the training is broken off, and are removed when it is finished.

    Args:
        out: The model's file.
        model: An estimator of a network.
        fit: Its fit with the data at hand, called with ``run_folder`` and ``resume``.
        resume: Whether to go on with a training that was broken off.
        overwrite: Whether one that was broken off may be replaced.

    Returns:
        Whether Ctrl-C ended the training; the best epoch so far is saved then.

    Raises:
        DataError: The file cannot be written.
        TidegateError: There is no training to go on with, or one that would be replaced, or the process was told to
            end.
        KeyboardInterrupt: Ctrl-C came before the first epoch was finished.
    """
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    check_out_file(out)
    folder = run_beside(out)
    begun = _last(folder).is_file()
    if resume and not begun:
        raise TidegateError(
            f"{folder}: there is no training to go on with: expected checkpoints/last.ckpt, which a training writes "
            "after its first epoch and removes when it is finished. Train without --resume."
        )
    if begun and not (resume or overwrite):
        raise TidegateError(
            f"{folder}: a training of {Path(out).name} was broken off. Go on with it (--resume), or begin anew "
            "(--overwrite)."
        )
    interrupted = False
    try:
        fit(run_folder=folder, resume=resume)
    except KeyboardInterrupt:
        if not hasattr(model, "network_"):
            raise
        interrupted = True
    except SIGTERMException:
        raise TidegateError(
            f"the training was terminated from outside; {folder} holds its finished epochs. Go on with the same "
            "command and --resume."
        ) from None
    finally:
        if not _last(folder).is_file():
            _remove_run(folder)
    model.save(out)
    if not interrupted:
        _remove_run(folder)
    return interrupted


def how_to_go_on(out: str | Path) -> str:
    """What to do with a training that Ctrl-C ended, as a sentence."""
    if _last(run_beside(out)).is_file():
        return "Go on with the same command and --resume."
    return "Ctrl-C came before the checkpoint of its first epoch was written, so that it can only be begun anew."


def _last(folder: Path) -> Path:
    return folder / CHECKPOINTS / "last.ckpt"


def _remove_run(folder: Path) -> None:
    """Remove what a training wrote, and the folder where nothing else is in it."""
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    with contextlib.suppress(OSError):
        for path in (folder / EPOCHS_FILE, *filter(is_abandoned, folder.iterdir())):
            path.unlink(missing_ok=True)
        folder.rmdir()
