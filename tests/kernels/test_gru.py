"""The contract suite of the GRU: backends and instruction sets against the reference, the reference against torch."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tidegate import kernels
from tidegate.kernels import Weights, gru, reference
from tidegate.kernels.ragged import Ragged, flip, pack, pad, ragged_from_lengths
from tidegate.native import extension

ISAS = extension().available_isas()
TOLERANCE = {torch.float32: 3e-5, torch.float64: 1e-12}
LENGTHS = {
    "one": [1],
    "ragged": [5, 3, 5, 0, 1, 9, 2, 2, 7, 4, 3],
    "full": [6] * 17,
    "empty": [0, 0],
    "long": [40],
    "many": [int(n) for n in torch.randint(0, 12, (41,), generator=torch.Generator().manual_seed(3))],
}
SIZES = [1, 7, 16, 17, 33, 64]


@pytest.fixture(autouse=True)
def _restore_globals():
    threads = torch.get_num_threads()
    yield
    extension().set_isa("")
    torch.set_num_threads(threads)


class Case:
    """Random inputs, weights, non-zero states and output weights of one GRU."""

    def __init__(self, lengths, hidden, directions=1, features=5, dtype=torch.float64, bias=True, seed=0):
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape, scale=1.0):
            values = torch.randn(*shape, generator=generator, dtype=torch.float64) * scale
            return values.to(dtype).requires_grad_()

        self.ragged: Ragged = ragged_from_lengths(lengths)
        scale = hidden**-0.5
        self.weights = [
            Weights(
                draw(3 * hidden, features, scale=scale),
                draw(3 * hidden, hidden, scale=scale),
                *((draw(3 * hidden), draw(3 * hidden)) if bias else (None, None)),
            )
            for _ in range(directions)
        ]
        self.x = draw(self.ragged.num_values, features)
        self.h_0 = draw(directions, len(lengths), hidden)
        self.of_output = draw(self.ragged.num_values, directions * hidden).detach()
        self.of_h_n = draw(directions, len(lengths), hidden).detach()

    @property
    def leaves(self):
        return [self.x, self.h_0, *(p for w in self.weights for p in w if p is not None)]

    def run(self, backend, reset_after=True):
        """Output, h_n and all gradients."""
        output, h_n = gru(self.x, self.weights, self.h_0, self.ragged, reset_after=reset_after, backend=backend)
        loss = (output * self.of_output).sum() + (h_n * self.of_h_n).sum()
        # Where every row is empty the reference never meets the weights; their gradients are zeros all the same.
        grads = torch.autograd.grad(loss, self.leaves, allow_unused=True, materialize_grads=True)
        return [output.detach(), h_n.detach(), *grads]


def assert_all_close(found, expected, dtype):
    for index, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert a.shape == b.shape
        assert torch.isfinite(b).all()
        if b.numel():
            error = (a - b).abs().max() / (1 + b.abs().max())
            assert error < TOLERANCE[dtype], f"tensor {index} differs by {error:.2e}"


def cases(full: bool):
    product = itertools.product(ISAS, (True, False), (1, 2), SIZES, LENGTHS, (torch.float32, torch.float64), (1, 2, 5))
    for index, case in enumerate(product):
        # A stride that is prime to every factor meets all pairs of options with a twentieth of the cases.
        if full or index % 23 == 0:
            yield case


def check(isa, reset_after, directions, hidden, lengths, dtype, threads):
    extension().set_isa(isa)
    torch.set_num_threads(threads)
    case = Case(LENGTHS[lengths], hidden, directions, dtype=dtype)
    assert_all_close(case.run("native", reset_after), case.run("reference", reset_after), dtype)


@pytest.mark.parametrize(
    ("isa", "reset_after", "directions", "hidden", "lengths", "dtype", "threads"), list(cases(full=False))
)
def test_native_equals_reference(isa, reset_after, directions, hidden, lengths, dtype, threads):
    check(isa, reset_after, directions, hidden, lengths, dtype, threads)


@pytest.mark.slow
@pytest.mark.parametrize("isa", ISAS)
def test_native_equals_reference_in_every_combination(isa):
    for case in cases(full=True):
        if case[0] == isa:
            check(*case)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("backend", ["reference", "native", "torch"])
def test_equals_torch_nn(backend, directions, bias):
    """The second oracle: torch.nn.GRU with the same weights, on packed rows, with non-zero states."""
    lengths = [4, 1, 6, 6, 2]
    case = Case(lengths, hidden=7, directions=directions, bias=bias)
    layer = nn.GRU(5, 7, bias=bias, bidirectional=directions == 2).double()
    parameters = [p for w in case.weights for p in w if p is not None]
    with torch.no_grad():
        for theirs, ours in zip(layer.parameters(), parameters, strict=True):
            theirs.copy_(ours)
    packed = nn.utils.rnn.pack_padded_sequence(
        pad(case.x, case.ragged), torch.tensor(lengths), batch_first=True, enforce_sorted=False
    )
    h_0 = case.h_0.new_empty(case.h_0.shape).index_copy(1, case.ragged.order, case.h_0)
    output, h_n = layer(packed, h_0)
    output = pack(nn.utils.rnn.pad_packed_sequence(output, batch_first=True)[0], case.ragged)
    h_n = h_n.index_select(1, case.ragged.order)
    loss = (output * case.of_output).sum() + (h_n * case.of_h_n).sum()
    expected = [output, h_n, *torch.autograd.grad(loss, [case.x, case.h_0, *layer.parameters()])]
    assert_all_close(case.run(backend), expected, torch.float64)


@given(
    lengths=st.lists(st.integers(0, 8), min_size=1, max_size=20),
    hidden=st.integers(1, 40),
    directions=st.sampled_from([1, 2]),
    reset_after=st.booleans(),
    threads=st.integers(1, 4),
)
@settings(max_examples=60, deadline=None)
def test_any_ragged_shape(lengths, hidden, directions, reset_after, threads):
    torch.set_num_threads(threads)
    case = Case(lengths, hidden, directions)
    assert_all_close(case.run("native", reset_after), case.run("reference", reset_after), torch.float64)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize(("lengths", "hidden"), [("ragged", 33), ("one", 70), ("full", 17), ("many", 64)])
def test_threads_change_no_bit(isa, reset_after, lengths, hidden):
    extension().set_isa(isa)
    case = Case(LENGTHS[lengths], hidden, directions=2, dtype=torch.float32)
    weight_hh = torch.stack([w.weight_hh for w in case.weights]).detach()
    gates = torch.randn(case.ragged.num_values, 2, 3 * hidden)
    bias_n = torch.randn(2, hidden) if reset_after else None
    results = []
    for threads in (1, 2, 3, 4, 7):
        torch.set_num_threads(threads)
        output, h_n, saved = torch.ops.tidegate.gru_forward(
            gates, weight_hh, bias_n, case.h_0.detach(), case.ragged.batch_sizes, reset_after, True
        )
        grads = torch.ops.tidegate.gru_backward(
            case.of_output,
            case.of_h_n,
            saved,
            output,
            weight_hh,
            case.h_0.detach(),
            case.ragged.batch_sizes,
            reset_after,
        )
        results.append([output, h_n, saved, *grads])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("backend", ["native", "torch", "reference"])
def test_a_row_alone_equals_the_row_in_a_batch(backend):
    lengths = LENGTHS["ragged"]
    case = Case(lengths, hidden=17, directions=2)
    output, h_n = gru(case.x, case.weights, case.h_0, case.ragged, backend=backend)
    padded_x, padded_output = pad(case.x, case.ragged), pad(output, case.ragged)
    for place, row in enumerate(case.ragged.order.tolist()):
        alone, last = gru(
            padded_x[row, : lengths[row]],
            case.weights,
            case.h_0[:, place : place + 1].contiguous(),
            ragged_from_lengths([lengths[row]]),
            backend=backend,
        )
        torch.testing.assert_close(alone, padded_output[row, : lengths[row]], rtol=0, atol=1e-12)
        torch.testing.assert_close(last, h_n[:, place : place + 1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("reset_after", [True, False])
def test_chunks_and_single_steps_equal_the_whole(reset_after):
    case = Case([9] * 3, hidden=17)
    whole, last = gru(case.x, case.weights, case.h_0, case.ragged, reset_after=reset_after, backend="native")
    for sizes in ([4, 5], [1] * 9):
        h, chunks, x = case.h_0, [], case.x
        for size in sizes:
            part, x = x[: size * 3], x[size * 3 :]
            output, h = gru(
                part, case.weights, h, ragged_from_lengths([size] * 3), reset_after=reset_after, backend="native"
            )
            chunks.append(output)
        torch.testing.assert_close(torch.cat(chunks), whole, rtol=0, atol=1e-12)
        torch.testing.assert_close(h, last, rtol=0, atol=1e-12)


@pytest.mark.parametrize("backend", ["native", "torch", "reference"])
def test_the_reverse_half_is_the_forward_one_on_flipped_rows(backend):
    case = Case(LENGTHS["ragged"], hidden=9, directions=2)
    both, h_n = gru(case.x, case.weights, case.h_0, case.ragged, backend=backend)
    forward, last = gru(flip(case.x, case.ragged), case.weights[1:], case.h_0[1:], case.ragged, backend=backend)
    torch.testing.assert_close(both[:, 9:], flip(forward, case.ragged), rtol=0, atol=1e-12)
    torch.testing.assert_close(h_n[1:], last, rtol=0, atol=1e-12)


def test_a_sequence_of_length_zero_keeps_its_state():
    case = Case([0, 3, 0], hidden=8, directions=2)
    for backend in ("native", "torch", "reference"):
        _, h_n = gru(case.x, case.weights, case.h_0, case.ragged, backend=backend)
        assert torch.equal(h_n[:, 1:], case.h_0[:, 1:])


@pytest.mark.parametrize("reset_after", [True, False])
def test_derivatives_against_finite_differences(reset_after):
    case = Case([3, 0, 2], hidden=4, directions=2, features=3)

    def call(x, h_0, *parameters):
        weights = [Weights(*parameters[:4]), Weights(*parameters[4:])]
        return gru(x, weights, h_0, case.ragged, reset_after=reset_after, backend="native")

    assert torch.autograd.gradcheck(call, case.leaves)
    assert torch.autograd.gradgradcheck(call, case.leaves)


@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ops_are_registered_right(reset_after, dtype):
    case = Case([3, 1, 2], hidden=5, directions=2, dtype=dtype)
    weight_hh = torch.stack([w.weight_hh for w in case.weights]).detach()
    gates = torch.randn(6, 2, 15, dtype=dtype)
    bias_n = torch.randn(2, 5, dtype=dtype) if reset_after else None
    arguments = (gates, weight_hh, bias_n, case.h_0.detach(), case.ragged.batch_sizes, reset_after, True)
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(torch.ops.tidegate.gru_forward.default, arguments, test_utils=tests)
    output, _, saved = torch.ops.tidegate.gru_forward(*arguments)
    backward = (case.of_output, case.of_h_n, saved, output, weight_hh, case.h_0.detach(), case.ragged.batch_sizes)
    torch.library.opcheck(torch.ops.tidegate.gru_backward.default, (*backward, reset_after), test_utils=tests)
    torch.library.opcheck(torch.ops.tidegate.ragged_layout.default, (torch.tensor([2, 0, 3]), 4), test_utils=tests)


def test_inference_saves_nothing_for_a_backward_pass():
    case = Case([4, 2], hidden=8)
    arguments = (torch.randn(6, 1, 24).double(), case.weights[0].weight_hh[None].detach(), None, case.h_0.detach())
    _, _, saved = torch.ops.tidegate.gru_forward(*arguments, case.ragged.batch_sizes, True, False)
    assert saved.numel() == 0


def test_vmap_maps_inputs_and_states_and_refuses_weights():
    case = Case([3, 1, 2], hidden=6, directions=2)
    weights = [Weights(*(p.detach() for p in w)) for w in case.weights]
    xs, h_0s = torch.randn(4, 6, 5).double(), torch.randn(2, 3, 4, 6).double()

    def call(x, h_0):
        return gru(x, weights, h_0, case.ragged)

    output, h_n = torch.vmap(call, in_dims=(0, 2))(xs, h_0s)
    for i in range(4):
        expected = call(xs[i], h_0s[:, :, i].contiguous())
        torch.testing.assert_close(output[i], expected[0])
        torch.testing.assert_close(h_n[i], expected[1])
    stacked = torch.stack([weights[0].weight_hh] * 2)
    with pytest.raises(ValueError, match="vmap over weights is not supported"):
        torch.vmap(lambda w: gru(xs[0], [weights[0]._replace(weight_hh=w)], h_0s[:1, :, 0].contiguous(), case.ragged))(
            stacked
        )


def test_the_automatic_choice():
    assert kernels.choose_backend("cpu", torch.float32) == "native"
    assert kernels.choose_backend("cpu", torch.float64, reset_after=False) == "native"
    assert kernels.choose_backend("cpu", torch.float16) == "reference"
    assert kernels.choose_backend("cuda", torch.float32) == "torch"
    assert kernels.choose_backend("cuda", torch.float32, reset_after=False) == "reference"
    rows = kernels.describe_backends()
    assert {"cell": "gru", "device": "cpu", "dtype": "float32"}.items() <= rows[0].items()
    assert rows[0]["backend"] == "native"


def test_a_named_backend_that_cannot_serve_says_why():
    case = Case([2], hidden=3)
    arguments = (case.x, case.weights, case.h_0, case.ragged)
    with pytest.raises(ValueError, match=r"'torch' cannot serve this call: .*reset_after=True"):
        gru(*arguments, reset_after=False, backend="torch")
    half = [Weights(*(p.half() for p in w)) for w in case.weights]
    with pytest.raises(ValueError, match=r"'native' cannot serve this call: .*float16"):
        gru(case.x.half(), half, case.h_0.half(), case.ragged, backend="native")
    with pytest.raises(ValueError, match="unknown backend 'triton'; expected one of native, torch, reference"):
        gru(*arguments, backend="triton")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: {"x": c.x[:-1]}, r"expected x of shape \[5, I\]"),
        (lambda c: {"h_0": c.h_0[:, :1]}, r"expected h_0 of shape \(1, 2, 4\)"),
        (lambda c: {"h_0": c.h_0.float()}, "expected h_0 of torch.float64"),
        (lambda c: {"weights": c.weights * 3}, "one or two directions; found 3"),
        (lambda c: {"weights": [c.weights[0]._replace(bias_hh=None)]}, "given together or not at all"),
        (lambda c: {"weights": [c.weights[0]._replace(weight_ih=c.x)]}, r"expected weight_ih of shape \(12, 5\)"),
    ],
)
def test_arguments_that_do_not_fit(change, message):
    case = Case([3, 2], hidden=4)
    arguments = {"x": case.x, "weights": case.weights, "h_0": case.h_0, "ragged": case.ragged} | change(case)
    with pytest.raises(ValueError, match=message):
        gru(**arguments)


def test_the_reference_is_the_formula():
    """One step by hand: both reset conventions, from the equations."""
    case = Case([1], hidden=3, features=2)
    x, h, w = case.x[0], case.h_0[0, 0], case.weights[0]
    i_r, i_z, i_n = (w.weight_ih @ x + w.bias_ih).chunk(3)
    w_r, w_z, w_n = w.weight_hh.chunk(3)
    b_r, b_z, b_n = w.bias_hh.chunk(3)
    r, z = torch.sigmoid(i_r + w_r @ h + b_r), torch.sigmoid(i_z + w_z @ h + b_z)
    for reset_after, n in (
        (True, torch.tanh(i_n + r * (w_n @ h + b_n))),
        (False, torch.tanh(i_n + w_n @ (r * h) + b_n)),
    ):
        output, _ = reference.gru(case.x, case.weights, case.h_0, case.ragged, reset_after=reset_after)
        torch.testing.assert_close(output[0], (1 - z) * n + z * h)
