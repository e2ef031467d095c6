from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kernels.recurrence_cases import EXTREMES, KINDS, LENGTHS, Case, assert_all_close, errors
from tidegate.kernels import Options, Weights, reference
from tidegate.kernels.quantized import dequantize, quantize, quantize_rows, quantized_recurrence
from tidegate.native import extension

ISAS = extension().available_isas()


@pytest.fixture(autouse=True)
def _restore_globals():
    threads = torch.get_num_threads()
    yield
    extension().set_isa("")
    torch.set_num_threads(threads)


def make_case(cell: str, option: str, lengths: str = "ragged", hidden: int = 33) -> Case:
    return Case(cell, LENGTHS[lengths], hidden, option=option, directions=2, dtype=torch.float32)


def run(case: Case) -> list[Tensor]:
    weights = [quantize(direction) for direction in case.weights]
    found = quantized_recurrence(case.cell, case.x, weights, case.h_0, case.c_0, case.ragged, case.options)
    assert not any(t is not None and t.requires_grad for t in found)
    return [t for t in found if t is not None]


def rows_quantized(rows: Tensor) -> Tensor:
    """What is left of states when each row is made of whole numbers from -127 to 127 and a scale."""
    largest = rows.abs().amax(1, keepdim=True)
    inverse = torch.where(largest > 0, 127 / largest, 0.0)
    return (rows * inverse).round() * (largest / 127)


def run_plainly(case: Case, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The reference with the weights of 8 bits, in whose recurrent products the states are quantised by rows."""
    weights = [dequantize(quantize(direction)) for direction in case.weights]
    recurrent = {w.untyped_storage().data_ptr() for d in weights for w in (d.weight_hh, d.weight_hr) if w is not None}

    def linear(x: Tensor, weight: Tensor) -> Tensor:
        if weight.untyped_storage().data_ptr() in recurrent:
            x = rows_quantized(x)
        return x @ weight.t()

    monkeypatch.setattr(reference, "linear", linear)
    with torch.no_grad():
        found = reference.recurrence(case.cell, case.x, weights, case.h_0, case.c_0, case.ragged, case.options)
    return [t for t in found if t is not None]


def test_rows_are_rounded_to_the_nearest_and_ties_to_even():
    weight = torch.tensor([[127.0, 0.5, 1.5, 2.5, -0.5, -1.5, 3.4], [0.0] * 7, [-2.54, 1.0, 0, 0.01, 0, 0, 2.54]])
    whole, scale = quantize_rows(weight)
    assert whole.dtype == torch.int8 and scale.dtype == torch.float32
    assert whole.tolist() == [[127, 0, 2, 2, 0, -2, 3], [0] * 7, [-127, 50, 0, 0, 0, 0, 127]]
    torch.testing.assert_close(scale, torch.tensor([1.0, 1.0, 0.02]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_no_weight_is_further_away_than_half_its_scale(dtype):
    weight = torch.randn(40, 33, dtype=torch.float64).to(dtype) * torch.logspace(-30, 3, 40)[:, None].to(dtype)
    whole, scale = quantize_rows(weight)
    off = (whole.double() * scale.double()[:, None] - weight.double()).abs()
    assert (off <= 0.50001 * scale.double()[:, None]).all()
    assert whole.abs().amax(1).tolist() == [127] * 40


def test_what_cannot_be_quantized():
    with pytest.raises(ValueError, match=r"a matrix of a floating type to quantise; found shape \(3,\)"):
        quantize_rows(torch.zeros(3))
    with pytest.raises(ValueError, match=r"found shape \(2, 2\) of torch.int64"):
        quantize_rows(torch.zeros(2, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"finite weights to quantise; found others in the rows \[1, 2\]"):
        quantize_rows(torch.tensor([[1.0, 2], [float("nan"), 1], [1, float("inf")]]))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_equals_a_plain_computation_with_quantized_states(kind, isa, monkeypatch):
    """Where float32 rounds a state otherwise, it may become the next whole number: near on average, then."""
    case = make_case(*kind)
    extension().set_isa(isa)
    found = run(case)
    expected = run_plainly(case, monkeypatch)
    assert_all_close(found, expected, 1e-3, on_average=True)
    assert_all_close(found, expected, 0.1)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", EXTREMES, ids="-".join)
def test_one_step_is_exact_to_float32(kind, isa, monkeypatch):
    """From given states no rounding comes before the first whole numbers: that of the gates is all."""
    case = Case(kind[0], [1] * 9, 33, option=kind[1].replace("everything", "recurrent_dropout"), dtype=torch.float32)
    extension().set_isa(isa)
    found = run(case)
    # Two products in a step: the second one quantises what the first one made.
    tolerance = 2e-3 if case.cell == "gru_reset_before" else 5e-6
    assert_all_close(found, run_plainly(case, monkeypatch), tolerance)


@pytest.mark.parametrize("kind", EXTREMES, ids="-".join)
def test_integers_add_up_alike_on_every_instruction_set(kind):
    """Bit for bit where the lanes are as wide; elsewhere float32 rounds the gates otherwise."""
    made = {}
    for isa in ISAS:
        extension().set_isa(isa)
        made[isa] = run(make_case(*kind, lengths="many"))
    for isa, found in made.items():
        if isa.startswith("avx512") and "avx512" in made:
            for a, b in zip(found, made["avx512"], strict=True):
                assert torch.equal(a, b)
        assert_all_close(found, made["baseline"], 1e-3, on_average=True)


@pytest.mark.parametrize("kind", EXTREMES, ids="-".join)
def test_threads_and_other_rows_change_no_bit(kind):
    """Without inputs: PyTorch's product of them may add up otherwise for another number of rows."""
    case = make_case(*kind)
    case.weights = [w._replace(weight_ih=torch.zeros_like(w.weight_ih)) for w in case.weights]
    torch.set_num_threads(1)
    _, *last = run(case)
    for threads in (3, 5):
        torch.set_num_threads(threads)
        for a, b in zip(run(case)[1:], last, strict=True):
            assert torch.equal(a, b)
    torch.set_num_threads(1)
    for place in range(case.ragged.num_rows):
        _, *last_alone = run(case.row(place))
        for a, b in zip(last_alone, last, strict=True):
            assert torch.equal(a, b[:, place : place + 1])


@pytest.mark.parametrize("cell", sorted({cell for cell, _ in KINDS}))
def test_is_near_to_float32(cell):
    case = make_case(cell, "plain", lengths="many", hidden=64)
    exact = [t.detach() for t in case.call("reference")]
    found = run(case)
    assert_all_close(found, exact, 2e-2, on_average=True)
    # It is another computation all the same.
    assert max(errors(found, exact)) > 1e-4


def test_types_and_shapes_that_do_not_fit():
    case = make_case("gru", "plain")
    weights = [quantize(direction) for direction in case.weights]

    def call(x: Tensor, h_0: Tensor, options: Options | None = None) -> None:
        quantized_recurrence("gru", x, weights, h_0, None, case.ragged, options or Options())

    with pytest.raises(ValueError, match=r"float32 on a CPU.*found torch.float64"):
        call(case.x.double(), case.h_0)
    with pytest.raises(ValueError, match="expected h_0 of shape"):
        call(case.x, case.h_0[:, 1:])
    with pytest.raises(ValueError, match="expected recurrent_dropout of shape"):
        call(case.x, case.h_0, Options(recurrent_dropout=torch.ones(2, 2, 2)))
    with pytest.raises(ValueError, match="a matrix of a floating type"):
        quantize(Weights(torch.zeros(3), torch.zeros(3, 1)))
