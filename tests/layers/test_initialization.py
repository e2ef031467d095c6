"""What each rule draws: ranges, spreads, orthogonality, biases; and what it leaves alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import tidegate
from tidegate.layers.initialization import INITIALIZATIONS, initialize_
from tidegate.layers.stack import RecurrentStack

GATED = {"GRU": (tidegate.GRU, 3), "LSTM": (tidegate.LSTM, 4)}
CELLS = {**GATED, "RNN": (tidegate.RNN, 1)}


def parameters(layer, kind):
    return [parameter for name, parameter in layer.named_parameters() if name.startswith(kind)]


@pytest.mark.parametrize("name", ["xavier_uniform", "xavier_normal", "he_uniform", "he_normal"])
@pytest.mark.parametrize("cell", CELLS)
def test_matrices_have_the_spread_of_the_paper_gate_by_gate(cell, name):
    torch.manual_seed(0)
    kind, gates = CELLS[cell]
    layer = kind(40, 80, num_layers=2, bidirectional=True, init=name)
    inputs = {"weight_ih_l0": 40, "weight_ih_l1": 160, "weight_hh_l0": 80, "weight_hh_l1_reverse": 80}
    for key, fan_in in inputs.items():
        for matrix in getattr(layer, key).detach().chunk(gates):
            expected = math.sqrt(2 / (fan_in + 80)) if name.startswith("xavier") else math.sqrt(2 / fan_in)
            assert matrix.std() == pytest.approx(expected, rel=0.05)
            bound = expected * math.sqrt(3)
            if name.endswith("uniform"):
                assert matrix.abs().max() <= bound
                assert matrix.abs().max() > 0.99 * bound
            else:
                assert matrix.abs().max() > 1.2 * bound
    assert all((bias == 0).all() for bias in parameters(layer, "bias"))


@pytest.mark.parametrize("cell", CELLS)
def test_glorot_is_xaviers_first_name(cell):
    layers = []
    for name in ("glorot_uniform", "xavier_uniform"):
        torch.manual_seed(0)
        layers.append(CELLS[cell][0](3, 4, init=name))
    for a, b in zip(*(layer.parameters() for layer in layers), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("cell", CELLS)
def test_orthogonal_is_of_each_gates_recurrent_matrix_and_nothing_else(cell):
    kind, gates = CELLS[cell]
    layers = []
    for init in ("orthogonal", "torch"):
        torch.manual_seed(3)
        layers.append(kind(3, 8, num_layers=2, bidirectional=True, init=init))
    layer, plain = layers
    for key, parameter in layer.named_parameters():
        if key.startswith("weight_hh"):
            blocks = parameter.detach().chunk(gates)
            for block in blocks:
                torch.testing.assert_close(block @ block.T, torch.eye(8), atol=1e-5, rtol=0)
            assert len({float(block[0, 0]) for block in blocks}) == gates
        else:
            assert torch.equal(parameter, plain.get_parameter(key))
    projected = tidegate.LSTM(3, 8, proj_size=5, init="orthogonal")
    for block in projected.weight_hh_l0.detach().chunk(4):
        torch.testing.assert_close(block.T @ block, torch.eye(5), atol=1e-5, rtol=0)


@pytest.mark.parametrize("cell", CELLS)
def test_keras_starts_with_the_gates_as_one_matrix(cell):
    torch.manual_seed(0)
    kind, gates = CELLS[cell]
    layer = kind(40, 32, num_layers=2, bidirectional=True, init="keras")
    for suffix, inputs in (("l0", 40), ("l1_reverse", 64)):
        bound = math.sqrt(6 / (inputs + gates * 32))
        weight = layer.get_parameter(f"weight_ih_{suffix}")
        assert 0.99 * bound < weight.abs().max() <= bound
        whole = layer.get_parameter(f"weight_hh_{suffix}").detach()
        torch.testing.assert_close(whole.T @ whole, torch.eye(32), atol=1e-5, rtol=0)
        total = (layer.get_parameter(f"bias_ih_{suffix}") + layer.get_parameter(f"bias_hh_{suffix}")).detach()
        expected = torch.zeros(gates, 32)
        if cell == "LSTM":
            expected[1] = 1
        assert torch.equal(total, expected.flatten())


@pytest.mark.parametrize(("name", "value"), [("forget_bias", 1.0), ("forget_bias:2.5", 2.5), ("forget_bias:-1", -1.0)])
@pytest.mark.parametrize("cell", GATED)
def test_the_forget_bias_is_the_sum_of_two_and_no_other_bias_changes(cell, name, value):
    kind, gates = CELLS[cell]
    layers = []
    for init in (name, "torch"):
        torch.manual_seed(3)
        layers.append(kind(3, 8, bidirectional=True, init=init))
    layer, plain = layers
    for suffix in ("l0", "l0_reverse"):
        total = (layer.get_parameter(f"bias_ih_{suffix}") + layer.get_parameter(f"bias_hh_{suffix}")).unflatten(
            0, (gates, 8)
        )
        assert torch.equal(total[1], torch.full((8,), value))
        others = [gate for gate in range(gates) if gate != 1]
        expected = plain.get_parameter(f"bias_ih_{suffix}") + plain.get_parameter(f"bias_hh_{suffix}")
        assert torch.equal(total[others], expected.unflatten(0, (gates, 8))[others])
        assert torch.equal(layer.get_parameter(f"weight_hh_{suffix}"), plain.get_parameter(f"weight_hh_{suffix}"))


@pytest.mark.parametrize("cell", GATED)
def test_a_positive_forget_bias_keeps_the_state_longer(cell):
    torch.manual_seed(0)
    kept = []
    for value in (-3, 3):
        layer = CELLS[cell][0](2, 16, init=f"forget_bias:{value}")
        h_0 = torch.ones(1, 1, 16)
        hx = (h_0, h_0) if cell == "LSTM" else h_0
        _, last = layer(torch.zeros(10, 1, 2), hx)
        kept.append((last[1] if cell == "LSTM" else last).mean().item())
    assert kept[1] > kept[0] + 0.2


@pytest.mark.parametrize("cell", GATED)
def test_chrono_spreads_time_scales_up_to_the_longest(cell):
    torch.manual_seed(0)
    gates = CELLS[cell][1]
    layer = CELLS[cell][0](3, 2000, init="chrono:600")
    total = (layer.bias_ih_l0 + layer.bias_hh_l0).detach().unflatten(0, (gates, 2000))
    # exp(b) is uniform from 1 to T - 1: a state is kept for about as many steps.
    times = total[1].exp()
    assert 1 <= times.min() < 3
    assert 590 < times.max() <= 599.01
    assert times.mean() == pytest.approx(300, rel=0.05)
    if cell == "LSTM":
        torch.testing.assert_close(total[0], -total[1])
        others = total[2:]
    else:
        others = total[[0, 2]]
    assert others.abs().max() <= 2 / math.sqrt(2000)


def test_rules_follow_one_another():
    torch.manual_seed(0)
    layer = tidegate.LSTM(6, 8, init=["xavier_uniform", "orthogonal", "forget_bias"])
    total = (layer.bias_ih_l0 + layer.bias_hh_l0).detach().unflatten(0, (4, 8))
    assert torch.equal(total, torch.tensor([0.0, 1.0, 0.0, 0.0])[:, None].expand(4, 8))
    block = layer.weight_hh_l0.detach()[:8]
    torch.testing.assert_close(block @ block.T, torch.eye(8), atol=1e-5, rtol=0)
    assert layer.weight_ih_l0.abs().max() <= math.sqrt(6 / 14)
    assert repr(layer) == "LSTM(6, 8, init=('xavier_uniform', 'orthogonal', 'forget_bias'))"
    before = layer.weight_hh_l0.detach().clone()
    layer.reset_parameters()
    assert not torch.equal(layer.weight_hh_l0, before)
    block = layer.weight_hh_l0.detach()[:8]
    torch.testing.assert_close(block @ block.T, torch.eye(8), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, tidegate.GRU, tidegate.LSTM])
def test_an_existing_layer_of_either_library_and_layers_within_a_model(kind):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.ModuleDict({"encoder": kind(3, 8, num_layers=2)}))
    linear = model[0].weight.detach().clone()
    initialize_(model, "orthogonal")
    for matrix in parameters(model[1]["encoder"], "weight_hh"):
        block = matrix.detach()[:8]
        torch.testing.assert_close(block @ block.T, torch.eye(8), atol=1e-5, rtol=0)
    assert torch.equal(model[0].weight, linear)
    assert matrix.requires_grad


def test_torchs_own_draw_on_an_existing_layer():
    layers = [nn.LSTM(3, 5, num_layers=2, bidirectional=True, proj_size=2), tidegate.GRU(3, [4, 9])]
    for layer in layers:
        initialize_(layer, "he_normal")
        initialize_(layer, "torch")
    torch.manual_seed(1)
    expected = nn.LSTM(3, 5, num_layers=2, bidirectional=True, proj_size=2).state_dict()
    torch.manual_seed(1)
    initialize_(layers[0], "torch")
    for key, value in layers[0].state_dict().items():
        assert torch.equal(value, expected[key])
    assert 0.25 < layers[1].weight_hh_l0.abs().max() <= 0.5
    assert 0.25 < layers[1].weight_ih_l1.abs().max() <= 1 / 3


def test_every_layer_of_a_stack():
    stack = RecurrentStack("gru-blstm", 3, 6, init=["orthogonal", "forget_bias:2"])
    for layer in stack.layers:
        gates = 3 if layer.mode == "GRU" else 4
        for suffix in ("l0", "l0_reverse"):
            assert (layer.get_parameter(f"bias_ih_{suffix}").unflatten(0, (gates, 6))[1] == 2).all()
            block = layer.get_parameter(f"weight_hh_{suffix}").detach()[:6]
            torch.testing.assert_close(block @ block.T, torch.eye(6), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", sorted(set(INITIALIZATIONS) - {"chrono", "forget_bias"}))
def test_every_option_has_a_start(name):
    layer = tidegate.LSTM(
        3, [5, 4], bidirectional=True, proj_size=2, layer_norm=True, peephole=True, learn_initial_state=True,
        residual=True, merge="none", init=name,
    )  # fmt: skip
    assert all(torch.isfinite(parameter).all() for parameter in layer.parameters())
    assert (layer.norm_c_l0[0] == 1).all() and (layer.norm_c_l0[1] == 0).all()
    assert (layer.h_0_l1 == 0).all()
    assert all(weight.abs().sum() > 0 for weight in parameters(layer, "weight"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tidegate.GRU(3, 4, init="xavier"), "unknown initialisation 'xavier'; expected torch, xavier_uniform"),
        (lambda: tidegate.GRU(3, 4, init="ortogonal"), r"Did you mean 'orthogonal'\?"),
        (lambda: tidegate.GRU(3, 4, init="chrono"), "as in 'chrono:600'"),
        (lambda: tidegate.GRU(3, 4, init="chrono:2"), "three steps or more"),
        (lambda: tidegate.GRU(3, 4, init="chrono:long"), "expected a number after chrono"),
        (lambda: tidegate.GRU(3, 4, init="orthogonal:2"), "orthogonal takes no number"),
        (lambda: tidegate.RNN(3, 4, init="forget_bias"), "an RNN has none"),
        (lambda: tidegate.RNN(3, 4, init="chrono:9"), "an RNN has none"),
        (lambda: tidegate.GRU(3, 4, bias=False, init="forget_bias"), "expected a layer with bias=True"),
        (lambda: initialize_(nn.Linear(3, 4), "torch"), "some within; found Linear"),
        (
            lambda: initialize_(nn.utils.parametrizations.weight_norm(nn.GRU(3, 4), "weight_hh_l0"), "orthogonal"),
            "remove their parametrization",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
