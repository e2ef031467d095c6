"""What surrounds the steps of a run: their time, their warnings, and how a run that broke off is finished."""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from tidegate.errors import TidegateError

# The log of the jobs, of which these are parts.
_log = logging.getLogger("tidegate.jobs")


@contextlib.contextmanager
def finished_by_resuming(folder: Path) -> Iterator[None]:
    """What goes wrong after training, as on a full disk, costs no epoch; its error says how to finish the run."""
    try:
        yield
    except TidegateError as error:
        raise type(error)(
            f"{str(error).rstrip('.')}. The trained epochs are kept; once this is mended, finish the run with: "
            f"--resume --out {folder}"
        ) from error


@contextlib.contextmanager
def timed(timing: dict[str, float], name: str) -> Iterator[None]:
    """The seconds that a step takes go into `timing` under its name."""
    started = time.perf_counter()
    yield
    timing[name] = time.perf_counter() - started


@contextlib.contextmanager
def noted_warnings(notes: list[str]) -> Iterator[None]:
    """Warnings for the user go to the notes and the log, once each; those for programmers pass."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            yield
        finally:
            texts = dict.fromkeys(str(item.message) for item in caught if issubclass(item.category, UserWarning))
            for text in texts:
                _log.warning(text)
            notes += texts
