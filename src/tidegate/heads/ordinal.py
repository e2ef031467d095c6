"""One rating a sequence, of a few that have an order: a cumulative-link head, and its network."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tidegate.heads.regress import error_rows
from tidegate.heads.sequence import SequenceNetwork
from tidegate.layers.dropout import check_rate
from tidegate.layers.dropout import dropout as drop_features

__all__ = ["OrdinalHead", "SequenceOrdinal"]

_LEAST_GAP = 1e-4  # of two thresholds that start at equal shares


class OrdinalHead(nn.Module):
    """The proportional-odds model (McCullagh 1980): one score a row, and thresholds between the levels.

    ``P(y <= level k) = sigmoid(threshold_k - score)``, with thresholds that increase by construction, so that the
    probabilities of the levels are never negative. What is learned is the negative log-likelihood of the level itself.

    Args:
        input_size: F, features of the pooled vector.
        levels: The K ratings that there are, in rising order, at least 2.
        dropout: Probability of dropping a feature before the map.
        counts: Rows of each level in training, from which the thresholds start at the logits of the cumulative shares;
            None starts them at equal shares.

    Raises:
        ValueError: The levels do not rise, or a rate is out of range.
    """

    levels: Tensor

    def __init__(
        self,
        input_size: int,
        levels: Sequence[float],
        dropout: float = 0.0,
        counts: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        check_rate("dropout", dropout)
        if len(levels) < 2 or any(low >= high for low, high in pairwise(levels)):
            raise ValueError(f"ordinal levels must be at least 2, each above the one before; found {list(levels)}")
        self.dropout = dropout
        self.projection = nn.Linear(input_size, 1, bias=False)
        self.register_buffer("levels", torch.tensor([float(level) for level in levels]))
        shares = torch.tensor([1.0] * len(levels) if counts is None else [float(count) for count in counts])
        start = torch.logit(shares.cumsum(0)[:-1] / shares.sum(), eps=1e-4)
        self.first = nn.Parameter(start[:1].clone())
        # Softplus of these is what a threshold is above the one before.
        self.gaps = nn.Parameter(torch.expm1(start.diff().clamp(min=_LEAST_GAP)).log())

    @property
    def thresholds(self) -> Tensor:
        """``[K - 1]``, in rising order."""
        return torch.cat([self.first, self.first + functional.softplus(self.gaps).cumsum(0)])

    def forward(self, pooled: Tensor) -> Tensor:
        """``[B, F]`` to scores ``[B]``."""
        return self.projection(drop_features(pooled, self.dropout, self.training)).squeeze(-1).float()

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Each row's negative log-likelihood in nats, ``[B]``; `targets` are levels in their own units."""
        return -self._log_probabilities(outputs).gather(1, self._places(targets)[:, None]).squeeze(1)

    def measure(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """``accuracy`` (1 where the level is the right one), ``mae`` and ``mse``, in the targets' units."""
        predictions = self.decode(outputs)
        right = (predictions == self.levels[self._places(targets)]).to(outputs.dtype)
        return {"accuracy": right, **error_rows(predictions, targets)}

    def decode(self, outputs: Tensor) -> Tensor:
        """Scores ``[B]`` to the median level, ``[B]``: the lowest one with half of the probability at or below it."""
        return self.levels[(outputs[:, None] > self.thresholds).sum(1)]

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Scores ``[B]`` to the probability of each level, ``[B, K]``."""
        return self._log_probabilities(outputs).exp()

    def _places(self, targets: Tensor) -> Tensor:
        return torch.searchsorted(self.levels, targets.to(self.levels.dtype).contiguous())

    def _log_probabilities(self, outputs: Tensor) -> Tensor:
        # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)), of which no factor cancels.
        thresholds = self.thresholds
        above = thresholds - outputs[:, None]
        rows = outputs.shape[0]
        at_most = torch.cat([functional.logsigmoid(above), above.new_zeros(rows, 1)], 1)
        more_than = torch.cat([above.new_zeros(rows, 1), functional.logsigmoid(-above)], 1)
        apart = torch.log(-torch.expm1(-thresholds.diff()))
        inside = torch.cat([apart.new_zeros(1), apart, apart.new_zeros(1)])
        return at_most + more_than + inside


class SequenceOrdinal(SequenceNetwork):
    """Token ids to a rating: a :class:`SequenceNetwork` with a head for levels that have an order.

    Args:
        num_tokens: V, size of the vocabulary.
        levels: The ratings that there are, in rising order.
        dropout: Between the layers and before the score.
        counts: Rows of each level in training, or None.
        network: The further arguments of :class:`SequenceNetwork`.
    """

    def __init__(
        self,
        num_tokens: int,
        levels: Sequence[float],
        *,
        dropout: float,
        counts: Sequence[float] | None = None,
        **network: Any,
    ) -> None:
        super().__init__(
            num_tokens, lambda size: OrdinalHead(size, levels, dropout, counts), dropout=dropout, **network
        )
