"""The options of the recurrent layers beyond torch.nn's: what each hands to the kernels, in training and evaluation."""

from __future__ import annotations

import pytest
import torch

from layers.recurrent_cases import LAYERS, flat, ours, states, with_options
from tidegate import kernels
from tidegate.kernels.ragged import ragged_full
from tidegate.kernels.reference import GATES


@pytest.fixture
def handed(monkeypatch):
    """What the layers hand to the kernels: (arguments, results) of each call."""
    calls = []
    original = kernels.recurrence

    def spy(*args):
        results = original(*args)
        calls.append((args, results))
        return results

    monkeypatch.setattr(kernels, "recurrence", spy)
    return calls


@pytest.mark.parametrize("name", LAYERS)
def test_recurrent_dropout_draws_one_mask_a_sequence(name, handed):
    layer = ours(name, 3, 40, num_layers=2, bidirectional=True, recurrent_dropout=0.25)
    x = torch.randn(6, 8, 3)
    outputs = []
    for _ in range(2):
        torch.manual_seed(1)
        outputs.append(layer(x)[0])
    assert torch.equal(*outputs)
    masks = [args[6].recurrent_dropout for args, _ in handed[:2]]
    assert not torch.equal(masks[0], masks[1])
    for mask in masks:
        assert mask.shape == (2, 8, layer.proj_size or 40)
        assert mask.unique().tolist() == pytest.approx([0, 4 / 3])
        assert mask.mean() == pytest.approx(1, abs=0.2)
    assert not torch.equal(layer(x)[0], outputs[0])
    layer.eval()
    handed.clear()
    plain = ours(name, 3, 40, num_layers=2, bidirectional=True)
    plain.load_state_dict(layer.state_dict())
    assert torch.equal(layer(x)[0], plain(x)[0])
    assert handed[0][0][6].recurrent_dropout is None


@pytest.mark.parametrize("name", LAYERS)
def test_zoneout_keeps_units_in_training_and_mixes_in_evaluation(name, handed):
    layer = ours(name, 3, 40, bidirectional=True, zoneout=0.25)
    x = torch.randn(6, 8, 3)
    layer(x)
    lstm = name.startswith("LSTM")
    options = handed[0][0][6]
    assert options.zoneout_h.shape == (48, 2 * (layer.proj_size or 40))
    assert options.zoneout_h.dtype == torch.bool
    assert options.zoneout_h.float().mean() == pytest.approx(0.25, abs=0.08)
    if lstm:
        assert options.zoneout_c.shape == (48, 80)
        assert options.zoneout_c.float().mean() == pytest.approx(0.25, abs=0.08)
    else:
        assert options.zoneout_c is None
    layer.eval()
    layer(x)
    options = handed[1][0][6]
    assert (options.zoneout_h, options.zoneout_c) == (0.25, 0.25 if lstm else None)


def test_the_pair_of_an_lstms_zoneouts_is_of_c_and_h(handed):
    layer = ours("LSTM", 3, 4, zoneout=(0.5, 0.0)).eval()
    layer(torch.randn(2, 1, 3))
    assert (handed[0][0][6].zoneout_c, handed[0][0][6].zoneout_h) == (0.5, None)
    layer = ours("LSTM", 3, 4, zoneout=(0.0, 0.5))
    layer(torch.randn(2, 1, 3))
    assert handed[1][0][6].zoneout_c is None
    assert handed[1][0][6].zoneout_h.dtype == torch.bool


