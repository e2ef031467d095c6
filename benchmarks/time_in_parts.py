"""Where a training step and a call in inference spend their time: each part's milliseconds, FLOPs and bytes.

    python benchmarks/time_in_parts.py [--json FILE] [--threads 2 1] [--only "gru B64"]

Shapes that miss a bar of the grid, beside torch.nn and torch.mm as there. The functions that make up a step are timed
inside it, so the parts are those of whole calls; `rest` is what remains of the whole: Python, autograd, new tensors. A
part's bytes are each value it reads or writes counted once, its weights too; beside its GB/s stands the machine's rate
of copying 64 MB in the same run, read and written. A part far from both rates waits for something else than memory.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch

from peers import GATES, OnnxLayer, check_equal, gradients, inference, layers
from recurrent import Shape
from side_by_side import Record, alternate, arguments, peak_call
from tidegate import native
from tidegate.kernels import cpu, cpu_gradients, cpu_ops

# Cell, batch, units, steps, directions.
TRAINING = [
    *(("gru", 1, 512, 50, 1), ("gru", 8, 256, 50, 2), ("gru", 64, 128, 50, 1), ("gru", 64, 128, 50, 2)),
    *(("gru", 64, 256, 50, 1), ("gru", 256, 128, 50, 1), ("lstm", 32, 256, 50, 1), ("lstm", 64, 128, 50, 1)),
    *(("rnn", 64, 128, 50, 1), ("rnn", 64, 256, 50, 1)),
]
INFERENCE = [
    *(("gru", 1, 64, 50, 1), ("gru", 1, 256, 50, 1), ("gru", 1, 512, 50, 1), ("lstm", 1, 128, 50, 1)),
    *(("lstm", 8, 128, 50, 1), ("lstm", 32, 128, 200, 1), ("lstm", 32, 256, 50, 1)),
]
_COPIED_BYTES = 64 << 20


class Parts:
    """Seconds that named functions took; of nested ones the outer alone counts."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = {}
        self._of_call: dict[str, float] = {}
        self._inside = False

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            if self._inside:
                return function(*given, **named)
            self._inside = True
            started = time.perf_counter()
            try:
                return function(*given, **named)
            finally:
                self._of_call[part] = self._of_call.get(part, 0.0) + time.perf_counter() - started
                self._inside = False

        return call

    def whole(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """Calls of which each gives one number a part."""

        def call() -> Any:
            self._of_call.clear()
            made = function()
            for part, seconds in self._of_call.items():
                self._seconds.setdefault(part, []).append(seconds)
            return made

        return call

    def medians(self) -> dict[str, float]:
        return {part: statistics.median(seconds) for part, seconds in self._seconds.items()}


@contextmanager
def timing(parts: Parts, places: list[tuple[Any, str, str]]) -> Iterator[None]:
    """Within this, each function ``(owner, name, part)`` adds to its part."""
    with ExitStack() as patches:
        for owner, name, part in places:
            patches.enter_context(mock.patch.object(owner, name, parts.timed(part, getattr(owner, name))))
        yield


def training_places() -> list[tuple[Any, str, str]]:
    extension = native.extension()
    return [
        (cpu, "project_inputs", "input product"),
        (extension, "forward", "recurrence, forward"),
        (extension, "backward", "recurrence, backward"),
        (cpu_ops, "project", "gradient of the input"),
        (cpu, "rows_times", "gradient of the input"),
        (cpu, "of_weight", "gradients of weights"),
        (cpu_gradients.Gradients, "of_weight_hh", "gradients of weights"),
        (cpu_gradients.Gradients, "of_biases", "gradients of biases"),
    ]


def inference_places() -> list[tuple[Any, str, str]]:
    return [
        (cpu_ops, "project", "input product"),
        (native.extension(), "forward_plain", "recurrence, forward"),
    ]


def work(shape: Shape, training: bool) -> dict[str, tuple[float, float]]:
    """Each part's FLOPs in products and bytes."""
    values, units, directions = shape.batch * shape.steps, shape.hidden, shape.directions
    cell = {"rnn": "rnn_tanh"}.get(shape.cell, shape.cell)
    gates = GATES[shape.cell]
    product = 2.0 * values * gates * units * units * directions
    state, weight = values * units, gates * units * units * directions
    saved = 0 if shape.cell == "rnn" or not training else cpu_ops.saved_width(cell) * state * directions
    grads = (4 if shape.cell == "gru" else gates) * state * directions
    projected, output = gates * state * directions, directions * state
    numbers = {
        "input product": (product, state + weight + projected),
        "recurrence, forward": (product, projected + weight + output + saved),
        # Reads output, its gradient and what was saved; writes the gates' gradients and the states before.
        "recurrence, backward": (product, 3 * output + saved + weight + grads),
        "gradient of the input": (product, projected + weight + state * directions),
        "gradients of weights": (2 * product, 2 * projected + state * directions + output + 2 * weight),
        "gradients of biases": (0.0, grads),
    }
    return {part: (flops, 4.0 * count) for part, (flops, count) in numbers.items()}


def copy_call() -> tuple[Callable[[], Any], float]:
    source = torch.randn(_COPIED_BYTES // 4)
    target = torch.empty_like(source)
    return lambda: target.copy_(source), 2.0 * _COPIED_BYTES


def measure(shape: Shape, job: str, threads: int, repeats: int) -> dict[str, Any]:
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    ours, theirs = layers(shape.cell, shape.hidden, shape.hidden, shape.directions)
    x = torch.randn(shape.steps, shape.batch, shape.hidden)
    multiply, peak_flops = peak_call()
    copy, copied = copy_call()
    others: dict[str, Callable[[], Any]] = {"peak": multiply, "copy": copy}
    parts, training = Parts(), job == "training"
    if training:
        leaf = x.clone().requires_grad_()
        run_ours = gradients(lambda: ours(leaf)[0], [leaf, *ours.parameters()])
        run_theirs = gradients(lambda: theirs(leaf)[0], [leaf, *theirs.parameters()])
        check_equal(run_ours(), run_theirs())
    else:
        run_ours, run_theirs = inference(lambda: ours(x)[0]), inference(lambda: theirs(x)[0])
        check_equal([run_ours()], [run_theirs()], tolerance=1e-4)
        onnx = OnnxLayer(theirs, shape.batch, shape.steps, threads)
        others["onnx"] = onnx.bound(x.numpy())
    with timing(parts, training_places() if training else inference_places()):
        calls = {"tidegate": parts.whole(run_ours), "torch": run_theirs, **others}
        seconds = alternate(calls, repeats, own_pool=("onnx",), turns={"peak": 5, "copy": 5})
    whole, found = seconds["tidegate"], parts.medians()
    done = work(shape, training)
    rows = [_row(part, found[part], whole, *done[part]) for part in done if part in found]
    rows.append(_row("rest", max(whole - sum(found.values()), 0.0), whole, 0.0, 0.0))
    row = {
        "name": f"{job}, {shape}, {threads} thread{'s' if threads > 1 else ''}",
        "ms": round(whole * 1e3, 4),
        "torch_ms": round(seconds["torch"] * 1e3, 4),
        "peak_gflops": round(peak_flops / seconds["peak"] / 1e9, 1),
        "copy_gigabytes": round(copied / seconds["copy"] / 1e9, 1),
        "parts": rows,
        "bars": [],
    }
    return row if training else row | {"onnx_ms": round(seconds["onnx"] * 1e3, 4)}


def _row(part: str, seconds: float, whole: float, flops: float, count: float) -> dict[str, Any]:
    return {
        "part": part,
        "ms": round(seconds * 1e3, 4),
        "share": round(seconds / whole, 4),
        "mflop": round(flops / 1e6, 3),
        "megabytes": round(count / 1e6, 3),
        "gflops": round(flops / seconds / 1e9, 1) if seconds else 0.0,
        "gigabytes": round(count / seconds / 1e9, 1) if seconds else 0.0,
    }


def main() -> None:
    given = arguments(__doc__).parse_args()
    record = Record(given.json, given.repeats)
    shapes = {"training": TRAINING, "inference": INFERENCE}
    jobs = [(job, Shape(*sizes)) for job, chosen in shapes.items() for sizes in chosen]
    for threads in given.threads:
        for job, shape in jobs:
            if given.only and given.only not in f"{job}, {shape}":
                continue
            row = measure(shape, job, threads, given.repeats)
            record.add(row)
            onnx = f", ONNX Runtime {row['onnx_ms']:.3f}" if "onnx_ms" in row else ""
            print(
                f"{row['name']}: {row['ms']:.3f} ms, torch.nn {row['torch_ms']:.3f}{onnx}; "
                f"torch.mm {row['peak_gflops']:.0f} GFLOP/s, copying {row['copy_gigabytes']:.0f} GB/s"
            )
            for part in row["parts"]:
                print(
                    f"    {part['part']:22} {part['ms']:9.3f} ms {part['share']:6.1%}  {part['gflops']:6.1f} GFLOP/s "
                    f"({part['gflops'] / row['peak_gflops']:4.0%})  {part['gigabytes']:6.1f} GB/s",
                    flush=True,
                )
    record.finish()


if __name__ == "__main__":
    main()
