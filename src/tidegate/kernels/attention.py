r"""Scaled dot-product attention over ragged rows (Vaswani et al. 2017, arXiv:1706.03762): no padded step is computed.

.. math:: o = \mathrm{softmax}(q k^\top / \sqrt{d})\, v

The values here stand row after row, ``a0 a1 b0 b1 b2``, where :func:`row_places` puts them; a row's queries see that
row's keys alone. On a CPU neighbouring rows of the same lengths are one call of PyTorch's operator, so rows sorted by
length make the fewest calls; elsewhere all rows are one call over jagged tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from tidegate.kernels.fakes import fake_rule
from tidegate.kernels.ragged import Ragged

__all__ = ["Group", "choose_backend", "ragged_attention", "row_groups", "row_places"]

_BACKENDS = ("rows", "jagged")


class Group(NamedTuple):
    """Neighbouring rows of the same lengths: ``rows`` of ``queries`` and ``keys`` steps, and where they begin."""

    rows: int
    queries: int
    keys: int
    first_query: int
    first_key: int

    def of_queries(self, values: Tensor) -> Tensor:
        """``[M, ...]`` to this group's ``[rows, queries, ...]``."""
        return values.narrow(0, self.first_query, self.rows * self.queries).unflatten(0, (self.rows, self.queries))

    def of_keys(self, values: Tensor) -> Tensor:
        """``[N, ...]`` to this group's ``[rows, keys, ...]``."""
        return values.narrow(0, self.first_key, self.rows * self.keys).unflatten(0, (self.rows, self.keys))


def row_groups(query_lengths: Sequence[int], key_lengths: Sequence[int]) -> Iterator[Group]:
    """The rows, cut where a length changes; groups without a query are left out, those without a key are not."""
    first_query = first_key = start = 0
    for row in range(1, len(query_lengths) + 1):
        here = (query_lengths[start], key_lengths[start])
        if row < len(query_lengths) and (query_lengths[row], key_lengths[row]) == here:
            continue
        count, start = row - start, row
        if here[0]:
            yield Group(count, *here, first_query, first_key)
        first_query += count * here[0]
        first_key += count * here[1]


def row_places(ragged: Ragged, order: Tensor) -> tuple[Tensor, Tensor]:
    """Where each value goes so that rows stand one after the other, in a given order of the rows.

    Args:
        ragged: The layout of the values.
        order: ``[B]``, the caller's row at each place; a layout's own has rows of one length side by side.

    Returns:
        ``[N]``, the place of each value in ragged order, and ``[B]``, the lengths of the rows in `order`.
    """
    lengths = ragged.lengths.index_select(0, order)
    place_of_row = torch.argsort(order).index_select(0, ragged.row_of)
    return (lengths.cumsum(0) - lengths).index_select(0, place_of_row) + ragged.step_of, lengths


def choose_backend(device: str) -> str:
    """The automatic choice: ``rows`` on a CPU, ``jagged`` elsewhere."""
    return "rows" if device in ("cpu", "meta") else "jagged"


def ragged_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    query_lengths: Tensor,
    key_lengths: Tensor,
    *,
    causal: bool = False,
    dropout: float = 0.0,
    backend: str | None = None,
) -> Tensor:
    """Attention of each row's queries to that row's keys.

    Args:
        queries: ``[M, heads, d]``, row after row.
        keys: ``[N, heads, d]``, row after row.
        values: ``[N, heads, d_v]``.
        query_lengths: ``[B]`` int64, on the CPU or the device of the values.
        key_lengths: ``[B]`` int64.
        causal: Whether a query sees its own step and those before alone; for rows with as many queries as keys.
        dropout: Probability of dropping a weight, the rest scaled by ``1 / (1 - dropout)``.
        backend: ``"rows"`` or ``"jagged"``; None chooses by :func:`choose_backend`.

    Returns:
        ``[M, heads, d_v]``; zeros for the queries of a row without keys.

    Raises:
        ValueError: Shapes do not fit together, lengths do not add up to the values, or the backend is unknown.
    """
    _check(queries, keys, values, query_lengths, key_lengths, causal)
    if backend is None:
        backend = choose_backend(queries.device.type)
    elif backend not in _BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; expected one of {', '.join(_BACKENDS)}")
    if backend == "jagged":
        return _jagged(queries, keys, values, query_lengths, key_lengths, causal, dropout)
    if not torch.compiler.is_compiling() or dropout > 0:
        return _rows(queries, keys, values, query_lengths, key_lengths, causal, dropout)
    lengths = torch.stack([query_lengths, key_lengths])  # Dynamo takes no tensor twice
    return _Attention.apply(queries, keys, values, lengths, causal)  # pyright: ignore[reportReturnType]


