"""The recurrent layers as drop-in replacements: values, gradients, names and errors of torch.nn's."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import tidegate
from layers.recurrent_cases import (
    LAYERS,
    OPTIONS,
    draw_as_compiled_programs,
    flat,
    loss_of,
    ours,
    pair,
    states,
    with_options,
)

FORMS = [
    {},
    {"num_layers": 3},
    {"bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
    {"bias": False, "batch_first": True},
]


def assert_same(layers, x, hx=None):
    """Values and all gradients of both layers agree."""
    results = []
    for layer in layers:
        leaf = x.detach().clone().requires_grad_()
        found = layer(leaf, hx)
        grads = torch.autograd.grad(loss_of(found), [leaf, *layer.parameters()])
        results.append([*flat(found), *grads])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_equals_torch_on_padded_input(name, with_state, form):
    layers = pair(name, 5, 7, **form)
    rows = 4 if form.get("batch_first") else 6
    assert_same(layers, torch.randn(4, 6, 5).double(), states(name, layers[0], rows) if with_state else None)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", LAYERS)
def test_equals_torch_on_unbatched_input(name, form):
    layers = pair(name, 5, 7, **form)
    assert_same(layers, torch.randn(6, 5).double(), states(name, layers[0]))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("enforce_sorted", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_equals_torch_on_packed_sequences(name, enforce_sorted, form):
    layer, theirs = pair(name, 5, 7, **form)
    lengths = torch.tensor([6, 4, 4, 1] if enforce_sorted else [4, 1, 6, 4])
    hx = states(name, layer, 4)
    x = torch.randn(4, 6, 5).double()
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=enforce_sorted)
    (output, *last), (expected, *expected_last) = flat(layer(packed, hx)), flat(theirs(packed, hx))
    assert type(output) is type(expected)
    for a, b in zip([*output, *last], [*expected, *expected_last], strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
@pytest.mark.parametrize("name", LAYERS)
def test_lengths_equal_torch_on_a_packed_sequence(name, dtype, batch_first):
    layer, theirs = pair(name, 5, 7, num_layers=2, bidirectional=True, batch_first=batch_first)
    lengths = torch.tensor([3, 6, 1, 3], dtype=dtype)
    hx = states(name, layer, 4)
    x = torch.randn(4, 8, 5).double()
    x = x if batch_first else x.transpose(0, 1)
    packed = pack_padded_sequence(x, lengths.long(), batch_first=batch_first, enforce_sorted=False)
    expected, *expected_last = flat(theirs(packed, hx))
    expected, _ = pad_packed_sequence(expected, batch_first=batch_first, total_length=8)
    for a, b in zip(flat(layer(x, hx, lengths=lengths)), [expected, *expected_last], strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", LAYERS)
def test_what_lies_beyond_the_lengths_is_never_read(name):
    layer = with_options(name, 3, 4, bidirectional=True, batch_first=True)
    lengths = torch.tensor([2, 0, 5])
    clean = torch.randn(3, 5, 3)
    beyond = torch.arange(5) >= lengths[:, None]
    poisoned = clean.masked_fill(beyond.unsqueeze(-1), torch.nan).requires_grad_()
    hx = states(name, layer, 3)
    results = []
    for x in (poisoned, clean):
        torch.manual_seed(1)
        results.append(flat(layer(x, hx, lengths=lengths)))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)
    output, *last = results[0]
    for state, initial in zip(last, hx if isinstance(hx, tuple) else (hx,), strict=True):
        assert torch.equal(state[:, 1], initial[:, 1])
    assert (output[beyond] == 0).all()
    (gradient,) = torch.autograd.grad(output.sum() + sum(state.sum() for state in last), poisoned)
    assert (gradient[beyond] == 0).all()
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", LAYERS)
def test_one_seed_gives_torchs_weights(name, form):
    torch.manual_seed(5)
    layer = ours(name, 3, 4, **form)
    torch.manual_seed(5)
    theirs = LAYERS[name][1](3, 4, **LAYERS[name][2], **form)
    assert list(layer.state_dict()) == list(theirs.state_dict())
    for key, parameter in theirs.state_dict().items():
        assert torch.equal(layer.state_dict()[key], parameter)
    assert [len(weights) for weights in layer.all_weights] == [len(weights) for weights in theirs.all_weights]
    # The parameters of options are drawn after torch's.
    torch.manual_seed(5)
    more = ours(name, 3, 4, **form, **OPTIONS[name]).state_dict()
    for key, parameter in theirs.state_dict().items():
        assert torch.equal(more[key], parameter)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        # After `bidirectional` torch.nn documents device and dtype, and takes proj_size.
        ("RNN", (3, 4, 2, "relu", False, True, 0.5, True)),
        ("LSTM", (3, 4, 2, False, True, 0.5, True, 2, "cpu", torch.float64)),
        ("GRU", (3, 4, 2, False, True, 0.5, True)),
    ],
)
def test_takes_torchs_positional_arguments(name, args):
    layer, theirs = LAYERS[name][0](*args), LAYERS[name][1](*args)
    assert repr(layer) == repr(theirs)
    assert layer.mode == theirs.mode
    for key, parameter in theirs.state_dict().items():
        assert layer.state_dict()[key].dtype == parameter.dtype
        assert layer.state_dict()[key].shape == parameter.shape


@pytest.mark.parametrize("name", LAYERS)
def test_no_steps_at_all_return_the_initial_state(name):
    layer = with_options(name, 3, 4, num_layers=2, bidirectional=True).eval()
    hx = states(name, layer, 2)
    for x, more in (
        (torch.zeros(0, 2, 3), {}),
        (torch.zeros(0, 2, 3), {"mask": torch.zeros(0, 2).bool()}),
        (torch.zeros(4, 2, 3), {"mask": torch.zeros(4, 2).bool()}),
        (torch.zeros(4, 2, 3), {"lengths": torch.zeros(2).int()}),
    ):
        output, *last = flat(layer(x, hx, **more))
        assert output.shape[:2] == x.shape[:2] and (output == 0).all()
        for state, initial in zip(last, hx if isinstance(hx, tuple) else (hx,), strict=True):
            assert torch.equal(state, initial)


def test_says_which_options_it_has():
    assert repr(tidegate.LSTM(3, 4, zoneout=(0.1, 0.2), peephole=True)) == (
        "LSTM(3, 4, zoneout=(0.1, 0.2), peephole=True)"
    )
    layer = tidegate.GRU(3, 4, reset_after=False, recurrent_dropout=0.5, layer_norm=True, learn_initial_state=True)
    assert repr(layer) == (
        "GRU(3, 4, reset_after=False, recurrent_dropout=0.5, layer_norm=True, learn_initial_state=True)"
    )


@pytest.mark.parametrize("name", LAYERS)
def test_dropout_stands_between_layers_in_training_only(name):
    layer = ours(name, 3, 16, num_layers=2, dropout=0.5)
    x = torch.randn(5, 2, 3)
    assert not torch.equal(layer(x)[0], layer(x)[0])
    layer.eval()
    assert torch.equal(layer(x)[0], layer(x)[0])
    with pytest.warns(UserWarning, match="does nothing with num_layers=1"):
        single = ours(name, 3, 4, num_layers=1, dropout=0.9)
    assert torch.equal(single(x)[0], single(x)[0])


BAD_CALLS = {
    "one dimension": lambda layer, h: layer(torch.zeros(2)),
    "features": lambda layer, h: layer(torch.zeros(2, 3, 9)),
    "type": lambda layer, h: layer(torch.zeros(2, 3, 5).double()),
    "rows of hx": lambda layer, h: layer(torch.zeros(2, 3, 5), h(1, 2, 7)),
    "units of hx": lambda layer, h: layer(torch.zeros(2, 3, 5), h(1, 3, 6)),
    "batched hx": lambda layer, h: layer(torch.zeros(2, 5), h(1, 1, 7)),
    "unbatched hx": lambda layer, h: layer(torch.zeros(2, 3, 5), h(1, 7)),
    "layers of hx": lambda layer, h: layer(torch.zeros(2, 3, 5), h(2, 3, 7)),
    "packed features": lambda layer, h: layer(pack_padded_sequence(torch.zeros(2, 3, 9), [2, 2, 1])),
    "packed hx": lambda layer, h: layer(pack_padded_sequence(torch.zeros(2, 3, 5), [2, 2, 1]), h(1, 2, 7)),
    "four dimensions": lambda layer, h: layer(torch.zeros(1, 2, 3, 5)),
}


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("bad", BAD_CALLS)
def test_refuses_with_torchs_kind_of_error(name, bad):
    def h(*shape):
        return (torch.zeros(shape), torch.zeros(shape)) if name == "LSTM" else torch.zeros(shape)

    errors = []
    for kind in LAYERS[name][:2]:
        with pytest.raises((ValueError, RuntimeError, TypeError)) as caught:
            BAD_CALLS[bad](kind(5, 7), h)
        errors.append(caught.type)
    assert errors[0] is errors[1]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda g: g(torch.zeros(2)), ValueError, "GRU: Expected input to be 2D or 3D, got 1D"),
        (lambda g: g(torch.zeros(2, 3, 9)), RuntimeError, "Expected 5, got 9"),
        (lambda g: g(torch.zeros(2, 3, 5), torch.zeros(1, 2, 7)), RuntimeError, r"Expected hidden size \(1, 3, 7\)"),
        (lambda g: g(torch.zeros(2, 5), torch.zeros(1, 1, 7)), RuntimeError, "hx should also be 2-D"),
        (lambda g: g(torch.zeros(2, 3, 5), (torch.zeros(1, 3, 7),) * 2), ValueError, "expected hx to be h_0; found 2"),
        (lambda g: g(torch.zeros(2, 3, 5), lengths=torch.tensor([1])), ValueError, "each of the 3 rows"),
        (lambda g: g(torch.zeros(2, 3, 5), lengths=torch.tensor([1, 5, 1])), ValueError, "exceeds the 2 steps"),
        (lambda g: g(torch.zeros(2, 5), lengths=torch.tensor([1, 1])), ValueError, "unbatched"),
    ],
)
def test_inputs_that_do_not_fit(call, error, message):
    with pytest.raises(error, match=message):
        call(tidegate.GRU(5, 7))


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("GRU", {"hidden_size": 0}, ValueError, "hidden_size must be greater than zero"),
        ("GRU", {"num_layers": 0}, ValueError, "num_layers must be greater than zero"),
        ("GRU", {"hidden_size": 2.0}, TypeError, "hidden_size should be of type int, got: float"),
        ("GRU", {"bias": 1}, TypeError, "bias should be of type bool, got: int"),
        ("GRU", {"dropout": 1.5}, ValueError, r"number in range \[0, 1\]"),
        ("GRU", {"recurrent_dropout": 1.0}, ValueError, "recurrent_dropout should be a probability.*found 1.0"),
        ("GRU", {"zoneout": -0.1}, ValueError, "zoneout should be a probability"),
        ("GRU", {"zoneout": (0.1, 0.1)}, ValueError, "a GRU has one state"),
        ("RNN", {"zoneout": (0.1, 0.1)}, ValueError, "a RNN has one state"),
        ("RNN", {"nonlinearity": "gelu"}, ValueError, "Unknown nonlinearity 'gelu'"),
        ("LSTM", {"zoneout": (0.1, 1.0)}, ValueError, "zoneout of h should be a probability"),
        ("LSTM", {"zoneout": (0.1, 0.1, 0.1)}, ValueError, r"the pair \(zoneout_c, zoneout_h\)"),
        ("LSTM", {"proj_size": 4}, ValueError, "proj_size has to be smaller than hidden_size"),
        ("LSTM", {"proj_size": -1}, ValueError, "proj_size should be a positive integer or zero"),
        ("GRU", {"proj_size": 2}, ValueError, "proj_size argument is only supported for LSTM"),
        ("RNN", {"proj_size": 0}, ValueError, "proj_size argument is only supported for LSTM"),
        ("LSTM", {"peephole": 1}, TypeError, "peephole should be of type bool"),
    ],
)
def test_impossible_layers(name, options, error, message):
    with pytest.raises(error, match=message):
        LAYERS[name][0](**({"input_size": 3, "hidden_size": 4} | options))


# Dynamo itself instantiates autograd Functions.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize(("name", "with_lengths"), [*((name, True) for name in LAYERS), ("GRU", False)])
def test_compiles_whole_forward_and_backward(name, with_lengths, monkeypatch):
    draw_as_compiled_programs(monkeypatch)
    layer = with_options(name, 3, 5, num_layers=1 if with_lengths else 2, bidirectional=True, batch_first=True)
    x = torch.randn(4, 6, 3)
    lengths = torch.tensor([3, 6, 0, 2]) if with_lengths else None

    def loss(x):
        return loss_of(layer(x, lengths=lengths))

    torch.manual_seed(2)
    value = loss(x)
    expected = [value, *torch.autograd.grad(value, list(layer.parameters()))]
    torch.manual_seed(2)
    value = torch.compile(loss, fullgraph=True, backend="aot_eager")(x)
    found = [value, *torch.autograd.grad(value, list(layer.parameters()))]
    torch._dynamo.reset()
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", LAYERS)
def test_exports(name):
    layer = with_options(name, 3, 5).eval()
    x = torch.randn(6, 2, 3)
    program = torch.export.export(layer, (x,))
    for a, b in zip(flat(program.module()(x)), flat(layer(x)), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", LAYERS)
def test_exports_with_lengths(name):
    layer = with_options(name, 3, 5, bidirectional=True, batch_first=True).eval()
    x = torch.randn(4, 6, 3)
    program = torch.export.export(layer, (x,), {"lengths": torch.tensor([3, 6, 0, 2])}).module()
    # Of one export any lengths.
    for lengths in ([3, 6, 0, 2], [1, 1, 5, 6], [0, 0, 0, 0]):
        for a, b in zip(
            flat(program(x, lengths=torch.tensor(lengths))), flat(layer(x, lengths=torch.tensor(lengths))), strict=True
        ):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_each_sample_by_vmap(name):
    layer = with_options(name, 3, 5, bidirectional=True).double().eval()
    parameters = dict(layer.named_parameters())
    xs = torch.randn(4, 6, 2, 3).double()

    def loss(parameters, x):
        return functional_call(layer, parameters, (x,))[0].pow(2).sum()

    found = vmap(grad(loss), in_dims=(None, 0))(parameters, xs)
    for i, x in enumerate(xs):
        for key, expected in grad(loss)(parameters, x).items():
            torch.testing.assert_close(found[key][i], expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", LAYERS)
def test_runs_in_half_types(name, dtype):
    layer = with_options(name, 3, 5, num_layers=2).eval()
    x = torch.randn(6, 2, 3)
    expected = flat(layer(x))
    layer.to(dtype)
    found = flat(layer(x.to(dtype)))
    sum(result.float().sum() for result in found).backward()
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == dtype
        torch.testing.assert_close(a.float(), b, rtol=0.1, atol=0.1)
    for parameter in layer.parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all()
    with torch.autocast("cpu", dtype=dtype):
        for a, b in zip(flat(layer.float()(x)), expected, strict=True):
            assert a.dtype == dtype
            torch.testing.assert_close(a.float(), b, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("name", LAYERS)
def test_parametrized_weights_are_used(name):
    layers = pair(name, 5, 7, num_layers=2)
    for layer in layers:
        nn.utils.parametrizations.weight_norm(layer, "weight_hh_l1")
        with torch.no_grad():
            layer.parametrizations.weight_hh_l1.original0.mul_(2)
    x = torch.randn(6, 3, 5).double()
    for a, b in zip(*(flat(layer(x)) for layer in layers), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", LAYERS)
def test_runs_under_autocast(name):
    layer = with_options(name, 3, 5, num_layers=2).eval()
    x = torch.randn(6, 2, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = flat(layer(x))
        sum(result.float().sum() for result in found).backward()
    for a, b in zip(found, flat(layer(x)), strict=True):
        assert a.dtype == torch.bfloat16
        torch.testing.assert_close(a.float(), b, rtol=0.1, atol=0.1)
    for parameter in layer.parameters():
        assert parameter.grad is not None and parameter.grad.dtype == torch.float32


@pytest.mark.parametrize("name", LAYERS)
def test_deepcopy_pickle_and_meta(name):
    layer = with_options(name, 3, 5).eval()
    x = torch.randn(6, 2, 3)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        for a, b in zip(flat(twin(x)), flat(layer(x)), strict=True):
            assert torch.equal(a, b)
    expected = flat(ours(name, 3, 5, bidirectional=True)(x))
    on_meta = ours(name, 3, 5, bidirectional=True, device="meta")
    for a, b in zip(flat(on_meta(x.to("meta"))), expected, strict=True):
        assert a.device.type == "meta" and a.shape == b.shape


def test_can_stand_in_a_sequential_model_and_be_moved():
    model = nn.ModuleDict({"encoder": tidegate.LSTM(3, 4, proj_size=2), "head": nn.Linear(2, 1)}).double()
    output, _ = model["encoder"](torch.randn(5, 2, 3).double())
    assert model["head"](output).dtype == torch.float64
    model.encoder.flatten_parameters()
