from __future__ import annotations

import pytest
import torch
from torch import nn

import tidegate
from tidegate.layers.replace import replace_


class Tagger(nn.Module):
    """A model with every kind of recurrent layer, one of them in two places and one of a class of its own."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 6)
        self.encoder = nn.ModuleDict(
            {
                "gru": nn.GRU(6, 5, num_layers=2, dropout=0.5, bidirectional=True),
                "lstm": nn.LSTM(10, 8, proj_size=4, bias=False),
            }
        )
        self.rnn = nn.RNN(4, 4, nonlinearity="relu", num_layers=1)
        self.again = self.rnn
        self.other = Custom(4, 4)

    def forward(self, ids):
        x, _ = self.encoder["gru"](self.embed(ids))
        x, (h_n, c_n) = self.encoder["lstm"](x)
        x, _ = self.rnn(x)
        x, last = self.again(x)
        return self.other(x)[0], h_n, c_n, last


class Custom(nn.GRU):
    pass


def test_swaps_every_layer_and_keeps_the_results():
    torch.manual_seed(0)
    model = Tagger().double().eval()
    ids = torch.randint(0, 20, (7, 3))
    expected = model(ids)
    parameters = dict(model.named_parameters())
    drawn = torch.random.get_rng_state()
    assert replace_(model) == ["rnn", "again", "encoder.gru", "encoder.lstm"]
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert type(model.encoder["gru"]) is tidegate.GRU
    assert type(model.encoder["lstm"]) is tidegate.LSTM
    assert type(model.rnn) is tidegate.RNN and model.again is model.rnn
    assert type(model.other) is Custom
    assert not model.rnn.training
    for a, b in zip(model(ids), expected, strict=True):
        torch.testing.assert_close(a, b)
    after = dict(model.named_parameters())
    assert list(after) == list(parameters)
    assert all(after[name] is parameter for name, parameter in parameters.items())
    assert replace_(model) == []


def test_an_optimizer_and_hooks_go_on():
    torch.manual_seed(0)
    model = nn.ModuleList([nn.GRU(3, 4)])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    seen = []
    handle = model[0].register_forward_hook(lambda module, args, result: seen.append(type(module)))
    replace_(model)
    before = model[0].weight_hh_l0.detach().clone()
    model[0](torch.randn(5, 2, 3))[0].sum().backward()
    optimizer.step()
    assert not torch.equal(model[0].weight_hh_l0, before)
    assert seen == [tidegate.GRU]
    handle.remove()


def test_dropout_and_its_place_are_kept():
    model = nn.ModuleList([nn.LSTM(3, 4, num_layers=2, dropout=0.5)])
    replace_(model)
    assert repr(model[0]) == "LSTM(3, 4, num_layers=2, dropout=0.5)"
    x = torch.randn(5, 2, 3)
    assert not torch.equal(model[0](x)[0], model[0](x)[0])


def test_a_layer_itself_is_held_by_nothing():
    with pytest.raises(TypeError, match=r"found a torch.nn.GRU itself: make a tidegate.GRU and load its state_dict"):
        replace_(nn.GRU(3, 4))