def _check(
    queries: Tensor, keys: Tensor, values: Tensor, query_lengths: Tensor, key_lengths: Tensor, causal: bool
) -> None:
    for name, tensor in (("queries", queries), ("keys", keys), ("values", values)):
        if tensor.dim() != 3:
            raise ValueError(f"expected {name} of shape [N, heads, d]; found {tuple(tensor.shape)}")
    if keys.shape[1:] != queries.shape[1:] or values.shape[:2] != keys.shape[:2]:
        raise ValueError(
            f"expected keys [N, {queries.shape[1]}, {queries.shape[2]}] and values [N, {queries.shape[1]}, d], as the "
            f"queries; found {tuple(keys.shape)} and {tuple(values.shape)}"
        )
    if query_lengths.shape != key_lengths.shape or query_lengths.dim() != 1:
        raise ValueError(
            f"expected one length of queries and one of keys for each row; found {tuple(query_lengths.shape)} and "
            f"{tuple(key_lengths.shape)}"
        )
    if torch.compiler.is_compiling() or queries.device.type != "cpu":
        return
    for name, tensor, lengths in (("queries", queries, query_lengths), ("keys", keys, key_lengths)):
        if int(lengths.sum()) != tensor.shape[0]:
            raise ValueError(
                f"expected lengths that add up to the {tensor.shape[0]} {name}; found {int(lengths.sum())}"
            )
    if causal and not torch.equal(query_lengths, key_lengths):
        raise ValueError("causal attention is for rows with as many queries as keys; found other lengths")


def _rows(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    query_lengths: Tensor,
    key_lengths: Tensor,
    causal: bool,
    dropout: float,
) -> Tensor:
    if torch._C._are_functorch_transforms_active():
        # The fused operator on a CPU has no rule for vmap and would be called once a sample.
        with sdpa_kernel(SDPBackend.MATH):
            return _each_group(queries, keys, values, query_lengths, key_lengths, causal, dropout)
    return _each_group(queries, keys, values, query_lengths, key_lengths, causal, dropout)


def _each_group(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    query_lengths: Tensor,
    key_lengths: Tensor,
    causal: bool,
    dropout: float,
) -> Tensor:
    made = [queries.new_empty(0, queries.shape[1], values.shape[2])]
    for group in row_groups(query_lengths.tolist(), key_lengths.tolist()):
        if group.keys == 0:
            made.append(queries.new_zeros(group.rows * group.queries, *made[0].shape[1:]))
            continue
        q = group.of_queries(queries).transpose(1, 2)  # [rows, heads, steps, d]
        k, v = (group.of_keys(tensor).transpose(1, 2) for tensor in (keys, values))
        attended = scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=causal)
        made.append(attended.transpose(1, 2).flatten(0, 1))
    return torch.cat(made)


