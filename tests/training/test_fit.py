from __future__ import annotations

import logging
import math
import os
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tidegate.errors import TidegateError
from tidegate.heads.classify import SequenceClassifier
from tidegate.training.batches import EncodedBatches
from tidegate.training.fit import FitResult, fit
from tidegate.training.progress import epoch_line
from training.toy import toy_batches, toy_network, toy_settings


def train(network: Any = None, **changes: Any) -> tuple[Any, FitResult]:
    arguments = {name: changes.pop(name) for name in ("run_folder", "resume", "fingerprint") if name in changes}
    network = toy_network() if network is None else network
    result = fit(network, toy_batches(), toy_batches(30, 1, shuffle=False), toy_settings(**changes), **arguments)
    return network, result


def weights(network: Any) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def figures(result: FitResult) -> list[tuple[float, ...]]:
    return [
        tuple(entry[name] for name in entry if name not in ("seconds", "tokens_per_second")) for entry in result.history
    ]


def assert_same(first: tuple[Any, FitResult], second: tuple[Any, FitResult]) -> None:
    for name, tensor in first[0].state_dict().items():
        assert torch.equal(tensor, second[0].state_dict()[name]), name
    assert figures(first[1]) == figures(second[1])
    assert first[1].best_epoch == second[1].best_epoch


class Interrupting(EncodedBatches):
    """Raises in one step of one epoch, as Ctrl-C or a kill would."""

    def __init__(self, source: EncodedBatches, epoch: int, act: Any) -> None:
        self.source, self.at, self.act = source, epoch, act

    def __len__(self) -> int:
        return len(self.source)

    def epoch(self, epoch: int):
        for number, batch in enumerate(self.source.epoch(epoch)):
            if epoch == self.at and number == 2:
                self.act()
            yield batch


def test_it_learns_and_tells_its_history() -> None:
    network, result = train(max_epochs=12)
    assert [entry["epoch"] for entry in result.history] == list(range(1, 13))
    assert result.history[-1]["train_loss"] < 0.5 * result.history[0]["train_loss"]
    assert result.history[result.best_epoch - 1]["validation_accuracy"] > 0.9
    assert all(entry["tokens_per_second"] > 0 and entry["seconds"] > 0 for entry in result.history)
    assert not result.interrupted
    assert not any(parameter.grad is not None and parameter.grad.isnan().any() for parameter in network.parameters())


def test_the_figures_of_the_best_epoch_are_those_of_the_network_returned() -> None:
    network, result = train(max_epochs=8)
    network.eval()
    total = count = right = 0.0
    with torch.no_grad():
        for batch in toy_batches(30, 1, shuffle=False).epoch(0):
            logits = network(batch.values, batch.ragged)
            total += float(torch.nn.functional.cross_entropy(logits, batch.targets, reduction="sum"))
            right += float((logits.argmax(-1) == batch.targets).sum())
            count += batch.num_rows
    best = result.history[result.best_epoch - 1]
    assert best["validation_loss"] == pytest.approx(total / count, rel=1e-5)
    assert best["validation_accuracy"] == pytest.approx(right / count)
    accuracies = [entry["validation_accuracy"] for entry in result.history]
    assert result.best_epoch == 1 + accuracies.index(max(accuracies))


def test_the_train_loss_is_the_weighted_mean_over_the_epoch() -> None:
    row_weights = np.linspace(0.5, 2.0, 60)
    network, batches = (
        toy_network(dropout=0.0, embedding_dropout=0.0, word_dropout=0.0),
        toy_batches(weights=row_weights),
    )
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    result = fit(network, batches, None, toy_settings(max_epochs=1, learning_rate=1e-12))
    network.load_state_dict(before)
    totals = np.zeros(2)
    for batch in batches.epoch(0):
        with torch.no_grad():
            totals += [float(value) for value in network.loss(batch)]
    assert result.history[0]["train_loss"] == pytest.approx(totals[0] / totals[1], rel=1e-5)
    assert totals[1] == pytest.approx(row_weights.sum())


def test_a_seed_repeats_a_run_bit_for_bit_and_another_does_not() -> None:
    first, second, other = train(), train(), train(random_state=8)
    assert_same(first, second)
    assert not torch.equal(first[0].head.projection.weight, other[0].head.projection.weight)


