"""How a job says how far it is, and the bar that shows it on a terminal once a step has taken a second."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

__all__ = ["ProgressBar", "Report", "no_report", "progress_bar"]

_DELAY_SECONDS, _REFRESH_SECONDS = 1.0, 0.2


class Report(Protocol):
    """Told now and then what is counted, how much of it is done, and of how much, where that is known."""

    def __call__(self, what: str, done: int, of: int | None) -> None:
        """So much is done."""
        ...


def no_report(what: str, done: int, of: int | None) -> None:
    """Nobody listens."""
    del what, done, of


@contextmanager
def progress_bar(quiet: bool = False) -> Iterator[Report]:
    """What a job tells how far it is: a bar on standard error where that is a terminal, else nobody."""
    if quiet or not sys.stderr.isatty():
        yield no_report
        return
    from rich.console import Console

    bar = ProgressBar(Console(stderr=True, highlight=False))
    try:
        yield bar
    finally:
        bar.close()


class ProgressBar:
    """A bar for one step of a job at a time, opened once a step has taken a second, closed when it is done."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.what, self.started, self.refreshed = "", 0.0, 0.0
        self.bar: Progress | None = None
        self.task: Any = None

    def __call__(self, what: str, done: int, of: int | None) -> None:
        """So much of a step is done."""
        now = time.perf_counter()
        if what != self.what:
            self.close()
            self.what, self.started = what, now
        if of is not None and done >= of:
            self.close()
        elif now - self.started >= _DELAY_SECONDS and now - self.refreshed >= _REFRESH_SECONDS:
            self.refreshed = now
            bar = self._opened()
            share = f"{done:,}" if of is None else f"{done / of:.0%}"
            bar.update(self.task, completed=done, total=of, facts=share)
            bar.refresh()

    def close(self) -> None:
        """Take the bar from the terminal, so that what is printed next stands in its place."""
        if self.bar is not None:
            self.bar.stop()
        self.bar, self.what = None, ""

    def _opened(self) -> Progress:
        if self.bar is None:
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[facts]}"),
                TimeRemainingColumn(compact=True),
                console=self.console,
                transient=True,
                auto_refresh=False,
            )
            self.task = self.bar.add_task(self.what, facts="")
            self.bar.start()
        return self.bar
