"""Linear recurrences: every backend against the step-by-step reference, and that against plain numbers."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.kernels.ragged import flip, from_batch_major, pad, ragged_from_lengths, to_batch_major
from tidegate.kernels.scan import choose_backend, linear_scan
from tidegate.native import extension

BACKENDS = ["native", "parallel", "reference"]
ISAS = extension().available_isas()
LENGTHS = {
    "one": [1],
    "ragged": [3, 0, 5, 2, 9, 1, 4],
    "full": [8] * 3,
    "empty": [0, 0],
    "long": [70],
    "power": [16, 17, 15],
    "many": [int(n) for n in torch.randint(0, 12, (41,), generator=torch.Generator().manual_seed(3))],
}
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}


@pytest.fixture(autouse=True)
def _best_isa_afterwards():
    yield
    extension().set_isa("")


class Case:
    """Random coefficients of a magnitude below one, inputs, states and the weights of a loss."""

    def __init__(self, lengths, features, is_complex=False, fixed=False, dtype=torch.float64, seed=0):
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.lengths, self.is_complex = lengths, is_complex
        self.ragged = ragged_from_lengths(lengths)
        values, rows = self.ragged.num_values, len(lengths)
        a = draw(*((features,) if fixed else (values, features))).tanh() * (0.7 if is_complex else 1)
        self.leaves = [t.to(dtype).requires_grad_() for t in (a, draw(values, features), draw(rows, features))]
        self.weights = draw(values, features).to(dtype), draw(rows, features).to(dtype)

    def run(self, backend, leaves=None):
        return linear_scan(*(leaves or self.leaves), self.ragged, is_complex=self.is_complex, backend=backend)

    def values(self, backend):
        """Both results and all gradients."""
        results = self.run(backend)
        loss = sum((result * weights).sum() for result, weights in zip(results, self.weights, strict=True))
        grads = torch.autograd.grad(loss, self.leaves, allow_unused=True, materialize_grads=True)
        return [*(result.detach() for result in results), *grads]


def assert_close(found, expected, tolerance):
    for index, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert a.shape == b.shape
        if a.numel():
            error = ((a.double() - b.double()).abs().max() / (1 + b.double().abs().max())).item()
            assert error < tolerance, f"tensor {index} differs by {error:.1e}"


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("fixed", [False, True])
def test_the_reference_is_the_equation(fixed, is_complex):
    case = Case([3, 0, 5, 1], 4, is_complex, fixed)
    output, h_n = (t.detach() for t in case.run("reference"))
    a, b, h_0 = (t.detach() for t in case.leaves)
    rows = zip(*(pad(t, case.ragged) for t in (a.expand_as(b), b, output)), strict=True)

    def numbers(row):
        parts = row.tolist()
        return [complex(re, im) for re, im in zip(parts[:2], parts[2:], strict=True)] if is_complex else parts

    for row, (decays, entering, found) in enumerate(rows):
        place = case.ragged.order.tolist().index(row)
        h = numbers(h_0[place])
        for t in range(case.lengths[row]):
            h = [x * y + z for x, y, z in zip(numbers(decays[t]), h, numbers(entering[t]), strict=True)]
            assert numbers(found[t]) == pytest.approx(h, rel=1e-12)
        assert numbers(h_n[place]) == pytest.approx(h, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("backend", ["native", "parallel"])
def test_backends_equal_the_reference(backend, lengths, dtype):
    for features, is_complex, fixed in itertools.product((2, 14, 34, 130), (False, True), (False, True)):
        case = Case(LENGTHS[lengths], features, is_complex, fixed, dtype)
        exact = Case(LENGTHS[lengths], features, is_complex, fixed)
        assert_close(case.values(backend), exact.values("reference"), TOLERANCE[dtype])


@pytest.mark.parametrize("isa", ISAS)
def test_every_instruction_set_gives_the_same(isa):
    extension().set_isa(isa)
    for features, is_complex, dtype in itertools.product((1, 2, 7, 17, 33, 64), (False, True), TOLERANCE):
        width = features * 2 if is_complex else features
        case = Case(LENGTHS["ragged"], width, is_complex, dtype=dtype, seed=features)
        assert_close(
            case.values("native"),
            Case(LENGTHS["ragged"], width, is_complex, seed=features).values("reference"),
            TOLERANCE[dtype],
        )


@pytest.mark.parametrize("lengths", [[1500, 700, 900], [400]])
def test_one_thread_equals_many(lengths):
    """Enough values for a team."""
    case = Case(lengths, 600, is_complex=True, fixed=True)
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(case.values("native"))
    finally:
        torch.set_num_threads(before)
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("fixed", [False, True])
def test_gradients_of_first_and_second_order(backend, is_complex, fixed):
    case = Case([2, 0, 3], 2, is_complex, fixed)
    assert torch.autograd.gradcheck(lambda *leaves: case.run(backend, leaves), case.leaves)
    assert torch.autograd.gradgradcheck(lambda *leaves: case.run(backend, leaves), case.leaves)
    nothing = Case([0, 0], 2, is_complex, fixed)
    assert torch.autograd.gradgradcheck(lambda *leaves: nothing.run(backend, leaves), nothing.leaves)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_row_alone_equals_that_row_in_a_batch(backend):
    case = Case(LENGTHS["ragged"], 6)
    output, h_n = (t.detach() for t in case.run(backend))
    a, b, h_0 = (t.detach() for t in case.leaves)
    split = [to_batch_major(t, case.ragged).split(case.lengths) for t in (a, b, output)]
    for place, row in enumerate(case.ragged.order.tolist()):
        alone = ragged_from_lengths([case.lengths[row]])
        state = h_0[place : place + 1]
        expected = linear_scan(split[0][row], split[1][row], state, alone, backend=backend)
        torch.testing.assert_close(split[2][row], expected[0])
        torch.testing.assert_close(h_n[place : place + 1], expected[1])


@pytest.mark.parametrize("backend", BACKENDS)
@given(lengths=st.lists(st.integers(0, 20), min_size=1, max_size=6), cut=st.integers(0, 20), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_chunks_and_single_steps_equal_the_whole(backend, lengths, cut, seed):
    case = Case(lengths, 4, is_complex=bool(seed % 2), seed=seed)
    whole, last = (t.detach() for t in case.run(backend))
    a, b, state = (t.detach() for t in case.leaves)
    pieces, start = [], 0
    sizes = case.ragged.batch_sizes.tolist()
    chunks = [sizes[:cut], sizes[cut:]] if seed % 3 else [[size] for size in sizes]
    for chunk in chunks:
        place = slice(start, start + sum(chunk))
        start = place.stop
        # The rows that are alive, in sorted order already.
        rows = torch.tensor([sum(size > row for size in chunk) for row in range(len(lengths))])
        part = (a[place], b[place], state, ragged_from_lengths(rows))
        output, state = linear_scan(*part, is_complex=case.is_complex, backend=backend)
        pieces.append(output)
    torch.testing.assert_close(torch.cat([b[:0], *pieces]), whole)
    torch.testing.assert_close(state, last)


@pytest.mark.parametrize("backend", ["native", "parallel"])
def test_what_is_forgotten_leaves_no_trace(backend):
    """Products of coefficients underflow in a long row; nothing is divided, so nothing becomes NaN."""
    ragged = ragged_from_lengths([20_000])
    a = torch.full((20_000, 2), 1e-3).requires_grad_()
    b = torch.ones(20_000, 2, requires_grad=True)
    output, h_n = linear_scan(a, b, torch.full((1, 2), 1e30), ragged, backend=backend)
    torch.testing.assert_close(h_n, torch.full((1, 2), 1 / (1 - 1e-3)))
    for grad in torch.autograd.grad(h_n.sum(), (a, b)):
        assert torch.isfinite(grad).all()
    assert torch.isfinite(output).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_stays_in_its_row(backend):
    case = Case([3, 5, 2], 4)
    a, b, h_0 = (t.detach().clone() for t in case.leaves)
    before = case.run(backend, (a, b, h_0))[0]
    b[(case.ragged.row_of == 1) & (case.ragged.step_of == 2)] = torch.nan
    after = case.run(backend, (a, b, h_0))[0]
    touched = (case.ragged.row_of == 1) & (case.ragged.step_of >= 2)
    assert torch.isnan(after[touched]).all()
    torch.testing.assert_close(after[~touched], before[~touched])


def test_the_reverse_direction_is_flipped_rows():
    case = Case([3, 5, 2], 4)
    a, b, h_0 = (t.detach() for t in case.leaves)
    flipped = [flip(t, case.ragged) for t in (a, b)]
    output, _ = linear_scan(*flipped, h_0, case.ragged)
    backwards = [torch.cat([row.flip(0) for row in to_batch_major(t, case.ragged).split(case.lengths)]) for t in (a, b)]
    by_hand = [from_batch_major(t, case.ragged) for t in backwards]
    torch.testing.assert_close(output, linear_scan(*by_hand, h_0, case.ragged, backend="reference")[0])


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("is_complex", [False, True])
def test_ops_are_registered_right(native, is_complex):
    case = Case([3, 1, 0, 2], 4, is_complex)
    a, b, h_0 = (leaf.detach() for leaf in case.leaves)
    sizes = case.ragged.batch_sizes
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    ops = torch.ops.tidegate
    torch.library.opcheck(ops.scan_forward.default, (a, b, h_0, sizes, is_complex, native), test_utils=tests)
    h, h_n = ops.scan_forward(a, b, h_0, sizes, is_complex, native)
    arguments = (torch.ones_like(h), torch.ones_like(h_n), a, h, h_0, sizes, is_complex, native)
    torch.library.opcheck(ops.scan_backward.default, arguments, test_utils=tests)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("is_complex", [False, True])
def test_vmap_maps_everything_but_lengths(backend, is_complex):
    case = Case([3, 1, 2], 4, is_complex, fixed=True)
    a, b, h_0 = (leaf.detach() for leaf in case.leaves)
    many = torch.randn(5, *b.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def loss(a, b):
        output, h_n = case.run(backend, (a, b, h_0))
        return (output * case.weights[0]).sum() + h_n.square().sum()

    found = torch.vmap(torch.func.grad(loss), in_dims=(None, 0))(a, many)
    expected = torch.stack([torch.func.grad(loss)(a, one) for one in many])
    torch.testing.assert_close(found, expected)
    if backend == "reference":
        return
    with pytest.raises(ValueError, match="vmap over lengths is not supported"):
        torch.vmap(lambda sizes: torch.ops.tidegate.scan_forward(a, b, h_0, sizes, is_complex, True))(
            torch.tensor([[3, 2, 1]] * 2)
        )


def test_half_types_are_computed_in_float32():
    case = Case([30, 20], 8, dtype=torch.float32)
    halves = [leaf.detach().bfloat16() for leaf in case.leaves]
    output, h_n = case.run("native", halves)
    assert output.dtype == h_n.dtype == torch.bfloat16
    exact = case.run("reference", [half.float() for half in halves])
    assert torch.equal(output, exact[0].bfloat16())
    assert torch.equal(h_n, exact[1].bfloat16())


def test_bad_arguments():
    ragged = ragged_from_lengths([2, 1])
    good = {"a": torch.rand(3, 4), "b": torch.rand(3, 4), "h_0": torch.rand(2, 4)}
    for change, message in (
        ({"b": torch.rand(2, 4)}, r"expected b of shape \[3, F\], as the layout; found \(2, 4\)"),
        ({"a": torch.rand(3, 5)}, r"expected a of shape \(3, 4\); found \(3, 5\)"),
        ({"a": torch.rand(5)}, r"expected a of shape \(4,\); found \(5,\)"),
        ({"h_0": torch.rand(3, 4)}, r"expected h_0 of shape \(2, 4\); found \(3, 4\)"),
        ({"h_0": torch.rand(2, 4).double()}, r"expected h_0 of torch.float32 on cpu, as b; found torch.float64 on cpu"),
        ({"b": torch.ones(3, 4, dtype=torch.int64)}, "expected b of a floating type; found torch.int64"),
    ):
        with pytest.raises(ValueError, match=message):
            linear_scan(**{**good, **change}, ragged=ragged)
    with pytest.raises(ValueError, match="unknown backend 'gpu'; expected one of native, parallel, reference"):
        linear_scan(**good, ragged=ragged, backend="gpu")
    with pytest.raises(ValueError, match="expected an even number of features, real parts and imaginary ones; found 3"):
        linear_scan(torch.rand(3, 3), torch.rand(3, 3), torch.rand(2, 3), ragged, is_complex=True)
    assert (choose_backend("cpu"), choose_backend("cuda")) == ("native", "parallel")


@pytest.mark.parametrize("name", ["scan_forward", "scan_backward"])
def test_a_tensor_that_does_not_fit_never_reaches_the_kernel(name):
    case = Case([3, 2], 4)
    a, b, h_0 = (leaf.detach() for leaf in case.leaves)
    before = () if name == "scan_forward" else (b, h_0)
    op = getattr(torch.ops.tidegate, name)
    for sizes, message in (([2, 2, 2], "add up to the 5 values"), ([1, 2, 2], "never grow")):
        with pytest.raises(ValueError, match=message):
            op(*before, a, b, h_0, torch.tensor(sizes), False, True)
    for tensors in ((a[:1], b, h_0), (a, b, h_0.float()), (a.float(), b, h_0), (a, b, h_0[:, :2])):
        with pytest.raises(TypeError, match="expected"):
            op(*before, *tensors, case.ragged.batch_sizes, False, True)
