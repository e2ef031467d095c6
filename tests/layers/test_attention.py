"""Pooling against a plain loop over the rows, values and gradients, with empty rows among them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tidegate.kernels.ragged import from_batch_major, ragged_from_lengths
from tidegate.layers.attention import AdditiveAttention, max_pool, mean_pool, ragged_softmax

LENGTHS = [[3, 0, 5, 1, 5], [1], [0, 0], [2, 2], [0, 7, 0]]


def loop(rows: list[Tensor], reduce) -> Tensor:
    features = rows[0].shape[-1]
    return torch.stack([reduce(row) if len(row) else row.new_zeros(features) for row in rows])


def ragged_rows(lengths: list[int], features: int = 4) -> tuple[list[Tensor], Tensor, object]:
    generator = torch.Generator().manual_seed(len(lengths))
    ragged = ragged_from_lengths(lengths)
    batch_major = torch.randn(sum(lengths), features, generator=generator, dtype=torch.float64)
    rows = [row.clone().requires_grad_() for row in batch_major.split(lengths)]
    values = from_batch_major(batch_major, ragged).requires_grad_()
    return rows, values, ragged


@pytest.fixture
def attention() -> AdditiveAttention:
    torch.manual_seed(3)
    return AdditiveAttention(4, 3, dtype=torch.float64)


def attend(module: AdditiveAttention, row: Tensor) -> Tensor:
    scores = torch.stack([module.query(torch.tanh(module.projection(step))).squeeze() for step in row])
    weights = scores.exp() / scores.exp().sum()
    return sum(weight * step for weight, step in zip(weights, row, strict=True))


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("pooling", ["mean", "max", "attention"])
def test_pooling_equals_a_loop_over_the_rows(pooling: str, lengths: list[int], attention: AdditiveAttention) -> None:
    rows, values, ragged = ragged_rows(lengths)
    pool = {"mean": mean_pool, "max": max_pool, "attention": attention}[pooling]
    reduce = {
        "mean": lambda row: row.mean(0),
        "max": lambda row: row.max(0).values,
        "attention": lambda row: attend(attention, row),
    }[pooling]

    pooled, expected = pool(values, ragged), loop(rows, reduce)
    torch.testing.assert_close(pooled, expected)

    upstream = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    parameters = list(attention.parameters()) if pooling == "attention" and values.numel() else []
    gradients = torch.autograd.grad(pooled, [values, *parameters], upstream)
    if not values.numel():
        assert gradients[0].shape == values.shape
        return
    filled = [row for row in rows if len(row)]
    expected_gradients = torch.autograd.grad(expected, [*filled, *parameters], upstream)
    by_row = from_batch_major(torch.cat(expected_gradients[: len(filled)]), ragged)
    torch.testing.assert_close(gradients[0], by_row)
    for gradient, expected_gradient in zip(gradients[1:], expected_gradients[len(filled) :], strict=True):
        torch.testing.assert_close(gradient, expected_gradient)


@pytest.mark.parametrize("pooling", ["mean", "max", "attention"])
def test_gradcheck(pooling: str, attention: AdditiveAttention) -> None:
    _, values, ragged = ragged_rows([2, 0, 4, 1], features=4)
    pool = {"mean": mean_pool, "max": max_pool, "attention": attention}[pooling]
    assert torch.autograd.gradcheck(lambda x: pool(x, ragged), (values,))


def test_a_tie_in_the_maximum_gives_its_gradient_to_the_first_step() -> None:
    ragged = ragged_from_lengths([3])
    values = torch.tensor([[1.0], [5.0], [5.0]], requires_grad=True)
    max_pool(values, ragged).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [[0.0], [1.0], [0.0]]


def test_attention_weights_sum_to_one_in_each_row(attention: AdditiveAttention) -> None:
    _, values, ragged = ragged_rows([3, 0, 5, 1])
    weights = attention.weights(values, ragged)
    sums = torch.zeros(4, dtype=torch.float64).index_add(0, ragged.row_of, weights)
    torch.testing.assert_close(sums, torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64))
    assert weights.min() > 0
    assert weights.max() - weights[ragged.row_of == 0].min() > 1e-3


def test_softmax_of_large_scores_is_finite_and_right() -> None:
    ragged = ragged_from_lengths([2, 1])
    scores = from_batch_major(torch.tensor([1000.0, 1001.0, -1000.0]), ragged)
    expected = from_batch_major(torch.tensor([0.26894143, 0.73105858, 1.0]), ragged)
    torch.testing.assert_close(ragged_softmax(scores, ragged), expected)


def test_another_row_changes_nothing(attention: AdditiveAttention) -> None:
    rows, _, _ = ragged_rows([3, 6, 2])
    together = ragged_from_lengths([3, 6, 2])
    values = from_batch_major(torch.cat([row.detach() for row in rows]), together)
    poisoned = torch.where((together.row_of == 1)[:, None], torch.nan, values)
    for pool in (mean_pool, max_pool, attention):
        alone = pool(rows[2].detach(), ragged_from_lengths([2]))
        torch.testing.assert_close(pool(poisoned, together)[2:], alone)


def test_masked_steps_are_left_out(attention: AdditiveAttention) -> None:
    rows, values, ragged = ragged_rows([3, 0, 5, 1])
    mask = torch.tensor([True, False, True, False, True, True, False, True, False])  # nothing of the last row
    pooled, weights = attention.pool(values, ragged, from_batch_major(mask, ragged))
    kept = [row[keep] for row, keep in zip(rows, mask.split([3, 0, 5, 1]), strict=True)]
    expected = loop(kept, lambda row: attend(attention, row))
    torch.testing.assert_close(pooled, expected)
    assert not weights[~from_batch_major(mask, ragged)].any()
    assert torch.equal(attention(values, ragged, from_batch_major(mask, ragged)), pooled)
    upstream = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (found,) = torch.autograd.grad(pooled, values, upstream)
    filled = [row for row in rows if len(row)]
    grads = torch.autograd.grad(expected, filled, upstream, allow_unused=True, materialize_grads=True)
    torch.testing.assert_close(found, from_batch_major(torch.cat(grads), ragged))
