from __future__ import annotations

import math

import pytest
import torch

from tidegate.errors import TidegateError
from tidegate.training.rate_finder import find_learning_rate
from training.toy import toy_batches, toy_network, toy_settings


def test_rates_rise_to_a_loss_that_explodes_and_the_network_stays(capfd: pytest.CaptureFixture[str]) -> None:
    network, before = toy_network(), toy_network()
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    settings = toy_settings(schedule="one-cycle", optimizer="sgd", momentum=0.9)
    found = find_learning_rate(network, toy_batches(), settings, lowest=1e-4, highest=1e3, steps=40)
    assert torch.equal(torch.rand(2), expected)
    for name, weight in before.state_dict().items():
        assert torch.equal(network.state_dict()[name], weight), name
    assert found.rates == sorted(found.rates)
    assert found.rates[0] >= 1e-4 and len(found.rates) == len(found.losses) <= 40
    assert found.suggestion in found.rates
    assert 1e-3 < found.suggestion < 100
    assert capfd.readouterr().err == ""


def test_a_network_that_is_not_finite_gets_no_suggestion() -> None:
    network = toy_network()
    with torch.no_grad():
        network.head.projection.weight.fill_(math.nan)
    with pytest.raises(TidegateError, match="the loss did not fall at any learning rate from 1e-06 to 1"):
        find_learning_rate(network, toy_batches(), toy_settings())
