from __future__ import annotations

import re

import pytest

from tidegate.training import progress
from tidegate.training.fit import fit
from tidegate.training.progress import epoch_line
from training.toy import toy_batches, toy_network, toy_settings

ENTRY = {
    "epoch": 3,
    "train_loss": 0.51234,
    "validation_loss": 0.61234,
    "validation_accuracy": 0.78125,
    "tokens_per_second": 41234.5,
    "seconds": 4.26,
}


def test_the_line_of_an_epoch() -> None:
    line = "epoch  3/20  loss 0.5123  validation loss 0.6123  accuracy 0.7812  41,234 tokens/s  4.3 s"
    assert epoch_line(ENTRY, 20, best=False) == line
    assert epoch_line(ENTRY, 20, best=True) == line + "  best so far"
    alone = {**ENTRY, "validation_loss": None, "validation_accuracy": None}
    assert epoch_line(alone, 20, best=False) == "epoch  3/20  loss 0.5123  41,234 tokens/s  4.3 s"


def test_on_a_terminal_a_bar_runs_through_the_steps_and_goes(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(progress, "_REFRESH_SECONDS", 0.0)
    result = fit(toy_network(), toy_batches(), None, toy_settings(max_epochs=2, verbose=True))
    shown = capfd.readouterr().err
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    steps = re.findall(r"([1-4])/4 loss (\d\.\d{4})  ([\d,]+) tokens/s", plain)
    assert [int(step) for step, _, _ in steps[:4]] == [1, 2, 3, 4]
    assert steps[3][1] == f"{result.history[0]['train_loss']:.4f}"
    assert plain.count("best so far") == 2
    assert "\x1b[?25h" in shown  # the cursor that the bar hid is back


def test_a_line_shows_the_figures_of_numbers_and_the_monitor() -> None:
    entry = {"epoch": 2, "train_loss": 0.5, "validation_loss": 0.25, "validation_accuracy": None, "seconds": 1.0}
    entry |= {"tokens_per_second": 9.0, "validation_mae": 1.5, "validation_mse": 4.0, "validation_spearman": 0.75}
    assert "validation loss 0.2500  mae 1.5000  spearman 0.7500  9 tokens/s" in epoch_line(entry, 9, False)
    monitored = {**entry, "validation_accuracy": 0.5, "validation_roc_auc": 0.625}
    assert "accuracy 0.5000  mae 1.5000  spearman 0.7500  roc auc 0.6250" in epoch_line(monitored, 9, False)
    ranked = {**monitored, "validation_ndcg": 0.375, "validation_mrr": 0.5}
    assert "roc auc 0.6250  ndcg 0.3750  mrr 0.5000" in epoch_line(ranked, 9, False)
