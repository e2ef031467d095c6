"""The report of a run: report.html, one self-contained page, and metrics.json, the same facts for programs."""

from __future__ import annotations

from tidegate.reporting.facts import Mistake, RunFacts

__all__ = ["Mistake", "RunFacts"]
