"""Bahdanau's and Luong's attention against plain loops over rows, queries and keys."""

from __future__ import annotations

import pytest
import torch

import tidegate
from tidegate.kernels.ragged import from_batch_major, ragged_from_lengths, to_batch_major
from tidegate.layers.query_attention import BahdanauAttention, LuongAttention

KEYS, QUERIES = [3, 0, 5, 1, 5], [2, 3, 4, 0, 4]


def layers():
    torch.manual_seed(0)
    made = {
        "bahdanau": BahdanauAttention(4, 6, 5, dtype=torch.float64),
        "general": LuongAttention(4, 6, dtype=torch.float64),
        "scaled": LuongAttention(4, 6, scale=True, dtype=torch.float64),
        "dot": LuongAttention(6, 6, "dot", dtype=torch.float64),
    }
    with torch.no_grad():
        for layer in made.values():
            for parameter in layer.parameters():
                parameter.copy_(torch.randn_like(parameter))
    return made


FORMS = pytest.mark.parametrize("form", ["bahdanau", "general", "scaled", "dot"])


def score(form, layer, query, key):
    if form == "bahdanau":
        return layer.score.weight[0] @ torch.tanh(layer.query.weight @ query + layer.key.weight @ key + layer.key.bias)
    if form == "dot":
        return query @ key
    return query @ (layer.key.weight @ key) / (2.0 if form == "scaled" else 1.0)


def attend(form, layer, query, keys, values, kept):
    """The context of one query over one row, and its weights."""
    scores = [score(form, layer, query, key).exp() * keep for key, keep in zip(keys, kept, strict=True)]
    total = sum(scores)
    weights = torch.stack([one / total if total > 0 else one for one in scores]) if scores else query.new_empty(0)
    return weights @ values if scores else values.new_zeros(values.shape[-1]), weights


