"""What a training step keeps for its backward pass: bytes, ours beside torch.nn's.

    python benchmarks/memory.py [--json FILE]

torch.autograd.graph.saved_tensors_hooks hands over every tensor that is kept. Each memory counts once and whole, even
if only a view of it is kept; parameters and the input (of a ragged batch its layout as well), which exist anyway, do
not count; the output does. Nothing is timed. In the bfloat16 rows both run under autocast on the CPU.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.utils.rnn import pack_padded_sequence

from bars import at_most, verdict
from peers import layers
from side_by_side import Record, arguments
from tidegate.kernels.ragged import ragged_from_lengths

SIZES = ((1, 128, 50), (32, 128, 50), (64, 256, 200))


def saved_bytes(run: Callable[[], Tensor], exempt: Iterable[Tensor]) -> int:
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        output = run()
    spared = {tensor.untyped_storage().data_ptr() for tensor in exempt}
    found = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in kept}
    del output
    return sum(size for address, size in found.items() if address not in spared)


def measure(name: str, cell: str, sizes: tuple[int, int, int], directions: int, kind: str) -> dict[str, Any]:
    torch.manual_seed(0)
    batch, hidden, steps = sizes
    ours, theirs = layers(cell, hidden, hidden, directions)
    x = torch.randn(steps, batch, hidden).requires_grad_()
    inputs: list[Tensor] = [x]
    autocast: Any = contextlib.nullcontext()
    if kind == "ragged":
        lengths = torch.linspace(steps / 4, steps, batch).long()
        packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
        packed = packed._replace(data=packed.data.detach().requires_grad_())
        ragged = ragged_from_lengths(lengths)
        inputs = [packed.data, packed.batch_sizes, ragged.batch_sizes]

        def run_ours() -> Tensor:
            return ours.forward_ragged(packed.data, ragged)[0]

        def run_theirs() -> Tensor:
            return theirs(packed)[0].data
    else:
        if kind == "bfloat16":
            autocast = torch.autocast("cpu", torch.bfloat16)

        def run_ours() -> Tensor:
            with autocast:
                return ours(x)[0]

        def run_theirs() -> Tensor:
            with autocast:
                return theirs(x)[0]

    mine = saved_bytes(run_ours, [*inputs, *ours.parameters()])
    other = saved_bytes(run_theirs, [*inputs, *theirs.parameters()])
    return {
        "name": name,
        "tidegate_bytes": mine,
        "torch_bytes": other,
        "part": round(mine / other, 4),
        "bars": [at_most("saved for backward: part of torch.nn's", mine / other, 1)],
    }


def main() -> None:
    given = arguments(__doc__, threads=False, timed=False).parse_args()
    record = Record(given.json, None)
    for kind in ("float32", "ragged", "bfloat16"):
        for cell in ("gru", "lstm", "rnn"):
            for sizes in SIZES:
                for directions in (1, 2):
                    batch, hidden, steps = sizes
                    name = f"{cell} B{batch} H{hidden} T{steps}{' two' if directions == 2 else ''}, {kind}"
                    if given.only and given.only not in name:
                        continue
                    row = measure(name, cell, sizes, directions, kind)
                    record.add(row)
                    print(
                        f"{name:36} {row['tidegate_bytes'] / 1e6:9.3f} MB, torch.nn "
                        f"{row['torch_bytes'] / 1e6:9.3f} MB  {verdict(row['bars'])}"
                    )
    record.finish()


if __name__ == "__main__":
    main()