def test_the_global_generators_are_untouched() -> None:
    torch.manual_seed(123)
    np.random.seed(123)
    expected = torch.rand(3), np.random.rand(3)
    torch.manual_seed(123)
    np.random.seed(123)
    train(max_epochs=1)
    assert torch.equal(torch.rand(3), expected[0])
    assert np.array_equal(np.random.rand(3), expected[1])


def test_patience_stops_and_the_best_epoch_is_kept() -> None:
    _, result = train(max_epochs=50, patience=2, learning_rate=1e-9)
    assert len(result.history) == result.best_epoch + 2
    assert result.best_epoch == 1


def test_the_loss_can_choose_the_epoch() -> None:
    _, result = train(max_epochs=10, monitor="loss", learning_rate=0.1)
    losses = [entry["validation_loss"] for entry in result.history]
    assert result.best_epoch == 1 + losses.index(min(losses))


def test_without_validation_the_last_epoch_is_kept() -> None:
    network = toy_network()
    result = fit(network, toy_batches(), None, toy_settings(max_epochs=4, patience=1))
    assert (result.best_epoch, len(result.history)) == (4, 4)
    assert result.history[0]["validation_loss"] is None
    assert result.history[0]["validation_accuracy"] is None


def test_settings_change_the_run() -> None:
    reference, _ = train(max_epochs=2)
    for change in ({"gradient_clip": 1e-3}, {"weight_decay": 0.5}, {"learning_rate": 0.03}):
        changed, _ = train(max_epochs=2, **change)
        assert not torch.equal(changed.head.projection.weight, reference.head.projection.weight), change


def test_weight_decay_shrinks_the_weights() -> None:
    network, _ = train(max_epochs=2, weight_decay=20.0)
    plain, _ = train(max_epochs=2)
    assert network.embedding.weight.norm() < 0.6 * plain.embedding.weight.norm()


@pytest.mark.parametrize("stopped_in", [1, 3])
def test_a_run_resumed_from_its_checkpoint_equals_an_unbroken_one(stopped_in: int, tmp_path: Path) -> None:
    unbroken = train(run_folder=tmp_path / "unbroken")

    def fail() -> None:
        raise RuntimeError("the machine is gone")

    broken = Interrupting(toy_batches(), stopped_in, fail)
    validation = toy_batches(30, 1, shuffle=False)
    with pytest.raises(RuntimeError, match="the machine is gone"):
        fit(toy_network(), broken, validation, toy_settings(), run_folder=tmp_path / "broken")
    # The network that resumes starts from other weights, which the checkpoint must replace.
    assert_same(train(toy_network(seed=5), run_folder=tmp_path / "broken", resume=True), unbroken)


def test_a_killed_process_resumes_to_the_same_weights(tmp_path: Path) -> None:
    script = (
        "import os, signal\n"
        "from training.test_fit import Interrupting\n"
        "from training.toy import toy_batches, toy_network, toy_settings\n"
        "from tidegate.training.fit import fit\n"
        "source = Interrupting(toy_batches(), 2, lambda: os.kill(os.getpid(), signal.SIGKILL))\n"
        f"fit(toy_network(), source, toy_batches(30, 1, shuffle=False), toy_settings(), run_folder={str(tmp_path)!r})\n"
    )
    tests = Path(__file__).parents[1]
    paths = os.pathsep.join([str(tests), str(tests.parent / "src"), os.environ.get("PYTHONPATH", "")])
    killed = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": paths}, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert_same(train(toy_network(seed=5), run_folder=tmp_path, resume=True), train())


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    for name, changes in (("stopped", {"max_epochs": 50, "patience": 2, "learning_rate": 1e-9}), ("full", {})):
        finished = train(run_folder=tmp_path / name, **changes)
        assert_same(train(toy_network(seed=5), run_folder=tmp_path / name, resume=True, **changes), finished)


def test_a_finished_run_can_go_on_for_more_epochs(tmp_path: Path) -> None:
    train(run_folder=tmp_path, max_epochs=2)
    assert_same(train(toy_network(seed=5), run_folder=tmp_path, resume=True, max_epochs=5), train(max_epochs=5))


