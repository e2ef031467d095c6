"""Multi-head attention over ragged rows, with torch.nn's parameters."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tidegate.kernels.attention import ragged_attention, row_places
from tidegate.kernels.ragged import Ragged, pad
from tidegate.layers.dropout import check_rate

__all__ = ["MultiHeadAttention"]


class MultiHeadAttention(nn.Module):
    r"""Multi-head attention (Vaswani et al. 2017, arXiv:1706.03762): each row's queries over that row's keys.

    .. math::
        \mathrm{head}_i = \mathrm{softmax}\left(\frac{q W_i^Q (k W_i^K)^\top}{\sqrt{d}}\right) v W_i^V
        \qquad o = [\mathrm{head}_1, \dots] W^O \qquad d = E / \mathit{heads}

    Rows may have any lengths, zero among them, those of queries and of keys apart; no padded step is computed. The
    parameters bear the names, shapes and initialisation of :class:`torch.nn.MultiheadAttention`, so state dicts
    interchange.

    Args:
        embed_dim: E, features of queries and outputs.
        num_heads: Heads; they share E evenly.
        dropout: Probability of dropping an attention weight, in training.
        bias: Whether the products have biases.
        kdim: Features of the keys; None for E.
        vdim: Features of the values; None for E.

    Raises:
        ValueError: The heads do not share E evenly, or `dropout` is outside [0, 1).
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        kdim: int | None = None,
        vdim: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if embed_dim < 1 or num_heads < 1 or embed_dim % num_heads:
            raise ValueError(
                f"expected an embed_dim that the heads share evenly; found embed_dim={embed_dim}, num_heads={num_heads}"
            )
        check_rate("dropout", dropout)
        self.embed_dim, self.num_heads, self.dropout = embed_dim, num_heads, dropout
        self.kdim, self.vdim = embed_dim if kdim is None else kdim, embed_dim if vdim is None else vdim
        self._same_sizes = self.kdim == self.vdim == embed_dim

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        if self._same_sizes:
            self.in_proj_weight = parameter(3 * embed_dim, embed_dim)
        else:
            self.q_proj_weight = parameter(embed_dim, embed_dim)
            self.k_proj_weight = parameter(embed_dim, self.kdim)
            self.v_proj_weight = parameter(embed_dim, self.vdim)
        self.register_parameter("in_proj_bias", parameter(3 * embed_dim) if bias else None)
        self.out_proj = nn.Linear(embed_dim, embed_dim, bias=bias, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-uniform projections and biases of zero, as torch.nn's."""
        for name, parameter in self.named_parameters(recurse=False):
            if name.endswith("weight"):
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.zeros_(parameter)
        if self.out_proj.bias is not None:
            nn.init.zeros_(self.out_proj.bias)

    def extra_repr(self) -> str:
        """Sizes, heads and dropout, for ``print``."""
        parts = [f"{self.embed_dim}, {self.num_heads}"]
        if self.dropout:
            parts.append(f"dropout={self.dropout}")
        parts += [f"{name}={size}" for name, size in (("kdim", self.kdim), ("vdim", self.vdim)) if not self._same_sizes]
        return ", ".join(parts)

    def forward(
        self,
        queries: Tensor,
        of_queries: Ragged,
        keys: Tensor | None = None,
        of_keys: Ragged | None = None,
        values: Tensor | None = None,
        *,
        causal: bool = False,
    ) -> Tensor:
        """Attend.

        Args:
            queries: ``[M, E]`` in ragged order.
            of_queries: The layout of the queries.
            keys: ``[N, kdim]`` in ragged order; None for self-attention, where the queries are the keys.
            of_keys: The layout of the keys, of as many rows; None for that of the queries.
            values: ``[N, vdim]``; None for the keys, with which alone they are given.
            causal: Whether a step sees itself and those before alone.

        Returns:
            ``[M, E]`` in the order of the queries. A row without keys has what the output bias is.

        Raises:
            ValueError: Shapes or layouts do not fit together.
        """
        of_keys = of_queries if of_keys is None else of_keys
        if keys is None and (values is not None or of_keys is not of_queries):
            raise ValueError("without keys the queries are the keys and values; expected no values nor layout of keys")
        if of_keys.num_rows != of_queries.num_rows:
            raise ValueError(f"expected keys of {of_queries.num_rows} rows, as the queries; found {of_keys.num_rows}")
        places, lengths = row_places(of_queries, of_queries.order)
        rows = torch.empty_like(queries).index_copy(0, places, queries)
        if keys is None:
            return self.attend_rows(rows, lengths, rows, lengths, rows, causal=causal).index_select(0, places)
        key_places, key_lengths = row_places(of_keys, of_queries.order)
        key_rows = torch.empty_like(keys).index_copy(0, key_places, keys)
        value_rows = key_rows if values is None else torch.empty_like(values).index_copy(0, key_places, values)
        attended = self.attend_rows(rows, lengths, key_rows, key_lengths, value_rows, causal=causal)
        return attended.index_select(0, places)

    def attend_rows(
        self,
        queries: Tensor,
        query_lengths: Tensor,
        keys: Tensor,
        key_lengths: Tensor,
        values: Tensor,
        *,
        causal: bool = False,
    ) -> Tensor:
        """:meth:`forward` over values that stand row after row, with the lengths of the rows."""
        q, k, v = self._project(queries, keys, values)
        dropout = self.dropout if self.training else 0.0
        attended = ragged_attention(q, k, v, query_lengths, key_lengths, causal=causal, dropout=dropout)
        return self.out_proj(attended.flatten(1))

    def weights(
        self,
        queries: Tensor,
        of_queries: Ragged,
        keys: Tensor | None = None,
        of_keys: Ragged | None = None,
        *,
        causal: bool = False,
    ) -> Tensor:
        """The attention weights of each head, without dropout, to look at: ``[B, heads, T_q, T_k]``.

        Rows are in the caller's order; there are zeros beyond the lengths. This one is padded, and takes that memory.
        """
        of_keys = of_queries if of_keys is None else of_keys
        keys = queries if keys is None else keys
        projections = self._weights_and_biases()
        q, k = (
            pad(functional.linear(x, *projection), layout).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for x, projection, layout in ((queries, projections[0], of_queries), (keys, projections[1], of_keys))
        )
        steps_q, steps_k = (torch.arange(tensor.shape[2], device=tensor.device) for tensor in (q, k))
        seen = steps_k < of_keys.lengths[:, None, None, None]
        if causal:
            seen = seen & (steps_k <= steps_q[:, None])
        scores = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).masked_fill(~seen, -math.inf)
        real = seen & (steps_q < of_queries.lengths[:, None])[:, None, :, None]
        return torch.where(real, scores.softmax(-1), 0.0)

    def _project(self, queries: Tensor, keys: Tensor, values: Tensor) -> list[Tensor]:
        if queries is keys and keys is values and self._same_sizes:
            # Self-attention is one product.
            joined = functional.linear(queries, self.in_proj_weight, self._bias())
            return [part.unflatten(-1, (self.num_heads, -1)) for part in joined.chunk(3, dim=-1)]
        return [
            functional.linear(x, *projection).unflatten(-1, (self.num_heads, -1))
            for x, projection in zip((queries, keys, values), self._weights_and_biases(), strict=True)
        ]

    def _weights_and_biases(self) -> list[tuple[Tensor, Tensor | None]]:
        """Of queries, keys and values."""
        if self._same_sizes:
            matrices = self.in_proj_weight.chunk(3)
        else:
            matrices = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        bias = self._bias()
        return list(zip(matrices, (None,) * 3 if bias is None else bias.chunk(3), strict=True))

    def _bias(self) -> Tensor | None:
        bias: Any = self.in_proj_bias
        return bias
