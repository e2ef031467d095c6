"""Streams: single steps and chunks equal the whole sequence, in values and gradients."""

from __future__ import annotations

import pytest
import torch

from layers.recurrent_cases import LAYERS, flat, loss_of, states, with_options

FORMS = [{}, {"num_layers": 2}, {"hidden_size": [5, 6]}, {"num_layers": 2, "residual": True, "weight_dropout": 0.4}]


def layer_of(name, form):
    return with_options(name, 3, **({"hidden_size": 5} | form)).double().eval()


def given_states(name, layer, *rows):
    if not isinstance(layer.hidden_size, tuple):
        return states(name, layer, *rows)
    kinds = [tuple(torch.randn(*rows, size).double() for size in sizes) for sizes in layer._states.sizes.values()]
    return tuple(kinds) if len(kinds) > 1 else kinds[0]


def tensors(result):
    output, last = result
    found = [output]
    for kind in last if isinstance(last, tuple) else (last,):
        found += list(kind) if isinstance(kind, tuple) else [kind]
    return found


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_steps_and_chunks_equal_the_whole(name, form):
    layer = layer_of(name, form)
    x = torch.randn(7, 3, 3).double().requires_grad_()
    hx = given_states(name, layer, 3)
    expected = tensors(layer(x, hx))
    gradients = torch.autograd.grad(
        loss_of((expected[0], tuple(expected[1:]))), [x, *layer.parameters()], allow_unused=True
    )
    for size in (1, 2, 5):
        outputs, state = [], hx
        for chunk in x.split(size):
            output, state = layer(chunk, state)
            outputs.append(output)
        assert_same(layer, x, (torch.cat(outputs), state), expected, gradients)
    outputs, state = [], hx
    for x_t in x:
        output, state = layer.step(x_t, state)
        outputs.append(output)
    assert_same(layer, x, (torch.stack(outputs), state), expected, gradients)


def assert_same(layer, x, result, expected, gradients):
    found = tensors(result)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    again = torch.autograd.grad(loss_of((found[0], tuple(found[1:]))), [x, *layer.parameters()], allow_unused=True)
    for a, b in zip(again, gradients, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", LAYERS)
def test_unbatched_steps(name):
    layer = layer_of(name, {"num_layers": 2})
    x = torch.randn(4, 3).double()
    whole, last = layer(x)
    outputs, state = [], None
    for x_t in x:
        output, state = layer.step(x_t, state)
        outputs.append(output)
    torch.testing.assert_close(torch.stack(outputs), whole)
    for a, b in zip(flat((whole, state)), flat((whole, last)), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", LAYERS)
def test_chunks_of_rows_with_lengths_of_their_own(name):
    layer = layer_of(name, {"num_layers": 2})
    lengths = torch.tensor([7, 2, 0, 5])
    x = torch.randn(7, 4, 3).double()
    whole, last = layer(x, lengths=lengths)
    first, state = layer(x[:3], lengths=lengths.clamp(max=3))
    second, state = layer(x[3:], state, lengths=(lengths - 3).clamp(min=0))
    torch.testing.assert_close(torch.cat([first, second]), whole)
    for a, b in zip(flat((whole, state)), flat((whole, last)), strict=True):
        torch.testing.assert_close(a, b)


def test_what_has_no_single_steps():
    with pytest.raises(ValueError, match="bidirectional GRU reads the end of a sequence first"):
        with_options("GRU", 3, 5, bidirectional=True).step(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"\[B, I\] or \[I\]; found shape \(1, 2, 3\)"):
        with_options("GRU", 3, 5).step(torch.zeros(1, 2, 3))
    with pytest.raises(RuntimeError, match="Expected 3, got 4"):
        with_options("GRU", 3, 5).step(torch.zeros(2, 4))
    with pytest.raises(RuntimeError, match="hx should also be"):
        with_options("GRU", 3, 5).step(torch.zeros(3), torch.zeros(1, 1, 5))
