"""The shortest way of a plain recurrence: bit for bit the general way, taken when it may be and only then."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kernels.recurrence_cases import LENGTHS, Case, RecordedOps
from tidegate import kernels
from tidegate.kernels import CELLS, Options


def arguments(case: Case) -> tuple:
    return case.cell, case.x, case.weights, case.h_0, case.c_0, case.ragged


def assert_equal(found: tuple, expected: tuple) -> None:
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        assert a is None or (a.dtype == b.dtype and torch.equal(a, b))


@pytest.fixture
def general(monkeypatch):
    """The same call with the shortest way shut."""

    def call(*given, **options):
        with monkeypatch.context() as patched:
            patched.setattr(kernels, "plain_recurrence", lambda *_: None)
            return kernels.recurrence(*given, **options)

    return call


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("option", ["plain", "no_bias"])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("cell", CELLS)
def test_is_bit_for_bit_the_general_way(cell, lengths, option, directions, dtype, general):
    case = Case(cell, LENGTHS[lengths], 17, option=option, directions=directions, dtype=dtype)
    with torch.no_grad():
        assert_equal(kernels.recurrence(*arguments(case)), general(*arguments(case)))


def test_large_results_are_the_same(general):
    case = Case("lstm", [300] * 16, 96, directions=2, features=8, dtype=torch.float32)
    with torch.inference_mode():
        assert_equal(kernels.recurrence(*arguments(case)), general(*arguments(case)))


@pytest.fixture
def ways(monkeypatch):
    """Whether each call went the shortest way."""
    taken = []
    plain = kernels.plain_recurrence

    def spy(*given):
        found = plain(*given)
        taken.append(found is not None)
        return found

    monkeypatch.setattr(kernels, "plain_recurrence", spy)
    return taken


@pytest.mark.parametrize("cell", CELLS)
def test_is_taken_without_gradients(cell, ways):
    case = Case(cell, [3, 1, 2], 5, directions=2)
    with torch.no_grad():
        kernels.recurrence(*arguments(case))
    with torch.inference_mode():
        kernels.recurrence(*arguments(case))
    assert ways == [True, True]


@pytest.mark.parametrize("option", ["layer_norm", "projection", "peephole"])
def test_weights_of_options_go_the_general_way(option, ways, general):
    case = Case("lstm", [3, 1, 2], 5, option=option)
    with torch.no_grad():
        assert_equal(kernels.recurrence(*arguments(case)), general(*arguments(case)))
    assert ways == [False]


def test_gradients_and_autocast_and_bfloat16_go_the_general_way(ways):
    case = Case("gru", [3, 1, 2], 5, dtype=torch.float32)
    assert kernels.recurrence(*arguments(case))[0].requires_grad
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert kernels.recurrence(*arguments(case))[0].dtype == torch.bfloat16
    low = Case("gru", [3, 1, 2], 5, dtype=torch.bfloat16)
    with torch.no_grad():
        kernels.recurrence(*arguments(low))
        # Asked for with the gates, a backend or options, it is not even tried.
        kernels.recurrence(*arguments(case), backend="native")
        kernels.recurrence(*arguments(case), return_gates=True)
        kernels.recurrence(*arguments(case), options=Options(zoneout_h=0.5))
    assert ways == [False] * 3


def test_who_looks_on_sees_the_registered_ops(ways):
    case = Case("gru", [3, 1, 2], 5)
    xs = torch.randn(4, *case.x.shape, generator=torch.Generator().manual_seed(1)).double()

    def call(x: Tensor) -> Tensor:
        return kernels.recurrence("gru", x, case.weights, case.h_0, None, case.ragged)[0]

    with torch.no_grad():
        with RecordedOps() as recorded:
            call(xs[0])
        assert [call.func.overloadpacket for call in recorded.calls] == [
            torch.ops.tidegate.project,
            torch.ops.tidegate.recurrent_forward,
        ]
        mapped = torch.vmap(call)(xs)
        compiled = torch.compile(call, fullgraph=True, backend="aot_eager")(xs[0])
        assert not any(ways)
        for x, found in zip(xs, mapped, strict=True):
            torch.testing.assert_close(found, call(x))
        torch.testing.assert_close(compiled, call(xs[0]))
    assert all(ways[-5:])
    torch._dynamo.reset()


def strided(tensor: Tensor) -> Tensor:
    """The same numbers, no two of them side by side."""
    made = torch.full((*tensor.shape, 2), torch.nan, dtype=tensor.dtype)
    made[..., 0] = tensor.detach()
    return made[..., 0]


@pytest.mark.parametrize("name", ["x", "h_0", "c_0", "weight_ih", "weight_hh", "bias_ih", "bias_hh"])
def test_what_is_not_contiguous_is_read_right(name):
    case = Case("lstm", [3, 1, 2], 5, directions=2)
    if name in ("x", "h_0", "c_0"):
        other = case.part(**{name: strided(getattr(case, name))})
    else:
        other = case.part(weights=[w._replace(**{name: strided(getattr(w, name))}) for w in case.weights])
    with torch.no_grad():
        assert_equal(kernels.recurrence(*arguments(other)), kernels.recurrence(*arguments(case)))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda sizes: sizes.int(), TypeError, "batch_sizes of int64 and one dimension on the CPU; found torch.int32"),
        (lambda sizes: sizes[None], TypeError, "found torch.int64, 2 dimensions"),
        (lambda sizes: sizes + 1, ValueError, "batch_sizes that never grow, from no more than the rows"),
        (lambda sizes: sizes[:-1], ValueError, "batch_sizes that add up to the 6 values; found 5"),
        (lambda sizes: sizes.flip(0), ValueError, "batch_sizes that never grow"),
    ],
)
@pytest.mark.parametrize("gradients", [True, False])
def test_refuses_a_layout_that_would_read_elsewhere(change, error, message, gradients):
    case = Case("gru", [3, 1, 2], 5)
    case = case.part(ragged=replace(case.ragged, batch_sizes=change(case.ragged.batch_sizes)))
    with torch.set_grad_enabled(gradients), pytest.raises(error, match=message):
        kernels.recurrence(*arguments(case))


@pytest.mark.parametrize("gradients", [True, False])
def test_autocast_does_not_let_types_mix_that_it_leaves_alone(gradients):
    case = Case("gru", [3, 1, 2], 5)
    case = case.part(weights=[case.weights[0]._replace(weight_hh=case.weights[0].weight_hh.float())])
    with (
        torch.set_grad_enabled(gradients),
        torch.autocast("cpu", dtype=torch.bfloat16),
        pytest.raises(ValueError, match=r"expected weight_hh of torch\.float64"),
    ):
        kernels.recurrence(*arguments(case))


def test_an_lstm_of_more_outputs_than_units_is_refused():
    case = Case("lstm", [3, 1, 2], 4)
    wide = case.weights[0]._replace(weight_hr=torch.ones(6, 4).double(), weight_hh=torch.ones(16, 6).double())
    with pytest.raises(ValueError, match="expected weight_hr of no more rows than the 4 units; found 6"):
        kernels.recurrence("lstm", case.x, [wide], torch.zeros(1, 3, 6).double(), case.c_0, case.ragged)
