from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tidegate.training.averaging import TriggeredAverage, WeightAverage, averaged_weights
from tidegate.training.fit import FitResult, fit
from training.test_fit import Interrupting, assert_same, train
from training.toy import toy_batches, toy_network, toy_settings


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[list[Tensor]]:
    """The weights after each step of training."""
    seen: list[list[Tensor]] = []
    update = WeightAverage.on_train_batch_end

    def watched(self: WeightAverage, *arguments: Any) -> None:
        seen.append([weight.detach().clone() for weight in self.network.parameters()])
        update(self, *arguments)

    monkeypatch.setattr(WeightAverage, "on_train_batch_end", watched)
    return seen


def test_the_average_by_hand(steps: list[list[Tensor]]) -> None:
    network = toy_network()
    result = fit(network, toy_batches(), None, toy_settings(max_epochs=3, ema_decay=0.5))
    assert len(steps) == 3 * len(toy_batches())
    assert result.best_epoch == 3
    expected = steps[0]
    for number, weights in enumerate(steps[1:], 2):
        decay = min(0.5, number / (number + 9))
        expected = [decay * old + (1 - decay) * new for old, new in zip(expected, weights, strict=True)]
    for found, average, last in zip(network.parameters(), expected, steps[-1], strict=True):
        torch.testing.assert_close(found.detach(), average)
        assert not torch.allclose(found, last)


def test_training_itself_is_the_same_with_an_average(steps: list[list[Tensor]]) -> None:
    fast, _ = train(max_epochs=3, ema_decay=1e-9)  # the average is the last weights
    slow, _ = train(max_epochs=3, ema_decay=0.99)
    plain, _ = train(max_epochs=3)
    half = len(steps) // 2
    for first, second in zip(steps[:half], steps[half:], strict=True):
        assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    torch.testing.assert_close(fast.state_dict(), plain.state_dict(), atol=1e-6, rtol=1e-6)
    assert not torch.allclose(slow.embedding.weight, plain.embedding.weight)


def test_validation_judges_the_average() -> None:
    network, result = train(max_epochs=4, ema_decay=0.9, monitor="loss")
    best = result.history[result.best_epoch - 1]
    network.eval()
    sums = {"loss": torch.zeros(2), "accuracy": torch.zeros(2)}
    with torch.no_grad():
        for batch in toy_batches(30, 1, shuffle=False).epoch(0):
            for name, pair in network.measure(batch).items():
                sums[name] += torch.stack(pair)
    for name, (total, count) in sums.items():
        assert best[f"validation_{name}"] == pytest.approx((total / count).item(), rel=1e-5)


@pytest.mark.parametrize(("stopped_in", "accumulate"), [(1, 1), (3, 3)])
def test_a_resumed_run_goes_on_with_its_average(stopped_in: int, accumulate: int, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"ema_decay": 0.9, "accumulate": accumulate}
    unbroken = train(**changes)

    def fail() -> None:
        raise RuntimeError("the machine is gone")

    broken = Interrupting(toy_batches(), stopped_in, fail)
    validation = toy_batches(30, 1, shuffle=False)
    with pytest.raises(RuntimeError, match="the machine is gone"):
        fit(toy_network(), broken, validation, toy_settings(**changes), run_folder=tmp_path)
    resumed = train(toy_network(seed=5), run_folder=tmp_path, resume=True, **changes)
    assert_same(resumed, unbroken)
    # A run that is finished gives its best average back.
    assert_same(train(toy_network(seed=5), run_folder=tmp_path, resume=True, **changes), unbroken)


def test_ctrl_c_keeps_the_best_average() -> None:
    network = toy_network()
    source = Interrupting(toy_batches(), 3, lambda: os.kill(os.getpid(), signal.SIGINT))
    result = fit(network, source, toy_batches(30, 1, shuffle=False), toy_settings(ema_decay=0.9))
    assert result.interrupted
    expected = train(max_epochs=3, ema_decay=0.9)
    assert_same((network, FitResult(result.history, result.best_epoch, False)), expected)


class Steps:
    """As much of a trainer as an average asks for."""

    global_step = 0


def test_averaged_sgd_averages_all_weights_since_validation_stood_still() -> None:
    network, trainer = torch.nn.Linear(1, 1), Steps()
    average = TriggeredAverage(network, trigger=2)

    def epoch(weights: list[float], score: float) -> float:
        """Two steps and a judgement; returns the weight that validation saw."""
        for weight in weights:
            trainer.global_step += 1
            torch.nn.init.constant_(network.weight, weight)
            for _ in range(2):  # the second time for a batch that is only accumulated
                average.on_train_batch_end(trainer, None, None, None, 0)  # pyright: ignore[reportArgumentType]
        average.on_validation_epoch_start(trainer, None)  # pyright: ignore[reportArgumentType]
        seen = network.weight.item()
        average.on_validation_epoch_end(trainer, None)  # pyright: ignore[reportArgumentType]
        assert network.weight.item() == weights[-1]
        assert average.weights["weight"].item() == pytest.approx(seen)
        average.after_epoch(score)
        return seen

    assert epoch([1, 2], 0.5) == 2
    assert epoch([3, 4], 0.4) == 4  # worse, but one of the last two may be
    assert epoch([5, 6], 0.6) == 6
    assert not average.started
    assert epoch([7, 8], 0.5) == 8
    assert average.started  # no better than the best of those before the last two
    assert averaged_weights({"callbacks": {average.state_key: average.state_dict()}}) is None
    assert epoch([10, 20], 0.9) == 15
    copy = TriggeredAverage(torch.nn.Linear(1, 1), trigger=2)
    copy.load_state_dict(average.state_dict())
    assert (copy.started, copy.scores) == (True, [0.5, 0.4, 0.6, 0.5, 0.9])
    assert copy.weights["weight"].item() == 15
    assert epoch([30, 40], 0.1) == 25
    kept = averaged_weights({"callbacks": {average.state_key: average.state_dict()}})
    assert kept is not None and kept["weight"].item() == 25


@pytest.mark.parametrize("stopped_in", [2, 5])
def test_averaged_sgd_resumes_as_it_was(stopped_in: int, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"optimizer": "asgd", "average_trigger": 1, "learning_rate": 2.0, "monitor": "loss"}
    changes["max_epochs"] = 7
    unbroken = train(**changes)
    losses = [entry["validation_loss"] for entry in unbroken[1].history]
    assert any(loss >= min(losses[:place]) for place, loss in enumerate(losses[:-1]) if place)  # it was triggered

    def fail() -> None:
        raise RuntimeError("the machine is gone")

    broken = Interrupting(toy_batches(), stopped_in, fail)
    with pytest.raises(RuntimeError, match="the machine is gone"):
        fit(toy_network(), broken, toy_batches(30, 1, shuffle=False), toy_settings(**changes), run_folder=tmp_path)
    assert_same(train(toy_network(seed=5), run_folder=tmp_path, resume=True, **changes), unbroken)


def test_the_average_has_the_buffers_of_the_network_itself() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    network.register_buffer("table", torch.zeros(3, 2), persistent=False)
    average = WeightAverage(network, 0.9)
    copied = dict(average.average.module.named_buffers())
    assert list(copied) == list(dict(network.named_buffers()))
    assert all(buffer is copied[name] for name, buffer in network.named_buffers())
    assert list(average.weights) == list(network.state_dict())  # what is not kept of the network is not of it
    assert not any(
        own is other for own, other in zip(network.parameters(), average.average.module.parameters(), strict=True)
    )
