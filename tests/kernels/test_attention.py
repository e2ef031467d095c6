"""Attention over ragged rows against PyTorch's operator on each row by itself."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from tidegate.kernels.attention import Group, choose_backend, ragged_attention, row_groups

LENGTHS = [([5, 5, 3, 3, 1, 0], [5, 5, 3, 3, 1, 0]), ([4], [4]), ([2, 3, 2, 0, 1], [6, 1, 6, 2, 0]), ([0, 0], [0, 0])]
# PyTorch's jagged tensors are a prototype, and say so on a CPU.
pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage:UserWarning")


def draw(lengths, features, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(sum(lengths), 2, features, generator=generator, dtype=torch.float64).requires_grad_()


def by_hand(queries, keys, values, query_lengths, key_lengths, causal):
    made = []
    for q, k, v in zip(queries.split(query_lengths), keys.split(key_lengths), values.split(key_lengths), strict=True):
        scores = torch.einsum("qhd,khd->hqk", q, k) / math.sqrt(q.shape[-1])
        if causal:
            scores = scores.masked_fill(torch.ones(scores.shape[1:], dtype=torch.bool).triu(1), -math.inf)
        made.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), v))
    return torch.cat(made)


# Causal attention over jagged tensors is there on a GPU alone.
@pytest.mark.parametrize(
    ("backend", "causal", "lengths"),
    [(backend, False, lengths) for backend in ("rows", "jagged") for lengths in LENGTHS]
    + [("rows", True, lengths) for lengths in LENGTHS if lengths[0] == lengths[1]],
)
def test_equals_every_row_by_itself_and_so_do_gradients(backend, causal, lengths):
    query_lengths, key_lengths = lengths
    leaves = draw(query_lengths, 4, 0), draw(key_lengths, 4, 1), draw(key_lengths, 6 if backend == "rows" else 4, 2)
    found = ragged_attention(
        *leaves, torch.tensor(query_lengths), torch.tensor(key_lengths), causal=causal, backend=backend
    )
    expected = by_hand(*leaves, query_lengths, key_lengths, causal)
    torch.testing.assert_close(found, expected)
    if not found.requires_grad:
        return
    weights = torch.randn(found.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    expected_grads = torch.autograd.grad(expected, leaves, weights, materialize_grads=True, allow_unused=True)
    for a, b in zip(torch.autograd.grad(found, leaves, weights), expected_grads, strict=True):
        torch.testing.assert_close(a, b)


def test_rows_are_grouped_by_their_lengths():
    assert list(row_groups([3, 3, 2, 0, 0, 2], [3, 3, 2, 1, 1, 0])) == [
        Group(2, 3, 3, 0, 0),
        Group(1, 2, 2, 6, 6),
        Group(1, 2, 0, 8, 10),
    ]
    assert list(row_groups([], [])) == []
    values = torch.arange(10)
    assert Group(2, 3, 1, 4, 8).of_queries(values).tolist() == [[4, 5, 6], [7, 8, 9]]
    assert Group(2, 3, 1, 4, 8).of_keys(values).tolist() == [[8], [9]]


def test_rows_of_one_length_are_one_call(monkeypatch):
    calls = []

    def counting(q, *rest, **options):
        calls.append(tuple(q.shape))
        return scaled_dot_product_attention(q, *rest, **options)

    monkeypatch.setattr("tidegate.kernels.attention.scaled_dot_product_attention", counting)
    lengths = [5] * 7 + [3] * 2 + [1]
    x = draw(lengths, 4, 0)
    ragged_attention(x, x, x, torch.tensor(lengths), torch.tensor(lengths))
    assert calls == [(7, 2, 5, 4), (2, 2, 3, 4), (1, 2, 1, 4)]


def test_dropout_drops_weights():
    x = torch.ones(4000, 1, 1)
    lengths = torch.tensor([2] * 2000)
    torch.manual_seed(0)
    made = ragged_attention(x, x, x, lengths, lengths, dropout=0.5)
    # Two weights of one half, each dropped or doubled.
    assert sorted(set(made.flatten().tolist())) == [0.0, 1.0, 2.0]
    assert made.mean().item() == pytest.approx(1.0, abs=0.05)


# The Transformer's test is this one by default. Dynamo itself instantiates autograd Functions.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiles_whole_forward_and_backward():
    lengths = torch.tensor([5, 3, 3, 0])
    leaves = [draw([11], 4, seed) for seed in range(3)]

    def loss(lengths):
        return ragged_attention(*leaves, lengths, lengths, causal=True).square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for given in (lengths, torch.tensor([1, 10, 0, 0])):
        torch.testing.assert_close(compiled(given), loss(given))
        found = torch.autograd.grad(compiled(given), leaves)
        for a, b in zip(found, torch.autograd.grad(loss(given), leaves), strict=True):
            torch.testing.assert_close(a, b)
    torch._dynamo.reset()


def test_ops_are_registered_right():
    lengths = torch.tensor([2, 1])
    tensors = [draw([3], 4, seed).detach() for seed in range(3)]
    tests = ("test_schema", "test_faketensor")
    ops = torch.ops.tidegate
    lengths = torch.stack([lengths, lengths])
    torch.library.opcheck(ops.attention_forward.default, (*tensors, lengths, True), test_utils=tests)
    torch.library.opcheck(ops.attention_backward.default, (tensors[0], *tensors, lengths, False), test_utils=tests)


def test_bad_arguments():
    x, lengths = torch.rand(5, 2, 4), torch.tensor([2, 3])
    for given, message in (
        ((x[0], x, x, lengths, lengths), r"expected queries of shape \[N, heads, d\]; found \(2, 4\)"),
        ((x, x[:, :1], x, lengths, lengths), r"expected keys \[N, 2, 4\]"),
        ((x, x, x[:4], lengths, lengths), r"values \[N, 2, d\], as the queries; found"),
        ((x, x, x, lengths, lengths[:1]), "expected one length of queries and one of keys for each row"),
        ((x, x, x, lengths, lengths - 1), "expected lengths that add up to the 5 keys; found 3"),
    ):
        with pytest.raises(ValueError, match=message):
            ragged_attention(*given)
    with pytest.raises(ValueError, match="causal attention is for rows with as many queries as keys"):
        ragged_attention(x, x, x, lengths, lengths.flip(0), causal=True)
    with pytest.raises(ValueError, match="unknown backend 'flash'; expected one of rows, jagged"):
        ragged_attention(x, x, x, lengths, lengths, backend="flash")
    assert (choose_backend("cpu"), choose_backend("cuda")) == ("rows", "jagged")
