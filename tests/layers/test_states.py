"""States of layers whose sizes are a list: L*D tensors in torch's order, in and out."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import tidegate
from layers.recurrent_cases import LAYERS, flat, ours


def drawn(layer, *rows):
    kinds = [
        tuple(torch.randn(*rows, size).double() for size in sizes for _ in range(layer.num_directions))
        for sizes in layer._states.sizes.values()
    ]
    return tuple(kinds) if len(kinds) > 1 else kinds[0]


def kinds_of(hx):
    return hx if isinstance(hx[0], tuple) else (hx,)


@pytest.mark.parametrize("name", LAYERS)
def test_a_list_of_equal_sizes_is_num_layers_but_for_the_form_of_states(name):
    torch.manual_seed(0)
    listed = ours(name, 3, [6, 6], bidirectional=True, batch_first=True).double()
    plain = ours(name, 3, 6, num_layers=2, bidirectional=True, batch_first=True).double()
    assert list(listed.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(listed.state_dict())
    hx = drawn(listed, 4)
    stacked = tuple(torch.stack(kind) for kind in kinds_of(hx))
    stacked = stacked if len(stacked) > 1 else stacked[0]
    x = torch.randn(4, 5, 3).double()
    lengths = torch.tensor([3, 5, 0, 2])
    packed = pack_padded_sequence(x, [3, 5, 1, 2], batch_first=True, enforce_sorted=False)
    for given, more in ((x, {}), (x, {"lengths": lengths}), (packed, {})):
        output, last = listed(given, hx, **more)
        expected, expected_last = plain(given, stacked, **more)
        torch.testing.assert_close(output, expected)
        for kind, wanted in zip(kinds_of(last), flat((x, expected_last))[1:], strict=True):
            assert len(kind) == 4
            torch.testing.assert_close(torch.stack(kind), wanted)
    alone, last = listed(
        x[0],
        tuple(tuple(s[0] for s in kind) for kind in hx) if len(listed._states.sizes) > 1 else tuple(s[0] for s in hx),
    )
    torch.testing.assert_close(alone, listed(x, hx)[0][0])
    assert all(state.dim() == 1 for kind in kinds_of(last) for state in kind)


def test_sizes_of_their_own_and_what_the_layer_says_of_them():
    layer = tidegate.LSTM(3, [8, 6, 4], bidirectional=True, proj_size=2, dropout=0.5)
    assert layer.hidden_size == (8, 6, 4) and layer.num_layers == 3 and layer.output_size == 4
    assert repr(layer) == "LSTM(3, [8, 6, 4], proj_size=2, dropout=0.5, bidirectional=True)"
    _, (h_n, c_n) = layer(torch.randn(5, 2, 3))
    assert [tuple(state.shape) for state in h_n] == [(2, 2)] * 6
    assert [tuple(state.shape) for state in c_n] == [(2, 8), (2, 8), (2, 6), (2, 6), (2, 4), (2, 4)]
    assert tidegate.GRU(3, [5]).hidden_size == (5,)
    _, last = tidegate.GRU(3, [5])(torch.randn(5, 2, 3))
    assert isinstance(last, tuple) and last[0].shape == (2, 5)


def test_learned_initial_states_of_each_size():
    torch.manual_seed(0)
    layer = tidegate.LSTM(3, [4, 6], learn_initial_state=True)
    assert [layer.h_0_l0.shape[0], layer.c_0_l1.shape[0]] == [4, 6]
    for parameter in (layer.h_0_l0, layer.h_0_l1, layer.c_0_l0, layer.c_0_l1):
        nn.init.normal_(parameter)
    x = torch.randn(5, 2, 3)
    given = tuple(
        tuple(layer.get_parameter(f"{kind}_l{number}").detach().expand(2, -1) for number in range(2))
        for kind in ("h_0", "c_0")
    )
    torch.testing.assert_close(layer(x), layer(x, given))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: tidegate.GRU(3, [4, 5])(torch.zeros(2, 1, 3), torch.zeros(2, 1, 4)),
            RuntimeError,
            r"\[\(1, 4\), \(1, 5\)\]",
        ),
        (
            lambda: tidegate.GRU(3, [4, 5])(torch.zeros(2, 1, 3), (torch.zeros(1, 4),)),
            RuntimeError,
            r"got \[\(1, 4\)\]",
        ),
        (
            lambda: tidegate.LSTM(3, [4, 5])(torch.zeros(2, 1, 3), (torch.zeros(1, 4),)),
            ValueError,
            "h_0 and c_0; found 1",
        ),
        (lambda: tidegate.GRU(3, []), ValueError, "hidden_size has no layer"),
        (lambda: tidegate.GRU(3, [4, 0]), ValueError, "hidden_size must be greater than zero; found 0"),
        (lambda: tidegate.GRU(3, [4, 5.0]), TypeError, "hidden_size should be of type int, got: float"),
        (lambda: tidegate.GRU(3, "45"), TypeError, "hidden_size should be of type int, got: str"),
        (lambda: tidegate.GRU(3, [4, 5], 3), ValueError, "lists 2 layers and num_layers is 3"),
        (lambda: tidegate.LSTM(3, [8, 4], proj_size=5), ValueError, "smaller than hidden_size; found 5 and 4"),
        (lambda: tidegate.GRU(3, 4, merge="sum"), ValueError, "merge='sum' is for two directions"),
        (
            lambda: tidegate.GRU(3, 4, bidirectional=True, merge="ave"),
            ValueError,
            "merge must be one of concat, sum, mean",
        ),
        (lambda: tidegate.GRU(3, 4, residual=1), TypeError, "residual should be of type bool"),
    ],
)
def test_what_makes_no_sense_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