def test_a_run_of_other_settings_is_not_resumed(tmp_path: Path) -> None:
    train(run_folder=tmp_path, max_epochs=1, fingerprint={"batch_size": 16, "data": "a"})
    with pytest.raises(TidegateError, match=r"last.ckpt: batch_size was 16 and is 32; use the settings"):
        train(run_folder=tmp_path, resume=True, fingerprint={"batch_size": 32, "data": "a"})


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_checkpoint_of_another_architecture_is_refused_and_kept(tmp_path: Path) -> None:
    train(run_folder=tmp_path, max_epochs=1)
    before = snapshot(tmp_path)
    shape = r"its encoder.* has the shape \(24, 8\), here it is \(36, 8\)"
    with pytest.raises(TidegateError, match=rf"last\.ckpt: it is of another architecture: .*{shape}"):
        train(toy_network(hidden_size=12), run_folder=tmp_path, resume=True)
    with pytest.raises(TidegateError, match=r"another architecture: it has no attention\.projection\.weight"):
        train(toy_network(pooling="attention"), run_folder=tmp_path, resume=True)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
@pytest.mark.parametrize("kind", ["truncated", "flipped", "foreign", "empty"])
def test_a_checkpoint_that_is_damaged_is_named_and_nothing_is_overwritten(name: str, kind: str, tmp_path: Path) -> None:
    # Of two epochs the first one is the best, so that both files are read.
    assert train(run_folder=tmp_path, max_epochs=2, learning_rate=1e-9)[1].best_epoch == 1
    path = tmp_path / "checkpoints" / name
    content = bytearray(path.read_bytes())
    path.unlink()  # the two may be one file
    if kind == "foreign":
        torch.save({"state_dict": {}, "callbacks": {}}, path)
    elif kind == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        path.write_bytes(content[: 0 if kind == "empty" else len(content) * 2 // 3])
    before = snapshot(tmp_path)
    said = "cannot resume from" if kind == "foreign" else "cannot read the checkpoint"
    with pytest.raises(TidegateError, match=rf"{said} .*{name}"):
        train(run_folder=tmp_path, resume=True, learning_rate=1e-9)
    assert snapshot(tmp_path) == before


def test_a_run_killed_between_its_two_checkpoints_is_the_same_run(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"monitor": "loss"}
    unbroken = train(**changes)
    for done in (1, 2):
        folder = tmp_path / str(done)
        result = train(run_folder=folder, max_epochs=done, **changes)[1]
        assert result.best_epoch == done
        best = folder / "checkpoints" / "best.ckpt"
        best.unlink()
        if done == 2:  # what stands there then is an earlier epoch's
            shutil.copy(tmp_path / "1" / "first.ckpt", best)
        else:
            shutil.copy(folder / "checkpoints" / "last.ckpt", folder / "first.ckpt")
        assert_same(train(toy_network(seed=5), run_folder=folder, resume=True, **changes), unbroken)


def test_the_two_checkpoints_must_be_of_one_run(tmp_path: Path) -> None:
    assert train(run_folder=tmp_path, max_epochs=3, learning_rate=1e-9)[1].best_epoch == 1
    checkpoints = tmp_path / "checkpoints"
    train(run_folder=tmp_path / "other", max_epochs=3, monitor="loss")
    shutil.copy(tmp_path / "other" / "checkpoints" / "best.ckpt", checkpoints / "best.ckpt")
    with pytest.raises(TidegateError, match=r"its best epoch is 1, and .*best\.ckpt is of epoch 3"):
        train(run_folder=tmp_path, resume=True, learning_rate=1e-9)


def test_without_resume_an_old_checkpoint_is_replaced(tmp_path: Path) -> None:
    train(run_folder=tmp_path, random_state=1)
    fresh = train(run_folder=tmp_path)
    assert_same(fresh, train())
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]


def test_resume_without_a_checkpoint_starts_from_the_beginning(tmp_path: Path) -> None:
    assert_same(train(run_folder=tmp_path, resume=True), train())


def test_ctrl_c_keeps_the_best_weights_and_the_handler(tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGINT)
    network = toy_network()
    source = Interrupting(toy_batches(), 3, lambda: os.kill(os.getpid(), signal.SIGINT))
    validation = toy_batches(30, 1, shuffle=False)
    result = fit(network, source, validation, toy_settings(), run_folder=tmp_path)
    assert result.interrupted
    assert len(result.history) == 3
    assert_same((network, FitResult(result.history, result.best_epoch, False)), train(max_epochs=3))
    assert signal.getsignal(signal.SIGINT) is handler
    assert_same(train(toy_network(seed=5), run_folder=tmp_path, resume=True), train())


def test_ctrl_c_in_the_first_epoch_is_raised() -> None:
    handler = signal.getsignal(signal.SIGINT)
    source = Interrupting(toy_batches(), 0, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        fit(toy_network(), source, None, toy_settings())
    assert signal.getsignal(signal.SIGINT) is handler


def test_divergence_in_the_first_epoch_is_an_error_with_a_cure() -> None:
    network = toy_network()
    with torch.no_grad():
        network.head.projection.weight.fill_(math.nan)
    with pytest.raises(TidegateError, match=r"diverged in epoch 1: the training loss is nan at batch 1") as caught:
        train(network)
    message = str(caught.value)
    first = next(toy_batches().epoch(0))
    assert f"(rows {', '.join(map(str, first.origin.tolist()[:8]))} and 8 more; {first.num_values} tokens)" in message
    assert (
        "none, it is the first step; not finite are the weights head.projection.weight. Lower learning_rate" in message
    )


def test_divergence_later_keeps_the_best_epoch_and_warns() -> None:
    network = toy_network()

    def poison() -> None:
        with torch.no_grad():
            network.head.projection.weight.fill_(math.nan)

    with pytest.warns(UserWarning, match="diverged in epoch 3"):
        result = fit(network, Interrupting(toy_batches(), 2, poison), toy_batches(30, 1, shuffle=False), toy_settings())
    assert len(result.history) == 2  # the epoch that broke off is none
    assert result.best_epoch <= 2
    assert all(tensor.isfinite().all() for tensor in network.state_dict().values())


def test_divergence_names_the_gradients_of_the_step_before_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    network, norms = toy_network(), {}

    def poison() -> None:
        norms.update({name: float(p.grad.norm()) for name, p in network.named_parameters() if p.grad is not None})
        with torch.no_grad():
            network.head.projection.bias.fill_(math.inf)

    validation = toy_batches(30, 1, shuffle=False)
    with pytest.warns(UserWarning, match="at batch 3 ") as caught:
        fit(network, Interrupting(toy_batches(), 2, poison), validation, toy_settings(), run_folder=tmp_path)
    name, largest = max(norms.items(), key=lambda item: item[1])
    assert f"Gradient norms of the step before: {name} {largest:.3g}, " in str(caught[0].message)
    assert_same(train(toy_network(seed=5), run_folder=tmp_path, resume=True), train())


def test_training_is_quiet_and_leaves_logging_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    level = logging.getLogger("lightning.pytorch").level
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(max_epochs=1)
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
    assert [str(warning.message) for warning in caught] == []
    assert logging.getLogger("lightning.pytorch").level == level


def test_verbose_prints_one_line_an_epoch(capfd: pytest.CaptureFixture[str]) -> None:
    _, result = train(max_epochs=2, verbose=True)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2
    for line, entry in zip(lines, result.history, strict=True):
        assert f"epoch  {entry['epoch']}/2" in line
        assert f"accuracy {entry['validation_accuracy']:.4f}" in line
        assert "tokens/s" in line
    assert "best so far" in lines[0]


@pytest.mark.parametrize("verbose", [False, True])
def test_a_line_an_epoch_goes_to_the_log_where_progress_is_not_shown(
    verbose: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="tidegate"):
        _, result = train(max_epochs=3, verbose=verbose)
    bests, scores = [], [-1.0]
    for entry in result.history:
        bests.append(entry["validation_accuracy"] > max(scores))
        scores.append(entry["validation_accuracy"])
    lines = [epoch_line(entry, 3, best) for entry, best in zip(result.history, bests, strict=True)]
    logged = [(record.name, record.levelno, record.getMessage()) for record in caplog.records]
    assert logged == ([] if verbose else [("tidegate.training.fit", logging.INFO, line) for line in lines])


def test_every_step_of_every_epoch_draws_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    draws: list[float] = []

    def loss(network: SequenceClassifier, batch: Any) -> tuple[Tensor, Tensor]:
        draws.append(float(torch.rand(())))
        return original(network, batch)

    original = SequenceClassifier.loss
    monkeypatch.setattr(SequenceClassifier, "loss", loss)
    train(max_epochs=3)
    assert len(draws) == 12
    assert len(set(draws)) == 12
    first = list(draws)
    draws.clear()
    train(max_epochs=3)
    assert draws == first
