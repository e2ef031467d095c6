"""Change the import, keep the model: PyTorch's documented examples and well-known models, with both libraries.

Each part is a function of `nn`, torch.nn or tidegate's stand-in for it; values and gradients agree in float64.
"""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import tidegate


def keep(model):
    return model


def swap(model):
    assert tidegate.replace_(model)
    assert not any(isinstance(module, nn.RNNBase) for module in model.modules())
    return model


OURS = SimpleNamespace(RNN=tidegate.RNN, LSTM=tidegate.LSTM, GRU=tidegate.GRU, prepare=keep)
THEIRS = SimpleNamespace(RNN=nn.RNN, LSTM=nn.LSTM, GRU=nn.GRU, prepare=keep)
SWAPPED = SimpleNamespace(RNN=nn.RNN, LSTM=nn.LSTM, GRU=nn.GRU, prepare=swap)


def results_of(example: Any, library: Any) -> list[torch.Tensor]:
    """What an example returns, and the gradients of its parameters and of what it marks."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    try:
        model, leaves, outputs = example(library)
    finally:
        torch.set_default_dtype(torch.float32)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    loss = torch.stack([(t * torch.arange(t.numel()).view(t.shape).cos()).sum() for t in outputs]).sum()
    return [*outputs, *torch.autograd.grad(loss, [*leaves, *parameters])]


def assert_same(example, library):
    ours, theirs = results_of(example, library), results_of(example, THEIRS)
    assert len(ours) == len(theirs) > 2
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == torch.float64
        torch.testing.assert_close(a, b)


# The examples of the documentation of torch.nn.RNN, LSTM and GRU, word for word.
def documented_rnn(nn):
    rnn = nn.RNN(10, 20, 2)
    input = torch.randn(5, 3, 10)
    h0 = torch.randn(2, 3, 20)
    output, hn = rnn(input, h0)
    return rnn, [], [output, hn]


def documented_lstm(nn):
    rnn = nn.LSTM(10, 20, 2)
    input = torch.randn(5, 3, 10)
    h0 = torch.randn(2, 3, 20)
    c0 = torch.randn(2, 3, 20)
    output, (hn, cn) = rnn(input, (h0, c0))
    return rnn, [], [output, hn, cn]


def documented_gru(nn):
    rnn = nn.GRU(10, 20, 2)
    input = torch.randn(5, 3, 10)
    h0 = torch.randn(2, 3, 20)
    output, hn = rnn(input, h0)
    return rnn, [], [output, hn]


def sequence_models_tutorial(nn):
    """Of "Sequence Models and Long Short-Term Memory Networks": step after step, then all at once."""
    lstm = nn.LSTM(3, 3)
    inputs = [torch.randn(1, 3) for _ in range(5)]
    hidden = (torch.randn(1, 1, 3), torch.randn(1, 1, 3))
    outputs = []
    for i in inputs:
        out, hidden = lstm(i.view(1, 1, -1), hidden)
        outputs.append(out)
    inputs = torch.cat(inputs).view(len(inputs), 1, -1)
    hidden = (torch.randn(1, 1, 3), torch.randn(1, 1, 3))
    out, hidden = lstm(inputs, hidden)
    return lstm, [], [*outputs, out, *hidden]


def packed_sequences(nn):
    """Of the documentation of pack_padded_sequence and pad_packed_sequence."""
    rnn = nn.GRU(1, 4, bidirectional=True, batch_first=True)
    seq = torch.tensor([[1, 2, 0], [3, 0, 0], [4, 5, 6]]).unsqueeze(-1) / 7
    lens = [2, 1, 3]
    packed = pack_padded_sequence(seq, lens, batch_first=True, enforce_sorted=False)
    output, hn = rnn(packed)
    unpacked, _ = pad_packed_sequence(output, batch_first=True)
    return rnn, [], [unpacked, hn]


class AWDLSTM(nn.Module):
    """The language model of Merity et al. 2018: 400-1150-1150-400, here a fiftieth, tied to its table."""

    def __init__(self, library, tokens=30, embedding=8, hidden=23):
        super().__init__()
        self.embed = nn.Embedding(tokens, embedding)
        sizes = [embedding, hidden, hidden, embedding]
        self.rnns = nn.ModuleList(library.LSTM(a, b, 1, dropout=0) for a, b in itertools.pairwise(sizes))
        self.decoder = nn.Linear(embedding, tokens)
        self.decoder.weight = self.embed.weight

    def forward(self, ids, hidden):
        values, last = self.embed(ids), []
        for rnn, state in zip(self.rnns, hidden, strict=True):
            values, new = rnn(values, state)
            last.append(new)
        return self.decoder(values), last


def awd_lstm(library):
    model = library.prepare(AWDLSTM(library))
    hidden = [(torch.zeros(1, 4, size), torch.zeros(1, 4, size)) for size in (23, 23, 8)]
    outputs = []
    # Truncated backpropagation: two stretches with the state carried between them.
    for ids in torch.randint(0, 30, (2, 14, 4)):
        logits, hidden = model(ids, [tuple(s.detach() for s in state) for state in hidden])
        outputs.append(logits)
    return model, [], [*outputs, *(s for state in hidden for s in state)]


class LampleTagger(nn.Module):
    """Lample et al. 2016: the ends of an LSTM over characters beside word vectors, an LSTM over words."""

    def __init__(self, library, chars=20, words=40, tags=9):
        super().__init__()
        self.chars, self.words = nn.Embedding(chars, 5), nn.Embedding(words, 10)
        self.char_lstm = library.LSTM(5, 5, bidirectional=True, batch_first=True)
        self.word_lstm = library.LSTM(20, 10, bidirectional=True, batch_first=True)
        self.project = nn.Sequential(nn.Linear(20, 10), nn.Tanh(), nn.Linear(10, tags))

    def forward(self, words, lengths, chars, char_lengths):
        packed = pack_padded_sequence(self.chars(chars), char_lengths, batch_first=True, enforce_sorted=False)
        _, (ends, _) = self.char_lstm(packed)
        spelled = torch.cat([ends[0], ends[1]], dim=1).view(*words.shape, 10)
        values = torch.cat([self.words(words), spelled], dim=-1)
        packed = pack_padded_sequence(values, lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.word_lstm(packed)[0], batch_first=True)
        return self.project(states)


def lample_tagger(library):
    model = library.prepare(LampleTagger(library))
    words = torch.randint(0, 40, (3, 7))
    chars, char_lengths = torch.randint(0, 20, (21, 6)), torch.randint(1, 7, (21,))
    emissions = model(words, torch.tensor([5, 7, 2]), chars, char_lengths)
    return model, [], [emissions[0, :5], emissions[1], emissions[2, :2]]


class DeepSpeechLayer(nn.Module):
    """One layer of DeepSpeech 2's recurrent stack (Amodei et al. 2016): sequence-wise batch norm, directions summed."""

    def __init__(self, library, inputs, hidden, normed):
        super().__init__()
        self.norm = nn.BatchNorm1d(inputs) if normed else None
        self.rnn = library.GRU(inputs, hidden, bidirectional=True, bias=True)

    def forward(self, values, lengths):
        if self.norm is not None:
            values = self.norm(values.flatten(0, 1)).view_as(values)
        packed = pack_padded_sequence(values, lengths)
        values, _ = pad_packed_sequence(self.rnn(packed)[0])
        return values.view(*values.shape[:2], 2, -1).sum(2)


