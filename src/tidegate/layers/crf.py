"""The linear-chain conditional random field as a layer: tags of a sequence that depend on their neighbours."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tidegate.kernels import crf
from tidegate.kernels.ragged import Ragged, unsort_rows

__all__ = ["CRF", "KBest"]


class KBest(NamedTuple):
    """The k best paths of every row, best first; beyond the last path of a row, -1, minus infinity and 0.

    Attributes:
        tags: ``[N, k]`` int64 in ragged order.
        scores: ``[B, k]`` in the caller's order.
        probabilities: ``[B, k]``, of the path among all paths of its row.
    """

    tags: Tensor
    scores: Tensor
    probabilities: Tensor


class CRF(nn.Module):
    r"""A linear-chain conditional random field (Lafferty, McCallum and Pereira 2001).

    .. math::
        \log p(y) = s(y) - \log \sum_{y'} \exp s(y') \qquad
        s(y) = a_{y_1} + \sum_t e_{t, y_t} + \sum_{t > 1} A_{y_{t-1} y_t} + b_{y_T}

    The parameters bear the names of the package pytorch-crf, so state dicts interchange: ``start_transitions [K]`` (a),
    ``transitions [K, K]`` (A, from the row's tag to the column's), ``end_transitions [K]`` (b). All methods take ragged
    values and return rows in the caller's order; a row of length zero has log-likelihood 0 and no tags.

    What tags mark the parts of segments, as BIO and BIOES do, allows is made of the labels themselves by
    :func:`tidegate.transition_masks`::

        labels = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
        crf = tidegate.CRF(len(labels), *tidegate.transition_masks(labels, "bio"))
        ragged = tidegate.ragged_from_lengths(lengths)                      # of padded [B, T, K] and [B, T]:
        loss = -crf(tidegate.pack(emissions, ragged), tidegate.pack(tags, ragged), ragged).sum()
        best, scores = crf.decode(tidegate.pack(emissions, ragged), ragged)
        padded = tidegate.pad(best, ragged)

    Args:
        num_tags: K.
        allowed: ``[K, K]`` bool, which tag may follow which; None for all. Masks are tensors or arrays; they belong to
            the constructor and are no part of the state dict.
        allowed_start: ``[K]`` bool, which tags may be first; None for all.
        allowed_end: ``[K]`` bool, which tags may be last; None for all.

    Raises:
        ValueError: `num_tags` is less than 1, or a mask has another shape or type.
    """

    allowed: Tensor | None
    allowed_start: Tensor | None
    allowed_end: Tensor | None

    def __init__(
        self,
        num_tags: int,
        allowed: Tensor | np.ndarray | None = None,
        allowed_start: Tensor | np.ndarray | None = None,
        allowed_end: Tensor | np.ndarray | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if num_tags < 1:
            raise ValueError(f"num_tags must be at least 1; found {num_tags}")
        self.num_tags = num_tags
        self.start_transitions = nn.Parameter(torch.empty(num_tags, device=device, dtype=dtype))
        self.end_transitions = nn.Parameter(torch.empty(num_tags, device=device, dtype=dtype))
        self.transitions = nn.Parameter(torch.empty(num_tags, num_tags, device=device, dtype=dtype))
        for name, given, shape in (
            ("allowed", allowed, (num_tags, num_tags)),
            ("allowed_start", allowed_start, (num_tags,)),
            ("allowed_end", allowed_end, (num_tags,)),
        ):
            mask = None if given is None else torch.as_tensor(given)
            if mask is not None and (mask.shape != shape or mask.dtype != torch.bool):
                raise ValueError(
                    f"expected {name} of torch.bool and shape {shape}; found {mask.dtype} and {tuple(mask.shape)}"
                )
            self.register_buffer(name, None if mask is None else mask.to(device=device, copy=True), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all scores from U(-0.1, 0.1)."""
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1)

    def extra_repr(self) -> str:
        """What ``print`` shows between the brackets."""
        masks = [name for name in ("allowed", "allowed_start", "allowed_end") if getattr(self, name) is not None]
        return ", ".join([str(self.num_tags), *(f"{name}=..." for name in masks)])

    def forward(self, emissions: Tensor, tags: Tensor, ragged: Ragged) -> Tensor:
        """:meth:`log_likelihood`, where a call of the module is wanted (hooks, wrappers, compiled modules)."""
        return self.log_likelihood(emissions, tags, ragged)

    def log_likelihood(self, emissions: Tensor, tags: Tensor, ragged: Ragged) -> Tensor:
        """log p(tags) of each row, ``[B]`` in nats; minus its sum is the loss.

        Minus infinity, with a gradient of zero, for a row whose own tags the masks forbid.

        Args:
            emissions: ``[N, K]`` in ragged order.
            tags: ``[N]`` int64 in ragged order.
            ragged: The layout of both.

        Raises:
            ValueError: Shapes or types do not fit together, or a tag is none of the K.
        """
        return unsort_rows(crf.log_likelihood(emissions, tags, *self._scores(), ragged), ragged)

    def log_partition(self, emissions: Tensor, ragged: Ragged) -> Tensor:
        """The logarithm of the sum of exp(score) over all paths of each row, ``[B]``."""
        return unsort_rows(crf.log_partition(emissions, *self._scores(), ragged), ragged)

    def marginals(self, emissions: Tensor, ragged: Ragged) -> Tensor:
        """``[N, K]`` in ragged order: the probability of each tag at each step, given the whole row."""
        return crf.marginals(emissions, *self._scores(), ragged)

    def decode(self, emissions: Tensor, ragged: Ragged) -> tuple[Tensor, Tensor]:
        """The best path of each row: ``tags [N]`` in ragged order, and its score (no probability), ``[B]``.

        Among equal scores the lowest tag counts, from the last step backwards. A row all of whose paths the masks
        forbid has tags of -1 and the score minus infinity.
        """
        tags, scores = crf.best_paths(emissions, *self._scores(), ragged)
        return tags, unsort_rows(scores, ragged)

    def decode_k_best(self, emissions: Tensor, ragged: Ragged, k: int) -> KBest:
        """The `k` best paths of each row with their scores and probabilities.

        Raises:
            ValueError: `k` is less than 1.
        """
        tags, scores = crf.k_best_paths(emissions, *self._scores(), ragged, k)
        with torch.no_grad():
            log_partition = crf.log_partition(emissions, *self._scores(), ragged)[:, None]
            # A row without a path has two minus infinities; no rounding makes a probability of more than one.
            log_probabilities = torch.where(torch.isneginf(scores), scores, scores - log_partition)
            probabilities = log_probabilities.exp().clamp(max=1)
        return KBest(tags, unsort_rows(scores, ragged), unsort_rows(probabilities, ragged))

    def _scores(self) -> tuple[Tensor, Tensor, Tensor]:
        """Transitions, start and end, minus infinity where the masks forbid."""
        return (
            _masked(self.transitions, self.allowed),
            _masked(self.start_transitions, self.allowed_start),
            _masked(self.end_transitions, self.allowed_end),
        )


def _masked(scores: Tensor, allowed: Tensor | None) -> Tensor:
    return scores if allowed is None else torch.where(allowed, scores, -math.inf)
