from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tidegate.training.fit import fit
from tidegate.training.parts import network_parts, parameter_groups
from training.test_fit import Interrupting, assert_same, train
from training.toy import toy_batches, toy_network, toy_settings


def deep() -> Any:
    return toy_network(num_layers=2, pooling="attention")


def test_the_parts_are_embedding_layers_and_what_stands_above() -> None:
    network = deep()
    parts = [[id(weight) for weight in part] for part in network_parts(network)]
    top = [*network.attention.parameters(), *network.head.parameters()]
    modules = [network.embedding.parameters(), *(layer.parameters() for layer in network.encoder.layers), top]
    assert parts == [[id(weight) for weight in module] for module in modules]
    assert len(network_parts(torch.nn.Linear(2, 2))) == 1


def test_rates_fall_from_part_to_part() -> None:
    network = deep()
    groups = parameter_groups(network, toy_settings(layer_rate_decay=0.5))
    assert [factor for _, factor in groups] == [0.125, 0.25, 0.5, 1.0]
    assert len(parameter_groups(network, toy_settings())) == 1
    assert sum(len(part) for part, _ in groups) == len(list(network.parameters()))


def moved(epochs: int, **changes: Any) -> list[bool]:
    """Which parts other weights have after training."""
    network, before = deep(), deep()
    fit(network, toy_batches(), None, toy_settings(max_epochs=epochs, **changes))
    assert all(weight.requires_grad for weight in network.parameters())
    return [
        any(not torch.equal(one, other) for one, other in zip(new, old, strict=True))
        for new, old in zip(network_parts(network), network_parts(before), strict=True)
    ]


def test_frozen_parts_stay_as_they_are() -> None:
    assert moved(2) == [True] * 4
    assert moved(2, frozen="embedding") == [False, True, True, True]
    assert moved(2, frozen="encoder", weight_decay=0.1) == [False, False, False, True]


def test_parts_begin_to_learn_one_after_another_from_the_top() -> None:
    assert moved(1, unfreeze_every=1) == [False, False, False, True]
    assert moved(2, unfreeze_every=1) == [False, False, True, True]
    assert moved(2, unfreeze_every=2) == [False, False, False, True]
    assert moved(4, unfreeze_every=1) == [True] * 4
    assert moved(4, unfreeze_every=1, frozen="embedding") == [False, True, True, True]


def test_a_resumed_run_unfreezes_as_it_was(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"unfreeze_every": 1, "layer_rate_decay": 0.5, "schedule": "one-cycle"}
    unbroken = train(**changes)

    def fail() -> None:
        raise RuntimeError("the machine is gone")

    source = Interrupting(toy_batches(), 1, fail)
    with pytest.raises(RuntimeError, match="the machine is gone"):
        fit(toy_network(), source, toy_batches(30, 1, shuffle=False), toy_settings(**changes), run_folder=tmp_path)
    assert_same(train(toy_network(seed=5), run_folder=tmp_path, resume=True, **changes), unbroken)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"frozen": "embeddings"},
            "frozen must be one of embedding, encoder, or None; found 'embeddings'. Did you mean",
        ),
        ({"unfreeze_every": 0}, "unfreeze_every must be a whole number of at least 1, or None; found 0"),
        ({"layer_rate_decay": 0.0}, "layer_rate_decay must be above 0 and at most 1; found 0.0"),
    ],
)
def test_what_is_out_of_range(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        toy_settings(**given)
