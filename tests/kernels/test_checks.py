"""What the recurrences refuse and what they choose, in words."""

from __future__ import annotations

import pytest
import torch

from kernels.recurrence_cases import Case
from tidegate import kernels
from tidegate.kernels import Options, Weights, gru, lstm, rnn


def arguments(cell: str, **options) -> dict:
    case = Case(cell, [3, 2], 4, **options)
    state = {"hx": (case.h_0, case.c_0)} if cell == "lstm" else {"h_0": case.h_0}
    masks = {"options": case.options} if options else {}
    return {"x": case.x, "weights": case.weights, **state, "ragged": case.ragged, **masks}


FUNCTIONS = {"gru": gru, "lstm": lstm, "rnn_tanh": rnn}


def replaced(given: dict, **weights) -> dict:
    return {"weights": [given["weights"][0]._replace(**weights)]}


@pytest.mark.parametrize(
    ("cell", "change", "message"),
    [
        ("gru", lambda g: {"x": g["x"][:-1]}, r"expected x of shape \[5, I\]"),
        ("gru", lambda g: {"h_0": g["h_0"][:, :1]}, r"expected h_0 of shape \(1, 2, 4\)"),
        ("gru", lambda g: {"h_0": g["h_0"].float()}, "expected h_0 of torch.float64"),
        ("gru", lambda g: {"weights": g["weights"] * 3}, "one or two directions; found 3"),
        ("gru", lambda g: replaced(g, bias_hh=None), "bias_ih and bias_hh are given together or not at all"),
        ("gru", lambda g: replaced(g, weight_ih=g["x"]), "3 gates of one size; found 5 rows"),
        ("gru", lambda g: replaced(g, weight_ih=torch.zeros(12, 7)), r"expected weight_ih of shape \(12, 5\)"),
        ("gru", lambda g: replaced(g, weight_hh=torch.zeros(12, 7)), r"expected weight_hh of shape \(12, 4\)"),
        ("gru", lambda g: replaced(g, norm_ih=torch.ones(12)), "norm_ih and norm_hh are given together"),
        ("gru", lambda g: replaced(g, peephole=torch.ones(3, 4)), "peephole is for the lstm alone; found one for gru"),
        ("gru", lambda g: replaced(g, weight_hr=torch.ones(4, 4)), "weight_hr is for the lstm alone"),
        ("rnn_tanh", lambda g: replaced(g, norm_c=torch.ones(2, 4)), "norm_c is for the lstm alone"),
        ("rnn_tanh", lambda g: {"nonlinearity": "gelu"}, "tanh or relu; found 'gelu'"),
        ("lstm", lambda g: {"hx": (g["hx"][0], g["hx"][0][:, :1])}, r"expected c_0 of shape \(1, 2, 4\)"),
        ("lstm", lambda g: replaced(g, peephole=torch.ones(4, 3).double()), r"expected peephole of shape \(3, 4\)"),
        ("lstm", lambda g: replaced(g, norm_ih=torch.ones(16), norm_hh=torch.ones(16)), "norm_ih, norm_hh and norm_c"),
        (
            "lstm",
            lambda g: (
                {"weights": [*g["weights"], g["weights"][0]._replace(peephole=torch.ones(3, 4).double())]}
                | {"hx": tuple(torch.cat([s, s]) for s in g["hx"])}
            ),
            "expected peephole in both directions or in neither",
        ),
        (
            "gru",
            lambda g: {"options": Options(recurrent_dropout=torch.ones(2, 4).double())},
            r"expected recurrent_dropout of shape \(1, 2, 4\)",
        ),
        (
            "gru",
            lambda g: {"options": Options(zoneout_h=torch.ones(5, 4))},
            r"expected zoneout_h of shape \(5, 4\) and type bool on cpu, or a probability",
        ),
        ("gru", lambda g: {"options": Options(zoneout_h=1.5)}, "probability zoneout_h from 0 to 1; found 1.5"),
        ("gru", lambda g: {"options": Options(zoneout_c=0.5)}, "zoneout_c is for the lstm alone"),
        ("gru", lambda g: {"options": Options(eps=-1.0)}, "eps of layer normalisation"),
        ("gru", lambda g: {"options": Options(eps=float("nan"))}, "eps of layer normalisation"),
        ("gru", lambda g: {"backend": "triton"}, "unknown backend 'triton'; expected one of native, torch, reference"),
        (
            "gru",
            lambda g: {"backend": "torch", "reset_after": False},
            r"'torch' cannot serve this call: .*reset_after=True",
        ),
        (
            "lstm",
            lambda g: {"backend": "torch", "options": Options(zoneout_h=0.1), "return_gates": True},
            "'torch' cannot serve this call: .*does not have zoneout, gates to return",
        ),
    ],
)
@pytest.mark.parametrize("gradients", [True, False])
def test_arguments_that_do_not_fit(cell, change, message, gradients):
    given = arguments(cell)
    with torch.set_grad_enabled(gradients), pytest.raises(ValueError, match=message):
        FUNCTIONS[cell](**(given | change(given)))


