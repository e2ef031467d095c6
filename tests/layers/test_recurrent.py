from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import tidegate


def pair(*args, **kwargs):
    """tidegate's and torch's GRU with the same weights, in float64."""
    ours, theirs = tidegate.GRU(*args, **kwargs).double(), nn.GRU(*args, **kwargs).double()
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def assert_same(ours, theirs, x, hx=None):
    """Values and all gradients of both layers agree."""
    results = []
    for layer in (ours, theirs):
        leaf = x.detach().clone().requires_grad_()
        output, h_n = layer(leaf, hx)
        loss = (output * torch.arange(output.numel()).view(output.shape).cos()).sum() + (h_n**2).sum()
        results.append([output, h_n, *torch.autograd.grad(loss, [leaf, *layer.parameters()])])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


OPTIONS = [
    {},
    {"num_layers": 3},
    {"bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
    {"bias": False, "batch_first": True},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("with_state", [False, True])
def test_equals_torch_on_padded_input(options, with_state):
    ours, theirs = pair(5, 7, **options)
    x = torch.randn(4, 6, 5).double()
    rows = 4 if options.get("batch_first") else 6
    states = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    assert_same(ours, theirs, x, torch.randn(states, rows, 7).double() if with_state else None)


@pytest.mark.parametrize("options", OPTIONS)
def test_equals_torch_on_unbatched_input(options):
    ours, theirs = pair(5, 7, **options)
    states = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    assert_same(ours, theirs, torch.randn(6, 5).double(), torch.randn(states, 7).double())


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("enforce_sorted", [False, True])
def test_equals_torch_on_packed_sequences(options, enforce_sorted):
    ours, theirs = pair(5, 7, **options)
    lengths = torch.tensor([6, 4, 4, 1] if enforce_sorted else [4, 1, 6, 4])
    states = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    hx = torch.randn(states, 4, 7).double()
    packed = pack_padded_sequence(
        torch.randn(4, 6, 5).double(), lengths, batch_first=True, enforce_sorted=enforce_sorted
    )
    (output, h_n), (expected, expected_h_n) = ours(packed, hx), theirs(packed, hx)
    assert type(output) is type(expected)
    for a, b in zip(output, expected, strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(h_n, expected_h_n)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_lengths_equal_torch_on_a_packed_sequence(batch_first, dtype):
    ours, theirs = pair(5, 7, num_layers=2, bidirectional=True, batch_first=batch_first)
    lengths = torch.tensor([3, 6, 1, 3], dtype=dtype)
    x = torch.randn(4, 8, 5).double()
    x = x if batch_first else x.transpose(0, 1)
    packed = pack_padded_sequence(x, lengths, batch_first=batch_first, enforce_sorted=False)
    expected, expected_h_n = theirs(packed)
    expected, _ = pad_packed_sequence(expected, batch_first=batch_first, total_length=8)
    output, h_n = ours(x, lengths=lengths)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(h_n, expected_h_n)


def test_what_lies_beyond_the_lengths_is_never_read():
    layer = tidegate.GRU(3, 4, bidirectional=True, batch_first=True)
    lengths = torch.tensor([2, 0, 5])
    clean = torch.randn(3, 5, 3)
    beyond = torch.arange(5) >= lengths[:, None]
    poisoned = clean.masked_fill(beyond.unsqueeze(-1), torch.nan).requires_grad_()
    hx = torch.randn(2, 3, 4)
    output, h_n = layer(poisoned, hx, lengths=lengths)
    expected, expected_h_n = layer(clean, hx, lengths=lengths)
    assert torch.equal(output, expected)
    assert torch.equal(h_n, expected_h_n)
    assert torch.equal(h_n[:, 1], hx[:, 1])
    assert (output[beyond] == 0).all()
    (gradient,) = torch.autograd.grad(output.sum() + h_n.sum(), poisoned)
    assert (gradient[beyond] == 0).all()
    assert torch.isfinite(gradient).all()


def test_one_seed_gives_torchs_weights():
    torch.manual_seed(5)
    ours = tidegate.GRU(3, 4, 2, bidirectional=True)
    torch.manual_seed(5)
    theirs = nn.GRU(3, 4, 2, bidirectional=True)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, parameter in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], parameter)


def test_looks_like_torchs_layer():
    for options in ({}, {"num_layers": 2, "bias": False, "batch_first": True, "dropout": 0.5, "bidirectional": True}):
        assert repr(tidegate.GRU(3, 4, **options)) == repr(nn.GRU(3, 4, **options))


def test_dropout_stands_between_layers_in_training_only():
    layer = tidegate.GRU(3, 4, num_layers=2, dropout=0.9)
    x = torch.randn(5, 2, 3)
    assert not torch.equal(layer(x)[0], layer(x)[0])
    layer.eval()
    assert torch.equal(layer(x)[0], layer(x)[0])
    with pytest.warns(UserWarning, match="does nothing with num_layers=1"):
        single = tidegate.GRU(3, 4, num_layers=1, dropout=0.9)
    assert torch.equal(single(x)[0], single(x)[0])


def test_reset_before_is_another_function_and_refers_to_the_kernel():
    torch.manual_seed(0)
    before = tidegate.GRU(3, 4, reset_after=False).double()
    after = tidegate.GRU(3, 4).double()
    after.load_state_dict(before.state_dict())
    x = torch.randn(5, 2, 3).double()
    expected, _ = tidegate.kernels.gru(
        x.flatten(0, 1),
        before._weights(0),
        torch.zeros(1, 2, 4).double(),
        _full(2, 5),
        reset_after=False,
        backend="reference",
    )
    torch.testing.assert_close(before(x)[0].flatten(0, 1), expected)
    assert not torch.allclose(before(x)[0], after(x)[0])
    assert "reset_after=False" in repr(before)


def _full(rows, steps):
    from tidegate.kernels.ragged import ragged_full

    return ragged_full(rows, steps)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda g: g(torch.zeros(2)), ValueError, "Expected input to be 2D or 3D, got 1D"),
        (lambda g: g(torch.zeros(2, 3, 9)), RuntimeError, "Expected 5, got 9"),
        (lambda g: g(torch.zeros(2, 3, 5), torch.zeros(1, 2, 7)), RuntimeError, "Expected hidden size"),
        (lambda g: g(torch.zeros(2, 5), torch.zeros(1, 1, 7)), RuntimeError, "hx should also be 2-D"),
        (lambda g: g(torch.zeros(2, 3, 5), lengths=torch.tensor([1])), ValueError, "each of the 3 rows"),
        (lambda g: g(torch.zeros(2, 3, 5), lengths=torch.tensor([1, 5, 1])), ValueError, "exceeds the 2 steps"),
        (lambda g: g(torch.zeros(2, 5), lengths=torch.tensor([1, 1])), ValueError, "unbatched"),
    ],
)
def test_inputs_that_do_not_fit(call, error, message):
    with pytest.raises(error, match=message):
        call(tidegate.GRU(5, 7))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"hidden_size": 0}, ValueError),
        ({"num_layers": 0}, ValueError),
        ({"dropout": 1.5}, ValueError),
        ({"hidden_size": 2.0}, TypeError),
    ],
)
def test_impossible_layers(options, error):
    with pytest.raises(error):
        tidegate.GRU(**({"input_size": 3, "hidden_size": 4} | options))


