"""The recurrences of the minimal layers: the native kernel and the parallel form against PyTorch, step by step."""

from __future__ import annotations

import itertools

import pytest
import torch

from kernels.test_scan import ISAS, LENGTHS, TOLERANCE, assert_close
from tidegate.kernels.minimal import CELLS, minimal_recurrence
from tidegate.kernels.ragged import ragged_from_lengths
from tidegate.native import extension

BACKENDS = ["native", "parallel", "reference"]
FORMS = list(itertools.product(CELLS, (False, True)))


@pytest.fixture(autouse=True)
def _best_isa_afterwards():
    yield
    extension().set_isa("")


class Case:
    """Random projected inputs and states, and the weights of a loss."""

    def __init__(self, lengths, units, cell, positive, dtype=torch.float64, scale=2.0, seed=0):
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64) * scale

        self.cell, self.positive, self.ragged = cell, positive, ragged_from_lengths(lengths)
        values, rows = self.ragged.num_values, len(lengths)
        self.leaves = [t.to(dtype).requires_grad_() for t in (draw(values, CELLS[cell] * units), draw(rows, units))]
        self.weights = draw(values, units).to(dtype), draw(rows, units).to(dtype)

    def run(self, backend, leaves=None):
        return minimal_recurrence(
            *(leaves or self.leaves), self.ragged, self.cell, positive=self.positive, backend=backend
        )

    def values(self, backend):
        """Both results and all gradients."""
        results = self.run(backend)
        loss = sum((result * weights).sum() for result, weights in zip(results, self.weights, strict=True))
        grads = torch.autograd.grad(loss, self.leaves, allow_unused=True, materialize_grads=True)
        return [*(result.detach() for result in results), *grads]


def by_hand(case):
    """With the gates as quotients of sigmoids, row by row."""
    projected, h_0 = case.leaves
    made, last = [None] * case.ragged.num_values, []
    place_of = torch.argsort(case.ragged.order)[case.ragged.row_of]
    for place in range(case.ragged.num_rows):
        h = h_0[place]
        for value in (place_of == place).nonzero().flatten().tolist():
            *first, c = projected[value].chunk(CELLS[case.cell])
            c = torch.where(c >= 0, c + 0.5, torch.sigmoid(c)) if case.positive else c
            if case.cell == "min_gru":
                share = torch.sigmoid(first[0])
            else:
                f, i = torch.sigmoid(first[0]), torch.sigmoid(first[1])
                share = i / (f + i)
            h = (1 - share) * h + share * c
            made[value] = h
        last.append(h)
    return torch.stack(made), torch.stack(last)


@pytest.mark.parametrize(("cell", "positive"), FORMS)
def test_the_reference_is_the_equation(cell, positive):
    case = Case([3, 0, 5, 1], 4, cell, positive)
    for found, expected in zip(case.run("reference"), by_hand(case), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("backend", ["native", "parallel"])
def test_backends_equal_the_reference(backend, lengths):
    for (cell, positive), dtype in itertools.product(FORMS, TOLERANCE):
        case = Case(LENGTHS[lengths], 13, cell, positive, dtype)
        exact = Case(LENGTHS[lengths], 13, cell, positive)
        assert_close(case.values(backend), exact.values("reference"), TOLERANCE[dtype])


@pytest.mark.parametrize("isa", ISAS)
def test_every_instruction_set_gives_the_same(isa):
    extension().set_isa(isa)
    for units, (cell, positive), dtype in itertools.product((1, 7, 17, 33, 64), FORMS, TOLERANCE):
        case = Case(LENGTHS["ragged"], units, cell, positive, dtype, seed=units)
        exact = Case(LENGTHS["ragged"], units, cell, positive, seed=units)
        assert_close(case.values("native"), exact.values("reference"), TOLERANCE[dtype])


def test_one_thread_equals_many():
    case = Case([900, 300, 500], 200, "min_lstm", True)
    results, before = [], torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(case.values("native"))
    finally:
        torch.set_num_threads(before)
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("cell", "positive"), FORMS)
def test_gradients_of_first_and_second_order(cell, positive):
    case = Case([2, 0, 3], 2, cell, positive)
    assert torch.autograd.gradcheck(lambda *leaves: case.run("native", leaves), case.leaves)
    assert torch.autograd.gradgradcheck(lambda *leaves: case.run("native", leaves), case.leaves)
    nothing = Case([0, 0], 2, cell, positive)
    assert torch.autograd.gradgradcheck(lambda *leaves: nothing.run("native", leaves), nothing.leaves)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_extreme_gates(cell, dtype):
    """Far beyond where sigmoid, exp and their quotients leave the numbers there are."""
    case = Case([6, 4], 9, cell, True, dtype, scale=300.0)
    exact = Case([6, 4], 9, cell, True, scale=300.0)
    for found in case.values("native"):
        assert torch.isfinite(found).all()
    assert_close(case.values("native"), exact.values("reference"), TOLERANCE[dtype])


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_stays_in_its_row(backend):
    case = Case([3, 5, 2], 4, "min_lstm", True)
    projected, h_0 = (t.detach().clone() for t in case.leaves)
    before = case.run(backend, (projected, h_0))[0]
    projected[(case.ragged.row_of == 1) & (case.ragged.step_of == 2)] = torch.nan
    after = case.run(backend, (projected, h_0))[0]
    touched = (case.ragged.row_of == 1) & (case.ragged.step_of >= 2)
    assert torch.isnan(after[touched]).all()
    torch.testing.assert_close(after[~touched], before[~touched])