def draw(*shape, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def inputs(form):
    keys, values, width = draw(14, 6), draw(14, 3, seed=2), 6 if form == "dot" else 4
    mask = torch.rand(14, generator=torch.Generator().manual_seed(3)) < 0.6
    mask[8] = False  # the row of one key has none then
    return keys, values, mask, width


@FORMS
@pytest.mark.parametrize("masked", [False, True])
def test_one_query_a_row(form, masked):
    layer = layers()[form]
    keys, values, mask, width = inputs(form)
    queries, ragged = draw(5, width, seed=4), ragged_from_lengths(KEYS)
    given = from_batch_major(mask, ragged) if masked else None
    context, weights = layer(
        queries, from_batch_major(keys, ragged), ragged, values=from_batch_major(values, ragged), mask=given
    )
    rows = zip(queries, keys.split(KEYS), values.split(KEYS), mask.split(KEYS), strict=True)
    expected = [attend(form, layer, q, k, v, m if masked else torch.ones(len(k))) for q, k, v, m in rows]
    expected_context = torch.stack([one[0] for one in expected])
    torch.testing.assert_close(context, expected_context)
    torch.testing.assert_close(to_batch_major(weights, ragged), torch.cat([one[1] for one in expected]))
    leaves, upstream = [queries, keys, values, *layer.parameters()], draw(5, 3, seed=5).detach()
    found = torch.autograd.grad(context, leaves, upstream)
    for a, b in zip(found, torch.autograd.grad(expected_context, leaves, upstream), strict=True):
        torch.testing.assert_close(a, b)


@FORMS
@pytest.mark.parametrize("masked", [False, True])
def test_many_queries_a_row(form, masked):
    layer = layers()[form]
    keys, values, mask, width = inputs(form)
    queries = draw(sum(QUERIES), width, seed=4)
    of_queries, of_keys = ragged_from_lengths(QUERIES), ragged_from_lengths(KEYS)
    context, weights = layer.forward_ragged(
        from_batch_major(queries, of_queries),
        of_queries,
        from_batch_major(keys, of_keys),
        of_keys,
        values=from_batch_major(values, of_keys),
        mask=from_batch_major(mask, of_keys) if masked else None,
    )
    expected = []
    splits = (queries.split(QUERIES), *(tensor.split(KEYS) for tensor in (keys, values, mask)), weights)
    for of_row, k, v, m, found in zip(*splits, strict=True):
        kept = m if masked else torch.ones(len(k))
        made = [attend(form, layer, q, k, v, kept) for q in of_row]
        expected += [one[0] for one in made]
        assert found.shape == (len(of_row), len(k))
        for row, one in zip(found, made, strict=True):
            torch.testing.assert_close(row, one[1])
    torch.testing.assert_close(to_batch_major(context, of_queries), torch.stack(expected))
    leaves = [queries, keys, values, *layer.parameters()]
    upstream = draw(len(queries), 3, seed=5).detach()
    found = torch.autograd.grad(to_batch_major(context, of_queries), leaves, upstream)
    for a, b in zip(found, torch.autograd.grad(torch.stack(expected), leaves, upstream), strict=True):
        torch.testing.assert_close(a, b)


@FORMS
def test_what_is_prepared_once_serves_every_step_and_keys_are_their_own_values(form):
    layer = layers()[form]
    keys, _, _, width = inputs(form)
    ragged = ragged_from_lengths(KEYS)
    keys = from_batch_major(keys, ragged)
    queries, prepared = draw(5, width, seed=4), layer.prepare(keys)
    for found, expected in zip(layer(queries, keys, ragged, prepared), layer(queries, keys, ragged), strict=True):
        assert torch.equal(found, expected)
    one_each = ragged_from_lengths([1] * 5)
    many, _ = layer.forward_ragged(queries, one_each, keys, ragged)
    torch.testing.assert_close(many, layer(queries, keys, ragged)[0])
    changed = layer(queries, keys, ragged, prepared.flip(0))[0]
    assert not torch.allclose(changed, layer(queries, keys, ragged)[0])


def test_large_scores_are_finite():
    layer = LuongAttention(2, 2, "dot")
    keys = torch.tensor([[1e4, 0.0], [-1e4, 0.0]])
    context, weights = layer(torch.tensor([[1.0, 0.0]]), keys, ragged_from_lengths([2]))
    assert weights.tolist() == [1.0, 0.0]
    assert torch.equal(context[0], keys[0])


@pytest.mark.parametrize("form", ["bahdanau", pytest.param("general", marks=pytest.mark.slow)])
def test_one_step_of_a_decoder_compiles(form):
    layer = layers()[form]
    keys, _, _, width = inputs(form)
    queries = draw(5, width, seed=4)

    def loss(keys, lengths):
        ragged = ragged_from_lengths(lengths, 5)
        return layer(queries, from_batch_major(keys, ragged), ragged)[0].square().sum()

    lengths = torch.tensor(KEYS)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(keys, lengths), loss(keys, lengths))
    torch._dynamo.reset()


def test_bad_arguments_and_public_names():
    with pytest.raises(ValueError, match=r"score must be one of dot, general; found 'generic'.*general"):
        LuongAttention(4, 4, "generic")
    with pytest.raises(ValueError, match="a dot product needs queries and keys of one size; found 4 and 6"):
        LuongAttention(4, 6, "dot")
    layer, keys = LuongAttention(4, 6), torch.rand(3, 6)
    with pytest.raises(ValueError, match=r"expected one query for each of 2 rows; found \(1, 4\)"):
        layer(torch.rand(1, 4), keys, ragged_from_lengths([2, 1]))
    with pytest.raises(ValueError, match="expected keys of 1 rows, as the queries; found 2"):
        layer.forward_ragged(torch.rand(1, 4), ragged_from_lengths([1]), keys, ragged_from_lengths([2, 1]))
    assert tidegate.BahdanauAttention is BahdanauAttention
    assert tidegate.LuongAttention is LuongAttention
