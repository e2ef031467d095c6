from __future__ import annotations

from typing import Any

import pytest
import torch

from tidegate.training.fit import fit
from tidegate.training.optimizers import OPTIMIZERS
from training.by_hand import assert_close, still_network, train_by_hand
from training.toy import toy_batches, toy_settings

CASES: list[tuple[dict[str, Any], Any, dict[str, Any]]] = [
    ({}, torch.optim.AdamW, {}),
    ({"beta1": 0.5, "beta2": 0.9, "epsilon": 1e-3}, torch.optim.AdamW, {"betas": (0.5, 0.9), "eps": 1e-3}),
    ({"optimizer": "adam", "beta2": 0.9}, torch.optim.Adam, {"betas": (0.9, 0.9)}),
    ({"optimizer": "sgd"}, torch.optim.SGD, {}),
    ({"optimizer": "sgd", "momentum": 0.9}, torch.optim.SGD, {"momentum": 0.9}),
    ({"optimizer": "sgd", "momentum": 0.9, "nesterov": True}, torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    ({"optimizer": "rmsprop"}, torch.optim.RMSprop, {}),
    (
        {"optimizer": "rmsprop", "momentum": 0.5, "beta2": 0.9, "epsilon": 1e-4},
        torch.optim.RMSprop,
        {"momentum": 0.5, "alpha": 0.9, "eps": 1e-4},
    ),
    ({"optimizer": "adagrad", "epsilon": 1e-4}, torch.optim.Adagrad, {"eps": 1e-4}),
]


@pytest.mark.parametrize(("given", "kind", "arguments"), CASES, ids=lambda value: str(value)[:40])
def test_each_optimizer_is_torchs_with_its_arguments(given: dict[str, Any], kind: Any, arguments: Any) -> None:
    found, expected = still_network(), still_network()
    settings = toy_settings(weight_decay=0.1, max_epochs=2, gradient_clip=None, **given)
    fit(found, toy_batches(), None, settings)
    optimizer = kind(expected.parameters(), lr=settings.learning_rate, weight_decay=0.1, **arguments)
    train_by_hand(expected, toy_batches(), optimizer, 2)
    assert_close(found, expected)


def test_every_optimizer_is_tried() -> None:
    assert {case[0].get("optimizer", "adamw") for case in CASES} == set(OPTIMIZERS) - {"asgd"}  # see test_averaging


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"optimizer": "adamww"},
            r"one of adamw, adam, sgd, asgd, rmsprop, adagrad; found 'adamww'. Did you mean 'adamw'",
        ),
        ({"momentum": 0.9}, "momentum=0.9 has no effect with optimizer='adamw'; it belongs to sgd, rmsprop"),
        ({"optimizer": "sgd", "beta1": 0.9}, "beta1=0.9 has no effect with optimizer='sgd'"),
        ({"optimizer": "sgd", "nesterov": True}, "nesterov=True needs a momentum above 0"),
        ({"optimizer": "sgd", "momentum": 1.0}, r"momentum must be in \[0, 1\); found 1.0"),
        ({"epsilon": 0.0}, "epsilon must be above 0; found 0.0"),
        ({"average_trigger": 3}, "average_trigger=3 has no effect with optimizer='adamw'; it belongs to asgd"),
        ({"optimizer": "asgd", "average_trigger": 0}, "average_trigger must be a whole number of at least 1; found 0"),
        ({"optimizer": "asgd", "ema_decay": 0.9}, "keeps an average of its own; remove ema_decay"),
    ],
)
def test_what_an_optimizer_does_not_have_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        toy_settings(**given)


def test_averaged_sgd_needs_validation() -> None:
    with pytest.raises(ValueError, match="optimizer='asgd' follows a validation metric, and there are no validation"):
        fit(still_network(), toy_batches(), None, toy_settings(optimizer="asgd"))
