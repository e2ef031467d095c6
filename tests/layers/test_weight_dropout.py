"""DropConnect on the recurrent weights: what is dropped, that it comes back, and what layers go through meanwhile."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import tidegate
from layers.recurrent_cases import LAYERS, flat, ours, with_options
from tidegate.layers.dropout import dropout

RATE = 0.5


def dropping(name, **form):
    torch.manual_seed(0)
    return ours(name, 3, **({"hidden_size": 8} | form), weight_dropout=RATE)


@pytest.mark.parametrize("name", LAYERS)
def test_training_is_a_call_with_dropped_recurrent_weights(name):
    layer = dropping(name, num_layers=2, bidirectional=True)
    plain = ours(name, 3, 8, num_layers=2, bidirectional=True)
    x = torch.randn(5, 2, 3)
    raw = {key: value.clone() for key, value in layer.state_dict().items()}
    torch.manual_seed(7)
    found = flat(layer(x))
    torch.manual_seed(7)
    with torch.no_grad():
        for key, value in raw.items():
            dropped = dropout(value, RATE, True) if key.startswith("weight_hh") else value
            plain.get_parameter(key).copy_(dropped)
    for a, b in zip(found, flat(plain(x)), strict=True):
        torch.testing.assert_close(a, b)
    share = (plain.weight_hh_l1 == 0).float().mean()
    assert share == pytest.approx(RATE, abs=0.15)
    # The parameters are what they were, all of them.
    for key, value in layer.state_dict().items():
        assert torch.equal(value, raw[key])


@pytest.mark.parametrize("name", LAYERS)
def test_evaluation_takes_all_weights_and_every_call_drops_others(name):
    layer = dropping(name)
    plain = ours(name, 3, 8)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(5, 2, 3)
    outputs = [layer(x)[0] for _ in range(3)]
    assert not torch.equal(outputs[0], outputs[1]) and not torch.equal(outputs[1], outputs[2])
    layer.eval()
    assert torch.equal(layer(x)[0], plain(x)[0])
    layer.train()
    # The mean over many draws sees every weight: none is gone for good.
    layer.zero_grad()
    nn.init.constant_(layer.bias_ih_l0, 2.0)  # so that rectified units live
    for _ in range(30):
        layer(x)[0].pow(2).sum().backward()
    assert (layer.weight_hh_l0.grad != 0).all()


@pytest.mark.parametrize("name", LAYERS)
def test_a_dropped_weight_has_no_gradient_in_its_call(name):
    layer = dropping(name)
    nn.init.constant_(layer.bias_ih_l0, 2.0)  # so that rectified units live
    x = torch.randn(5, 2, 3)
    torch.manual_seed(3)
    kept = dropout(torch.ones_like(layer.weight_hh_l0), RATE, True) != 0
    torch.manual_seed(3)
    layer(x)[0].pow(2).sum().backward()
    assert (layer.weight_hh_l0.grad[~kept] == 0).all()
    assert (layer.weight_hh_l0.grad[kept] != 0).float().mean() > 0.5


def test_it_survives_what_modules_go_through():
    layer = dropping("LSTM", num_layers=2)
    x = torch.randn(5, 2, 3)
    torch.manual_seed(1)
    expected = flat(layer(x))
    fresh = dropping("LSTM", num_layers=2)
    fresh.load_state_dict(layer.state_dict())
    plain = nn.LSTM(3, 8, 2)
    plain.load_state_dict(layer.state_dict())
    again = dropping("LSTM", num_layers=2)
    again.load_state_dict(plain.state_dict())
    twins = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), layer.to("cpu"), fresh, again]
    twins += [nn.DataParallel(layer), layer.double().float()]
    for twin in twins:
        torch.manual_seed(1)
        for a, b in zip(flat(twin(x)), expected, strict=True):
            torch.testing.assert_close(a, b)
    assert [key for key, _ in layer.named_parameters()] == [key for key, _ in plain.named_parameters()]


def test_a_replica_of_data_parallel_drops_from_its_own_weights():
    """What nn.parallel.replicate does on each GPU: the parameters become plain tensors with a way back."""
    layer = dropping("GRU", bidirectional=True)
    replica = layer._replicate_for_data_parallel()
    for key, parameter in layer.named_parameters():
        copied = parameter.clone()
        setattr(replica, key, copied)
    x = torch.randn(5, 2, 3)
    torch.manual_seed(1)
    expected = flat(layer(x))
    gradients = torch.autograd.grad(expected[0].pow(2).sum(), list(layer.parameters()))
    torch.manual_seed(1)
    found = flat(replica(x))
    again = torch.autograd.grad(found[0].pow(2).sum(), list(layer.parameters()))
    for a, b in zip([*found, *again], [*expected, *gradients], strict=True):
        torch.testing.assert_close(a, b)


def test_an_optimizer_trains_the_raw_weights_after_a_move():
    layer = dropping("LSTM").double()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    before = layer.weight_hh_l0.detach().clone()
    layer(torch.randn(5, 2, 3).double())[0].pow(2).sum().backward()
    optimizer.step()
    changed = layer.weight_hh_l0.detach() != before
    assert 0.2 < changed.float().mean() < 0.8
    layer.eval()
    assert layer(torch.ones(5, 2, 3).double())[0].isfinite().all()


@pytest.mark.parametrize("name", LAYERS)
def test_it_combines_with_every_other_option(name):
    layer = with_options(name, 3, 5, num_layers=2, bidirectional=True, weight_dropout=RATE, merge="mean", residual=True)
    x = torch.randn(5, 2, 3)
    results = []
    for _ in range(2):
        torch.manual_seed(1)
        results.append(flat(layer(x)))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(layer(x)[0], layer(x)[0])
    layer.eval()
    assert torch.equal(layer(x)[0], layer(x)[0])


@pytest.mark.parametrize("rate", [1.0, -0.1, True, "half"])
def test_what_is_no_probability_is_refused(rate):
    with pytest.raises(ValueError, match="weight_dropout should be a probability"):
        tidegate.GRU(3, 4, weight_dropout=rate)
