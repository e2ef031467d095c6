"""The Transformer encoder against torch.nn's with the same weights, values and gradients, on ragged rows."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import tidegate
from tidegate.kernels.ragged import from_batch_major, ragged_from_lengths
from tidegate.layers.transformer import TransformerEncoder, TransformerLayer, sinusoidal_positions

LENGTHS = [4, 0, 6, 1, 6]


def twins(num_layers=2, norm_first=False, activation="relu", bias=True):
    """Torch's stack, and ours with its weights."""
    torch.manual_seed(0)
    options = {"activation": activation, "norm_first": norm_first, "dtype": torch.float64, "dropout": 0.0}
    layer = nn.TransformerEncoderLayer(8, 2, 12, bias=bias, **options)
    norm = nn.LayerNorm(8, dtype=torch.float64) if norm_first else None
    theirs = nn.TransformerEncoder(layer, num_layers, norm, enable_nested_tensor=False)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.4)
    ours = TransformerEncoder(8, 8, num_layers, 2, 12, positions="none", **options)
    if bias:
        ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def draw(features=8):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(6, 5, features, generator=generator, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_equals_torchs_on_each_row_values_and_gradients(norm_first, activation):
    ours, theirs = twins(norm_first=norm_first, activation=activation)
    x = draw()
    found = ours(x, lengths=torch.tensor(LENGTHS))
    rows = [theirs(x[:length, row]) if length else x[:0, row] for row, length in enumerate(LENGTHS)]
    weights, loss = torch.randn(found.shape, dtype=torch.float64), 0.0
    for row, length in enumerate(LENGTHS):
        torch.testing.assert_close(found[:length, row], rows[row])
        assert not found[length:, row].any()
        loss = loss + (rows[row] * weights[:length, row]).sum()
    names = dict(ours.named_parameters())
    found_grads = torch.autograd.grad((found * weights).sum(), [x, *names.values()])
    expected = torch.autograd.grad(loss, [x, *(theirs.get_parameter(name) for name in names)])
    for name, a, b in zip(["x", *names], found_grads, expected, strict=True):
        torch.testing.assert_close(a, b, msg=lambda text, name=name: f"{name}: {text}")


def test_one_layer_without_biases_takes_torchs_weights():
    theirs = nn.TransformerEncoderLayer(8, 2, 12, 0.0, bias=False, batch_first=True, dtype=torch.float64)
    ours = TransformerLayer(8, 2, 12, 0.0, bias=False, dtype=torch.float64)
    ours.load_state_dict(theirs.state_dict())
    x = draw().detach()
    rows = x.transpose(0, 1)
    found = ours(rows.flatten(0, 1), torch.tensor([6] * 5))
    torch.testing.assert_close(found.unflatten(0, (5, 6)), theirs(rows))


def test_causal_attention_equals_torchs_mask():
    ours, theirs = twins()
    for layer in ours.layers:
        layer.causal = True
    x = draw()
    mask = nn.Transformer.generate_square_subsequent_mask(6, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x, mask=mask, is_causal=True))
    made = TransformerEncoder(8, 8, causal=True, dropout=0.0)
    assert made.layers[0].causal
    before = made(x.float())
    changed = x.float().clone()
    changed[4:] = 0
    torch.testing.assert_close(made(changed)[:4], before[:4])


def test_no_padded_step_is_computed(monkeypatch):
    """What goes through the layers is as many values as the rows have steps."""
    ours, _ = twins()
    seen = []
    for layer in ours.layers:
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[0]))
    x = draw().detach()
    expected = ours(x, lengths=torch.tensor(LENGTHS))
    assert seen == [sum(LENGTHS)] * 2
    x[torch.arange(6)[:, None] >= torch.tensor(LENGTHS)] = torch.nan
    assert torch.equal(ours(x, lengths=torch.tensor(LENGTHS)), expected)


