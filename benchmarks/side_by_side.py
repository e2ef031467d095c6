"""Timing that can be trusted on a shared machine: candidates take turns in one process, medians and ratios count.

And what all benchmarks share: their arguments, the machine's description, the records they keep.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from bars import summary

RESULTS = Path(__file__).parent / "results"
# Longer than OpenMP's idle workers spin: 300,000 pauses of up to 140 cycles.
_SPIN_SECONDS = 0.02
_WAKE_SECONDS = 0.02
_PEAK_SIZE = 2048


def alternate(
    candidates: Mapping[str, Callable[[], Any]],
    repeats: int,
    min_seconds: float = 0.02,
    own_pool: Collection[str] = (),
    max_seconds: float = math.inf,
    turns: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, float]:
    """Median seconds of one call of each candidate; they take turns, so that a slow moment of the machine hits all.

    A turn is as many calls as fill `min_seconds`, after one that is not counted. Candidates of `own_pool` have a thread
    pool beside torch's: workers of the one that still spin would take the cores from the other, so before a turn of
    another pool than the last all wait until they sleep, and its own are woken by calls that are not counted, since to
    wake a sleeping core of a virtual machine takes up to twenty milliseconds. A candidate whose turns would take longer
    than `max_seconds` in all has fewer, three at the least; `turns` gives some candidates fewer outright.
    """
    calls, turns_of = {}, {}
    for name, call in candidates.items():
        first = _seconds(call, 1)
        of_call = max(min(_seconds(call, 1) for _ in range(4)) if first < 1 else first, 1e-7)
        calls[name] = max(1, round(min_seconds / of_call))
        affordable = max(3, int(min(max_seconds / of_call, repeats)))
        turns_of[name] = min(repeats, turns.get(name, repeats), affordable)
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    last = None
    for turn in range(repeats):
        for name, call in candidates.items():
            if turn >= turns_of[name]:
                continue
            pool = name if name in own_pool else "torch"
            if last not in (None, pool) and torch.get_num_threads() > 1:
                time.sleep(_SPIN_SECONDS)
                _wake(call)
            elif calls[name] > 1:
                call()
            last = pool
            seconds[name].append(_seconds(call, calls[name]))
    return {name: statistics.median(values) for name, values in seconds.items()}


def _wake(call: Callable[[], Any]) -> None:
    until = time.perf_counter() + _WAKE_SECONDS
    while time.perf_counter() < until:
        call()


def _seconds(call: Callable[[], Any], calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - started) / calls


def peak_call(dtype: torch.dtype = torch.float32) -> tuple[Callable[[], Any], float]:
    """torch.mm at 2048 cubed, to take turns as a candidate, and its FLOPs: what dense arithmetic gets."""
    a, b = torch.randn(2, _PEAK_SIZE, _PEAK_SIZE).to(dtype)
    return lambda: torch.mm(a, b), 2.0 * _PEAK_SIZE**3


def gemm_peak(repeats: int = 9, dtype: torch.dtype = torch.float32) -> float:
    """FLOP/s of :func:`peak_call` by itself."""
    call, flops = peak_call(dtype)
    return flops / statistics.median(_seconds(call, 1) for _ in range(repeats))


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    from tidegate.native import extension

    found: dict[str, Any] = {
        "processor": model,
        "cores": os.cpu_count(),
        "isa": extension().isa(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if importlib.util.find_spec("onnxruntime"):
        found["onnxruntime"] = importlib.metadata.version("onnxruntime")
    return found


def arguments(doc: str | None, *, threads: bool = True, timed: bool = True) -> argparse.ArgumentParser:
    """The arguments that benchmarks share; `threads` and `timed` for those that take thread counts and repeats."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the record to this file, after every row")
    if threads:
        parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    if timed:
        parser.add_argument("--repeats", type=int, default=15, help="turns of each candidate; the median counts")
    parser.add_argument("--only", help="only the rows whose name holds this")
    return parser


class Record:
    """The rows of one benchmark, kept as they come, so that an interrupted run keeps what it has.

    Args:
        path: The JSON file, or None to print alone.
        repeats: Turns of each candidate, or None where nothing is timed.
        resume: Take up the rows of the file: what was measured there is not measured again.
    """

    def __init__(self, path: Path | None, repeats: int | None, resume: bool = False) -> None:
        self.path = path
        self.record: dict[str, Any] = {"machine": machine(), "repeats": repeats, "rows": []}
        if path is not None and resume and path.exists():
            kept = json.loads(path.read_text())
            if kept["machine"] != self.record["machine"]:
                raise SystemExit(f"{path} was measured on {kept['machine']}; found {self.record['machine']} now")
            self.record["rows"] = kept["rows"]
            if repeats is not None:
                self.record["repeats"] = min(repeats, kept["repeats"])

    @property
    def rows(self) -> list[dict[str, Any]]:
        return self.record["rows"]

    def has(self, name: str) -> bool:
        return any(row["name"] == name for row in self.rows)

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        self._write()

    def finish(self, overall: list[dict[str, Any]] | None = None) -> None:
        """Print how the bars stand; `overall` are rows about all others."""
        self.record["overall"] = overall or []
        self._write()
        for line in summary([*self.rows, *self.record["overall"]]):
            print(
                f"{line['what']} {line['sense']} {line['limit']:g}: {line['reached']} of {line['entries']} reached; "
                f"worst {line['worst']:.3g} ({line['where']}){'' if line['reached'] == line['entries'] else '  MISSED'}"
            )
        if self.path is not None:
            print(f"written to {self.path}")

    def _write(self) -> None:
        if self.path is not None:
            write_json(self.path, self.record)


def write_json(path: str | Path, record: dict[str, Any]) -> None:
    """Keep a benchmark's record; a reader sees the old one or the new one, whole."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(record, indent=1) + "\n")
    unfinished.replace(path)
