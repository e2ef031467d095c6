"""The adding problem over 600 steps: what gates are for, and the vanishing gradient, seen.

    python docs/examples/adding_problem.py [--steps N] [--cells gru rnn lstm] [--out FOLDER]

Each sequence has two features a step: a number drawn evenly from 0 to 1, and a mark that is one at two steps, the first
of them in the first half, the second in the second (Hochreiter & Schmidhuber 1997, Neural Computation 9(8), 5.4; in the
form of Le et al. 2015, arXiv:1504.00941). The target is the sum of the two marked numbers, told after the last step.
Who always predicts one has a mean squared error of 1/6; below it, something was carried over hundreds of steps.

Each cell is one layer of tidegate and a linear readout of its last state, trained by Adam with gradient clipping on
fresh sequences at every step. It stops early once validation sequences, others than the test's, are predicted well
enough. GRU and LSTM start with large input weights (he_uniform, so that a mark moves the gates), orthogonal recurrent
ones and chrono initialisation (Tallec & Ollivier 2018, arXiv:1804.11188); the RNN has no gates to set and starts as
torch.nn's does.

Before training, the gradient of the loss with respect to the state after each step is taken, in double precision: as
the cells are trained, and of GRU and LSTM also as torch.nn draws them. FOLDER gets adding_problem.json with all numbers
after each cell and adding_problem.png with the picture at the end; Ctrl-C ends the training and keeps what there is.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import tidegate
from tidegate.environment import describe_environment

CELLS = {"gru": tidegate.GRU, "rnn": tidegate.RNN, "lstm": tidegate.LSTM}
COLOURS = {"gru": "#0b6e99", "lstm": "#c4620e", "rnn": "#8a2c5a"}
SOLVED = 1e-3
STOP_BELOW = 4e-4
CHECK_EVERY = 50
GRADIENT_ROWS = 32
LINE_SECONDS = 2.0


def adding_sequences(count: int, length: int, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Sequences of numbers and marks, ``[count, length, 2]``, and the sums of the marked numbers, ``[count]``."""
    numbers, marks = random.random((count, length)), np.zeros((count, length))
    rows, half = np.arange(count), length // 2
    marks[rows, random.integers(0, half, count)] = 1
    marks[rows, random.integers(half, length, count)] = 1
    x = np.stack([numbers, marks], axis=-1)
    return torch.from_numpy(x).float(), torch.from_numpy((numbers * marks).sum(axis=1)).float()