@pytest.mark.parametrize("name", LAYERS)
def test_layer_norm_has_gains_that_start_at_one(name):
    layer = ours(name, 3, 4, bidirectional=True, layer_norm=True)
    parameters = dict(layer.named_parameters())
    entries = GATES[layer._cell] * 4
    for suffix in ("l0", "l0_reverse"):
        assert torch.equal(parameters[f"norm_ih_{suffix}"], torch.ones(entries))
        assert torch.equal(parameters[f"norm_hh_{suffix}"], torch.ones(entries))
        if name.startswith("LSTM"):
            assert torch.equal(parameters[f"norm_c_{suffix}"], torch.tensor([[1.0] * 4, [0.0] * 4]))
    count = 3 if name.startswith("LSTM") else 2
    assert sum(key.startswith("norm") for key in parameters) == 2 * count
    # The product with x is the same at ten times the scale, but for eps.
    x = 100 * torch.randn(5, 2, 3)
    torch.testing.assert_close(layer(x)[0], layer(10 * x)[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", LAYERS)
def test_learned_initial_states_are_where_no_state_is_given(name):
    layer = ours(name, 3, 4, num_layers=2, bidirectional=True, learn_initial_state=True)
    plain = ours(name, 3, 4, num_layers=2, bidirectional=True)
    plain.load_state_dict(layer.state_dict(), strict=False)
    x = torch.randn(5, 3, 3)
    assert torch.equal(layer(x)[0], plain(x)[0])  # they start at zero
    suffixes = ["l0", "l0_reverse", "l1", "l1_reverse"]
    learned = [[getattr(layer, f"{kind}_{s}") for s in suffixes] for kind in layer._states.sizes]
    with torch.no_grad():
        for parameter in (p for group in learned for p in group):
            parameter.normal_()
    hx = tuple(torch.stack(group)[:, None].expand(-1, 3, -1) for group in learned)
    expected = flat(plain(x, hx if len(hx) > 1 else hx[0]))
    found = flat(layer(x))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    sum(result.sum() for result in found).backward()
    for parameter in (p for group in learned for p in group):
        assert parameter.grad.abs().min() > 0
    given = states(name, layer, 3)
    assert torch.equal(layer(x, given)[0], plain(x, given)[0])
    # Of every form of input, a sequence without a step among them.
    torch.testing.assert_close(layer(x[:, 0])[0], found[0][:, 0])
    _, *last = flat(layer(x, lengths=torch.tensor([5, 0, 2])))
    for state, initial in zip(last, hx, strict=True):
        torch.testing.assert_close(state[:, 1], initial[:, 1])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_all_options_at_once_are_the_references(name, training, handed):
    layer = with_options(name, 3, 6, num_layers=2, bidirectional=True).double().train(training)
    x = torch.randn(5, 4, 3).double()
    hx = states(name, layer, 4)
    results = flat(layer(x, hx))
    (first, _), (second, _) = handed
    values, last = x.flatten(0, 1), []
    h = hx if isinstance(hx, tuple) else (hx, None)
    for place, options in enumerate((first[6], second[6])):
        chosen = slice(2 * place, 2 * place + 2)
        output, h_n, c_n, _ = kernels.recurrence(
            layer._cell,
            values,
            layer._weights(place),
            h[0][chosen],
            None if h[1] is None else h[1][chosen],
            ragged_full(4, 5),
            options,
            "reference",
        )
        values = output
        last.append([h_n] if c_n is None else [h_n, c_n])
    expected = [values.unflatten(0, (5, 4)), *(torch.cat(states) for states in zip(*last, strict=True))]
    for a, b in zip(results, expected, strict=True):
        torch.testing.assert_close(a, b)
    for weights in layer._weights(0):
        absent = {key for key, value in weights._asdict().items() if value is None}
        only_lstm = {"peephole", "norm_c"} if not name.startswith("LSTM") else set()
        assert absent == only_lstm | ({"weight_hr"} if not layer.proj_size else set())


def test_reset_before_is_another_function():
    torch.manual_seed(0)
    before = ours("GRU", 3, 4, reset_after=False).double()
    after = ours("GRU", 3, 4).double()
    after.load_state_dict(before.state_dict())
    x = torch.randn(5, 2, 3).double()
    assert not torch.allclose(before(x)[0], after(x)[0])


@pytest.mark.parametrize("name", LAYERS)
def test_every_parameter_of_every_option_learns(name):
    layer = with_options(name, 3, 6, num_layers=2, bidirectional=True)
    torch.manual_seed(0)
    sum((result**2).sum() for result in flat(layer(torch.randn(7, 4, 3)))).backward()
    for key, parameter in layer.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, key
