from __future__ import annotations

import pytest
import torch

from tidegate.heads.regress import RegressionHead


@pytest.mark.parametrize("loss", ["squared", "absolute", "huber"])
def test_losses_are_in_standard_deviations_and_predictions_in_units(loss: str) -> None:
    head = RegressionHead(3, loss, mean=3.0, scale=2.0).eval()
    pooled = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([1.0, 3.0, 9.0, -4.0])
    outputs = head(pooled)
    predictions = head.decode(outputs)
    torch.testing.assert_close(predictions, 3.0 + 2.0 * head.projection(pooled).squeeze(1))
    errors = (predictions - targets) / 2.0
    huber = torch.where(errors.abs() < 1, errors.square() / 2, errors.abs() - 0.5)
    expected = {"squared": errors.square(), "absolute": errors.abs(), "huber": huber}[loss]
    torch.testing.assert_close(head.losses(outputs, targets), expected)
    measured = head.measure(outputs, targets)
    torch.testing.assert_close(measured["mae"], (predictions - targets).abs())
    torch.testing.assert_close(measured["mse"], (predictions - targets).square())


def test_targets_that_are_all_alike_have_no_spread_to_divide_by() -> None:
    assert RegressionHead(3, mean=2.0, scale=0.0).scale.item() == 1.0


def test_an_unknown_loss_is_refused() -> None:
    with pytest.raises(ValueError, match=r"squared, absolute, huber; found 'square'. Did you mean 'squared'"):
        RegressionHead(3, "square")
