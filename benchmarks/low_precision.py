"""Inference at batch 1 with weights of bfloat16 and int8, beside our own float32.

    python benchmarks/low_precision.py [--json FILE] [--threads 2 1]

Two ways: `recurrence`, the op torch.ops.tidegate.recurrent_forward over 100 steps of prepared gates (the recurrence
alone, without the projection of the inputs); `stream`, the class _native.Step called for each of 100 steps on NumPy
arrays, the inputs' projection included (it takes one thread). int8 weights have a scale an output row. Both are
compared to float32 before they are timed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

import tidegate  # noqa: F401 - registers the ops
from bars import at_least, verdict
from peers import check_equal
from side_by_side import Record, alternate, arguments
from streams import GATES, StepWeights
from tidegate.kernels.quantized import quantize_rows

STEPS = 100
TYPES = ("float32", "bfloat16", "int8")
# bfloat16 1.6 and int8 2 times our own float32.
BARS = {"bfloat16": 1.6, "int8": 2.0}


def recurrences(cell: str, weights: StepWeights) -> dict[str, Callable[[], Tensor]]:
    hidden = weights.hidden
    gates = torch.randn(STEPS, 1, GATES[cell] * hidden)
    state = torch.zeros(1, 1, hidden)
    memory = torch.zeros(1, 1, hidden) if cell == "lstm" else None
    bias = torch.zeros(GATES[cell] * hidden)
    batch_sizes = torch.ones(STEPS, dtype=torch.int64)
    weight_int8, scale = quantize_rows(weights.weight_hh)
    kinds = {
        "float32": (gates, weights.weight_hh, None),
        "bfloat16": (gates.bfloat16(), weights.weight_hh.bfloat16(), None),
        "int8": (gates, weight_int8, scale[None]),
    }

    def call(gates: Tensor, weight: Tensor, scale: Tensor | None) -> Callable[[], Tensor]:
        no_projection, no_options = (None, None), (None, None, None)
        rest = (
            *(*no_projection, [bias], [bias], None, None, None, None),
            *(state, memory, *no_options, [0.0, 0.0, 1e-5], batch_sizes),
        )

        def run() -> Tensor:
            with torch.inference_mode():
                return torch.ops.tidegate.recurrent_forward(cell, gates, [weight], scale, *rest, False)[0]

        return run

    return {kind: call(*tensors) for kind, tensors in kinds.items()}


def streams(weights: StepWeights) -> dict[str, Callable[[], Tensor]]:
    x = np.random.default_rng(0).standard_normal((STEPS, 1, weights.hidden), np.float32)

    def call(kind: str) -> Callable[[], Tensor]:
        step = weights.step(kind)
        states = weights.states()

        def run() -> Tensor:
            for state in states:
                state[:] = 0
            for t in range(STEPS):
                step(x[t], *states)
            return torch.from_numpy(states[0])

        return run

    return {kind: call(kind) for kind in TYPES}


def measure(name: str, way: str, cell: str, hidden: int, threads: int, repeats: int) -> dict[str, Any]:
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    weights = StepWeights(cell, hidden, hidden)
    candidates = recurrences(cell, weights) if way == "recurrence" else streams(weights)
    expected = candidates["float32"]().clone()
    check_equal([candidates["bfloat16"](), candidates["int8"]()], [expected] * 2, tolerance=0.1)
    seconds = alternate(candidates, repeats)
    row: dict[str, Any] = {"name": name, "way": way, "cell": cell, "hidden": hidden, "threads": threads}
    for kind in TYPES:
        row[f"{kind}_us"] = round(seconds[kind] * 1e6 / STEPS, 3)
    row["bars"] = [
        at_least(f"inference at batch 1, {kind}, {way}: times our float32", seconds["float32"] / seconds[kind], limit)
        for kind, limit in BARS.items()
    ]
    return row


def main() -> None:
    given = arguments(__doc__).parse_args()
    record = Record(given.json, given.repeats)
    for threads in given.threads:
        for way in ("recurrence", "stream"):
            if way == "stream" and threads > 1 and 1 in given.threads:
                continue
            for cell in ("gru", "lstm", "rnn_tanh"):
                for hidden in (256, 512):
                    used = 1 if way == "stream" else threads
                    name = f"{way} {cell} H{hidden}, {used} thread{'s' if used > 1 else ''}"
                    if given.only and given.only not in name:
                        continue
                    row = measure(name, way, cell, hidden, used, given.repeats)
                    record.add(row)
                    figures = "  ".join(f"{kind} {row[f'{kind}_us']:7.2f}" for kind in TYPES)
                    print(f"{name:36} us a step: {figures}  {verdict(row['bars'])}", flush=True)
    record.finish()


if __name__ == "__main__":
    main()