def _jagged(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    query_lengths: Tensor,
    key_lengths: Tensor,
    causal: bool,
    dropout: float,
) -> Tensor:
    # The operator takes no row without a step; one with queries alone has zeros.
    filled = (query_lengths > 0) & (key_lengths > 0)
    if not bool(filled.all()):
        of_query = filled.repeat_interleave(query_lengths)
        of_key = filled.repeat_interleave(key_lengths)
        output = queries.new_zeros(*queries.shape[:2], values.shape[2])
        if not bool(filled.any()):
            return output
        inner = _jagged(
            *(queries[of_query], keys[of_key], values[of_key], query_lengths[filled], key_lengths[filled]),
            causal,
            dropout,
        )
        return output.index_put((of_query.nonzero().squeeze(1),), inner)

    def nested(tensor: Tensor, lengths: Tensor) -> Tensor:
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).to(tensor.device)
        shortest, longest = (int(bound) for bound in torch.aminmax(lengths))
        jagged = torch.nested.nested_tensor_from_jagged(tensor, offsets, min_seqlen=shortest, max_seqlen=longest)
        return jagged.transpose(1, 2)

    q, k, v = nested(queries, query_lengths), nested(keys, key_lengths), nested(values, key_lengths)
    return scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=causal).transpose(1, 2).values()


class _Attention(torch.autograd.Function):
    """What a compiler traces: one op each way, for the loop over the rows depends on the data."""

    @staticmethod
    def forward(queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor, causal: bool) -> Tensor:
        return torch.ops.tidegate.attention_forward(queries, keys, values, lengths, causal)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        *tensors, ctx.causal = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return *torch.ops.tidegate.attention_backward(grad, *ctx.saved_tensors, ctx.causal), None, None


def _forward(queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor, causal: bool) -> Tensor:
    return _rows(queries, keys, values, lengths[0], lengths[1], causal, 0.0)


def _forward_made(queries: Tensor, values: Tensor) -> Tensor:
    return queries.new_empty(queries.shape[0], queries.shape[1], values.shape[2])


def _backward(
    grad: Tensor, queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor, causal: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """With p the weights: dv = p' do, dp = do v', ds = p (dp - sum(p dp)), dq = ds k, dk = ds' q."""
    of_queries, of_keys, of_values = (torch.zeros_like(tensor) for tensor in (queries, keys, values))
    for group in row_groups(*lengths.tolist()):
        if group.keys == 0:
            continue
        q, g = (group.of_queries(tensor).transpose(1, 2) for tensor in (queries, grad))
        k, v = (group.of_keys(tensor).transpose(1, 2) for tensor in (keys, values))
        scale = q.shape[-1] ** -0.5
        scores = q @ k.transpose(-1, -2) * scale
        if causal:
            scores.masked_fill_(torch.ones(group.queries, group.keys, dtype=torch.bool).triu(1), -torch.inf)
        p = scores.softmax(-1)
        of_p = g @ v.transpose(-1, -2)
        of_scores = p * (of_p - (p * of_p).sum(-1, keepdim=True)) * scale
        group.of_queries(of_queries).copy_((of_scores @ k).transpose(1, 2))
        group.of_keys(of_keys).copy_((of_scores.transpose(-1, -2) @ q).transpose(1, 2))
        group.of_keys(of_values).copy_((p.transpose(-1, -2) @ g).transpose(1, 2))
    return of_queries, of_keys, of_values


def _backward_made(queries: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.zeros_like(queries), torch.zeros_like(keys), torch.zeros_like(values)


_TENSORS = "Tensor queries, Tensor keys, Tensor values, Tensor lengths, bool causal"
_library = torch.library.Library("tidegate", "FRAGMENT")
_library.define(f"attention_forward({_TENSORS}) -> Tensor")
_library.define(f"attention_backward(Tensor grad, {_TENSORS}) -> (Tensor, Tensor, Tensor)")
for _name, _impl, _made in (
    ("attention_forward", _forward, _forward_made),
    ("attention_backward", _backward, _backward_made),
):
    _library.impl(_name, _impl, "CPU")
    torch.library.register_fake(f"tidegate::{_name}", fake_rule(_impl, _made), lib=_library)