def deep_speech_2(library):
    sizes = [12, 10, 10, 10, 10, 10]
    layers = [DeepSpeechLayer(library, a, 10, i > 0) for i, a in enumerate(sizes[:-1])]
    model = library.prepare(nn.ModuleList([*layers, nn.Linear(10, 7, bias=False)]))
    values = leaf = torch.randn(9, 4, 12, requires_grad=True)
    lengths = torch.tensor([9, 9, 6, 2])
    for layer in layers:
        values = layer(values, lengths)
    return model, [leaf], [model[-1](values)]


EXAMPLES = [documented_rnn, documented_lstm, documented_gru, sequence_models_tutorial, packed_sequences]
EXAMPLES += [awd_lstm, lample_tagger, deep_speech_2]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.__name__)
def test_values_and_gradients_are_those_of_torch(example):
    assert_same(example, OURS)


@pytest.mark.parametrize("example", [awd_lstm, lample_tagger, deep_speech_2], ids=lambda example: example.__name__)
def test_so_they_are_after_a_swap(example):
    assert_same(example, SWAPPED)


def test_deep_speechs_summed_directions_are_merge_sum():
    torch.manual_seed(0)
    layer = DeepSpeechLayer(THEIRS, 6, 5, False).double()
    ours = tidegate.GRU(6, 5, bidirectional=True, merge="sum").double()
    ours.load_state_dict(layer.rnn.state_dict())
    x, lengths = torch.randn(9, 3, 6).double(), torch.tensor([9, 6, 2])
    torch.testing.assert_close(ours(x, lengths=lengths)[0], layer(x, lengths))


def test_awd_lstms_layers_are_a_list_of_sizes():
    torch.manual_seed(0)
    model = AWDLSTM(THEIRS).double()
    ours = tidegate.LSTM(8, [23, 23, 8]).double()
    ours.load_state_dict(
        {
            key.replace("_l0", f"_l{number}"): value
            for number, rnn in enumerate(model.rnns)
            for key, value in rnn.state_dict().items()
        }
    )
    ids = torch.randint(0, 30, (6, 4))
    zeros = [(torch.zeros(1, 4, size).double(),) * 2 for size in (23, 23, 8)]
    logits, last = model(ids, zeros)
    output, (h_n, c_n) = ours(model.embed(ids))
    torch.testing.assert_close(model.decoder(output), logits)
    for number, (h, c) in enumerate(last):
        torch.testing.assert_close(h_n[number], h[0])
        torch.testing.assert_close(c_n[number], c[0])
