from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning
import pytest

from tidegate.training.fit import fit
from training.test_fit import Interrupting, assert_same, train
from training.toy import toy_batches, toy_network, toy_settings

UPDATES = 4  # batches of an epoch of the toy data
EPOCHS = 5


class Rates(lightning.Callback):
    """The learning rate of each step."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])


def rates_of(validated: bool = True, **changes: Any) -> list[float]:
    seen = Rates()
    settings = toy_settings(learning_rate=0.1, max_epochs=EPOCHS, **{"patience": 99, **changes})
    validation = toy_batches(30, 1, shuffle=False) if validated else None
    fit(toy_network(), toy_batches(), validation, settings, callbacks=[seen])
    return seen.rates


def by_steps(of: Any) -> list[float]:
    return [0.1 * of(step) for step in range(UPDATES * EPOCHS)]


TOTAL = UPDATES * EPOCHS
CASES: list[tuple[dict[str, Any], Any]] = [
    ({}, lambda step: 1.0),
    ({"schedule": "step"}, lambda step: 0.1 ** (step // UPDATES)),
    ({"schedule": "step", "decay_factor": 0.5, "decay_epochs": 2}, lambda step: 0.5 ** (step // (2 * UPDATES))),
    ({"schedule": "cosine"}, lambda step: (1 + math.cos(math.pi * step / TOTAL)) / 2),
    ({"schedule": "linear"}, lambda step: 1 - step / TOTAL),
    ({"schedule": "cyclic"}, lambda step: (1 + math.cos(math.pi * (step % UPDATES) / UPDATES)) / 2),
    ({"schedule": "cyclic", "cycles": 1}, lambda step: (1 + math.cos(math.pi * step / TOTAL)) / 2),
    ({"warmup_epochs": 1.5}, lambda step: min(1.0, 1e-3 + (1 - 1e-3) * step / 6)),
    (
        {"schedule": "cosine", "warmup_epochs": 1},
        lambda step: min(1.0, 1e-3 + (1 - 1e-3) * step / 4) * (1 + math.cos(math.pi * step / TOTAL)) / 2,
    ),
]


@pytest.mark.parametrize(("changes", "of"), CASES, ids=[str(changes) for changes, _ in CASES])
def test_each_schedule_by_its_equation(changes: dict[str, Any], of: Any) -> None:
    assert rates_of(**changes) == pytest.approx(by_steps(of), rel=1e-5)


def test_one_cycle_rises_for_three_tenths_and_falls_to_nearly_nothing() -> None:
    rates = rates_of(schedule="one-cycle")
    top = rates.index(max(rates))
    assert top == round(0.3 * TOTAL)
    assert max(rates) == pytest.approx(0.1, rel=0.02)
    assert rates[0] == pytest.approx(0.1 / 25)
    assert rates == sorted(rates[: top + 1]) + sorted(rates[top + 1 :], reverse=True)
    assert 0 < rates[-1] < 0.002


def test_plateau_follows_the_monitored_metric() -> None:
    # At so small a step accuracy never moves, so every second epoch is one too many.
    seen = Rates()
    settings = toy_settings(learning_rate=1e-9, max_epochs=6, patience=99, schedule="plateau", decay_factor=0.25)
    fit(toy_network(), toy_batches(), toy_batches(30, 1, shuffle=False), settings, callbacks=[seen])
    factors = [1, 1, 1, 0.25, 0.25, 0.0625]
    assert seen.rates[::UPDATES] == pytest.approx([1e-9 * factor for factor in factors])


def test_accumulated_batches_are_one_step_of_the_schedule() -> None:
    rates = rates_of(schedule="linear", accumulate=2)
    assert rates == pytest.approx([0.1 * (1 - step / (2 * EPOCHS)) for step in range(2 * EPOCHS)])


@pytest.mark.parametrize("schedule", ["step", "plateau", "cosine", "linear", "one-cycle", "cyclic"])
def test_a_resumed_run_goes_on_with_its_schedule(schedule: str, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"schedule": schedule, "learning_rate": 1e-4 if schedule == "plateau" else 0.02}
    if schedule in ("step", "plateau"):
        changes |= {"decay_epochs": 1, "warmup_epochs": 3.5}
    unbroken = train(**changes)

    def fail() -> None:
        raise RuntimeError("the machine is gone")

    broken = Interrupting(toy_batches(), 3, fail)
    with pytest.raises(RuntimeError, match="the machine is gone"):
        fit(toy_network(), broken, toy_batches(30, 1, shuffle=False), toy_settings(**changes), run_folder=tmp_path)
    assert_same(train(toy_network(seed=5), run_folder=tmp_path, resume=True, **changes), unbroken)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"schedule": "cosin"}, r"schedule must be one of constant, .*; found 'cosin'. Did you mean 'cosine'"),
        ({"decay_factor": 0.5}, "decay_factor has no effect with schedule='constant'; it belongs to step, plateau"),
        ({"schedule": "step", "decay_factor": 1.0}, "decay_factor must be between 0 and 1; found 1.0"),
        ({"schedule": "step", "decay_epochs": 0}, "decay_epochs must be a whole number of at least 1; found 0"),
        ({"warmup_epochs": 6.0}, "warmup_epochs must be from 0 to max_epochs=5; found 6.0"),
        ({"schedule": "one-cycle", "warmup_epochs": 1.0}, "has a warm-up of its own; remove warmup_epochs"),
        ({"schedule": "cyclic", "warmup_epochs": 1.0}, "begins each cycle at the whole rate; remove warmup_epochs"),
        ({"cycles": 2}, "cycles has no effect with schedule='constant'; it belongs to cyclic"),
        ({"schedule": "cyclic", "cycles": 0}, "cycles must be a whole number of at least 1; found 0"),
        ({"schedule": "cyclic", "cycles": 2}, "found max_epochs=5 and 2 cycles: set max_epochs to a multiple"),
    ],
)
def test_what_a_schedule_does_not_have_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        toy_settings(**given)


def test_plateau_needs_validation() -> None:
    with pytest.raises(ValueError, match="schedule='plateau' follows a validation metric"):
        rates_of(validated=False, schedule="plateau")
