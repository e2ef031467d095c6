"""What each option costs over the plain layer, and over a torch.nn cell stepped in Python with the same option.

    python benchmarks/options.py [--json FILE] [--threads 2 1] [--cells gru lstm rnn] [--only "gru zoneout"]

A training step of full rows of 50 steps, 128 units with as many inputs, batches of 1 to 64; gradients of the input and
of all parameters. Random masks are drawn anew in every call, as in use, and that counts as the option's; the column of
given masks is without it, which tells the kernel's part from the drawing. cell_loops.py has the loops; with the same
masks, output and gradients of both agree before anything is timed.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

import tidegate
from bars import Bar, at_least, at_most, verdict
from cell_loops import CellLoop
from peers import check_equal, gradients
from side_by_side import Record, alternate, arguments
from tidegate.kernels import Options

STEPS, HIDDEN = 50, 128
BATCHES = (1, 8, 32, 64)
_LAYERS: dict[str, Any] = {"gru": tidegate.GRU, "lstm": tidegate.LSTM, "rnn": tidegate.RNN}
_EVERYWHERE: dict[str, dict[str, Any]] = {
    "layer norm": {"layer_norm": True},
    "zoneout": {"zoneout": 0.1},
    "recurrent dropout": {"recurrent_dropout": 0.25},
}
OPTIONS = {
    "gru": {**_EVERYWHERE, "reset before": {"reset_after": False}},
    "lstm": {**_EVERYWHERE, "peephole": {"peephole": True}, "projection": {"proj_size": HIDDEN // 2}},
    "rnn": _EVERYWHERE,
}
# A projection takes other FLOPs than the plain layer, and peepholes have no bar.
_WITHOUT_BARS = ("peephole", "projection")


def measure(name: str, cell: str, option: str, batch: int, threads: int, repeats: int) -> dict[str, Any]:
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    plain = _LAYERS[cell](HIDDEN, HIDDEN)
    layer = _LAYERS[cell](HIDDEN, HIDDEN, **OPTIONS[cell][option])
    loop = CellLoop(cell, layer)
    given = copy.deepcopy(layer)
    masks = loop.draw(STEPS, batch)
    prepared = Options(
        recurrent_dropout=masks["dropout"][None] if "dropout" in masks else None,
        zoneout_h=masks["zoneout_h"].flatten(0, 1) if "zoneout_h" in masks else None,
        zoneout_c=masks["zoneout_c"].flatten(0, 1) if "zoneout_c" in masks else None,
    )
    given._options = lambda *_: prepared
    x = torch.randn(STEPS, batch, HIDDEN).requires_grad_()

    def train(run: Any, module: Any) -> Any:
        return gradients(run, [x, *module.parameters()])

    def run_loop() -> Tensor:
        return loop(x, loop.draw(STEPS, batch))

    check_equal([given(x)[0]], [loop(x, masks)], tolerance=1e-4)
    check_equal(train(lambda: given(x)[0], given)()[:3], train(lambda: loop(x, masks), loop)()[:3])
    candidates = {"plain": train(lambda: plain(x)[0], plain), "option": train(lambda: layer(x)[0], layer)}
    if masks:
        candidates["given"] = train(lambda: given(x)[0], given)
    candidates["loop"] = train(run_loop, loop)
    seconds = alternate(candidates, repeats)
    row: dict[str, Any] = {"name": name, "cell": cell, "option": option, "batch": batch, "threads": threads}
    row |= {f"{kind}_ms": round(value * 1e3, 4) for kind, value in seconds.items()}
    row["over_plain"] = round(seconds["option"] / seconds["plain"] - 1, 4)
    row["over_plain_given_masks"] = round(seconds.get("given", seconds["option"]) / seconds["plain"] - 1, 4)
    row["ratio_loop"] = round(seconds["loop"] / seconds["option"], 3)
    return row | {"bars": bars(row)}


def bars(row: dict[str, Any]) -> list[Bar]:
    if row["option"] in _WITHOUT_BARS:
        return []
    rows, limit = ("1", 0.6) if row["batch"] == 1 else (">= 8", 0.25)
    return [
        at_most(f"{row['option']}, {row['cell']}, batch {rows}: over the plain kernel", row["over_plain"], limit),
        at_least(f"{row['option']}, {row['cell']}: times the loop over torch.nn's cell", row["ratio_loop"], 8),
    ]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--cells", nargs="+", default=list(OPTIONS), choices=list(OPTIONS))
    given = parser.parse_args()
    record = Record(given.json, given.repeats)
    for threads in given.threads:
        for cell in given.cells:
            for option in OPTIONS[cell]:
                for batch in BATCHES:
                    name = f"{cell} {option} B{batch}, {threads} thread{'s' if threads > 1 else ''}"
                    if given.only and given.only not in name:
                        continue
                    row = measure(name, cell, option, batch, threads, given.repeats)
                    record.add(row)
                    print(
                        f"{name:38} {row['option_ms']:8.3f} ms  over plain {row['over_plain']:+6.1%} "
                        f"(masks given {row['over_plain_given_masks']:+6.1%})  {row['ratio_loop']:6.2f} x the loop  "
                        f"{verdict(bar for bar in row['bars'] if not bar['reached'])}",
                        flush=True,
                    )
    record.finish()


if __name__ == "__main__":
    main()
