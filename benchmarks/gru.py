"""tidegate.GRU beside torch.nn.GRU: a training step and inference, full and ragged batches, in one process.

    python benchmarks/gru.py [--json FILE] [--threads 2 1] [--repeats 15] [--only B32]

FLOPs of a training step are 3 x 2 N 3H (I + H) a direction, N the number of real steps; inference takes a third. The
fraction is of the peak of torch.mm (float32, 2048 cubed), measured beside each shape. For ragged batches torch.nn.GRU
takes a PackedSequence, made beforehand.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import tidegate
from side_by_side import alternate, gemm_peak, machine, write_json
from tidegate.kernels.ragged import pack, ragged_from_lengths


@dataclass(frozen=True)
class Shape:
    batch: int
    hidden: int
    steps: int
    bidirectional: bool = False
    ragged: bool = False

    def __str__(self) -> str:
        marks = (" bi" if self.bidirectional else "") + (" ragged" if self.ragged else "")
        return f"B{self.batch} H{self.hidden} T{self.steps}{marks}"


SHAPES = [
    Shape(1, 64, 50),
    Shape(1, 128, 100),
    Shape(1, 256, 100, bidirectional=True),
    Shape(1, 512, 50),
    Shape(8, 128, 50),
    Shape(8, 256, 50),
    Shape(8, 512, 50),
    Shape(32, 64, 50, bidirectional=True),
    Shape(32, 128, 50),
    Shape(32, 128, 200, bidirectional=True, ragged=True),
    Shape(32, 256, 50),
    Shape(64, 128, 50, bidirectional=True),
    Shape(64, 256, 50),
    Shape(64, 256, 200, ragged=True),
    Shape(64, 512, 50),
    Shape(256, 128, 50),
    Shape(256, 256, 50, ragged=True),
    Shape(256, 512, 50),
]


def measure(shape: Shape, threads: int, repeats: int) -> list[dict[str, object]]:
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    directions = 2 if shape.bidirectional else 1
    ours = tidegate.GRU(shape.hidden, shape.hidden, bidirectional=shape.bidirectional)
    theirs = nn.GRU(shape.hidden, shape.hidden, bidirectional=shape.bidirectional)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(shape.batch, shape.steps, shape.hidden)
    if shape.ragged:
        # Lengths as texts have them: log-normal, a third of the longest on average.
        spread = torch.distributions.LogNormal(0.0, 0.6).sample((shape.batch,))
        lengths = (spread * shape.steps / 3.5).long().clamp(1, shape.steps)
        ragged = ragged_from_lengths(lengths)
        values = pack(x, ragged).requires_grad_()
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        packed = packed._replace(data=packed.data.detach().requires_grad_())
        real_steps = int(lengths.sum())

        def run_ours() -> torch.Tensor:
            return ours.forward_ragged(values, ragged)[0]

        def run_theirs() -> torch.Tensor:
            return theirs(packed)[0].data

        leaf, their_leaf = values, packed.data
    else:
        steps_first = x.transpose(0, 1).contiguous().requires_grad_()
        real_steps = shape.batch * shape.steps

        def run_ours() -> torch.Tensor:
            return ours(steps_first)[0]

        def run_theirs() -> torch.Tensor:
            return theirs(steps_first)[0]

        leaf = their_leaf = steps_first
    ones = torch.ones_like(run_ours())

    def train(run, leaf, parameters):
        torch.autograd.grad(run(), [leaf, *parameters], ones)

    def infer(run):
        with torch.no_grad():
            run()

    jobs = {
        "training": (
            lambda: train(run_ours, leaf, list(ours.parameters())),
            lambda: train(run_theirs, their_leaf, list(theirs.parameters())),
        ),
        "inference": (lambda: infer(run_ours), lambda: infer(run_theirs)),
    }
    flops = 2 * real_steps * 3 * shape.hidden * 2 * shape.hidden * directions
    rows = []
    for job, (mine, other) in jobs.items():
        seconds = alternate({"tidegate": mine, "torch": other}, repeats)
        peak = gemm_peak()
        rate = flops * (3 if job == "training" else 1) / seconds["tidegate"]
        rows.append(
            {
                "shape": str(shape),
                "job": job,
                "threads": threads,
                "tidegate_ms": round(seconds["tidegate"] * 1e3, 3),
                "torch_ms": round(seconds["torch"] * 1e3, 3),
                "ratio": round(seconds["torch"] / seconds["tidegate"], 2),
                "gflops": round(rate / 1e9, 1),
                "peak_gflops": round(peak / 1e9, 1),
                "fraction_of_peak": round(rate / peak, 3),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="write the record to this file")
    parser.add_argument("--threads", type=int, nargs="+", default=[2])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--only", help="only the shapes whose name holds this")
    arguments = parser.parse_args()
    print(
        f"{'shape':28} {'job':10} {'thr':>3} {'tidegate ms':>12} {'torch ms':>10} "
        f"{'ratio':>6} {'GFLOP/s':>8} {'of peak':>8}"
    )
    rows = []
    for threads in arguments.threads:
        for shape in SHAPES:
            if arguments.only and arguments.only not in str(shape):
                continue
            for row in measure(shape, threads, arguments.repeats):
                rows.append(row)
                print(
                    f"{row['shape']:28} {row['job']:10} {threads:3d} {row['tidegate_ms']:12.3f} "
                    f"{row['torch_ms']:10.3f} {row['ratio']:6.2f} {row['gflops']:8.1f} {row['fraction_of_peak']:8.1%}",
                    flush=True,
                )
    if arguments.json:
        write_json(arguments.json, {"machine": machine(), "repeats": arguments.repeats, "rows": rows})
        print(f"written to {arguments.json}")


if __name__ == "__main__":
    main()
