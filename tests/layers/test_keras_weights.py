"""Weights of Keras 3 in and out, against Keras itself: its values, and the arrays that it gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tidegate
from tidegate.layers.keras_weights import from_keras, load_keras_, to_keras

KINDS = {
    "SimpleRNN": {},
    "SimpleRNN-relu": {"activation": "relu"},
    "LSTM": {},
    "GRU": {"reset_after": True},
    "GRU-before": {"reset_after": False},
    "LSTM-plain": {"use_bias": False},
    "GRU-plain": {"use_bias": False, "reset_after": False},
}
MERGES = {"concat": "concat", "sum": "sum", "ave": "mean", "mul": "product", None: "none"}
X = np.random.default_rng(0).normal(size=(3, 6, 4)).astype("float32")


@pytest.fixture(scope="module")
def keras():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "torch")
        yield pytest.importorskip("keras", reason="Keras is what the weights are checked against: pip install keras")


def build(keras, kind, wrapped=False, merge_mode="concat"):
    """A Keras layer with weights that are all drawn, biases too."""
    options = {"return_sequences": True, "return_state": not wrapped} | KINDS[kind]
    layer = getattr(keras.layers, kind.split("-")[0])(5, **options)
    if wrapped:
        layer = keras.layers.Bidirectional(layer, merge_mode=merge_mode)
    layer.build(X.shape)
    generator = np.random.default_rng(1)
    layer.set_weights([generator.normal(size=tuple(w.shape)).astype("float32") * 0.5 for w in layer.weights])
    return layer


def arrays(layer):
    return [weight.value.detach().numpy().copy() for weight in layer.weights]


def values(made):
    return made.detach().cpu()


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_from_keras_gives_what_keras_gives(keras, kind):
    theirs = build(keras, kind)
    options = {"activation": "relu"} if kind == "SimpleRNN-relu" else {}
    if kind == "GRU-plain":
        options["reset_after"] = False
    ours = from_keras(kind.split("-")[0], arrays(theirs), **options)
    output, *states = theirs(X)
    found, last = ours(torch.from_numpy(X))
    torch.testing.assert_close(found, values(output), rtol=1e-5, atol=1e-6)
    last = last if isinstance(last, tuple) else (last,)
    for a, b in zip(last, states, strict=True):
        torch.testing.assert_close(a[0], values(b), rtol=1e-5, atol=1e-6)
    assert ours.batch_first
    if kind.startswith("GRU"):
        assert ours.reset_after == (kind == "GRU")


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back_is_the_same(keras, kind):
    before = arrays(build(keras, kind))
    options = {"reset_after": False} if kind == "GRU-plain" else {}
    after = to_keras(from_keras(kind.split("-")[0], before, **options))
    for a, b in zip(after, before, strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "GRU-before", "SimpleRNN"])
def test_our_weights_give_keras_our_values(keras, kind):
    """Here both biases are there, which Keras has as one where it has no two."""
    ours = {
        "LSTM": lambda: tidegate.LSTM(4, 5, num_layers=2, batch_first=True, bidirectional=True),
        "GRU": lambda: tidegate.GRU(4, 5, num_layers=2, batch_first=True, bidirectional=True),
        "GRU-before": lambda: tidegate.GRU(4, 5, num_layers=2, batch_first=True, bidirectional=True, reset_after=False),
        "SimpleRNN": lambda: tidegate.RNN(4, 5, num_layers=2, batch_first=True, bidirectional=True),
    }[kind]()
    x = X
    for index in range(2):
        theirs = build(keras, kind, wrapped=True)
        if index:
            theirs = keras.layers.Bidirectional(type(theirs.forward_layer)(5, return_sequences=True, **KINDS[kind]))
            theirs.build((3, 6, 10))
        theirs.set_weights(to_keras(ours, index))
        x = values(theirs(x)).numpy()
    torch.testing.assert_close(ours(torch.from_numpy(X))[0].detach(), torch.from_numpy(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("merge_mode", MERGES)
def test_bidirectional_in_every_merge_mode(keras, merge_mode):
    theirs = build(keras, "GRU", wrapped=True, merge_mode=merge_mode)
    ours = from_keras("GRU", arrays(theirs), bidirectional=True, merge_mode=merge_mode)
    assert ours.merge == MERGES[merge_mode]
    made = theirs(X)
    expected = torch.stack([values(one) for one in made], 2) if merge_mode is None else values(made)
    torch.testing.assert_close(ours(torch.from_numpy(X))[0].detach(), expected, rtol=1e-5, atol=1e-6)


def drawn(*shapes, dtype="float32"):
    generator = np.random.default_rng(2)
    return [generator.normal(size=shape).astype(dtype) for shape in shapes]


def test_the_arrays_type_is_the_layers_and_copies_are_its_own():
    given = drawn((4, 15), (5, 15), (2, 15), dtype="float64")
    layer = from_keras("GRU", given)
    assert layer.weight_ih_l0.dtype == torch.float64
    before = layer.weight_ih_l0.clone()
    for array in given:
        array[...] = 0
    to_keras(layer)[0][...] = 0
    assert torch.equal(layer.weight_ih_l0, before)


def test_one_layer_of_a_stack_is_filled():
    layer = tidegate.LSTM(4, 5, num_layers=2)
    below = layer.weight_ih_l0.clone()
    given = drawn((5, 20), (5, 20), (20,))
    load_keras_(layer, given, index=1)
    assert torch.equal(layer.weight_ih_l0, below)
    for a, b in zip(to_keras(layer, 1), given, strict=True):
        assert np.array_equal(a, b)
    assert not layer.bias_hh_l1.any()
    load_keras_(layer, given[:2], index=1)  # without a bias ours are zeros
    assert not layer.bias_ih_l1.any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: from_keras("Gru", []), "cell must be one of SimpleRNN, LSTM, GRU; found 'Gru'"),
        (lambda: from_keras("GRU", drawn((4, 15))), "2 or 3 arrays; found 1"),
        (lambda: from_keras("GRU", drawn((4, 15), (5, 15))), "without a bias .* give reset_after"),
        (lambda: from_keras("LSTM", drawn((4, 15), (5, 15))), "expected a kernel of 4 gates|recurrent_kernel"),
        (lambda: from_keras("GRU", drawn((4, 15), (5, 12), (15,))), r"recurrent_kernel of shape \[\?, 15\]"),
        (lambda: from_keras("LSTM", drawn((4, 20), (5, 20), (19,))), r"expected bias of shape \[20\]; found \[19\]"),
        (lambda: from_keras("LSTM", drawn((4, 20), (5, 20)), activation="relu"), "Keras' default activation"),
        (lambda: from_keras("LSTM", drawn((4, 20), (5, 20)), merge_mode="add"), "merge_mode must be one of"),
        (
            lambda: from_keras("GRU", drawn((4, 15), (5, 15)), bidirectional=True, reset_after=True),
            "4 or 6 arrays; found 2",
        ),
        (lambda: to_keras(tidegate.LSTM(4, 5, peephole=True)), "Keras's LSTM has nothing for peephole=True"),
        (lambda: to_keras(tidegate.GRU(4, 5, layer_norm=True)), "Keras's GRU has nothing for layer_norm=True"),
        (lambda: to_keras(tidegate.GRU(4, 5), 1), "expected index from 0 to 0, one of the stacked layers; found 1"),
        (
            lambda: load_keras_(tidegate.GRU(4, 5, bias=False), drawn((4, 15), (5, 15), (2, 15))),
            "the weights have a bias_ih; expected a layer with one",
        ),
        (
            lambda: load_keras_(tidegate.GRU(4, 6), drawn((4, 15), (5, 15), (2, 15))),
            r"expected weight_ih of shape \[18, 4\]; found \[15, 4\]",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_public_names():
    assert tidegate.from_keras is from_keras
    assert tidegate.load_keras_ is load_keras_
    assert tidegate.to_keras is to_keras
