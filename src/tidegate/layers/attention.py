"""From the values of a ragged sequence to one vector a row: mean, maximum, and additive attention.

Every function here reads the N real steps and no padding, so a row of length zero pools to zeros, never to NaN. Sums
and maxima run through ``embedding_bag``, which on a CPU takes a half to a fifth of the time, forward and backward, that
``index_add``, ``segment_reduce`` or ``index_reduce`` take over the same rows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tidegate.kernels.products import linear
from tidegate.kernels.ragged import Ragged, to_batch_major

__all__ = ["AdditiveAttention", "max_pool", "mean_pool", "ragged_softmax", "segment_max", "weighted_sum"]


def _row_bags(ragged: Ragged) -> tuple[Tensor, Tensor]:
    # Which values make up each row, and where each row begins in that list: the bags of embedding_bag.
    places = torch.arange(ragged.num_values, device=ragged.lengths.device)
    return to_batch_major(places, ragged), ragged.lengths.cumsum(0) - ragged.lengths


def mean_pool(values: Tensor, ragged: Ragged) -> Tensor:
    """The mean over each row's steps.

    Args:
        values: ``[N, F]`` in ragged order.
        ragged: The layout of `values`.

    Returns:
        ``[B, F]`` in the caller's order; zeros where a row has no step.
    """
    weights = ragged.lengths.clamp(min=1).to(values.dtype).reciprocal()[ragged.row_of]
    return weighted_sum(values, weights, ragged)


def max_pool(values: Tensor, ragged: Ragged) -> Tensor:
    """The maximum of each feature over each row's steps; the gradient goes to the first step that attains it.

    Args:
        values: ``[N, F]`` in ragged order.
        ragged: The layout of `values`.

    Returns:
        ``[B, F]`` in the caller's order; zeros where a row has no step.
    """
    if not ragged.num_values:
        return values.sum(0).expand(ragged.num_rows, -1)  # zeros, of which a gradient can be taken
    pooled = segment_max(values, *_row_bags(ragged))
    return torch.where((ragged.lengths > 0)[:, None], pooled, 0.0)


def segment_max(values: Tensor, members: Tensor, starts: Tensor) -> Tensor:
    """The maximum of each feature over bags of rows, ``[B, F]``; its gradient goes to the first row that attains it.

    The places of the maxima come from ``embedding_bag`` and the maxima by them: its own backward pass over maxima takes
    a step a feature, this one a third of the time.

    Args:
        values: ``[N, F]``, N at least 1.
        members: ``[M]`` int64, the rows of bag after bag.
        starts: ``[B]`` int64, where each bag begins in `members`. What comes of an empty bag is of no use.
    """
    places = torch.ops.aten._embedding_bag_forward_only(values.detach(), members, starts, False, 2)[3]
    return values.gather(0, places.clamp(min=0))


def ragged_softmax(scores: Tensor, ragged: Ragged, mask: Tensor | None = None) -> Tensor:
    """The softmax over the steps of each row; the weights of a row sum to one.

    Args:
        scores: ``[N]`` in ragged order.
        ragged: The layout of `scores`.
        mask: ``[N]`` bool; steps where it is False have a weight of zero, and so has a whole row of them.
    """
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    lowest = torch.finfo(scores.dtype).min
    highest = scores.new_full((ragged.num_rows,), lowest).scatter_reduce(0, ragged.row_of, scores.detach(), "amax")
    unscaled = (scores - highest[ragged.row_of]).exp()
    total = scores.new_zeros(ragged.num_rows).index_add(0, ragged.row_of, unscaled)
    # Zero for a row of masked steps alone: nothing of it goes through the quotient.
    return unscaled / torch.where(total == 0, 1.0, total)[ragged.row_of]


def weighted_sum(values: Tensor, weights: Tensor, ragged: Ragged) -> Tensor:
    """The sum over each row's steps of ``[N, F]`` values times ``[N]`` weights: ``[B, F]`` in the caller's order."""
    members, starts = _row_bags(ragged)
    return functional.embedding_bag(members, values, starts, mode="sum", per_sample_weights=weights[members])


class AdditiveAttention(nn.Module):
    r"""Pooling by additive attention with a learned query.

    .. math::
        e_n = v^\top \tanh(W h_n + b), \qquad a = \mathrm{softmax}_{row}(e), \qquad c = \sum_n a_n h_n

    The score is that of Bahdanau et al. 2015 with the decoder's state replaced by a learned vector, as Yang et al. 2016
    use it for documents.

    Args:
        input_size: F, features of a step.
        attention_size: Width of the hidden layer that scores a step.
    """

    def __init__(
        self,
        input_size: int,
        attention_size: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.projection = nn.Linear(input_size, attention_size, device=device, dtype=dtype)
        self.query = nn.Linear(attention_size, 1, bias=False, device=device, dtype=dtype)

    def weights(self, values: Tensor, ragged: Ragged, mask: Tensor | None = None) -> Tensor:
        """The attention weight of every step, ``[N]`` in ragged order; those of a row sum to one.

        Args:
            values: ``[N, F]`` in ragged order.
            ragged: The layout of `values`.
            mask: ``[N]`` bool; steps where it is False are left out.
        """
        hidden = linear(values, self.projection.weight, self.projection.bias).tanh()
        return ragged_softmax(linear(hidden, self.query.weight).squeeze(-1), ragged, mask)

    def forward(self, values: Tensor, ragged: Ragged, mask: Tensor | None = None) -> Tensor:
        """``[N, F]`` in ragged order to ``[B, F]`` in the caller's order; zeros where a row has no step."""
        return self.pool(values, ragged, mask)[0]

    def pool(self, values: Tensor, ragged: Ragged, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """:meth:`forward`'s ``[B, F]`` and :meth:`weights`' ``[N]``, of one computation."""
        weights = self.weights(values, ragged, mask)
        return weighted_sum(values, weights, ragged), weights
