"""The grid: rnn, lstm and gru of tidegate beside torch.nn and ONNX Runtime, a training step and inference, float32.

    python benchmarks/recurrent.py [--quick] [--json FILE [--resume]] [--threads 2 1] [--cells gru] [--only "gru B1 "]

Batches of 1 to 256 full rows, 64 to 512 units with as many inputs, 50 and 200 steps, one direction and two. A training
step is forward and backward with the gradients of the input and of all parameters; its FLOPs are 3 x 2 N G H (I + H) a
direction, N the number of steps of all rows, G the gates (rnn 1, gru 3, lstm 4). The fraction is of torch.mm's rate
(float32, 2048 cubed), which takes turns with the training steps, five where no bar is a part of it.
Inference stands beside ONNX Runtime as well: one node of the same weights, sizes fixed, in- and outputs bound once, a
pool of as many threads. Outputs and all gradients are compared before anything is timed.
"""

from __future__ import annotations

import itertools
import statistics
from dataclasses import astuple, dataclass
from typing import Any

import torch

from bars import Bar, at_least, verdict
from peers import OnnxLayer, check_equal, gradients, inference, layers, training_flops
from side_by_side import Record, alternate, arguments, peak_call

# Training step beside torch.nn: from 32 to 64 rows, at 256 rows, and the GRU at 1 and 8.
TRAINING_BARS = {"gru": {1: 4.0, 8: 3.0, 32: 1.4, 64: 1.4, 256: 1.03}}
TRAINING_BARS |= {"lstm": {32: 1.15, 64: 1.15, 256: 1.03}, "rnn": {32: 1.3, 64: 1.3, 256: 1.03}}


@dataclass(frozen=True)
class Shape:
    cell: str
    batch: int
    hidden: int
    steps: int
    directions: int = 1

    def __str__(self) -> str:
        return f"{self.cell} B{self.batch} H{self.hidden} T{self.steps}{' two' if self.directions == 2 else ''}"


TURN_SECONDS = 0.01
CELLS = ("gru", "lstm", "rnn")
GRID = [
    Shape(*sizes) for sizes in itertools.product(CELLS, (1, 8, 32, 64, 256), (64, 128, 256, 512), (50, 200), (1, 2))
]
QUICK_SIZES = [
    *((1, 128, 200, 1), (1, 256, 50, 2), (1, 512, 50, 1)),
    *((8, 128, 50, 1), (8, 256, 50, 2)),
    *((32, 64, 50, 2), (32, 128, 200, 1), (32, 256, 50, 1)),
    *((64, 128, 50, 2), (64, 256, 50, 1), (256, 128, 50, 1), (256, 256, 50, 1)),
]
QUICK = [Shape(cell, *sizes) for cell in CELLS for sizes in QUICK_SIZES]


