"""Masks, merges, residual connections, dropped weights and mixed stacks under torch's transforms."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch.func import functional_call, grad, vmap

import tidegate
from layers.recurrent_cases import OPTIONS, draw_as_compiled_programs, loss_of
from tidegate.layers.stack import RecurrentStack

MASK = torch.tensor([[1, 0, 1, 1, 0], [0, 1, 1, 0, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]).bool()
KINDS = {"RNN": tidegate.RNN, "LSTM": tidegate.LSTM, "GRU": tidegate.GRU}
_ALL = {"bidirectional": True, "batch_first": True, "weight_dropout": 0.3, "residual": True}


def make(kind):
    torch.manual_seed(0)
    if kind == "stack":
        options = {"recurrent_dropout": 0.2, "zoneout": 0.1, "layer_norm": True, "learn_initial_state": True}
        return RecurrentStack("gru-blstm", 3, [4, 6], batch_first=True, weight_dropout=0.3, residual=True, **options)
    if kind == "small":
        return tidegate.GRU(3, 4, batch_first=True, weight_dropout=0.3, residual=True)
    name, merge = kind.split("-")
    return KINDS[name](3, [4, 5], merge=merge, **_ALL, **OPTIONS[name])


# Each cell and each merge is there.
LAYERS = ["RNN-sum", "LSTM-none", "GRU-mean", "LSTM-product", "GRU-concat", "stack"]


def slow_but(quick):
    """One layer, and all others in the slow tests."""
    return [quick, *(pytest.param(kind, marks=pytest.mark.slow) for kind in LAYERS if kind != quick)]


def flat(result):
    """All tensors of a result."""
    if isinstance(result, torch.Tensor):
        return [result]
    return [tensor for part in result for tensor in flat(part)]


def total(result):
    output, *last = flat(result)
    return loss_of((output, tuple(last)))


def inputs(layer, rows=4):
    torch.manual_seed(1)
    return torch.randn(rows, 5, 3).to(next(layer.parameters()).dtype)


# Dynamo itself instantiates autograd Functions.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("kind", slow_but("small"))
def test_compiles_whole_with_a_mask(kind, monkeypatch):
    draw_as_compiled_programs(monkeypatch)
    layer = make(kind)
    x = inputs(layer)

    def loss(x, mask):
        return total(layer(x, mask=mask))

    results = []
    for run in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        torch.manual_seed(2)
        value = run(x, MASK)
        results.append([value, *torch.autograd.grad(value, list(layer.parameters()))])
    torch._dynamo.reset()
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", slow_but("LSTM-none"))
def test_exports(kind):
    layer = make(kind).eval()
    x = inputs(layer)
    program = torch.export.export(layer, (x,))
    for a, b in zip(flat(program.module()(x)), flat(layer(x)), strict=True):
        torch.testing.assert_close(a, b)


def test_exports_with_a_mask():
    layer = make("GRU-mean").eval()
    x = inputs(layer)
    program = torch.export.export(layer, (x,), {"mask": MASK}).module()
    for mask in (MASK, MASK.flip(0), MASK.flip(1), ~MASK, torch.ones_like(MASK)):
        for a, b in zip(flat(program(x, mask=mask)), flat(layer(x, mask=mask)), strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kind", LAYERS)
def test_gradients_of_each_sample_by_vmap(kind):
    layer = make(kind).double().eval()
    parameters = dict(layer.named_parameters())
    xs = torch.stack([inputs(layer), 2 * inputs(layer), -inputs(layer)])

    def loss(parameters, x):
        return total(functional_call(layer, parameters, (x,)))

    found = vmap(grad(loss), in_dims=(None, 0))(parameters, xs)
    for i, x in enumerate(xs):
        for key, expected in grad(loss)(parameters, x).items():
            torch.testing.assert_close(found[key][i], expected)


@pytest.mark.parametrize("more", [{"mask": MASK}, {"lengths": torch.tensor([4, 0, 5, 1])}], ids=["mask", "lengths"])
@pytest.mark.parametrize("kind", ["GRU-mean", "stack"])
def test_vmap_over_inputs_of_one_mask_or_lengths(kind, more):
    layer = make(kind).double().eval()
    parameters = dict(layer.named_parameters())
    xs = torch.stack([inputs(layer), 2 * inputs(layer)])

    def loss(parameters, x):
        return total(functional_call(layer, parameters, (x,), more))

    found = vmap(grad(loss), in_dims=(None, 0))(parameters, xs)
    for i, x in enumerate(xs):
        for key, expected in grad(loss)(parameters, x).items():
            torch.testing.assert_close(found[key][i], expected)


@pytest.mark.slow
@torch.no_grad()
def test_steps_traces_and_heads_compile_whole():
    layer = tidegate.LSTM(3, [4, 5])
    stack, head = make("stack").eval(), tidegate.TimeDistributed(torch.nn.Linear(12, 2), batch_first=True)
    x, lengths = torch.randn(6, 2, 3), torch.tensor([3, 0, 5, 1])
    state, values = layer.step(x[0])[1], inputs(stack)
    calls = [
        lambda: layer.step(x[1], state),
        lambda: list(layer.trace(x).values()),
        lambda: head(stack(values, lengths=lengths)[0], lengths=lengths),
    ]
    for call in calls:
        expected = flat(call())
        for a, b in zip(flat(torch.compile(call, fullgraph=True, backend="aot_eager")()), expected, strict=True):
            torch.testing.assert_close(a, b)
    torch._dynamo.reset()


@pytest.mark.parametrize("kind", LAYERS)
def test_runs_under_autocast_and_in_bfloat16(kind):
    layer = make(kind).eval()
    x = inputs(layer)
    expected = flat(layer(x, mask=MASK))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = flat(layer(x, mask=MASK))
        torch.stack([result.float().sum() for result in found]).sum().backward()
    for parameter in layer.parameters():
        assert parameter.grad is not None and parameter.grad.dtype == torch.float32
    layer.bfloat16()
    for results in (found, flat(layer(x.bfloat16(), mask=MASK))):
        for a, b in zip(results, expected, strict=True):
            torch.testing.assert_close(a.float(), b, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("kind", LAYERS)
def test_copies_pickles_state_dicts_and_meta(kind):
    layer = make(kind).eval()
    x = inputs(layer)
    expected = flat(layer(x, mask=MASK))
    fresh = make(kind).eval()
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.zero_()
    fresh.load_state_dict(layer.state_dict())
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), fresh):
        for a, b in zip(flat(twin(x, mask=MASK)), expected, strict=True):
            assert torch.equal(a, b)
    on_meta = copy.deepcopy(layer).to("meta")
    for a, b in zip(flat(on_meta(x.to("meta"))), expected, strict=True):
        assert a.device.type == "meta" and a.shape == b.shape


@pytest.mark.parametrize("kind", slow_but("RNN-sum"))
def test_second_derivatives(kind):
    layer = make(kind).double().eval()
    x = inputs(layer, 2)[:, :3].requires_grad_()
    mask = torch.tensor([[True, False, True], [False, True, True]])
    assert torch.autograd.gradgradcheck(lambda x: flat(layer(x, mask=mask))[0], (x,))
