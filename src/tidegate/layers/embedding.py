"""Token ids to vectors, with dropout of whole words and of single features."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from tidegate.layers.dropout import check_rate
from tidegate.layers.dropout import dropout as drop_features

__all__ = ["TokenEmbedding"]


class TokenEmbedding(nn.Module):
    """A table of one vector a token, for the ragged values of a batch: ``[N]`` ids to ``[N, E]`` vectors.

    In training a token becomes the unknown token with probability `word_dropout` (Iyyer et al. 2015), and every feature
    of a looked-up vector is dropped with probability `dropout`, the rest scaled by ``1 / (1 - dropout)``.

    Args:
        num_tokens: V, rows of the table.
        embedding_size: E.
        dropout: Probability of dropping a feature, in [0, 1).
        word_dropout: Probability of replacing a token by `unknown_id`, in [0, 1).
        unknown_id: The id that stands for a token outside the vocabulary.
    """

    def __init__(
        self,
        num_tokens: int,
        embedding_size: int,
        dropout: float = 0.0,
        word_dropout: float = 0.0,
        unknown_id: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_rate("dropout", dropout)
        check_rate("word_dropout", word_dropout)
        self.dropout = dropout
        self.word_dropout = word_dropout
        self.unknown_id = unknown_id
        self.tune_after: int | None = 0
        self.tuned = True
        self.weight = nn.Parameter(torch.empty(num_tokens, embedding_size, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the table from the standard normal distribution, as ``torch.nn.Embedding`` does."""
        nn.init.normal_(self.weight)

    def start_from(self, vectors: np.ndarray, tune_after: int | None = 0) -> None:
        """Put given vectors ``[V, E']``, E' at most E, over the first E' features of the table.

        Args:
            vectors: float32.
            tune_after: Epochs of training for which the table stays as it is; None keeps it for ever.
        """
        with torch.no_grad():
            self.weight[:, : vectors.shape[1]] = torch.from_numpy(vectors)
        self.tune_after = tune_after
        self.begin_epoch(0)

    def begin_epoch(self, epoch: int) -> None:
        """Say which epoch of training begins, counted from 0: the table learns from epoch `tune_after` on."""
        self.tuned = self.tune_after is not None and epoch >= self.tune_after

    def forward(self, ids: Tensor) -> Tensor:
        """``[N]`` int64 ids to ``[N, E]`` vectors."""
        if self.training and self.word_dropout > 0.0:
            dropped = torch.rand(ids.shape, device=ids.device) < self.word_dropout
            ids = ids.masked_fill(dropped, self.unknown_id)
        # On a CPU the gradient of index_select is up to three times as fast as that of functional.embedding.
        weight = self.weight if self.tuned else self.weight.detach()
        return drop_features(weight.index_select(0, ids), self.dropout, self.training)

    def extra_repr(self) -> str:
        """The sizes and rates, for ``print``."""
        num_tokens, embedding_size = self.weight.shape
        return f"{num_tokens}, {embedding_size}, dropout={self.dropout}, word_dropout={self.word_dropout}"
