"""MinGRU and MinLSTM: the papers' equations as loops, the paper's own log-space form, every form of input."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.func import functional_call, grad, vmap
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import tidegate
from tidegate.kernels.ragged import from_batch_major, ragged_from_lengths
from tidegate.layers.minimal import MinGRU, MinLSTM

LENGTHS = [4, 0, 6, 1, 6]
LAYERS = pytest.mark.parametrize("layer_type", [MinGRU, MinLSTM])
CANDIDATES = pytest.mark.parametrize("candidate", ["linear", "positive"])


def make(layer_type, *sizes, seed=0, **options):
    torch.manual_seed(seed)
    layer = layer_type(*sizes, **options, dtype=torch.float64)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return layer


def batch(features=3, rows=5, steps=6, seed=1):
    return torch.randn(steps, rows, features, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def positive(x):
    return torch.where(x >= 0, x + 0.5, torch.sigmoid(x))


def loop(layer, suffix, row, h):
    """One direction over one row, by the equations."""
    weight, bias = getattr(layer, f"weight_ih_{suffix}"), getattr(layer, f"bias_ih_{suffix}")
    states = []
    for x in row:
        parts = (weight @ x + (0 if bias is None else bias)).chunk(2 if isinstance(layer, MinGRU) else 3)
        candidate = positive(parts[-1]) if layer.candidate == "positive" else parts[-1]
        if isinstance(layer, MinGRU):
            z = torch.sigmoid(parts[0])
            h = (1 - z) * h + z * candidate
        else:
            f, i = torch.sigmoid(parts[0]), torch.sigmoid(parts[1])
            h = f / (f + i) * h + i / (f + i) * candidate
        states.append(h)
    return states, h


def by_hand(layer, rows, hx):
    """Outputs of each row and last states ``[L*D, B, H]``."""
    directions, last = layer.num_directions, []
    for number in range(layer.num_layers):
        outputs = []
        for direction in range(directions):
            suffix = f"l{number}_reverse" if direction else f"l{number}"
            states, ends = [], []
            for place, row in enumerate(rows):
                steps = list(row.flip(0)) if direction else list(row)
                found, end = loop(layer, suffix, steps, hx[number * directions + direction][place])
                states.append(found[::-1] if direction else found)
                ends.append(end)
            outputs.append(states)
            last.append(torch.stack(ends))
        size = last[-1].shape[-1] * directions
        rows = [
            torch.stack([torch.cat(step) for step in zip(*of_row, strict=True)])
            if of_row[0]
            else row.new_zeros(0, size)
            for row, *of_row in zip(rows, *outputs, strict=True)
        ]
    return rows, last


@LAYERS
@CANDIDATES
@pytest.mark.parametrize(
    "options",
    [{}, {"num_layers": 2, "bias": False}, {"num_layers": 2, "bidirectional": True}],
    ids=["plain", "stacked", "bidirectional"],
)
def test_equals_the_equations_and_so_do_gradients(layer_type, candidate, options):
    layer = make(layer_type, 3, 4, candidate=candidate, **options)
    x = batch().requires_grad_()
    hx = torch.randn(layer.num_layers * layer.num_directions, 5, 4, dtype=torch.float64, requires_grad=True)
    output, last = layer(x, hx, lengths=torch.tensor(LENGTHS))
    rows, ends = by_hand(layer, [x[:length, row] for row, length in enumerate(LENGTHS)], hx)
    for row, length in enumerate(LENGTHS):
        torch.testing.assert_close(output[:length, row], rows[row])
        assert not output[length:, row].any()
    torch.testing.assert_close(last, torch.stack(ends))
    leaves = [x, hx, *layer.parameters()]
    weights = torch.randn(6, 5, output.shape[-1], dtype=torch.float64)
    found = torch.autograd.grad((output * weights).sum() + last.square().sum(), leaves)
    expected_loss = sum((row * weights[: len(row), place]).sum() for place, row in enumerate(rows))
    expected = torch.autograd.grad(expected_loss + sum(end.square().sum() for end in ends), leaves)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def heinsen_scan(log_coefficients, log_values):
    """``parallel_scan_log`` of Feng et al. 2024, appendix B."""
    a_star = functional.pad(torch.cumsum(log_coefficients, dim=1), (0, 0, 1, 0))
    log_h0_plus_b_star = torch.logcumsumexp(log_values - a_star, dim=1)
    return (a_star + log_h0_plus_b_star).exp()[:, 1:]


def log_g(x):
    return torch.where(x >= 0, (functional.relu(x) + 0.5).log(), -functional.softplus(-x))


def test_equals_the_papers_log_space_form():
    x, h_0 = batch(steps=9).transpose(0, 1), torch.zeros(1, 5, 4, dtype=torch.float64)
    gru = make(MinGRU, 3, 4, candidate="positive", batch_first=True)
    k, pre = functional.linear(x, gru.weight_ih_l0, gru.bias_ih_l0).chunk(2, dim=-1)
    log_z, log_coefficients = -functional.softplus(-k), -functional.softplus(k)
    values = torch.cat([log_g(h_0).transpose(0, 1), log_z + log_g(pre)], dim=1)
    torch.testing.assert_close(gru(x, positive(h_0))[0], heinsen_scan(log_coefficients, values))
    lstm = make(MinLSTM, 3, 4, candidate="positive", batch_first=True)
    f, i, pre = functional.linear(x, lstm.weight_ih_l0, lstm.bias_ih_l0).chunk(3, dim=-1)
    diff = functional.softplus(-f) - functional.softplus(-i)
    values = torch.cat([log_g(h_0).transpose(0, 1), -functional.softplus(-diff) + log_g(pre)], dim=1)
    torch.testing.assert_close(lstm(x, positive(h_0))[0], heinsen_scan(-functional.softplus(diff), values))


@LAYERS
def test_every_form_of_input_is_the_same_sequence(layer_type):
    layer = make(layer_type, 3, 4, num_layers=2, bidirectional=True)
    rows_first = make(layer_type, 3, 4, num_layers=2, bidirectional=True, batch_first=True)
    rows_first.load_state_dict(layer.state_dict())
    lengths = torch.tensor([4, 2, 6, 1, 6])
    x, hx = batch(), torch.randn(4, 5, 4, dtype=torch.float64)
    expected, last = layer(x, hx, lengths=lengths)
    poisoned = x.clone()
    poisoned[torch.arange(6)[:, None] >= lengths] = torch.nan
    found = rows_first(poisoned.transpose(0, 1), hx, lengths=lengths)
    assert torch.equal(found[0].transpose(0, 1), expected)
    assert torch.equal(found[1], last)
    packed, packed_last = layer(pack_padded_sequence(x, lengths, enforce_sorted=False), hx)
    torch.testing.assert_close(pad_packed_sequence(packed, total_length=6)[0], expected)
    torch.testing.assert_close(packed_last, last)
    ragged = ragged_from_lengths(lengths)
    values = from_batch_major(torch.cat([x[:length, row] for row, length in enumerate(lengths)]), ragged)
    in_rows, ragged_last = layer.forward_ragged(values, ragged, hx)
    by_row = torch.cat([expected[:length, row] for row, length in enumerate(lengths)])
    torch.testing.assert_close(in_rows, from_batch_major(by_row, ragged))
    torch.testing.assert_close(ragged_last, last)
    alone, alone_last = layer(x[:4, 0], hx[:, 0])
    torch.testing.assert_close(alone, expected[:4, 0])
    torch.testing.assert_close(alone_last, last[:, 0])


@LAYERS
def test_a_masked_step_carries_the_state_through(layer_type):
    layer = make(layer_type, 3, 4)
    x = batch(rows=1)
    mask = torch.tensor([True, False, True, True, False, True])[:, None]
    output, last = layer(x, mask=mask)
    kept, kept_last = layer(x[mask[:, 0]])
    torch.testing.assert_close(output[:, 0], kept[[0, 0, 1, 2, 2, 3], 0])
    torch.testing.assert_close(last, kept_last)


@LAYERS
def test_single_steps_and_chunks_equal_the_whole(layer_type):
    layer = make(layer_type, 3, [4, 2])
    x = batch()
    whole, last = layer(x)
    state, outputs = None, []
    for step in x:
        output, state = layer.step(step, state)
        outputs.append(output)
    torch.testing.assert_close(torch.stack(outputs), whole)
    first, middle = layer(x[:2])
    second, end = layer(x[2:], middle)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    for a, b, c in zip(state, end, last, strict=True):
        torch.testing.assert_close(a, c)
        torch.testing.assert_close(b, c)
    with pytest.raises(ValueError, match=f"a bidirectional {layer_type.__name__} reads the end of a sequence first"):
        make(layer_type, 3, 4, bidirectional=True).step(x[0])


@LAYERS
def test_traces_are_what_was_computed(layer_type):
    layer = make(layer_type, 3, 4, bidirectional=True)
    x = batch()
    traces = layer.trace(x, lengths=torch.tensor(LENGTHS))
    output, _ = layer(x, lengths=torch.tensor(LENGTHS))
    assert torch.equal(torch.cat([traces["hidden_l0"], traces["hidden_l0_reverse"]], -1), output)
    for suffix, step, before in (("l0", 3, 2), ("l0_reverse", 2, 3)):
        kept, candidate, hidden = (traces[f"{name}_{suffix}"] for name in ("kept", "candidate", "hidden"))
        expected = kept[step, 2] * hidden[before, 2] + (1 - kept[step, 2]) * candidate[step, 2]
        torch.testing.assert_close(hidden[step, 2], expected)


def test_merging_directions():
    layer = make(MinGRU, 3, 4, bidirectional=True)
    x = batch()
    joined = layer(x)[0].unflatten(-1, (2, 4))
    for merge, expected in (("sum", joined.sum(-2)), ("mean", joined.mean(-2)), ("none", joined)):
        other = MinGRU(3, 4, bidirectional=True, merge=merge, dtype=torch.float64)
        other.load_state_dict(layer.state_dict())
        torch.testing.assert_close(other(x)[0], expected)


def test_dropout_stands_between_layers_in_training_alone():
    layer = make(MinGRU, 3, 4, num_layers=2, dropout=0.5)
    plain = make(MinGRU, 3, 4, num_layers=2)
    x = batch()
    layer.eval()
    assert torch.equal(layer(x)[0], plain(x)[0])
    layer.train()
    assert not torch.equal(layer(x)[0], plain(x)[0])
    assert torch.equal(layer(x)[1][0], plain(x)[1][0])


def test_extreme_gates_stay_finite():
    """f / (f + i) where both underflow, and the complement of a gate that is one."""
    layer = MinLSTM(1, 1, bias=False)
    with torch.no_grad():
        layer.weight_ih_l0.copy_(torch.tensor([[-200.0], [-201.0], [1.0]]))
    output, _ = layer(torch.ones(2, 1, 1), torch.ones(1, 1, 1))
    kept = torch.sigmoid(torch.tensor(1.0))
    torch.testing.assert_close(output[:, 0, 0], torch.stack([kept + (1 - kept)] * 2))
    output.sum().backward()
    assert torch.isfinite(layer.weight_ih_l0.grad).all()


@pytest.mark.parametrize("layer_type", [MinGRU, pytest.param(MinLSTM, marks=pytest.mark.slow)])
# Dynamo itself instantiates autograd Functions.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiles_exports_and_copies(layer_type):
    layer = make(layer_type, 3, 4, bidirectional=True)
    x = batch(steps=4).requires_grad_()

    def loss(x, lengths):
        output, last = layer(x, lengths=lengths)
        return output.square().sum() + last.sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    leaves = [x, *layer.parameters()]
    for lengths in ([4, 2, 3, 0, 1], [1, 4, 4, 4, 4]):
        arguments = (x, torch.tensor(lengths))
        torch.testing.assert_close(compiled(*arguments), loss(*arguments))
        found = torch.autograd.grad(compiled(*arguments), leaves)
        for a, b in zip(found, torch.autograd.grad(loss(*arguments), leaves), strict=True):
            torch.testing.assert_close(a, b)
    torch._dynamo.reset()
    program = torch.export.export(layer, (x.detach(),))
    for a, b in zip(program.module()(x), layer(x), strict=True):
        torch.testing.assert_close(a, b)
    assert torch.equal(copy.deepcopy(layer)(x)[0], layer(x)[0])
    meta = layer_type(3, 4, device="meta")(torch.empty(6, 2, 3, device="meta"))
    assert [tuple(made.shape) for made in meta] == [(6, 2, 4), (1, 2, 4)]


@LAYERS
def test_gradients_of_each_sample_by_vmap(layer_type):
    layer = make(layer_type, 3, 4)
    parameters = {name: value.detach() for name, value in layer.named_parameters()}
    x = batch()

    def loss(parameters, row):
        return functional_call(layer, parameters, (row,))[0].square().sum()

    found = vmap(grad(loss), in_dims=(None, 1))(parameters, x)
    for row in range(5):
        for name, value in grad(loss)(parameters, x[:, row]).items():
            torch.testing.assert_close(found[name][row], value)


def test_autocast_keeps_the_recurrence_in_float32():
    """A thousand steps that keep 0.999 each: in bfloat16 that is 1, and nothing would be forgotten."""
    layer = MinGRU(1, 1, bias=False)
    with torch.no_grad():
        layer.weight_ih_l0.copy_(torch.tensor([[-7.0], [0.0]]))
    x = torch.ones(1000, 1, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, last = layer(x, torch.ones(1, 1, 1))
    assert output.dtype == last.dtype == torch.bfloat16
    expected = (1 - torch.sigmoid(torch.tensor(-7.0))) ** 1000
    torch.testing.assert_close(last.flatten()[0].float(), expected, rtol=1e-2, atol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"candidate": "tanh"}, "expected the candidate linear or positive; found 'tanh'"),
        ({"dropout": 0.1}, "dropout stands between layers, so dropout=0.1 does nothing with one"),
        ({"merge": "sum"}, "merge='sum' is for two directions; expected bidirectional=True"),
        ({"merge": "none", "bidirectional": True, "num_layers": 2}, "merge='none' leaves two outputs"),
        ({"num_layers": 0}, "num_layers must be greater than zero; found 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        MinGRU(3, 4, **arguments)


def test_bad_inputs():
    layer = MinGRU(3, 4)
    with pytest.raises(RuntimeError, match=r"must be equal to input_size. Expected 3, got 2"):
        layer(torch.rand(5, 1, 2))
    with pytest.raises(RuntimeError, match=r"Expected hidden size \(1, 2, 4\), got \[1, 3, 4\]"):
        layer(torch.rand(5, 2, 3), torch.rand(1, 3, 4))


def test_public_names_and_what_print_shows():
    assert tidegate.MinGRU is MinGRU
    assert tidegate.MinLSTM is MinLSTM
    assert repr(MinGRU(3, 4)) == "MinGRU(3, 4)"
    layer = MinLSTM(3, [4, 5], bidirectional=True, candidate="positive")
    assert repr(layer) == "MinLSTM(3, [4, 5], bidirectional=True, candidate='positive')"
    assert layer.output_size == 10
    bound = 1 / 3**0.5
    drawn = MinGRU(3, 400).weight_ih_l0
    assert drawn.abs().max() <= bound
    assert drawn.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
