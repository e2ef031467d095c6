"""A training step under bfloat16 autocast on the CPU, beside torch.nn in float32.

    python benchmarks/bfloat16.py [--json FILE] [--threads 2 1] [--cells gru lstm rnn]

256 and 512 units with as many inputs, full rows of 50 steps. The forward pass runs under ``torch.autocast("cpu",
torch.bfloat16)``, weights and input stay in float32; gradients of the input and of all parameters. FLOPs as in
recurrent.py; the fraction is of torch.mm's rate in bfloat16 (2048 cubed), which takes turns with the rest. torch.nn
runs in float32, since under autocast on a CPU it is slower. Outputs are compared before anything is timed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bars import Bar, at_least, verdict
from peers import check_equal, gradients, layers, training_flops
from side_by_side import Record, alternate, arguments, peak_call

STEPS = 50


def measure(name: str, cell: str, batch: int, hidden: int, threads: int, repeats: int) -> dict[str, Any]:
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    ours, theirs = layers(cell, hidden, hidden)
    x = torch.randn(STEPS, batch, hidden).requires_grad_()

    def run_ours() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return ours(x)[0]

    if run_ours().dtype != torch.bfloat16:
        raise RuntimeError(f"expected an output of bfloat16 under autocast; found {run_ours().dtype}")
    check_equal([run_ours()], [theirs(x)[0]], tolerance=0.03)
    multiply, peak_flops = peak_call(torch.bfloat16)
    seconds = alternate(
        {
            "tidegate": gradients(run_ours, [x, *ours.parameters()]),
            "torch": gradients(lambda: theirs(x)[0], [x, *theirs.parameters()]),
            "peak": multiply,
        },
        repeats,
    )
    rate = training_flops(cell, STEPS * batch, hidden, hidden) / seconds["tidegate"]
    peak = peak_flops / seconds["peak"]
    row = {
        "name": name,
        "cell": cell,
        "batch": batch,
        "hidden": hidden,
        "threads": threads,
        "bfloat16_ms": round(seconds["tidegate"] * 1e3, 4),
        "torch_float32_ms": round(seconds["torch"] * 1e3, 4),
        "ratio": round(seconds["torch"] / seconds["tidegate"], 3),
        "gflops": round(rate / 1e9, 1),
        "peak_gflops": round(peak / 1e9, 1),
        "of_peak": round(rate / peak, 4),
    }
    return row | {"bars": bars(row)}


def bars(row: dict[str, Any]) -> list[Bar]:
    found = [at_least(f"bfloat16 training, {row['cell']}: of bfloat16 peak", row["of_peak"], 0.6)]
    if row["cell"] == "gru":
        rows = "to 64" if row["batch"] <= 64 else "256"
        limit = 2.5 if row["batch"] <= 64 else 1.9
        found.append(at_least(f"bfloat16 training, gru, batch {rows}: times torch.nn float32", row["ratio"], limit))
    return found


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--cells", nargs="+", default=["gru"], choices=["gru", "lstm", "rnn"])
    given = parser.parse_args()
    record = Record(given.json, given.repeats)
    for threads in given.threads:
        for cell in given.cells:
            for hidden in (256, 512):
                for batch in (8, 32, 64, 256):
                    name = f"{cell} B{batch} H{hidden} T{STEPS}, {threads} thread{'s' if threads > 1 else ''}"
                    if given.only and given.only not in name:
                        continue
                    row = measure(name, cell, batch, hidden, threads, given.repeats)
                    record.add(row)
                    print(
                        f"{name:30} {row['bfloat16_ms']:9.3f} ms  {row['gflops']:7.1f} GFLOP/s of "
                        f"{row['peak_gflops']:7.1f}  {verdict(row['bars'])}",
                        flush=True,
                    )
    record.finish()


if __name__ == "__main__":
    main()