@pytest.mark.parametrize("cell", CELLS)
def test_ops_are_registered_right(cell):
    case = Case([3, 1, 0, 2], 4, cell, True)
    projected, h_0 = (leaf.detach() for leaf in case.leaves)
    rest = (case.ragged.batch_sizes, cell, True)
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    ops = torch.ops.tidegate
    torch.library.opcheck(ops.minimal_forward.default, (projected, h_0, *rest), test_utils=tests)
    h, h_n = ops.minimal_forward(projected, h_0, *rest)
    grads = torch.ones_like(h), torch.ones_like(h_n)
    torch.library.opcheck(ops.minimal_backward.default, (*grads, projected, h, h_0, *rest), test_utils=tests)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("cell", CELLS)
def test_vmap_maps_everything_but_lengths(cell, backend):
    case = Case([3, 1, 2], 4, cell, False)
    projected, h_0 = (leaf.detach() for leaf in case.leaves)
    many = torch.randn(5, *projected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def loss(h_0, projected):
        output, h_n = case.run(backend, (projected, h_0))
        return (output * case.weights[0]).sum() + h_n.square().sum()

    for argnums in (0, 1):
        gradient = torch.func.grad(loss, argnums)
        found = torch.vmap(gradient, in_dims=(None, 0))(h_0, many)
        torch.testing.assert_close(found, torch.stack([gradient(h_0, one) for one in many]))
    with pytest.raises(ValueError, match="vmap over lengths is not supported"):
        torch.vmap(lambda sizes: torch.ops.tidegate.minimal_forward(projected, h_0, sizes, cell, False))(
            torch.tensor([[3, 2, 1]] * 2)
        )


def test_half_types_are_computed_in_float32():
    case = Case([30, 20], 8, "min_gru", False, torch.float32)
    halves = [leaf.detach().bfloat16() for leaf in case.leaves]
    output, h_n = case.run("native", halves)
    exact = case.run("native", [half.float() for half in halves])
    assert torch.equal(output, exact[0].bfloat16())
    assert torch.equal(h_n, exact[1].bfloat16())


def test_bad_arguments():
    ragged = ragged_from_lengths([2, 1])
    with pytest.raises(ValueError, match="unknown cell 'gru'; expected one of min_gru, min_lstm"):
        minimal_recurrence(torch.rand(3, 8), torch.rand(2, 4), ragged, "gru")
    with pytest.raises(
        ValueError, match=r"expected projected \(3, 12\) and h_0 \(2, H\), as the layout; found \(3, 8\)"
    ):
        minimal_recurrence(torch.rand(3, 8), torch.rand(2, 4), ragged, "min_lstm")
    with pytest.raises(ValueError, match=r"expected h_0 of torch.float32 on cpu, as projected; found torch.float64"):
        minimal_recurrence(torch.rand(3, 8), torch.rand(2, 4).double(), ragged, "min_gru")
    with pytest.raises(ValueError, match="unknown backend 'gpu'"):
        minimal_recurrence(torch.rand(3, 8), torch.rand(2, 4), ragged, "min_gru", backend="gpu")
    op = torch.ops.tidegate.minimal_forward
    with pytest.raises(TypeError, match=r"expected projected of torch.float32"):
        op(torch.rand(3, 8).double(), torch.rand(2, 4), ragged.batch_sizes, "min_gru", False)
    with pytest.raises(ValueError, match="add up to the 3 values; found 4"):
        op(torch.rand(3, 8), torch.rand(2, 4), torch.tensor([2, 2]), "min_gru", False)