class Adder(nn.Module):
    """A recurrent layer and a linear readout of its last state."""

    def __init__(self, cell: str, hidden_size: int, init: list[str]) -> None:
        super().__init__()
        self.layer = CELLS[cell](2, hidden_size, batch_first=True, init=init)
        self.readout = nn.Linear(hidden_size, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Predicted sums, ``[B]``, of ``x [B, T, 2]``."""
        last = self.layer(x)[1]
        h = last[0] if isinstance(last, tuple) else last
        return self.readout(h[-1]).squeeze(-1)


def starting_rules(cell: str, length: int) -> list[str]:
    """How a cell's weights start here."""
    return ["torch"] if cell == "rnn" else ["he_uniform", "orthogonal", f"chrono:{length}"]


def make_adder(cell: str, hidden_size: int, init: list[str], random_state: int) -> Adder:
    """A model whose weights follow from `random_state`."""
    torch.manual_seed(random_state)
    return Adder(cell, hidden_size, init)


def gradient_norms(model: Adder, x: Tensor, y: Tensor) -> list[float]:
    """The norm of a sequence's gradient of the loss with respect to the state after each step, mean over sequences.

    Of an LSTM the state is h and c together.

    Args:
        model: Its weights become double precision, in which 600 steps do not underflow.
        x: ``[B, T, 2]``.
        y: ``[B]``.

    Returns:
        T numbers, first step to last, with all ways counted by which a state reaches the loss.
    """
    layer, states = model.layer.double(), []
    state: Any = None
    for values in x.double().unbind(1):
        state = layer.step(values, state)[1]
        states.append(state if isinstance(state, tuple) else (state,))
        for tensor in states[-1]:
            tensor.retain_grad()
    predicted = model.readout.double()(states[-1][0][-1]).squeeze(-1)
    (predicted - y.double()).square().sum().backward()
    # The loss does not depend on the c that the last step returns, only on its h.
    gradients = [[torch.zeros_like(s) if s.grad is None else s.grad for s in tensors] for tensors in states]
    return [torch.cat(parts, dim=-1).norm(dim=-1).mean().item() for parts in gradients]


def starting_gradients(cells: list[str], settings: dict[str, Any]) -> dict[str, list[float]]:
    """Curves by name: ``"gru"`` as it is trained, ``"gru, torch's start"`` as torch.nn draws it."""
    random = np.random.default_rng([settings["random_state"], 3])
    x, y = adding_sequences(GRADIENT_ROWS, settings["length"], random)
    curves: dict[str, list[float]] = {}
    for cell in cells:
        starts = {cell: starting_rules(cell, settings["length"])}
        if cell != "rnn":
            starts[f"{cell}, torch's start"] = ["torch"]
        for name, init in starts.items():
            show_progress(f"  gradients before training: {name}")
            curves[name] = gradient_norms(make_adder(cell, settings["hidden"], init, settings["random_state"]), x, y)
    show_progress("")
    return curves


@torch.no_grad()
def mean_squared_error(model: Adder, x: Tensor, y: Tensor, rows: int = 250) -> float:
    """Of all sequences, `rows` at a time."""
    pairs = zip(x.split(rows), y.split(rows), strict=True)
    return sum((model(part) - sums).square().sum().item() for part, sums in pairs) / len(y)


def train(cell: str, settings: dict[str, Any], record: dict[str, Any]) -> None:
    """Train a cell and judge it; `record` is filled as it goes, so that an interrupted run keeps its part."""
    seed, length, steps = settings["random_state"], settings["length"], settings["steps"]
    init = starting_rules(cell, length)
    model = make_adder(cell, settings["hidden"], init, seed)
    random = np.random.default_rng([seed, 0])
    validation = adding_sequences(250, length, np.random.default_rng([seed, 1]))
    optimizer = torch.optim.Adam(model.parameters(), lr=settings["learning_rate"])
    record.update(init=init, steps=0, stopped="at the last step", history=[], validation=[])
    began, worked, shown = time.perf_counter(), time.process_time(), time.perf_counter()
    losses: list[float] = []
    try:
        for step in range(1, steps + 1):
            # Even for the first half, then down to nothing.
            optimizer.param_groups[0]["lr"] = settings["learning_rate"] * min(1.0, 2 * (1 - (step - 1) / steps))
            x, y = adding_sequences(settings["batch"], length, random)
            loss = (model(x) - y).square().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), settings["clip"])
            optimizer.step()
            losses.append(loss.item())
            record["steps"] = step
            if step % CHECK_EVERY == 0 or step == steps:
                recent = losses[-CHECK_EVERY:]
                record["history"].append([step, round(sum(recent) / len(recent), 7)])
                error = mean_squared_error(model, *validation)
                record["validation"].append([step, round(error, 7)])
                if error < STOP_BELOW:
                    record["stopped"] = f"validation below {STOP_BELOW:g}"
                    break
            if time.perf_counter() - shown > LINE_SECONDS:
                shown = time.perf_counter()
                recent = losses[-CHECK_EVERY:]
                line = f"  {cell} step {step:,} of {steps:,}, loss {sum(recent) / len(recent):.5f}"
                show_progress(f"{line}, {shown - began:.0f} s")
    except KeyboardInterrupt:
        record["stopped"] = "interrupted"
    show_progress("")
    record["seconds"] = round(time.perf_counter() - began, 1)
    record["processor_seconds"] = round(time.process_time() - worked, 1)
    test = adding_sequences(settings["test"], length, np.random.default_rng([seed, 2]))
    record["test_mse"] = mean_squared_error(model, *test)
    record["solved"] = record["test_mse"] < SOLVED


def show_progress(line: str) -> None:
    """One line that is written over on a terminal; elsewhere a line of its own."""
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
    elif line:
        print(line, file=sys.stderr, flush=True)


