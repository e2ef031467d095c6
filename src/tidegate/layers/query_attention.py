"""Attention of a query over a row's steps, as recurrent decoders have it: Bahdanau's sum and Luong's product."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tidegate.errors import nearest
from tidegate.kernels.attention import Group, row_groups, row_places
from tidegate.kernels.ragged import Ragged
from tidegate.layers.attention import ragged_softmax, weighted_sum

__all__ = ["BahdanauAttention", "LuongAttention"]

_SCORES = ("dot", "general")


class _QueryAttention(nn.Module):
    """What both forms share: the softmax over a row's steps and the weighted sum of its values."""

    def prepare(self, keys: Tensor) -> Tensor:
        """What of the score depends on the keys alone, ``[N, A]``: made once for all steps of a decoder."""
        raise NotImplementedError

    def _query(self, queries: Tensor) -> Tensor:
        """``[..., Q]`` to ``[..., A]``."""
        raise NotImplementedError

    def _score(self, queries: Tensor, keys: Tensor) -> Tensor:
        """``[N, A]`` queries and keys, pair by pair, to ``[N]``."""
        raise NotImplementedError

    def _score_all(self, queries: Tensor, keys: Tensor) -> Tensor:
        """All pairs of ``[rows, q, A]`` and ``[rows, k, A]``, ``[rows, q, k]``."""
        raise NotImplementedError

    def forward(
        self,
        queries: Tensor,
        keys: Tensor,
        ragged: Ragged,
        prepared: Tensor | None = None,
        values: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """One query a row, as at one step of a decoder.

        Args:
            queries: ``[B, Q]`` in the caller's order.
            keys: ``[N, K]`` in ragged order.
            ragged: The layout of the keys.
            prepared: What :meth:`prepare` made of the keys; None makes it anew.
            values: ``[N, F]`` in ragged order, what is summed; None for the keys.
            mask: ``[N]`` bool; steps where it is False are left out.

        Returns:
            The context of each row ``[B, F]``, zeros where a row has no step, and the weights ``[N]`` in ragged order,
            those of a row summing to one.

        Raises:
            ValueError: There is not one query a row.
        """
        if queries.dim() != 2 or queries.shape[0] != ragged.num_rows:
            raise ValueError(f"expected one query for each of {ragged.num_rows} rows; found {tuple(queries.shape)}")
        prepared = self.prepare(keys) if prepared is None else prepared
        scores = self._score(self._query(queries).index_select(0, ragged.row_of), prepared)
        weights = ragged_softmax(scores, ragged, mask)
        return weighted_sum(keys if values is None else values, weights, ragged), weights

    def forward_ragged(
        self,
        queries: Tensor,
        of_queries: Ragged,
        keys: Tensor,
        of_keys: Ragged,
        values: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Many queries a row, as for a whole target sequence at once; no padded pair is computed.

        Args:
            queries: ``[M, Q]`` in ragged order.
            of_queries: The layout of the queries.
            keys: ``[N, K]`` in ragged order.
            of_keys: The layout of the keys, of as many rows.
            values: ``[N, F]`` in ragged order, what is summed; None for the keys.
            mask: ``[N]`` bool; steps of the keys where it is False are left out.

        Returns:
            The context of each query, ``[M, F]`` in the order of the queries, and for each row in the caller's order
            its weights, ``[queries, keys]``.

        Raises:
            ValueError: The layouts have not as many rows.
        """
        if of_queries.num_rows != of_keys.num_rows:
            raise ValueError(f"expected keys of {of_queries.num_rows} rows, as the queries; found {of_keys.num_rows}")
        values = keys if values is None else values
        # Rows of as many queries side by side; those without one are last.
        order = of_queries.order
        query_places, query_lengths = row_places(of_queries, order)
        key_places, key_lengths = row_places(of_keys, order)

        def arrange(made: Tensor, places: Tensor) -> Tensor:
            return torch.empty_like(made).index_copy(0, places, made)

        q, k = arrange(self._query(queries), query_places), arrange(self.prepare(keys), key_places)
        v, kept = arrange(values, key_places), None if mask is None else arrange(mask, key_places)
        contexts, weights = [values.new_empty(0, values.shape[-1])], []
        for group in row_groups(query_lengths.tolist(), key_lengths.tolist()):
            attended = self._weights_of(group, q, k, kept)
            contexts.append((attended @ group.of_keys(v)).flatten(0, 1))
            weights += attended.unbind(0)
        by_row = [values.new_empty(0, length) for length in of_keys.lengths.tolist()]
        for row, of_row in zip(order.tolist(), weights, strict=False):
            by_row[row] = of_row
        return torch.cat(contexts).index_select(0, query_places), by_row

    def _weights_of(self, group: Group, queries: Tensor, keys: Tensor, kept: Tensor | None) -> Tensor:
        """``[rows, queries, keys]`` of rows of the same lengths."""
        scores = self._score_all(group.of_queries(queries), group.of_keys(keys))
        if kept is None:
            return scores.softmax(-1)
        seen = group.of_keys(kept)[:, None]
        some = seen.any(-1, keepdim=True)
        # Where no key is seen the softmax would be of nothing but minus infinities.
        weights = torch.where(seen | ~some, scores, -torch.inf).softmax(-1)
        return torch.where(some, weights, 0.0)


class BahdanauAttention(_QueryAttention):
    r"""Additive attention (Bahdanau et al. 2015, arXiv:1409.0473).

    .. math::
        e_n = v^\top \tanh(W q + U k_n + b), \qquad a = \mathrm{softmax}_{row}(e), \qquad c = \sum_n a_n k_n

    Args:
        query_size: Q, features of a query: a decoder's state.
        key_size: K, features of a key: an encoder's output.
        attention_size: A, width of the hidden layer that scores.
    """

    def __init__(
        self,
        query_size: int,
        key_size: int,
        attention_size: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.query = nn.Linear(query_size, attention_size, bias=False, device=device, dtype=dtype)
        self.key = nn.Linear(key_size, attention_size, device=device, dtype=dtype)
        self.score = nn.Linear(attention_size, 1, bias=False, device=device, dtype=dtype)

    def prepare(self, keys: Tensor) -> Tensor:
        """``U k + b``, ``[N, A]``: made once for all steps of a decoder."""
        return self.key(keys)

    def _query(self, queries: Tensor) -> Tensor:
        return self.query(queries)

    def _score(self, queries: Tensor, keys: Tensor) -> Tensor:
        return self.score((queries + keys).tanh()).squeeze(-1)

    def _score_all(self, queries: Tensor, keys: Tensor) -> Tensor:
        return self._score(queries[:, :, None], keys[:, None])


class LuongAttention(_QueryAttention):
    r"""Multiplicative attention (Luong et al. 2015, arXiv:1508.04025).

    .. math::
        e_n = q^\top k_n \quad\text{(dot)} \qquad e_n = q^\top W k_n \quad\text{(general)}

    Weights and context are as in :class:`BahdanauAttention`. (Their third form, concat, is that one's.)

    Args:
        query_size: Q, features of a query.
        key_size: K, features of a key; of a dot product as many.
        score: ``"dot"`` or ``"general"``.
        scale: Whether scores are divided by the square root of Q (Vaswani et al. 2017, arXiv:1706.03762).

    Raises:
        ValueError: The score is unknown, or a dot product has sizes that differ.
    """

    def __init__(
        self,
        query_size: int,
        key_size: int,
        score: str = "general",
        scale: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if score not in _SCORES:
            raise ValueError(f"score must be one of {', '.join(_SCORES)}; found {score!r}.{nearest(score, _SCORES)}")
        if score == "dot" and query_size != key_size:
            raise ValueError(
                f"a dot product needs queries and keys of one size; found {query_size} and {key_size}: take 'general'"
            )
        self.scale = 1 / math.sqrt(query_size) if scale else 1.0
        self.key = (
            nn.Linear(key_size, query_size, bias=False, device=device, dtype=dtype)
            if score == "general"
            else nn.Identity()
        )

    def prepare(self, keys: Tensor) -> Tensor:
        """``W k``, ``[N, Q]``, or the keys themselves: made once for all steps of a decoder."""
        return self.key(keys)

    def _query(self, queries: Tensor) -> Tensor:
        return queries * self.scale

    def _score(self, queries: Tensor, keys: Tensor) -> Tensor:
        return (queries * keys).sum(-1)

    def _score_all(self, queries: Tensor, keys: Tensor) -> Tensor:
        return queries @ keys.transpose(-1, -2)
