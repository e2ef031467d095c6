"""The linear recurrent unit against its equations with complex numbers, and the paper's own parallel form."""

from __future__ import annotations

import math

import pytest
import torch
from torch.func import functional_call, grad, vmap

import tidegate
from tidegate.kernels.ragged import ragged_from_lengths
from tidegate.layers.lru import LRU

LENGTHS = [4, 0, 6, 1, 6]


def make(*sizes, seed=0, **options):
    torch.manual_seed(seed)
    layer = LRU(*sizes, **options, dtype=torch.float64)
    with torch.no_grad():
        layer.gamma_log.add_(torch.randn_like(layer.gamma_log) * 0.2)
    return layer


def batch(seed=1):
    return torch.randn(6, 5, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(layer, row, state):
    """Outputs and last state of one row, with torch's complex numbers; the paper's equations 1 to 5."""
    eigenvalues = torch.exp(torch.complex(-layer.nu_log.exp(), layer.theta_log.exp()))
    b = torch.complex(*layer.weight_in.chunk(2))
    c = torch.complex(*layer.weight_out.chunk(2, dim=1)).conj()
    h = torch.complex(*state.chunk(2))
    outputs = []
    for x in row:
        h = eigenvalues * h + layer.gamma_log.exp() * (b @ x.to(b.dtype))
        outputs.append((c @ h).real + layer.weight_skip @ x)
    return outputs, torch.cat([h.real, h.imag])


def test_equals_the_equations_and_so_do_gradients():
    layer = make(3, 4, 2)
    x = batch().requires_grad_()
    hx = torch.randn(1, 5, 8, dtype=torch.float64, requires_grad=True)
    output, last = layer(x, hx, lengths=torch.tensor(LENGTHS))
    weights, loss = torch.randn(6, 5, 2, dtype=torch.float64), 0.0
    for row, length in enumerate(LENGTHS):
        outputs, end = by_hand(layer, x[:length, row], hx[0, row])
        if outputs:
            torch.testing.assert_close(output[:length, row], torch.stack(outputs))
            loss = loss + (torch.stack(outputs) * weights[:length, row]).sum()
        assert not output[length:, row].any()
        torch.testing.assert_close(last[0, row], end)
        loss = loss + end.square().sum()
    leaves = [x, hx, *layer.parameters()]
    found = torch.autograd.grad((output * weights).sum() + last.square().sum(), leaves)
    for a, b in zip(found, torch.autograd.grad(loss, leaves), strict=True):
        torch.testing.assert_close(a, b)


def test_equals_a_long_convolution():
    """What a linear recurrence is: y = sum over s of Re(C lambda^s B') x_{t-s}, from a state of zeros."""
    layer = make(3, 4)
    x = batch()[:, 0]
    eigenvalues = torch.exp(torch.complex(-layer.nu_log.exp(), layer.theta_log.exp()))
    b = torch.complex(*layer.weight_in.chunk(2)) * layer.gamma_log.exp()[:, None]
    c = torch.complex(*layer.weight_out.chunk(2, dim=1)).conj()
    kernel = [(c @ torch.diag(eigenvalues**s) @ b).real for s in range(6)]
    expected = [sum(kernel[s] @ x[t - s] for s in range(t + 1)) + layer.weight_skip @ x[t] for t in range(6)]
    torch.testing.assert_close(layer(x)[0], torch.stack(expected))


def test_forms_of_input_chunks_and_steps_are_the_same_sequence():
    layer, rows_first = make(3, 4), make(3, 4, batch_first=True)
    x = batch()
    whole, last = layer(x)
    found, other_last = rows_first(x.transpose(0, 1))
    assert torch.equal(found.transpose(0, 1), whole)
    assert torch.equal(other_last, last)
    first, state = layer(x[:2])
    second, end = layer(x[2:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    torch.testing.assert_close(end, last)
    state, outputs = None, []
    for step in x:
        output, state = layer.step(step, state)
        outputs.append(output)
    torch.testing.assert_close(torch.stack(outputs), whole)
    torch.testing.assert_close(state, last)
    alone, alone_last = layer(x[:, 2])
    torch.testing.assert_close(alone, whole[:, 2])
    torch.testing.assert_close(alone_last, last[:, 2])
    ragged = ragged_from_lengths([6] * 5)
    torch.testing.assert_close(layer.forward_ragged(x.flatten(0, 1), ragged)[0], whole.flatten(0, 1))


def test_padding_is_never_read_and_a_hole_repeats_the_output():
    layer = make(3, 4)
    x, lengths = batch(), torch.tensor(LENGTHS)
    poisoned = x.clone()
    poisoned[torch.arange(6)[:, None] >= lengths] = torch.nan
    for a, b in zip(layer(poisoned, lengths=lengths), layer(x, lengths=lengths), strict=True):
        assert torch.equal(a, b)
    mask = torch.tensor([False, True, False, True, True, False])[:, None].expand(6, 5)
    output, last = layer(x, mask=mask)
    kept, kept_last = layer(x[[1, 3, 4]])
    torch.testing.assert_close(output[[1, 2, 3, 4]], kept[[0, 0, 1, 2]])
    assert not output[0].any()
    assert not output[5].any()
    torch.testing.assert_close(last, kept_last)


def test_traces_hold_the_states():
    layer = make(3, 4)
    x = batch()
    hidden = layer.trace(x)["hidden_l0"]
    assert torch.equal(hidden[-1], layer(x)[1][0])
    expected = torch.nn.functional.linear(hidden, layer.weight_out) + torch.nn.functional.linear(x, layer.weight_skip)
    torch.testing.assert_close(layer(x)[0], expected)


def test_eigenvalues_start_on_the_ring_and_states_of_equal_size():
    torch.manual_seed(0)
    layer = LRU(8, 4000, r_min=0.9, r_max=0.99, max_phase=math.pi / 10)
    magnitude, phase = (-layer.nu_log.exp()).exp(), layer.theta_log.exp()
    assert 0.9 - 1e-4 <= magnitude.min() < 0.903
    assert 0.987 < magnitude.max() <= 0.99 + 1e-4
    assert 0.300 < phase.max() <= math.pi / 10 + 1e-6
    # Evenly by area: half of them beyond the radius that halves it.
    assert (magnitude > math.sqrt((0.9**2 + 0.99**2) / 2)).float().mean().item() == pytest.approx(0.5, abs=0.03)
    hidden = LRU(8, 500, r_min=0.5, r_max=0.9).trace(torch.randn(60, 200, 8))["hidden_l0"][-1]
    assert hidden.square().mean().item() == pytest.approx(0.5, rel=0.1)  # each part half of a complex variance of one


def test_long_memory_trains():
    """What came first decides the answer 400 steps later."""
    torch.manual_seed(0)
    layer = LRU(1, 32, r_min=0.99, r_max=0.9999, max_phase=0.02, batch_first=True)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
    sign = torch.tensor([1.0, -1.0]).repeat(8)
    for _ in range(60):
        x = torch.randn(16, 400, 1) * 0.05
        x[:, 0, 0] = sign
        loss = (layer(x)[0][:, -1, 0] - sign).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3  # one where nothing is remembered


# Dynamo itself instantiates autograd Functions.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiles_exports_and_maps():
    layer = make(3, 4)
    x = batch().requires_grad_()

    def loss(x, lengths):
        output, last = layer(x, lengths=lengths)
        return output.square().sum() + last.sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    leaves = [x, *layer.parameters()]
    arguments = (x, torch.tensor(LENGTHS))
    torch.testing.assert_close(compiled(*arguments), loss(*arguments))
    found = torch.autograd.grad(compiled(*arguments), leaves)
    for a, b in zip(found, torch.autograd.grad(loss(*arguments), leaves), strict=True):
        torch.testing.assert_close(a, b)
    torch._dynamo.reset()
    program = torch.export.export(layer, (x.detach(),))
    torch.testing.assert_close(program.module()(x)[0], layer(x)[0])
    parameters = {name: value.detach() for name, value in layer.named_parameters()}

    def of_one(parameters, row):
        return functional_call(layer, parameters, (row,))[0].square().sum()

    mapped = vmap(grad(of_one), in_dims=(None, 1))(parameters, x.detach())
    for name, value in grad(of_one)(parameters, x.detach()[:, 1]).items():
        torch.testing.assert_close(mapped[name][1], value)


def test_half_types_keep_states_in_float32():
    layer = LRU(3, 4).bfloat16()
    output, state = layer(batch().bfloat16())
    assert (output.dtype, state.dtype) == (torch.bfloat16, torch.float32)
    exact = LRU(3, 4)
    exact.load_state_dict(layer.state_dict())
    torch.testing.assert_close(output.float(), exact(batch().float())[0], rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"r_min": 0.9, "r_max": 0.8}, ValueError, "expected 0 <= r_min < r_max <= 1; found r_min=0.9 and r_max=0.8"),
        ({"max_phase": 0.0}, ValueError, "expected a max_phase above 0, in radians; found 0.0"),
        ({"output_size": 0}, ValueError, "output_size must be greater than zero; found 0"),
        ({"output_size": 2.0}, TypeError, "output_size should be of type int, got: float"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        LRU(3, 4, **arguments)


def test_bad_inputs_the_public_name_and_what_print_shows():
    with pytest.raises(RuntimeError, match="Expected 3, got 2"):
        LRU(3, 4)(torch.rand(5, 1, 2))
    with pytest.raises(RuntimeError, match=r"Expected hidden size \(1, 2, 8\), got \[1, 2, 4\]"):
        LRU(3, 4)(torch.rand(5, 2, 3), torch.rand(1, 2, 4))
    assert tidegate.LRU is LRU
    assert repr(LRU(3, 4)) == "LRU(3, 4)"
    assert repr(LRU(3, 4, 2, r_max=0.99)) == "LRU(3, 4, output_size=2, r_max=0.99)"
