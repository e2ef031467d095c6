"""The example of the adding problem: its data, its gradients, and a small run of the whole."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "adding_problem.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("adding_problem", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["adding_problem"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["adding_problem"]


def test_targets_are_the_sums_of_the_two_marked_numbers(example):
    x, y = example.adding_sequences(50, 21, np.random.default_rng(3))
    assert x.shape == (50, 21, 2)
    for row, target in zip(x.tolist(), y.tolist(), strict=True):
        marked = [(t, number) for t, (number, mark) in enumerate(row) if mark == 1]
        assert all(mark in (0, 1) and 0 <= number < 1 for number, mark in row)
        (first, one), (second, other) = marked
        assert first < 10 <= second
        assert target == pytest.approx(one + other, abs=1e-6)
    again = example.adding_sequences(50, 21, np.random.default_rng(3))
    assert torch.equal(x, again[0]) and torch.equal(y, again[1])


def test_always_predicting_one_has_an_error_of_a_sixth(example):
    _, y = example.adding_sequences(20_000, 10, np.random.default_rng(0))
    assert (y - 1).square().mean().item() == pytest.approx(1 / 6, abs=0.005)


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
def test_gradient_norms_are_those_of_a_loop_in_torch(example, cell):
    model = example.make_adder(cell, 5, example.starting_rules(cell, 7), random_state=1)
    x, y = example.adding_sequences(4, 7, np.random.default_rng(1))
    kind = {"gru": torch.nn.GRUCell, "lstm": torch.nn.LSTMCell, "rnn": torch.nn.RNNCell}[cell](2, 5)
    kind.load_state_dict({name.removesuffix("_l0"): value for name, value in model.layer.state_dict().items()})
    kind, x64 = kind.double(), x.double()
    norms = example.gradient_norms(model, x, y)
    assert len(norms) == 7 and np.isfinite(norms).all()
    # The loss of what follows step t, as a function of the state after it.
    state = torch.zeros(4, 10 if cell == "lstm" else 5, dtype=torch.float64)
    for t in range(7):
        state = _advance(kind, x64[:, t], state).detach()
        leaf = after = state.clone().requires_grad_()
        for later in range(t + 1, 7):
            after = _advance(kind, x64[:, later], after)
        loss = (model.readout(after[:, :5]).squeeze(-1) - y.double()).square().sum()
        (gradient,) = torch.autograd.grad(loss, leaf)
        assert norms[t] == pytest.approx(gradient.norm(dim=1).mean().item(), rel=1e-9)


def _advance(kind, values, state):
    if isinstance(kind, torch.nn.LSTMCell):
        return torch.cat(kind(values, (state[:, :5], state[:, 5:])), dim=1)
    return kind(values, state)


def test_a_small_run_learns_and_leaves_numbers_and_a_picture(example, tmp_path, capsys):
    words = "--length 8 --steps 150 --hidden 12 --batch 32 --test 200 --threads 1 --learning-rate 0.02 --cells gru rnn"
    threads = torch.get_num_threads()
    try:
        assert example.main([*words.split(), "--out", str(tmp_path)]) == 0
    finally:
        torch.set_num_threads(threads)
    results = json.loads((tmp_path / "adding_problem.json").read_text(encoding="utf-8"))
    assert list(results["cells"]) == ["gru", "rnn"]
    gru = results["cells"]["gru"]
    assert gru["test_mse"] < 0.2 * results["constant_one_mse"]
    assert gru["solved"] is (gru["test_mse"] < 1e-3)
    assert [step for step, _ in gru["history"]] == list(range(50, gru["steps"] + 1, 50))
    assert set(results["gradient_norms"]) == {"gru", "gru, torch's start", "rnn"}
    assert all(len(norms) == 8 for norms in results["gradient_norms"].values())
    assert (tmp_path / "adding_problem.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert f"gru  test error {gru['test_mse']:.6f}" in printed


def test_an_interrupted_run_keeps_what_is_done(example, tmp_path, monkeypatch):
    drawn = []
    make = example.adding_sequences

    def interrupted(count, length, random):
        drawn.append(count)
        if drawn.count(3) == 5:
            drawn.append(3)
            raise KeyboardInterrupt
        return make(count, length, random)

    monkeypatch.setattr(example, "adding_sequences", interrupted)
    threads = str(torch.get_num_threads())
    words = ["--length", "6", "--steps", "9", "--hidden", "4", "--batch", "3", "--test", "7", "--threads", threads]
    assert example.main([*words, "--out", str(tmp_path)]) == 130
    cells = json.loads((tmp_path / "adding_problem.json").read_text(encoding="utf-8"))["cells"]
    assert list(cells) == ["gru"]
    assert cells["gru"]["steps"] == 4 and cells["gru"]["stopped"] == "interrupted"
    assert (tmp_path / "adding_problem.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps", "0"], "--steps is 0; expected 1 or more"),
        (["--length", "3"], "--length is 3; expected 4 or more"),
        (["--learning-rate", "0"], "--learning-rate is 0.0; expected a number above 0"),
        (["--random-state", "-1"], "--random-state is -1; expected 0 or more"),
    ],
)
def test_arguments_out_of_range_are_refused(example, capsys, words, message):
    with pytest.raises(SystemExit):
        example.main(words)
    assert message in capsys.readouterr().err
