"""How a job says how far it is, without knowing who listens."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Report", "no_report"]


class Report(Protocol):
    """Told now and then what is counted, how much of it is done, and of how much, where that is known."""

    def __call__(self, what: str, done: int, of: int | None) -> None:
        """So much is done."""
        ...


def no_report(what: str, done: int, of: int | None) -> None:
    """Nobody listens."""
    del what, done, of