def measure(shape: Shape, threads: int, repeats: int) -> dict[str, Any]:
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    ours, theirs = layers(shape.cell, shape.hidden, shape.hidden, shape.directions)
    x = torch.randn(shape.steps, shape.batch, shape.hidden)
    leaf = x.clone().requires_grad_()
    train_ours = gradients(lambda: ours(leaf)[0], [leaf, *ours.parameters()])
    train_theirs = gradients(lambda: theirs(leaf)[0], [leaf, *theirs.parameters()])
    check_equal(train_ours(), train_theirs())
    multiply, peak_flops = peak_call()
    calls = {"tidegate": train_ours, "torch": train_theirs, "peak": multiply}
    # The peak matters where a bar is a part of it.
    turns = {} if is_held_to_peak(shape.batch, shape.hidden) else {"peak": 5}
    training = alternate(calls, repeats, TURN_SECONDS, turns=turns)

    onnx = OnnxLayer(theirs, shape.batch, shape.steps, threads)
    infer_ours, infer_theirs = inference(lambda: ours(x)[0]), inference(lambda: theirs(x)[0])
    infer_onnx = onnx.bound(x.numpy())
    infer_onnx()
    check_equal([infer_ours(), onnx.output()], [infer_theirs()] * 2, tolerance=1e-4)
    inference_calls = {"tidegate": infer_ours, "torch": infer_theirs, "onnx": infer_onnx}
    inferred = alternate(inference_calls, repeats, TURN_SECONDS, own_pool=("onnx",))

    peak = peak_flops / training["peak"]
    flops = training_flops(shape.cell, shape.batch * shape.steps, shape.hidden, shape.hidden, shape.directions)
    row = {
        "name": f"{shape}, {threads} thread{'s' if threads > 1 else ''}",
        **dict(zip(("cell", "batch", "hidden", "steps", "directions"), astuple(shape), strict=True)),
        "threads": threads,
        "training_ms": _ms(training["tidegate"]),
        "training_torch_ms": _ms(training["torch"]),
        "training_ratio": round(training["torch"] / training["tidegate"], 3),
        "training_gflops": round(flops / training["tidegate"] / 1e9, 1),
        "peak_gflops": round(peak / 1e9, 1),
        "training_of_peak": round(flops / training["tidegate"] / peak, 4),
        "inference_ms": _ms(inferred["tidegate"]),
        "inference_torch_ms": _ms(inferred["torch"]),
        "inference_onnx_ms": _ms(inferred["onnx"]),
        "inference_ratio": round(inferred["torch"] / inferred["tidegate"], 3),
        "inference_ratio_onnx": round(inferred["onnx"] / inferred["tidegate"], 3),
        "inference_of_peak": round(flops / 3 / inferred["tidegate"] / peak, 4),
    }
    return row | {"bars": bars(row)}


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 4)


def bars(row: dict[str, Any]) -> list[Bar]:
    """The bars that this shape is held to."""
    cell, batch = row["cell"], row["batch"]
    found = []
    if batch in TRAINING_BARS[cell]:
        what = f"training, {cell}, batch {batch}: times torch.nn"
        found.append(at_least(what, row["training_ratio"], TRAINING_BARS[cell][batch]))
    if is_held_to_peak(batch, row["hidden"]):
        found.append(at_least(f"training, {cell}, batch >= 64, hidden >= 128: of peak", row["training_of_peak"], 0.8))
    found.append(at_least(f"inference, {cell}: times ONNX Runtime", row["inference_ratio_onnx"], 0.97))
    if batch == 1 and cell == "gru":
        found.append(at_least("inference, gru, batch 1: times torch.nn", row["inference_ratio"], 5))
    return found


def is_held_to_peak(batch: int, hidden: int) -> bool:
    return batch >= 64 and hidden >= 128


def overall(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is held over all rows together."""
    if not rows:
        return []
    mean = statistics.geometric_mean(row["inference_ratio_onnx"] for row in rows)
    name = f"geometric mean of {len(rows)} shapes"
    return [{"name": name, "bars": [at_least("inference, geometric mean: times ONNX Runtime", round(mean, 3), 1.15)]}]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--quick", action="store_true", help="a part of the grid, in less than four minutes")
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=CELLS)
    parser.add_argument("--resume", action="store_true", help="keep the rows of the JSON file, measure the others")
    given = parser.parse_args()
    record = Record(given.json, given.repeats, given.resume)
    print("times torch.nn | fraction of torch.mm's rate; inference: times torch.nn | times ONNX Runtime")
    for threads in given.threads:
        for shape in QUICK if given.quick else GRID:
            row_name = f"{shape}, {threads} thread{'s' if threads > 1 else ''}"
            if shape.cell not in given.cells or (given.only and given.only not in row_name) or record.has(row_name):
                continue
            row = measure(shape, threads, given.repeats)
            record.add(row)
            print(
                f"{row['name']:34} training {row['training_ms']:9.3f} ms {row['training_ratio']:5.2f} x "
                f"{row['training_of_peak']:6.1%}  inference {row['inference_ms']:9.3f} ms "
                f"{row['inference_ratio']:5.2f} x {row['inference_ratio_onnx']:5.2f} x  {missed(row['bars'])}",
                flush=True,
            )
    record.finish(overall(record.rows))


def missed(found: list[Bar]) -> str:
    misses = [bar for bar in found if not bar["reached"]]
    return verdict(misses) if misses else f"{len(found)} of {len(found)} bars reached"


if __name__ == "__main__":
    main()