def test_every_form_of_input_is_the_same_sequence():
    ours, _ = twins()
    other = TransformerEncoder(8, 8, 2, 2, 12, 0.0, positions="none", batch_first=True, dtype=torch.float64)
    other.load_state_dict(ours.state_dict())
    x, lengths = draw().detach(), torch.tensor([4, 2, 6, 1, 6])
    expected = ours(x, lengths=lengths)
    torch.testing.assert_close(other(x.transpose(0, 1), lengths=lengths).transpose(0, 1), expected)
    packed = ours(pack_padded_sequence(x, lengths, enforce_sorted=False))
    torch.testing.assert_close(pad_packed_sequence(packed, total_length=6)[0], expected)
    torch.testing.assert_close(ours(x[:4, 0]), expected[:4, 0])
    ragged = ragged_from_lengths(lengths)
    rows = torch.cat([x[:length, row] for row, length in enumerate(lengths)])
    by_row = torch.cat([expected[:length, row] for row, length in enumerate(lengths)])
    found = ours.forward_ragged(from_batch_major(rows, ragged), ragged)
    torch.testing.assert_close(found, from_batch_major(by_row, ragged))
    mask = torch.tensor([True, False, True, True, False, False])[:, None].expand(6, 5)
    torch.testing.assert_close(ours(x, mask=mask)[[0, 2, 3]], ours(x[[0, 2, 3]]))


def test_positions_are_the_papers():
    found = sinusoidal_positions(torch.tensor([0, 3, 700]), 5, torch.float64)
    for row, step in enumerate((0, 3, 700)):
        for feature in range(5):
            angle = step / 10000 ** (2 * (feature // 2) / 5)
            assert found[row, feature].item() == pytest.approx(math.cos(angle) if feature % 2 else math.sin(angle))


def test_positions_are_those_within_each_row():
    torch.manual_seed(0)
    ours = TransformerEncoder(3, 8, 1, 2, dropout=0.0, dtype=torch.float64)
    plain = TransformerEncoder(8, 8, 1, 2, dropout=0.0, positions="none", dtype=torch.float64)
    plain.load_state_dict({k: v for k, v in ours.state_dict().items() if not k.startswith("projection")})
    x = draw(3)
    entering = ours.projection(x) + sinusoidal_positions(torch.arange(6), 8, torch.float64)[:, None]
    lengths = torch.tensor(LENGTHS)
    torch.testing.assert_close(ours(x, lengths=lengths), plain(entering, lengths=lengths))
    # Without positions the order of the steps is out of sight.
    torch.testing.assert_close(plain(entering.flip(0)).flip(0), plain(entering))


def test_dropout_is_for_training():
    torch.manual_seed(0)
    ours = TransformerEncoder(8, 8, 1, 2, dropout=0.4)
    x = draw().detach().float()
    ours.eval()
    first = ours(x)
    assert torch.equal(ours(x), first)
    ours.train()
    assert not torch.equal(ours(x), ours(x))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiles_whole_forward_and_backward():
    ours, _ = twins(num_layers=1)
    x = draw()
    leaves = [x, *ours.parameters()]

    def loss(x, lengths):
        return ours(x, lengths=lengths).square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for lengths in (torch.tensor(LENGTHS), torch.tensor([1, 2, 3, 4, 5])):
        torch.testing.assert_close(compiled(x, lengths), loss(x, lengths))
        found = torch.autograd.grad(compiled(x, lengths), leaves)
        for a, b in zip(found, torch.autograd.grad(loss(x, lengths), leaves), strict=True):
            torch.testing.assert_close(a, b)
    torch._dynamo.reset()


def test_gradients_of_each_sample_by_vmap():
    ours, _ = twins(num_layers=1)
    parameters = {name: value.detach() for name, value in ours.named_parameters()}
    x = draw().detach()

    def loss(parameters, row):
        return torch.func.functional_call(ours, parameters, (row,)).square().sum()

    found = torch.vmap(torch.func.grad(loss), in_dims=(None, 1))(parameters, x)
    for name, value in torch.func.grad(loss)(parameters, x[:, 2]).items():
        torch.testing.assert_close(found[name][2], value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"activation": "glu"}, "activation must be one of relu, gelu; found 'glu'.*gelu"),
        ({"positions": "learned"}, "positions must be one of sinusoidal, none; found 'learned'"),
        ({"num_heads": 3}, "that the heads share evenly; found embed_dim=8, num_heads=3"),
        ({"num_layers": 0}, "expected sizes of at least 1; found input_size=3, num_layers=0"),
        ({"dropout": -0.1}, r"dropout must be in \[0, 1\); found -0.1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        TransformerEncoder(3, 8, **arguments)


def test_it_is_a_public_name():
    assert tidegate.TransformerEncoder is TransformerEncoder
    assert TransformerEncoder(3, 8).output_size == 8
