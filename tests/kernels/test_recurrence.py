"""The contract of the recurrences: every cell, option, type, instruction set and thread count against the reference."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.recurrence_cases import (
    EXTREMES,
    KINDS,
    LENGTHS,
    TOLERANCE,
    Case,
    Expected,
    RecordedOps,
    Setting,
    assert_all_close,
    factors,
    pairwise,
)
from tidegate import kernels
from tidegate.kernels.ragged import flip, pad
from tidegate.native import extension

ISAS = extension().available_isas()
# What each backend is to serve: torch.nn has none of the options, and no reset gate before the product.
SERVED = [
    (cell, option, backend)
    for backend in ("native", "torch", "reference")
    for cell, option in EXTREMES
    if backend != "torch" or (option == "plain" and cell != "gru_reset_before")
]


@pytest.fixture(autouse=True)
def _restore_globals():
    threads = torch.get_num_threads()
    yield
    extension().set_isa("")
    torch.set_num_threads(threads)


def test_every_two_values_of_two_factors_meet():
    values = factors(ISAS)
    rows = pairwise(values)
    for a, b in itertools.combinations(values, 2):
        assert {(row[a], row[b]) for row in rows} == set(itertools.product(values[a], values[b]))


@pytest.mark.parametrize("setting", [Setting(**row) for row in pairwise(factors(ISAS))], ids=str)
def test_native_equals_reference(setting):
    cell, option = setting.kind
    case = Case(
        cell,
        LENGTHS[setting.lengths],
        setting.hidden,
        option=option,
        directions=setting.directions,
        dtype=setting.dtype,
    )
    expected = Expected(case)
    extension().set_isa(setting.isa)
    torch.set_num_threads(setting.threads)
    expected.hold(case.run("native"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_native_equals_reference_in_every_combination(kind):
    cell, option = kind
    values = factors(ISAS)
    for dtype, directions, hidden, lengths in itertools.product(
        values["dtype"], values["directions"], values["hidden"], values["lengths"]
    ):
        case = Case(cell, LENGTHS[lengths], hidden, option=option, directions=directions, dtype=dtype)
        expected = Expected(case)
        for isa, threads in itertools.product(values["isa"], values["threads"]):
            extension().set_isa(isa)
            torch.set_num_threads(threads)
            try:
                expected.hold(case.run("native"))
            except AssertionError as error:
                raise AssertionError(f"{Setting(kind, isa, threads, directions, hidden, lengths, dtype)}") from error


@given(
    kind=st.sampled_from(KINDS),
    lengths=st.lists(st.integers(0, 8), min_size=1, max_size=20),
    hidden=st.integers(1, 40),
    features=st.integers(1, 9),
    directions=st.sampled_from([1, 2]),
    threads=st.sampled_from([1, 3, 4, 6]),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=80, deadline=None)
def test_any_ragged_shape(kind, lengths, hidden, features, directions, threads, seed):
    torch.set_num_threads(threads)
    case = Case(kind[0], lengths, hidden, option=kind[1], directions=directions, features=features, seed=seed)
    Expected(case).hold(case.run("native"))


@pytest.mark.parametrize("kind", EXTREMES, ids="-".join)
def test_threads_that_idle_change_no_bit(kind):
    """A small layer of few rows is one thread's, but where threads may not idle."""
    torch.set_num_threads(3)
    made = []
    for may_idle in (False, True):
        extension().let_threads_idle(may_idle)
        made.append(Case(kind[0], [5, 2], 33, option=kind[1], directions=2).run("native"))
    assert all(torch.equal(a, b) for a, b in zip(*made, strict=True))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("lengths", "hidden"), [("ragged", 33), ("one", 70), ("many", 64)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", EXTREMES, ids="-".join)
def test_threads_change_no_bit(kind, dtype, lengths, hidden, isa):
    """Of what the kernels make: PyTorch's products around them may add up in another order.

    The sixth result of the forward op, a column of which is one cell's alone, shows in the backward op's results.
    """
    case = Case(kind[0], LENGTHS[lengths], hidden, option=kind[1], directions=2, dtype=dtype)
    extension().set_isa(isa)
    torch.set_num_threads(1)
    with RecordedOps() as recorded:
        case.run("native")
    calls = [call for call in recorded.calls if call.func.overloadpacket is not torch.ops.tidegate.project]
    assert len(calls) == 2  # forward and backward
    # Again and again, for threads that write where others read do so now and then.
    for threads in (3, 5, 7) * 2:
        torch.set_num_threads(threads)
        for call in calls:
            is_forward = call.func.overloadpacket is torch.ops.tidegate.recurrent_forward
            again = call.func(*call.args, **call.kwargs)
            for a, b in zip(again[: 5 if is_forward else None], call.results, strict=False):
                assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_the_gates_are_the_references(kind, dtype):
    case = Case(kind[0], LENGTHS["ragged"], 17, option=kind[1], directions=2, dtype=dtype)
    arguments = (case.cell, case.x, case.weights, case.h_0, case.c_0, case.ragged, case.options)
    *states, gates = kernels.recurrence(*arguments, "native", return_gates=True)
    *_, expected = kernels.recurrence(*arguments, "reference", return_gates=True)
    assert gates is not None and not gates.requires_grad
    assert_all_close([gates], [expected], TOLERANCE[dtype])
    # Asking for the gates changes neither the states nor their gradients.
    results = [state for state in states if state is not None]
    grads = torch.autograd.grad(case.loss(results), case.leaves)
    Expected(case).hold([*results, *grads])


@pytest.mark.parametrize(("cell", "option", "backend"), SERVED)
def test_a_row_alone_equals_the_row_in_a_batch(cell, option, backend):
    case = Case(cell, LENGTHS["ragged"], 17, option=option, directions=2)
    output, *last = case.call(backend)
    for place, row in enumerate(case.ragged.order.tolist()):
        alone, *last_alone = case.row(place).call(backend)
        expected = pad(output, case.ragged)[row, : len(alone)]
        torch.testing.assert_close(alone, expected, rtol=0, atol=1e-12)
        for a, b in zip(last_alone, last, strict=True):
            torch.testing.assert_close(a, b[:, place : place + 1], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("cell", "option", "backend"), SERVED)
def test_chunks_and_single_steps_equal_the_whole(cell, option, backend):
    case = Case(cell, [9] * 3, 17, option=option)
    whole, *last = case.call(backend)
    for sizes in ([4, 5], [1] * 9):
        states = [case.h_0] if case.c_0 is None else [case.h_0, case.c_0]
        chunks, start = [], 0
        for size in sizes:
            output, *states = case.steps(start, start + size, states).call(backend)
            chunks.append(output)
            start += size
        torch.testing.assert_close(torch.cat(chunks), whole, rtol=0, atol=1e-12)
        for a, b in zip(states, last, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("cell", "option", "backend"), SERVED)
def test_the_reverse_half_is_the_forward_one_on_flipped_rows(cell, option, backend):
    case = Case(cell, LENGTHS["ragged"], 9, option=option, directions=2)
    both, *last = case.call(backend)
    forward, *last_forward = case.flipped().call(backend)
    torch.testing.assert_close(both[:, case.projected :], flip(forward, case.ragged), rtol=0, atol=1e-12)
    for a, b in zip(last_forward, last, strict=True):
        torch.testing.assert_close(a, b[1:], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("cell", "option", "backend"), SERVED)
def test_a_sequence_of_length_zero_keeps_its_states(cell, option, backend):
    case = Case(cell, [0, 3, 0], 8, option=option, directions=2)
    _, *last = case.call(backend)
    for found, initial in zip(last, [case.h_0, case.c_0], strict=False):
        assert torch.equal(found[:, 1:], initial[:, 1:])
        assert not torch.equal(found[:, :1], initial[:, :1])


@pytest.mark.parametrize(("cell", "option", "backend"), SERVED)
def test_only_empty_rows(cell, option, backend):
    case = Case(cell, [0, 0, 0], 4, option=option, directions=2)
    output, *last = case.call(backend)
    assert output.shape == (0, 2 * case.projected)
    for found, initial in zip(last, [case.h_0, case.c_0], strict=False):
        assert torch.equal(found, initial)
