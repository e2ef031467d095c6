"""One step of a stream from Python: batch 1, 128 units and inputs, _native.Step on NumPy arrays beside ONNX Runtime.

    python benchmarks/single_step.py [--json FILE]

Both take one step's input and the states and put the next states in their place. ONNX Runtime runs one node of the same
weights with one step, on one thread: `run` with arrays in and out, and a binding made once whose states go to and fro
between two arrays; its better one counts. Microseconds of a call, the call from Python included; the states of both are
compared before anything is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from bars import at_least, at_most, verdict
from peers import OnnxLayer, check_equal
from side_by_side import Record, alternate, arguments
from streams import StepWeights

HIDDEN = 128
TYPES = ("float32", "bfloat16", "int8")


def measure(cell: str, repeats: int) -> dict[str, Any]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    weights = StepWeights(cell, HIDDEN, HIDDEN)
    x = np.random.default_rng(0).standard_normal((1, HIDDEN), np.float32)
    candidates: dict[str, Callable[[], Any]] = {}
    expected = _states_after(weights, x, 5)
    for kind in TYPES:
        states = weights.states()
        candidates[kind] = _call(weights.step(kind), x, states)
        for _ in range(5):
            candidates[kind]()
        check_equal([torch.from_numpy(states[0])], [expected], tolerance=1e-4 if kind == "float32" else 0.1)
    onnx = OnnxLayer(weights.layer, 1, 1, threads=1, with_states=True)
    candidates["onnx_bound"] = onnx.bound(x[None])
    for _ in range(5):
        candidates["onnx_bound"]()
    check_equal([onnx.output()[0]], [expected], tolerance=1e-4)
    candidates["onnx_run"] = onnx.plain(x[None])
    seconds = alternate(candidates, repeats)
    best = min(seconds["onnx_bound"], seconds["onnx_run"])
    row: dict[str, Any] = {"name": cell, "cell": cell}
    row |= {f"{name}_us": round(value * 1e6, 3) for name, value in seconds.items()}
    row["ratio_onnx"] = round(best / seconds["float32"], 3)
    row["bars"] = [
        at_most("single step, float32: microseconds", row["float32_us"], 8),
        at_least("single step, float32: times ONNX Runtime", row["ratio_onnx"], 1),
    ]
    return row


def _call(step: Any, x: np.ndarray, states: list[np.ndarray]) -> Callable[[], None]:
    if len(states) == 1:
        (h,) = states
        return lambda: step(x, h)
    h, c = states
    return lambda: step(x, h, c)


def _states_after(weights: StepWeights, x: np.ndarray, steps: int) -> torch.Tensor:
    """torch.nn's h after as many steps of the same input."""
    with torch.no_grad():
        return weights.layer(torch.from_numpy(x).expand(steps, 1, -1))[0][-1]


def main() -> None:
    given = arguments(__doc__, threads=False).parse_args()
    record = Record(given.json, given.repeats)
    for cell in ("gru", "lstm", "rnn_tanh"):
        if given.only and given.only not in cell:
            continue
        row = measure(cell, given.repeats)
        record.add(row)
        figures = "  ".join(f"{name} {row[f'{name}_us']:.2f}" for name in (*TYPES, "onnx_bound", "onnx_run"))
        print(f"{cell:9} us a step: {figures}  {verdict(row['bars'])}", flush=True)
    record.finish()


if __name__ == "__main__":
    main()
