"""Words read letter by letter: from the characters of a word to one vector, without a padded character."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tidegate.errors import nearest
from tidegate.kernels.ragged import from_batch_major, ragged_from_lengths
from tidegate.layers.attention import segment_max
from tidegate.layers.stack import RecurrentStack

__all__ = ["CHARACTER_ENCODERS", "CharacterEncoder"]

CHARACTER_ENCODERS = ("cnn", "gru", "lstm")
_REACH = 1  # characters to each side of the one that a filter stands on


class CharacterEncoder(nn.Module):
    """The characters of words to one vector a word: a convolution with a maximum over the word, or a recurrent net.

    ``"cnn"`` (Chiu & Nichols 2016; Ma & Hovy 2016): filters over three characters, the word framed by marks of its
    beginning and end, the maximum over the word. ``"gru"`` and ``"lstm"`` (Lample et al. 2016): the final states of
    both directions.

    Args:
        kind: ``"cnn"``, ``"gru"`` or ``"lstm"``.
        num_characters: C, rows of the table; id 0 is an unknown character.
        embedding_size: E, features of a character.
        output_size: F, features of a word; even for a recurrent net, half of them each direction.

    Raises:
        ValueError: The kind is none of those named, or F is odd with a recurrent net.
    """

    def __init__(self, kind: str, num_characters: int, embedding_size: int, output_size: int) -> None:
        super().__init__()
        if kind not in CHARACTER_ENCODERS:
            raise ValueError(
                f"char_encoder must be one of {', '.join(CHARACTER_ENCODERS)}; found {kind!r}."
                f"{nearest(kind, CHARACTER_ENCODERS)}"
            )
        self.kind, self.output_size = kind, output_size
        # Two rows more than characters: the marks of a word's beginning and end.
        self.weight = nn.Parameter(torch.empty(num_characters + 2, embedding_size))
        bound = (3.0 / embedding_size) ** 0.5
        nn.init.uniform_(self.weight, -bound, bound)
        self.filters: nn.Linear | None = None
        self.recurrent: RecurrentStack | None = None
        if kind == "cnn":
            self.filters = nn.Linear((2 * _REACH + 1) * embedding_size, output_size)
        else:
            if output_size % 2:
                raise ValueError(f"char_hidden_size must be even for a recurrent net; found {output_size}")
            self.recurrent = RecurrentStack(kind, embedding_size, output_size // 2, 1, bidirectional=True)

    def forward(self, characters: Tensor, lengths: Tensor) -> Tensor:
        """The vector of each word, ``[W, F]``.

        Args:
            characters: ``[M]`` int64, the characters of word after word.
            lengths: ``[W]`` int64, at least 1 each; their sum is M.
        """
        if self.recurrent is not None:
            ragged = ragged_from_lengths(lengths)
            return self.recurrent.encode(self.weight.index_select(0, from_batch_major(characters, ragged)), ragged)[1]
        return self._convolve(characters, lengths)

    def of_tokens(self, forms: Tensor, letters: Tensor) -> Tensor:
        """The vectors of the tokens of a text, ``[N, F]``, each different word read once.

        Args:
            forms: ``[N]`` int64, equal for equal words.
            letters: ``[N, L]`` int64, the characters of each token, -1 after the last one.
        """
        found, places = torch.unique(forms, return_inverse=True)
        tokens = torch.arange(forms.shape[0], device=forms.device)
        some = places.new_empty(found.shape[0]).index_copy(0, places, tokens)  # a token of each word
        chosen = letters[some]
        there = chosen >= 0
        return self(chosen[there], there.sum(1)).index_select(0, places)

    def _convolve(self, characters: Tensor, lengths: Tensor) -> Tensor:
        filters = self.filters
        assert filters is not None  # of the kind "cnn"
        first, last = self.weight.shape[0] - 2, self.weight.shape[0] - 1
        words = torch.arange(lengths.shape[0], device=lengths.device)
        starts = lengths.cumsum(0) - lengths
        # Each word stands between its two marks: character n of word w lies at n + 2 w + 1.
        places = torch.arange(characters.shape[0], device=lengths.device)
        places = places + 2 * torch.repeat_interleave(words, lengths, output_size=characters.shape[0]) + 1
        framed = characters.new_empty(characters.shape[0] + 2 * lengths.shape[0])
        framed[places] = characters
        framed[starts + 2 * words] = first
        framed[starts + lengths + 2 * words + 1] = last
        # One product for each place under the filter, of every character of the alphabet rather than of every one read.
        parts = self.weight @ filters.weight.unflatten(1, (2 * _REACH + 1, -1)).permute(1, 2, 0)  # [3, C + 2, F]
        table = parts.flatten(0, 1)
        rows = self.weight.shape[0]
        shifted = [framed[places + offset - _REACH] + offset * rows for offset in range(2 * _REACH + 1)]
        bags = torch.stack(shifted, 1)
        sums = functional.embedding_bag(bags, table, mode="sum")  # [M, F]
        every = torch.arange(characters.shape[0], device=lengths.device)
        return segment_max(sums, every, starts) + filters.bias
