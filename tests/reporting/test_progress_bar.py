from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from tidegate.reporting import progress_bar as module
from tidegate.reporting.progress_bar import ProgressBar, no_report, progress_bar


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    return now


def made() -> tuple[ProgressBar, io.StringIO]:
    screen = io.StringIO()
    return ProgressBar(Console(file=screen, force_terminal=True, width=80, _environ={})), screen


def seen(screen: io.StringIO) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())


def test_a_step_that_takes_a_second_gets_a_bar(clock: list[float]) -> None:
    bar, screen = made()
    bar("texts read", 10, 100)
    clock[0] += 0.9
    bar("texts read", 20, 100)
    assert screen.getvalue() == ""
    clock[0] += 0.2
    bar("texts read", 30, 100)
    assert "texts read" in seen(screen) and "30%" in seen(screen)
    bar("texts read", 40, 100)
    assert "40%" not in seen(screen)  # a few times a second are enough
    clock[0] += 0.3
    bar("texts read", 50, 100)
    assert "50%" in seen(screen)
    bar("texts read", 100, 100)
    assert bar.bar is None


def test_a_new_step_closes_the_bar_of_the_last_and_waits_its_own_second(clock: list[float]) -> None:
    bar, screen = made()
    bar("reading", 1, None)
    clock[0] += 2
    bar("reading", 1234, None)
    assert "1,234" in seen(screen)
    bar("learning", 1, 10)
    assert bar.bar is None and "learning" not in seen(screen)
    clock[0] += 2
    bar("learning", 5, 10)
    assert "learning" in seen(screen) and "50%" in seen(screen)
    bar.close()
    assert bar.bar is None


def test_nobody_is_told_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    with progress_bar() as report:
        assert report is no_report
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: True, raising=False)
    with progress_bar(quiet=True) as report:
        assert report is no_report
    with progress_bar() as report:
        assert isinstance(report, ProgressBar)
