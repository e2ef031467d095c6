"""Multi-head attention against torch.nn's with the same weights, row by row."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tidegate
from tidegate.kernels.ragged import from_batch_major, ragged_from_lengths, to_batch_major
from tidegate.layers.multihead import MultiHeadAttention

QUERIES, KEYS = [3, 0, 5, 1, 5], [2, 4, 5, 1, 3]


def twins(**options):
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(8, 2, batch_first=True, dtype=torch.float64, **options)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5)
    ours = MultiHeadAttention(8, 2, dtype=torch.float64, **options)
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def draw(lengths, features, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(sum(lengths), features, generator=generator, dtype=torch.float64).requires_grad_()
    ragged = ragged_from_lengths(lengths)
    return rows, from_batch_major(rows, ragged), ragged


@pytest.mark.parametrize(
    ("options", "sizes"),
    [({}, (8, 8)), ({"bias": False}, (8, 8)), ({"kdim": 6, "vdim": 4}, (6, 4)), ({"vdim": 5, "bias": False}, (8, 5))],
)
def test_cross_attention_equals_torchs_on_each_row(options, sizes):
    ours, theirs = twins(**options)
    rows_q, queries, of_queries = draw(QUERIES, 8, 1)
    rows_k, keys, of_keys = draw(KEYS, sizes[0], 2)
    rows_v, values, _ = draw(KEYS, sizes[1], 3)
    found = to_batch_major(ours(queries, of_queries, keys, of_keys, values), of_queries)
    expected = torch.cat(
        [
            theirs(q[None], k[None], v[None])[0][0] if len(q) else q
            for q, k, v in zip(rows_q.split(QUERIES), rows_k.split(KEYS), rows_v.split(KEYS), strict=True)
        ]
    )
    torch.testing.assert_close(found, expected)
    weights = torch.randn(found.shape, dtype=torch.float64)
    names = dict(ours.named_parameters())
    leaves = [rows_q, rows_k, rows_v]
    found_grads = torch.autograd.grad(found, [*leaves, *names.values()], weights)
    expected_grads = torch.autograd.grad(expected, [*leaves, *(theirs.get_parameter(name) for name in names)], weights)
    for a, b in zip(found_grads, expected_grads, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("causal", [False, True])
def test_self_attention_and_its_weights_equal_torchs(causal):
    ours, theirs = twins()
    rows, values, ragged = draw(QUERIES, 8, 1)
    found = to_batch_major(ours(values, ragged, causal=causal), ragged).split(QUERIES)
    weights = ours.weights(values, ragged, causal=causal)
    assert weights.shape == (5, 2, 5, 5)
    for row, (x, output) in enumerate(zip(rows.split(QUERIES), found, strict=True)):
        length = len(x)
        mask = torch.ones(length, length, dtype=torch.bool).triu(1) if causal else None
        if length:
            expected, expected_weights = theirs(x[None], x[None], x[None], attn_mask=mask, average_attn_weights=False)
            torch.testing.assert_close(output, expected[0])
            torch.testing.assert_close(weights[row, :, :length, :length], expected_weights[0])
        assert not weights[row, :, length:].any()
        assert not weights[row, :, :, length:].any()


def test_weights_over_other_keys():
    ours, theirs = twins(kdim=6)
    rows_q, queries, of_queries = draw(QUERIES, 8, 1)
    rows_k, keys, of_keys = draw(KEYS, 6, 2)
    weights = ours.weights(queries, of_queries, keys, of_keys)
    pairs = zip(rows_q.split(QUERIES), rows_k.split(KEYS), strict=True)
    for row, (q, k) in enumerate(pairs):
        if len(q):
            value = torch.zeros(1, len(k), 8, dtype=torch.float64)
            expected = theirs(q[None], k[None], value, average_attn_weights=False)[1][0]
            torch.testing.assert_close(weights[row, :, : len(q), : len(k)], expected)


def test_a_row_without_keys_has_the_bias_of_the_output():
    ours, _ = twins()
    queries, keys = torch.rand(2, 8, dtype=torch.float64), torch.rand(1, 8, dtype=torch.float64)
    found = ours(queries, ragged_from_lengths([1, 1]), keys, ragged_from_lengths([0, 1]))
    torch.testing.assert_close(found[0], ours.out_proj.bias)
    assert not torch.allclose(found[1], ours.out_proj.bias)


def test_dropout_is_for_training():
    ours, _ = twins(dropout=0.5)
    _, values, ragged = draw(QUERIES, 8, 1)
    plain, _ = twins()
    ours.eval()
    assert torch.equal(ours(values, ragged), plain(values, ragged))
    ours.train()
    assert not torch.equal(ours(values, ragged), plain(values, ragged))


def test_initialisation_is_torchs():
    torch.manual_seed(5)
    theirs = nn.MultiheadAttention(8, 2)
    torch.manual_seed(5)
    ours = MultiHeadAttention(8, 2)
    assert ours.in_proj_weight.std().item() == pytest.approx(theirs.in_proj_weight.std().item(), rel=0.15)
    assert not ours.in_proj_bias.any()
    assert not ours.out_proj.bias.any()


def test_bad_arguments_the_public_name_and_what_print_shows():
    with pytest.raises(ValueError, match="that the heads share evenly; found embed_dim=8, num_heads=3"):
        MultiHeadAttention(8, 3)
    with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\); found 1.0"):
        MultiHeadAttention(8, 2, dropout=1.0)
    ours, _ = twins()
    _, values, ragged = draw(QUERIES, 8, 1)
    with pytest.raises(ValueError, match="without keys the queries are the keys and values"):
        ours(values, ragged, values=values)
    with pytest.raises(ValueError, match="expected keys of 5 rows, as the queries; found 1"):
        ours(values, ragged, values, ragged_from_lengths([14]))
    assert tidegate.MultiHeadAttention is MultiHeadAttention
    assert repr(MultiHeadAttention(8, 2, dropout=0.1, kdim=4)).startswith(
        "MultiHeadAttention(\n  8, 2, dropout=0.1, kdim=4"
    )