@pytest.mark.parametrize(("cell", "with_c", "message"), [("gru", True, "one for gru"), ("lstm", False, "none")])
def test_the_cell_state_is_the_lstms(cell, with_c, message):
    case = Case(cell, [3, 2], 4)
    c_0 = case.h_0 if with_c else None
    with pytest.raises(ValueError, match=f"expected c_0 for the lstm alone; found {message}"):
        kernels.recurrence(cell, case.x, case.weights, case.h_0, c_0, case.ragged)
    with pytest.raises(ValueError, match="unknown cell 'gruu'; expected one of rnn_tanh"):
        kernels.recurrence("gruu", case.x, case.weights, case.h_0, None, case.ragged)


def test_a_named_backend_that_cannot_serve_says_why():
    case = Case("gru", [2], 3)
    half = [Weights(*(None if p is None else p.half() for p in w)) for w in case.weights]
    with pytest.raises(ValueError, match=r"'native' cannot serve this call: .*float16"):
        gru(case.x.half(), half, case.h_0.half(), case.ragged, backend="native")


def test_the_functions_return_what_they_say():
    for cell, function in FUNCTIONS.items():
        given = arguments(cell, option="zoneout", directions=2)
        output, last, gates = function(**given, return_gates=True)
        assert gates.shape == (5, 2, {"gru": 3, "lstm": 5, "rnn_tanh": 1}[cell], 4)
        plain_output, plain_last = function(**given)
        torch.testing.assert_close(plain_output, output)
        torch.testing.assert_close(plain_last, last)
        case = Case(cell, [3, 2], 4, option="zoneout", directions=2)
        expected, *expected_last = case.call("reference")
        torch.testing.assert_close(output, expected)
        torch.testing.assert_close(last if cell == "lstm" else (last,), tuple(expected_last))


def test_relu_and_reset_before_are_cells_of_their_own():
    for cell, call in (
        ("rnn_relu", lambda **given: rnn(**given, nonlinearity="relu")),
        ("gru_reset_before", lambda **given: gru(**given, reset_after=False)),
    ):
        torch.testing.assert_close(call(**arguments(cell)), Case(cell, [3, 2], 4).call("reference"))


def test_the_automatic_choice():
    assert kernels.choose_backend("gru", "cpu", torch.float32) == "native"
    assert kernels.choose_backend("gru_reset_before", "cpu", torch.float64) == "native"
    assert kernels.choose_backend("gru", "cpu", torch.float16) == "reference"
    for cell in kernels.CELLS:
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            assert kernels.choose_backend(cell, "cpu", dtype, ["zoneout", "gates to return"]) == "native"
        plain = "reference" if cell == "gru_reset_before" else "torch"
        assert kernels.choose_backend(cell, "cuda", torch.float32) == plain
        assert kernels.choose_backend(cell, "cuda", torch.float32, ["layer normalisation"]) == "reference"


def test_the_table_of_backends_is_the_automatic_choice():
    rows = kernels.describe_backends()
    served = {(row["cell"], row["device"], row["dtype"]): row["backend"] for row in rows}
    assert len(served) == len(rows)
    assert served["gru", "cpu", "float32"] == "native"
    assert served["lstm", "cuda", "float32"] == "torch"
    assert served["lstm, with options", "cuda", "float32"] == "reference"
    assert served["gru, reset_after=False", "cuda", "bfloat16"] == "reference"
    assert {row["cell"].split(",")[0] for row in rows} == {"gru", "lstm", "rnn"}
    assert all(row["note"] for row in rows)
