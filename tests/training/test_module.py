from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tidegate.training.fit import fit
from tidegate.training.module import penalized_parameters
from training.by_hand import assert_close, still_network, train_by_hand
from training.toy import toy_batches, toy_settings

WEIGHTS = np.random.default_rng(3).uniform(0.1, 5.0, size=60)


def both(epochs: int = 2, accumulate: int = 1, before_step: Any = None, **changes: Any) -> tuple[Any, Any]:
    """A network trained by the library, and one by hand with plain SGD."""
    found, expected = still_network(), still_network()
    settings = {"optimizer": "sgd", "learning_rate": 0.5, "gradient_clip": None, "accumulate": accumulate, **changes}
    fit(found, toy_batches(weights=WEIGHTS), None, toy_settings(max_epochs=epochs, **settings))
    optimizer = torch.optim.SGD(expected.parameters(), lr=0.5)

    def act() -> None:
        if before_step is not None:
            before_step(expected)

    batches = toy_batches(weights=WEIGHTS)
    train_by_hand(expected, batches, optimizer, epochs, accumulate=accumulate, before_step=act)
    return found, expected


@pytest.mark.parametrize("accumulate", [1, 2, 3, 4])
def test_accumulated_steps_divide_sums_by_counts(accumulate: int) -> None:
    # Rows weigh differently and the last batch is smaller; three of four leave one over at the end of the epoch.
    assert_close(*both(accumulate=accumulate))


def test_a_mean_of_means_would_be_another_network() -> None:
    found, _ = both(accumulate=2)
    means = still_network()
    optimizer = torch.optim.SGD(means.parameters(), lr=0.5)
    for epoch in range(2):
        batches = list(toy_batches(weights=WEIGHTS).epoch(epoch))
        for start in range(0, len(batches), 2):
            optimizer.zero_grad()
            for batch in batches[start : start + 2]:
                total, count = means.loss(batch)
                (total / count / 2).backward()
            optimizer.step()
    assert not torch.allclose(found.embedding.weight, means.embedding.weight, atol=1e-4)


def test_gradients_are_clipped_by_value_and_then_by_norm() -> None:
    def clip(network: Any) -> None:
        torch.nn.utils.clip_grad_value_(network.parameters(), 0.01)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 0.05)

    for accumulate in (1, 2):
        assert_close(*both(accumulate=accumulate, before_step=clip, gradient_clip_value=0.01, gradient_clip=0.05), 1e-6)


def test_short_gradients_are_left_as_they_are() -> None:
    free, bounded = both()[0], both(gradient_clip=1e6)[0]
    for one, other in zip(free.parameters(), bounded.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("which", "prefix"),
    [("weights", ""), ("embedding", "embedding."), ("recurrent", "encoder."), ("head", "head."), ("all", "")],
)
def test_penalties_are_those_of_the_chosen_parameters(which: str, prefix: str) -> None:
    def penalize(network: Any) -> None:
        total = torch.zeros(())
        for name, parameter in network.named_parameters():
            if name.startswith(prefix) and (which == "all" or parameter.dim() > 1):
                total = total + 0.01 * parameter.abs().sum() + 0.02 * parameter.square().sum()
        total.backward()

    found, expected = both(before_step=penalize, l1=0.01, l2=0.02, penalized=which)
    assert_close(found, expected, 2e-5)
    plain, _ = both()
    assert not torch.allclose(found.head.projection.weight, plain.head.projection.weight) or which != "head"


def test_every_choice_of_penalized_parameters_finds_some() -> None:
    network = still_network()
    sizes = {
        which: len(penalized_parameters(network, which)) for which in ("weights", "embedding", "recurrent", "head")
    }
    assert sizes == {"weights": 4, "embedding": 1, "recurrent": 2, "head": 1}
    assert len(penalized_parameters(network, "all")) == len(list(network.parameters()))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"l1": -1.0}, "l1 must not be negative"),
        ({"l2": -1.0}, "l2 must not be negative"),
        ({"penalized": "heads", "l1": 1.0}, "penalized must be one of .*; found 'heads'. Did you mean 'head'"),
        ({"penalized": "head"}, "penalized='head' has no effect without l1 or l2"),
        ({"gradient_clip_value": 0.0}, "gradient_clip_value must be above 0"),
        ({"accumulate": 0}, "accumulate must be a whole number of at least 1; found 0"),
    ],
)
def test_settings_out_of_range_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        toy_settings(**given)
