"""Layers that train in parallel over time beside the GRU: a training step over longer and longer sequences.

    python benchmarks/minimal.py [--json FILE] [--threads 2 1] [--repeats 7] [--only T4096]

The forward pass and all gradients of one layer of 128 units with as many inputs, full rows of 256 to 4,096 steps,
16,384 steps in all. "log space" is MinGRU as its paper's appendix has it in PyTorch (Feng et al. 2024,
arXiv:2410.01201): the same weights, and the same values before anything is timed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

import tidegate
from peers import check_equal, gradients
from side_by_side import Record, alternate, arguments

UNITS, VALUES = 128, 16_384
STEPS = (256, 1024, 4096)


def log_g(x: Tensor) -> Tensor:
    return torch.where(x >= 0, (functional.relu(x) + 0.5).log(), -functional.softplus(-x))


def log_space(layer: tidegate.MinGRU, x: Tensor) -> Tensor:
    """``parallel_scan_log`` over ``[T, B, I]``, from a state of 0.5."""
    gate, candidate = functional.linear(x, layer.weight_ih_l0, layer.bias_ih_l0).chunk(2, dim=-1)
    log_z, log_coefficients = -functional.softplus(-gate), -functional.softplus(gate)
    log_h_0 = torch.full_like(candidate[:1], 0.5).log()
    log_values = torch.cat([log_h_0, log_z + log_g(candidate)])
    a_star = functional.pad(torch.cumsum(log_coefficients, dim=0), (0, 0, 0, 0, 1, 0))
    return (a_star + torch.logcumsumexp(log_values - a_star, dim=0)).exp()[1:]


def measure(name: str, steps: int, threads: int, repeats: int) -> dict[str, Any]:
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    rows = VALUES // steps
    x = torch.randn(steps, rows, UNITS).requires_grad_()
    h_0 = torch.full((1, rows, UNITS), 0.5)
    min_gru = tidegate.MinGRU(UNITS, UNITS, candidate="positive")
    layers: dict[str, Any] = {
        "min_lstm": tidegate.MinLSTM(UNITS, UNITS),
        "lru": tidegate.LRU(UNITS, UNITS),
        "gru": tidegate.GRU(UNITS, UNITS),
        "torch_gru": torch.nn.GRU(UNITS, UNITS),
    }
    check_equal([min_gru(x, h_0)[0]], [log_space(min_gru, x)], tolerance=1e-3)
    leaves = [x, *min_gru.parameters()]
    candidates = {
        "min_gru": gradients(lambda: min_gru(x, h_0)[0], leaves),
        "log_space": gradients(lambda: log_space(min_gru, x), leaves),
    }
    for kind, layer in layers.items():
        candidates[kind] = gradients(lambda layer=layer: layer(x)[0], [x, *layer.parameters()])
    seconds = alternate(candidates, repeats, max_seconds=10)
    row: dict[str, Any] = {"name": name, "steps": steps, "rows": rows, "threads": threads}
    row |= {f"{kind}_ms": round(value * 1e3, 2) for kind, value in seconds.items()}
    row["ratio_log_space"] = round(seconds["log_space"] / seconds["min_gru"], 2)
    row["ratio_torch_gru"] = round(seconds["torch_gru"] / seconds["min_gru"], 2)
    return row | {"bars": []}


def main() -> None:
    parser = arguments(__doc__)
    parser.set_defaults(repeats=7)
    given = parser.parse_args()
    record = Record(given.json, given.repeats)
    for threads in given.threads:
        for steps in STEPS:
            name = f"T{steps} B{VALUES // steps}, {threads} thread{'s' if threads > 1 else ''}"
            if given.only and given.only not in name:
                continue
            row = measure(name, steps, threads, given.repeats)
            record.add(row)
            times = "  ".join(f"{key.removesuffix('_ms')} {row[key]:8.1f}" for key in row if key.endswith("_ms"))
            print(f"{name:22} ms: {times}  log space {row['ratio_log_space']:.1f} x", flush=True)
    record.finish()


if __name__ == "__main__":
    main()
