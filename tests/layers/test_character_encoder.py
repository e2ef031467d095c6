from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from tidegate.layers.character_encoder import CHARACTER_ENCODERS, CharacterEncoder

LENGTHS = [3, 1, 7, 1, 2]


def words() -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    letters = [torch.randint(0, 9, (length,), generator=generator) for length in LENGTHS]
    return letters, torch.cat(letters), torch.tensor(LENGTHS)


def test_the_convolution_is_that_of_torch_over_each_framed_word():
    torch.manual_seed(0)
    encoder = CharacterEncoder("cnn", 9, 5, 6)
    letters, characters, lengths = words()
    found = encoder(characters, lengths)
    assert encoder.filters is not None
    kernel = encoder.filters.weight.view(6, 3, 5).transpose(1, 2)
    expected = []
    for word in letters:
        framed = encoder.weight[torch.cat([torch.tensor([9]), word, torch.tensor([10])])]
        expected.append(functional.conv1d(framed.T[None], kernel, encoder.filters.bias)[0].amax(1))
    torch.testing.assert_close(found, torch.stack(expected))
    found.square().sum().backward()
    ours = [encoder.weight.grad, encoder.filters.weight.grad]
    theirs = torch.autograd.grad(torch.stack(expected).square().sum(), [encoder.weight, encoder.filters.weight])
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_the_recurrent_one_is_that_of_torch_over_each_word(kind: str):
    torch.manual_seed(0)
    encoder = CharacterEncoder(kind, 9, 5, 6)
    letters, characters, lengths = words()
    oracle = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[kind](5, 3, bidirectional=True)
    assert encoder.recurrent is not None
    oracle.load_state_dict(encoder.recurrent.layers[0].state_dict())
    expected = []
    for word in letters:
        states = oracle(encoder.weight[word][:, None])[1]
        final = states[0] if isinstance(states, tuple) else states
        expected.append(final[:, 0].flatten())
    torch.testing.assert_close(encoder(characters, lengths), torch.stack(expected))


@pytest.mark.parametrize("kind", CHARACTER_ENCODERS)
def test_a_word_is_the_same_among_others(kind: str):
    torch.manual_seed(0)
    encoder = CharacterEncoder(kind, 9, 5, 6)
    letters, characters, lengths = words()
    together = encoder(characters, lengths)
    for place, word in enumerate(letters):
        torch.testing.assert_close(encoder(word, torch.tensor([len(word)]))[0], together[place])


def test_what_cannot_be_built():
    with pytest.raises(ValueError, match="Did you mean 'cnn'"):
        CharacterEncoder("cn", 9, 5, 6)
    with pytest.raises(ValueError, match="char_hidden_size must be even"):
        CharacterEncoder("gru", 9, 5, 7)
