from __future__ import annotations

import pytest
import torch

from tidegate.layers.dropout import check_rate, draw_mask, dropout


def test_evaluation_and_rate_zero_return_the_values_themselves() -> None:
    values = torch.randn(5, 3)
    assert dropout(values, 0.5, training=False) is values
    assert dropout(values, 0.0, training=True) is values


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_share_of_zeros_and_scale(rate: float) -> None:
    torch.manual_seed(0)
    dropped = dropout(torch.ones(1000, 301), rate, training=True)
    share = (dropped == 0).double().mean().item()
    assert abs(share - rate) < 0.003  # five standard errors of 301,000 draws
    assert torch.unique(dropped).tolist() == pytest.approx([0.0, 1 / (1 - rate)])
    assert abs((dropped == 0).double().mean(0) - rate).max() < 0.08


def test_gradient_has_the_mask_of_the_values() -> None:
    torch.manual_seed(0)
    values = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    dropped = dropout(values, 0.4, training=True)
    dropped.sum().backward()
    torch.testing.assert_close(values.grad, dropped.detach() / values.detach())
    assert 0 < int((dropped == 0).sum()) < 35


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.999999, 1.0])
def test_share_of_a_mask(rate: float) -> None:
    torch.manual_seed(0)
    mask = draw_mask((1000, 301), rate, torch.device("cpu"))
    assert mask.dtype == torch.bool
    assert mask.shape == (1000, 301)
    assert abs(mask.double().mean().item() - rate) < 0.003  # five standard errors
    assert abs(mask.double().mean(0) - rate).max() < 0.08


def test_masks_of_a_transform_differ_from_sample_to_sample() -> None:
    drawn = torch.func.vmap(lambda x: x * draw_mask((50,), 0.5, x.device), randomness="different")(torch.ones(3, 50))
    assert 0.2 < drawn.mean() < 0.8
    assert not torch.equal(drawn[0], drawn[1])


def test_one_seed_gives_one_mask() -> None:
    values = torch.ones(33, 7)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(dropout(values, 0.5, training=True))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_no_values() -> None:
    assert dropout(torch.zeros(0, 4), 0.5, training=True).shape == (0, 4)


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_a_rate_outside_the_range_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match=r"word_dropout must be in \[0, 1\); found"):
        check_rate("word_dropout", rate)


def test_a_compiled_program_draws_as_torch_does() -> None:
    values = torch.randn(40, 5)
    torch.manual_seed(0)
    found = torch.compile(lambda v: dropout(v, 0.3, True), fullgraph=True, backend="aot_eager")(values)
    torch._dynamo.reset()
    torch.manual_seed(0)
    assert torch.equal(found, torch.nn.functional.dropout(values, 0.3))