# Dynamo itself instantiates autograd Functions.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("with_lengths", [False, True])
def test_compiles_whole_forward_and_backward(with_lengths):
    torch.manual_seed(1)
    layer = tidegate.GRU(3, 5, num_layers=2, bidirectional=True, batch_first=True)
    x = torch.randn(4, 6, 3)
    lengths = torch.tensor([3, 6, 0, 2]) if with_lengths else None

    def loss(x):
        output, h_n = layer(x, lengths=lengths)
        return (output**2).sum() + h_n.sum()

    expected = torch.autograd.grad(loss(x), list(layer.parameters()))
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), loss(x))
    for a, b in zip(torch.autograd.grad(compiled(x), list(layer.parameters())), expected, strict=True):
        torch.testing.assert_close(a, b)
    torch._dynamo.reset()


def test_exports():
    layer = tidegate.GRU(3, 5)
    x = torch.randn(6, 2, 3)
    program = torch.export.export(layer, (x,))
    torch.testing.assert_close(program.module()(x), layer(x))


def test_gradients_of_each_sample_by_vmap():
    layer = tidegate.GRU(3, 5, bidirectional=True).double()
    parameters = dict(layer.named_parameters())
    xs = torch.randn(4, 6, 2, 3).double()

    def loss(parameters, x):
        return functional_call(layer, parameters, (x,))[0].pow(2).sum()

    found = vmap(grad(loss), in_dims=(None, 0))(parameters, xs)
    for i, x in enumerate(xs):
        for name, expected in grad(loss)(parameters, x).items():
            torch.testing.assert_close(found[name][i], expected)


def test_runs_under_autocast_in_float32():
    layer = tidegate.GRU(3, 5)
    x = torch.randn(6, 2, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, h_n = layer(x)
        (output.float().sum() + h_n.float().sum()).backward()
    torch.testing.assert_close(output.float(), layer(x)[0], rtol=0.02, atol=0.02)
    assert layer.weight_hh_l0.grad is not None and layer.weight_hh_l0.grad.dtype == torch.float32


def test_deepcopy_pickle_and_meta():
    layer = tidegate.GRU(3, 5)
    x = torch.randn(6, 2, 3)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        torch.testing.assert_close(twin(x), layer(x))
    output, h_n = tidegate.GRU(3, 5, bidirectional=True, device="meta")(torch.empty(6, 2, 3, device="meta"))
    assert output.shape == (6, 2, 10)
    assert h_n.shape == (2, 2, 5)


def test_saves_no_more_for_the_backward_pass_than_torch():
    x = torch.randn(20, 8, 16)
    counts = []
    for layer in (tidegate.GRU(16, 32), nn.GRU(16, 32)):
        storages: dict[int, int] = {}

        def keep(tensor, storages=storages):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            layer(x)
        counts.append(sum(storages.values()))
    assert counts[0] <= counts[1]
