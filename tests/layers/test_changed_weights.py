"""Weights that change between two calls, by whatever way: nothing of them is kept, and nothing wrong is read."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import tidegate

LAYERS = {"rnn": tidegate.RNN, "lstm": tidegate.LSTM, "gru": tidegate.GRU}


@pytest.fixture(params=LAYERS)
def layer(request):
    torch.manual_seed(0)
    return LAYERS[request.param](3, 5, num_layers=2, bidirectional=True)


def run(layer, x):
    """The results in inference and in training, which are the same."""
    with torch.no_grad():
        output, last = layer(x)
    trained, _ = layer(x)
    torch.testing.assert_close(output, trained.detach(), rtol=0, atol=0)
    return [output, *(last if isinstance(last, tuple) else (last,))]


def fresh(layer):
    """A new layer with the weights that this one's attributes are now."""
    made = LAYERS[layer.mode.lower().split("_")[0]](3, 5, num_layers=2, bidirectional=True)
    made = made.to(layer.weight_ih_l0.dtype)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            parameter.copy_(getattr(layer, name))
    return made


def replace_parameter(layer, name):
    setattr(layer, name, nn.Parameter(torch.randn_like(getattr(layer, name))))


@torch.no_grad()
def in_place(layer, name):
    getattr(layer, name).mul_(-2)


def data_assigned(layer, name):
    getattr(layer, name).data = torch.randn_like(getattr(layer, name))


def data_written(layer, name):
    getattr(layer, name).data.uniform_()


def data_strided(layer, name):
    of = getattr(layer, name).detach()
    getattr(layer, name).data = torch.randn(*of.shape, 2)[..., 1]


def state_loaded(layer, name):
    layer.load_state_dict({key: torch.randn_like(value) for key, value in layer.state_dict().items()})


def state_assigned(layer, name):
    layer.load_state_dict({key: torch.randn_like(value) for key, value in layer.state_dict().items()}, assign=True)


def parametrized(layer, name):
    class Doubled(nn.Module):
        def forward(self, weight):
            return 2 * weight

    parametrize.register_parametrization(layer, name, Doubled())


def normed(layer, name):
    parametrizations.weight_norm(layer, name, dim=None)
    with torch.no_grad():
        layer.parametrizations[name].original0.mul_(1.5)


def pruned(layer, name):
    prune.random_unstructured(layer, name, amount=0.5)


def deleted_and_set(layer, name):
    # As wrappers that drop weights do it: a plain tensor in the place of the parameter.
    weight = getattr(layer, name).detach()
    delattr(layer, name)
    setattr(layer, name, weight * 0.5)


CHANGES = [
    replace_parameter,
    in_place,
    data_assigned,
    data_written,
    data_strided,
    state_loaded,
    state_assigned,
    parametrized,
    normed,
    pruned,
    deleted_and_set,
]


@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l0_reverse", "weight_hh_l1", "bias_hh_l1_reverse"])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_the_next_call_sees_the_change(layer, change, name):
    x = torch.randn(6, 2, 3)
    before = run(layer, x)
    change(layer, name)
    found = run(layer, x)
    assert not torch.equal(found[0], before[0])
    for a, b in zip(found, run(fresh(layer), x), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_the_next_call_sees_another_type_and_a_mask_that_changed(layer):
    x = torch.randn(6, 2, 3)
    single = run(layer, x)
    found = run(layer.double(), x.double())
    torch.testing.assert_close([part.float() for part in found], single)
    prune.random_unstructured(layer, "weight_hh_l0", amount=0.5)
    pruned = run(layer, x.double())
    prune.remove(layer, "weight_hh_l0")
    torch.testing.assert_close(run(layer, x.double()), pruned, rtol=0, atol=0)


def test_functional_call_and_copies_have_their_own_weights(layer):
    x = torch.randn(6, 2, 3)
    before = run(layer, x)
    other = {name: torch.randn_like(parameter) for name, parameter in layer.named_parameters()}
    with torch.no_grad():
        found, _ = torch.func.functional_call(layer, other, (x,))
    twin = copy.deepcopy(layer)
    twin.load_state_dict(other)
    torch.testing.assert_close(found, run(twin, x)[0], rtol=0, atol=0)
    torch.testing.assert_close(run(layer, x), before, rtol=0, atol=0)


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("weight_hh_l0", lambda w: w[:-1], "expected weight_hh of shape"),
        ("weight_hh_l0_reverse", lambda w: w[:, :-1], "expected weight_hh of shape"),
        ("weight_ih_l1", lambda w: w.t(), "expected weight_ih of|expected h_0 of shape"),
        ("bias_ih_l0", lambda w: w[:2], "expected bias_ih of shape"),
        ("bias_hh_l0_reverse", lambda w: w[None], "expected bias_hh of shape"),
        ("weight_hh_l1", lambda w: w.double(), "expected weight_hh of torch.float32"),
        ("bias_hh_l1", lambda w: w.half(), "expected bias_hh of torch.float32"),
    ],
)
def test_a_weight_of_another_shape_or_type_is_refused(layer, name, wrong, message, gradients):
    getattr(layer, name).data = wrong(getattr(layer, name).detach().clone())
    with torch.set_grad_enabled(gradients), pytest.raises(ValueError, match=message):
        layer(torch.randn(6, 2, 3))


def test_the_backward_pass_looks_again(layer):
    output, _ = layer(torch.randn(6, 2, 3))
    layer.weight_hh_l0.data = torch.zeros(1, 1)
    with pytest.raises((TypeError, RuntimeError)):
        output.sum().backward()
