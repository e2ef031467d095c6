"""tidegate.CRF beside pytorch-crf: the loss with its gradients, and Viterbi decoding, in one process.

    python benchmarks/crf.py [--json FILE] [--threads 2 1] [--repeats 15] [--only K9]

A training step is the negative log-likelihood of all rows, summed, with the gradients of the emissions and of the three
parameters. Emissions lie as each wants them, time-major; for ragged batches pytorch-crf takes padded ones and a mask,
made beforehand, and tidegate ragged ones. Both find the same loss, gradients and paths before they are timed.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import torch
import torchcrf

import tidegate
from side_by_side import alternate, machine, write_json
from tidegate.kernels.ragged import pack, ragged_from_lengths, to_batch_major


@dataclass(frozen=True)
class Shape:
    batch: int
    steps: int
    tags: int
    ragged: bool = False

    def __str__(self) -> str:
        return f"B{self.batch} T{self.steps} K{self.tags}{' ragged' if self.ragged else ''}"


SHAPES = [
    Shape(1, 50, 9),
    Shape(32, 50, 9),
    Shape(32, 50, 9, ragged=True),
    Shape(256, 50, 9),
    Shape(32, 200, 20),
    Shape(32, 50, 64),
    Shape(8, 50, 200),
]


def measure(shape: Shape, threads: int, repeats: int) -> list[dict[str, object]]:
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    ours, theirs = tidegate.CRF(shape.tags), torchcrf.CRF(shape.tags)
    theirs.load_state_dict(ours.state_dict())
    lengths = torch.full((shape.batch,), shape.steps)
    if shape.ragged:
        # Lengths as sentences have them: log-normal, a third of the longest on average.
        spread = torch.distributions.LogNormal(0.0, 0.6).sample((shape.batch,))
        lengths = (spread * shape.steps / 3.5).long().clamp(1, shape.steps)
    steps = int(lengths.max())
    ragged = ragged_from_lengths(lengths)
    padded = torch.randn(steps, shape.batch, shape.tags).requires_grad_()
    padded_tags = torch.randint(0, shape.tags, (steps, shape.batch))
    mask = torch.arange(steps)[:, None] < lengths
    values = pack(padded.detach().transpose(0, 1), ragged).requires_grad_()
    tags = pack(padded_tags.t(), ragged)

    def train_ours() -> tuple[torch.Tensor, ...]:
        loss = -ours.log_likelihood(values, tags, ragged).sum()
        return loss, *torch.autograd.grad(loss, [values, *ours.parameters()])

    def train_theirs() -> tuple[torch.Tensor, ...]:
        loss = -theirs(padded, padded_tags, mask)
        return loss, *torch.autograd.grad(loss, [padded, *theirs.parameters()])

    def decode_ours() -> torch.Tensor:
        with torch.no_grad():
            return ours.decode(values, ragged)[0]

    def decode_theirs() -> list[list[int]]:
        with torch.no_grad():
            return theirs.decode(padded, mask)

    loss, grad, *grads = train_ours()
    their_loss, their_grad, *their_grads = train_theirs()
    torch.testing.assert_close(loss, their_loss, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(grad, pack(their_grad.transpose(0, 1), ragged), rtol=1e-3, atol=1e-4)
    for mine, other in zip(grads, their_grads, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-3)
    paths = [row.tolist() for row in to_batch_major(decode_ours(), ragged).split(lengths.tolist())]
    agreeing = sum(a == b for a, b in zip(paths, decode_theirs(), strict=True))
    if agreeing < 0.9 * shape.batch:  # equal but where two paths score the same to the last digit
        raise RuntimeError(f"{shape}: only {agreeing} of {shape.batch} paths are those of pytorch-crf")

    rows = []
    for job, mine, other in (("training", train_ours, train_theirs), ("Viterbi", decode_ours, decode_theirs)):
        seconds = alternate({"tidegate": mine, "pytorch-crf": other}, repeats)
        rows.append(
            {
                "shape": str(shape),
                "job": job,
                "threads": threads,
                "tidegate_ms": round(seconds["tidegate"] * 1e3, 4),
                "pytorch_crf_ms": round(seconds["pytorch-crf"] * 1e3, 4),
                "ratio": round(seconds["pytorch-crf"] / seconds["tidegate"], 2),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="write the record to this file")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--only", help="only the shapes whose name holds this")
    arguments = parser.parse_args()
    print(f"{'shape':20} {'job':10} {'thr':>3} {'tidegate ms':>12} {'pytorch-crf ms':>15} {'ratio':>7}")
    rows = []
    for threads in arguments.threads:
        for shape in SHAPES:
            if arguments.only and arguments.only not in str(shape):
                continue
            for row in measure(shape, threads, arguments.repeats):
                rows.append(row)
                print(
                    f"{row['shape']:20} {row['job']:10} {threads:3d} {row['tidegate_ms']:12.3f} "
                    f"{row['pytorch_crf_ms']:15.3f} {row['ratio']:7.1f}",
                    flush=True,
                )
    if arguments.json:
        write_json(arguments.json, {"machine": machine(), "repeats": arguments.repeats, "rows": rows})
        print(f"written to {arguments.json}")


if __name__ == "__main__":
    main()