def draw(results: dict[str, Any], path: Path) -> None:
    """Gradient norms over time on the left, learning on the right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), dpi=100, layout="constrained")
    left, right = figure.subplots(1, 2)
    floor = 1e-20
    for name, norms in results["gradient_norms"].items():
        cell = name.split(",")[0]
        style = ":" if "torch's" in name else "-"
        steps = np.arange(1, len(norms) + 1)
        values = np.where(np.array(norms) > floor / 1e3, norms, np.nan)
        left.plot(steps, values, style, color=COLOURS[cell], label=name.replace(cell, cell.upper(), 1))
    left.set_yscale("log")
    left.set_ylim(bottom=floor)
    left.set(xlabel="step t", title="Norm of the loss's gradient by the state after step t, before training")
    left.title.set_fontsize(9)
    left.legend(fontsize=8, loc="lower left")
    for cell, record in results["cells"].items():
        if record["history"]:
            steps, losses = zip(*record["history"], strict=True)
            label = f"{cell.upper()}: test {record['test_mse']:.5f}" if "test_mse" in record else cell.upper()
            right.plot(steps, losses, color=COLOURS[cell], label=label)
    right.axhline(results["constant_one_mse"], color="0.5", linestyle=":", label="always one")
    right.axhline(SOLVED, color="0.5", linewidth=0.8, label="solved")
    right.set_yscale("log")
    right.set(xlabel="training step", title=f"Mean squared error, T = {results['settings']['length']}")
    right.title.set_fontsize(9)
    right.legend(fontsize=8)
    figure.savefig(path)


def write(results: dict[str, Any], out: Path) -> None:
    """All numbers as JSON."""
    (out / "adding_problem.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command's arguments, checked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cells", nargs="+", choices=list(CELLS), default=list(CELLS), help="in this order")
    parser.add_argument("--steps", type=int, default=1000, help="training steps of each cell at most")
    parser.add_argument("--length", type=int, default=600, help="T, steps of a sequence")
    parser.add_argument("--hidden", type=int, default=128, help="units")
    parser.add_argument("--batch", type=int, default=32, help="sequences a training step")
    parser.add_argument("--test", type=int, default=2000, help="sequences that judge")
    parser.add_argument("--learning-rate", type=float, default=5e-3)
    parser.add_argument("--clip", type=float, default=1.0, help="norm to which gradients are clipped")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--random-state", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/adding_problem"))
    chosen = parser.parse_args(arguments)
    for name, least in {"steps": 1, "length": 4, "hidden": 1, "batch": 1, "test": 1, "threads": 1}.items():
        if getattr(chosen, name) < least:
            parser.error(f"--{name} is {getattr(chosen, name)}; expected {least} or more")
    for name in ("learning_rate", "clip"):
        if not getattr(chosen, name) > 0:
            parser.error(f"--{name.replace('_', '-')} is {getattr(chosen, name)}; expected a number above 0")
    if chosen.random_state < 0:
        parser.error(f"--random-state is {chosen.random_state}; expected 0 or more")
    chosen.cells = list(dict.fromkeys(chosen.cells))
    return chosen


def main(arguments: list[str] | None = None) -> int:
    """Run the example; 0, or 130 where it was interrupted."""
    chosen = parse(arguments)
    torch.set_num_threads(chosen.threads)
    out: Path = chosen.out
    out.mkdir(parents=True, exist_ok=True)
    settings = {name: value for name, value in vars(chosen).items() if name not in ("out", "cells")}
    _, sums = adding_sequences(chosen.test, chosen.length, np.random.default_rng([chosen.random_state, 2]))
    results: dict[str, Any] = {
        "settings": settings,
        "machine": describe_environment().summary(),
        "constant_one_mse": (sums - 1).square().mean().item(),
        "cells": {},
        "gradient_norms": {},
    }
    constant = results["constant_one_mse"]
    print(f"Adding problem, T = {chosen.length}: always predicting one has a test error of {constant:.4f}", flush=True)
    began = time.perf_counter()
    try:
        results["gradient_norms"] = starting_gradients(chosen.cells, settings)
        print("gradient by the state after the first step / after the last, before training:")
        for name, norms in results["gradient_norms"].items():
            print(f"  {name:<24}{norms[0]:9.1e} / {norms[-1]:.1e}", flush=True)
        for cell in chosen.cells:
            record = results["cells"].setdefault(cell, {})
            train(cell, settings, record)
            verdict = "solved" if record["solved"] else "not solved"
            print(
                f"{cell:<5}test error {record['test_mse']:.6f}, {verdict}; {record['steps']:,} steps "
                f"({record['stopped']}), {record['seconds']:.0f} s, {record['processor_seconds']:.0f} s of processor",
                flush=True,
            )
            write(results, out)
            if record["stopped"] == "interrupted":
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        results["cells"] = {cell: record for cell, record in results["cells"].items() if "test_mse" in record}
        write(results, out)
        draw(results, out / "adding_problem.png")
        print(f"interrupted; what is done is in {out}")
        return 130
    draw(results, out / "adding_problem.png")
    print(f"{time.perf_counter() - began:.0f} s in all; numbers and picture in {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
