"""`_native.Step`, one step at a time on NumPy arrays, against the reference over whole sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kernels.recurrence_cases import KINDS, Case
from tidegate.kernels import Weights
from tidegate.kernels.quantized import dequantize, quantize
from tidegate.native import extension

ISAS = extension().available_isas()
STEPS, ROWS = 7, 3
# Masks are a training's; a stream takes the expectation.
SERVED = [(cell, option) for cell, option in KINDS if option not in ("recurrent_dropout", "zoneout", "everything")]
SERVED = [(cell, option) for cell, option in SERVED if option not in ("zoneout_c", "zoneout_h")]


@pytest.fixture(autouse=True)
def _restore_isa():
    yield
    extension().set_isa("")


def make_case(cell: str, option: str = "plain", rows: int = ROWS, hidden: int = 21) -> Case:
    return Case(cell, [STEPS] * rows, hidden, option=option, dtype=torch.float32)


def array(tensor: Tensor | None) -> np.ndarray | None:
    return None if tensor is None else np.ascontiguousarray(tensor.detach().flatten().numpy())


def matrix(tensor: Tensor, kind: str) -> np.ndarray:
    tensor = tensor.detach()
    return tensor.bfloat16().view(torch.uint16).numpy() if kind == "bfloat16" else tensor.numpy()


def biases(cell: str, w: Weights) -> tuple[Tensor | None, Tensor | None]:
    """What is added to a step's gates, and the recurrent bias of n, which the reset gate multiplies."""
    if w.bias_ih is None or w.bias_hh is None:
        return None, None
    if cell != "gru":
        return w.bias_ih + w.bias_hh, None
    units = w.weight_hh.shape[1]
    return w.bias_ih + torch.cat([w.bias_hh[: 2 * units], w.bias_hh.new_zeros(units)]), w.bias_hh[2 * units :]


def arguments(case: Case, kind: str = "float32") -> tuple[tuple, dict[str, Any]]:
    """What a Step of a case's first direction is made with."""
    w = case.weights[0]
    bias, bias_n = biases(case.cell, w)
    scales: dict[str, Any] = {}
    if kind == "int8":
        quantized = quantize(w)
        w = quantized.weights
        scales = {name: array(getattr(quantized, name)) for name in ("scale_ih", "scale_hh", "scale_hr")}
    small = {name: array(getattr(w, name)) for name in ("peephole", "norm_ih", "norm_hh", "norm_c")}
    options = {"zoneout_h": case.options.zoneout_h or 0.0, "zoneout_c": case.options.zoneout_c or 0.0}
    options |= {"weight_hr": None if w.weight_hr is None else matrix(w.weight_hr, kind), "eps": case.options.eps}
    return (
        (case.cell, kind, matrix(w.weight_ih, kind), matrix(w.weight_hh, kind)),
        {"bias": array(bias), "bias_n": array(bias_n), **small, **scales, **options},
    )


def make_step(case: Case, kind: str = "float32") -> Any:
    positional, named = arguments(case, kind)
    return extension().Step(*positional, **named)


class Stream:
    """A case fed to a step: what comes out of it, step by step."""

    def __init__(self, case: Case) -> None:
        self.rows = case.ragged.num_rows
        self.x = case.x.detach().numpy().reshape(STEPS, self.rows, -1)
        self.h = case.h_0[0].detach().numpy().copy()
        self.c = None if case.c_0 is None else case.c_0[0].detach().numpy().copy()
        self.outputs: list[np.ndarray] = []

    def take(self, step: Any) -> None:
        x = self.x[len(self.outputs)]
        step(x, self.h) if self.c is None else step(x, self.h, self.c)
        self.outputs.append(self.h.copy())

    def results(self) -> list[np.ndarray]:
        return [np.concatenate(self.outputs), self.h, *([] if self.c is None else [self.c])]


def run(step: Any, case: Case) -> list[np.ndarray]:
    stream = Stream(case)
    for _ in range(STEPS):
        stream.take(step)
    return stream.results()


def expected(case: Case) -> list[np.ndarray]:
    output, *last = (t.detach().numpy() for t in case.call("reference"))
    return [output, *(t[0] for t in last)]


def hold(found: list[np.ndarray], wanted: list[np.ndarray], tolerance: float) -> None:
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * (1 + np.abs(b).max()))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("rows", [1, 3, 10])
@pytest.mark.parametrize("kind", SERVED, ids="-".join)
def test_steps_equal_the_reference(kind, rows, isa):
    case = make_case(*kind, rows=rows)
    extension().set_isa(isa)
    hold(run(make_step(case), case), expected(case), 2e-4 if kind[1] == "layer_norm" else 2e-5)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("type_name", ["bfloat16", "int8"])
@pytest.mark.parametrize("kind", SERVED, ids="-".join)
def test_low_precision_equals_the_reference_with_rounded_weights(kind, type_name, isa):
    """Inputs and states are rounded on the way into a product, too, and in bfloat16 the gates."""
    case = make_case(*kind)
    extension().set_isa(isa)
    found = run(make_step(case, type_name), case)
    if type_name == "int8":
        weights = dequantize(quantize(case.weights[0]))
    else:
        matrices = ("weight_ih", "weight_hh", "weight_hr")
        parts = case.weights[0]._asdict().items()
        weights = Weights(**{n: t.bfloat16().float() if t is not None and n in matrices else t for n, t in parts})
    hold(found, expected(case.part(weights=[weights])), 0.06 if kind[1] == "layer_norm" else 0.03)


