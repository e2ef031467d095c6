"""Bars that figures have to reach, kept beside the figures, and how they stand over many rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Bar = dict[str, Any]


def at_least(what: str, value: float, limit: float) -> Bar:
    return {"what": what, "sense": ">=", "value": value, "limit": limit, "reached": value >= limit}


def at_most(what: str, value: float, limit: float) -> Bar:
    return {"what": what, "sense": "<=", "value": value, "limit": limit, "reached": value <= limit}


def verdict(bars: Iterable[Bar]) -> str:
    """How a row's figures stand: ``4.60 x torch.nn (>= 4) reached``."""
    return "; ".join(
        f"{bar['what']} {bar['value']:.4g} ({bar['sense']} {bar['limit']:g}) "
        + ("reached" if bar["reached"] else "missed")
        for bar in bars
    )


def summary(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each bar: the figures that it is held to, those that reach it, and the worst with its row's name."""
    found: dict[tuple[str, str, float], list[tuple[float, str, bool]]] = {}
    for row in rows:
        for bar in row["bars"]:
            entries = found.setdefault((bar["what"], bar["sense"], bar["limit"]), [])
            entries.append((bar["value"], row["name"], bar["reached"]))
    lines = []
    for (what, sense, limit), entries in found.items():
        worst, where, _ = min(entries) if sense == ">=" else max(entries)
        reached = sum(reached for *_, reached in entries)
        line = {"what": what, "sense": sense, "limit": limit, "entries": len(entries), "reached": reached}
        lines.append(line | {"worst": worst, "where": where})
    return lines
