"""Timing that can be trusted on a shared machine: candidates take turns in one process, medians and ratios count."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch


def alternate(candidates: Mapping[str, Callable[[], Any]], repeats: int, min_seconds: float = 0.02) -> dict[str, float]:
    """Median seconds of one call of each candidate; they take turns, so that a slow moment of the machine hits all."""
    calls = {}
    for name, call in candidates.items():
        call()
        started = time.perf_counter()
        call()
        calls[name] = max(1, round(min_seconds / max(time.perf_counter() - started, 1e-7)))
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, call in candidates.items():
            started = time.perf_counter()
            for _ in range(calls[name]):
                call()
            seconds[name].append((time.perf_counter() - started) / calls[name])
    return {name: statistics.median(values) for name, values in seconds.items()}


def gemm_peak(repeats: int = 9, size: int = 2048) -> float:
    """FLOP/s of torch.mm in float32 at size cubed: what the machine gives to dense arithmetic now."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / statistics.median(seconds)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    from tidegate.native import extension

    return {
        "processor": model,
        "cores": os.cpu_count(),
        "isa": extension().isa(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def write_json(path: str | Path, record: dict[str, Any]) -> None:
    """Keep a benchmark's record."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