@pytest.mark.parametrize("type_name", ["bfloat16", "int8"])
def test_low_precision_is_another_computation(type_name):
    case = make_case("gru")
    off = np.abs(run(make_step(case, type_name), case)[0] - expected(case)[0]).max()
    assert 1e-4 < off < 0.1


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_two_steps_interleaved_are_as_each_alone(cell):
    cases = [make_case(cell, rows=3), make_case(cell, "layer_norm", rows=8, hidden=40)]
    alone = [run(make_step(case), case) for case in cases]
    steps, streams = [make_step(case) for case in cases], [Stream(case) for case in cases]
    for _ in range(STEPS):
        for step, stream in zip(steps, streams, strict=True):
            stream.take(step)
    for stream, wanted in zip(streams, alone, strict=True):
        for a, b in zip(stream.results(), wanted, strict=True):
            np.testing.assert_array_equal(a, b)


def test_one_step_serves_streams_of_different_numbers_of_rows():
    cases = [make_case("lstm", rows=rows) for rows in (2, 9, 1)]
    step = make_step(cases[0])
    for case in cases:
        # The weights of the first.
        hold(run(step, case), expected(case.part(weights=cases[0].weights)), 2e-5)


@pytest.mark.parametrize("type_name", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("made_with", ISAS)
def test_a_step_keeps_the_instruction_set_it_was_made_with(made_with, type_name):
    """Its weights are packed for that one: with another's kernels they would be read in another order."""
    case = make_case("lstm", "projection")
    extension().set_isa(made_with)
    alone = run(make_step(case, type_name), case)
    step, stream = make_step(case, type_name), Stream(case)
    for t in range(STEPS):
        extension().set_isa(ISAS[t % len(ISAS)])
        stream.take(step)
    for a, b in zip(stream.results(), alone, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_weights_are_copied():
    case = make_case("gru")
    positional, named = arguments(case)
    copies = [a.copy() if isinstance(a, np.ndarray) else a for a in positional]
    named = {name: a.copy() if isinstance(a, np.ndarray) else a for name, a in named.items()}
    step = extension().Step(*copies, **named)
    for a in (*copies, *named.values()):
        if isinstance(a, np.ndarray):
            a.fill(np.nan)
    hold(run(step, case), expected(case), 2e-5)


def test_no_rows_are_a_step_of_nothing():
    case = make_case("lstm")
    empty = np.empty((0, 21), np.float32)
    make_step(case)(np.empty((0, 5), np.float32), empty, empty.copy())


@pytest.mark.parametrize(
    ("cell", "changes", "message"),
    [
        ("gru", {"cell": "elman"}, "expected the cell .* found elman"),
        ("gru", {"type": "float64"}, "expected the type float32, bfloat16 or int8 for single steps"),
        ("gru", {"type": "int8"}, "a scale for every row of the weights with int8"),
        ("gru", {"weight_hh": np.zeros((62, 21), np.float32)}, "weight_hh of .gates . units, states."),
        ("gru", {"weight_hh": np.zeros((63, 20), np.float32)}, "as many states as units"),
        ("gru", {"weight_ih": np.zeros((60, 5), np.float32)}, "weight_ih and weight_hh of as many rows"),
        ("gru", {"weight_hh": np.zeros((63, 21))}, "weight_hh of float32"),
        ("gru", {"weight_ih": np.zeros((63, 5), np.int8)}, "weight_ih of float32"),
        ("gru", {"bias": np.zeros(21, np.float32)}, "bias of 63 numbers; found 21"),
        ("gru", {"peephole": np.zeros(63, np.float32)}, "peephole, norm_c and zoneout_c for an LSTM alone"),
        ("gru", {"zoneout_c": 0.5}, "peephole, norm_c and zoneout_c for an LSTM alone"),
        ("gru", {"norm_hh": np.zeros(63, np.float32)}, "norm_ih and norm_hh, .* together or not at all"),
        ("gru", {"zoneout_h": 1.5}, "probabilities zoneout_h and zoneout_c from 0 to 1"),
        ("gru", {"eps": -1.0}, "eps of at least 0"),
        ("lstm", {"bias_n": np.zeros(21, np.float32)}, "bias_n for the gru alone"),
        ("lstm", {"weight_hr": np.zeros((9, 21), np.float32)}, "as many states as units, or an LSTM's weight_hr"),
    ],
)
def test_weights_that_do_not_fit(cell, changes, message):
    positional, named = arguments(make_case(cell))
    names = ("cell", "type", "weight_ih", "weight_hh")
    given = {**dict(zip(names, positional, strict=True)), **named, **changes}
    positional = [given.pop(name) for name in names]
    with pytest.raises(ValueError, match=message):
        extension().Step(*positional, **given)


def test_states_that_do_not_fit():
    step = make_step(make_case("lstm"))
    x, h, c = (np.zeros((ROWS, width), np.float32) for width in (5, 21, 21))
    with pytest.raises(ValueError, match=r"expected x of \[3, 5\]; found \[3, 4\]"):
        step(np.zeros((ROWS, 4), np.float32), h, c)
    with pytest.raises(ValueError, match=r"expected h of \[3, 21\]; found \[2, 21\]"):
        step(x, h[:2], c)
    with pytest.raises(ValueError, match=r"expected c of \[3, 21\]; found \[3, 20\]"):
        step(x, h, np.zeros((ROWS, 20), np.float32))
    with pytest.raises(ValueError, match="expected c, the LSTM's memory"):
        step(x, h)
    with pytest.raises(ValueError, match="expected no c: only the LSTM has one"):
        make_step(make_case("gru"))(x, h, c)
    h.flags.writeable = False
    for wrong in (h, np.zeros((ROWS, 21)), np.zeros((21, ROWS), np.float32).T, np.zeros(21, np.float32)):
        with pytest.raises(TypeError, match="incompatible function arguments"):
            step(x, wrong, c)
