"""What recipes of numbers and of several labels a text have in common: what they print, refuse and find."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tidegate import jobs
from tidegate.cli import app
from tidegate.config import load_recipe
from tidegate.errors import RecipeError
from tiny_kinds import write_kinds
from tiny_stars import write_numbers

Write = Callable[..., Path]
SHORT = ["training.max_epochs=1", "output.report=false"]
UNCALIBRATED = "training.calibrate=null"


@pytest.mark.parametrize(
    ("write", "overrides", "expected"),
    [
        (
            write_numbers,
            SHORT,
            ("test MAE ", "baseline MAE ", "ridge regression", "right number", "a lovely great film"),
        ),
        (
            write_kinds,
            [*SHORT, UNCALIBRATED],
            ("test micro F1 ", "baseline micro F1 ", "for each label", "colour", "a red dog"),
        ),
    ],
)
def test_what_a_run_prints(tmp_path: Path, write: Write, overrides: list[str], expected: tuple[str, ...]) -> None:
    recipe = write(tmp_path, train=40)
    options = [part for override in overrides for part in ("--set", override)]
    said = CliRunner().invoke(app, ["train", str(recipe), *options, "--out", str(tmp_path / "run"), "--quiet"])
    assert said.exit_code == 0, said.output
    for words in expected:
        assert words in said.stdout, words


@pytest.mark.parametrize(
    ("write", "override", "message"),
    [
        (
            write_numbers,
            "training.monitor=rms",
            "expected loss, mae, mse, rmse, r2, pearson or spearman, found the text 'rms'. Did you",
        ),
        (
            write_numbers,
            "training.loss=square",
            "expected squared, absolute, huber or ordinal, found the text 'square'. Did you mean",
        ),
        (write_numbers, "training.class_weight=balanced", "training.class_weight: unknown key"),
        (
            write_kinds,
            "training.monitor=balanced_accuracy",
            "expected accuracy, loss, macro_f1, .* found the text 'balanced_accuracy'",
        ),
        (
            write_kinds,
            'data={source: "bundled:reviews_en", label_separator: "|"}',
            "data.label_separator has no effect: the bundled",
        ),
        (write_kinds, 'data.label_separator=""', "data.label_separator"),
        (write_kinds, "training.threshold=1.5", "training.threshold"),
    ],
)
def test_keys_that_cannot_be(tmp_path: Path, write: Write, override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(write(tmp_path), overrides=[override])


@pytest.mark.parametrize(("write", "overrides"), [(write_numbers, SHORT), (write_kinds, [*SHORT, UNCALIBRATED])])
def test_a_learning_rate_is_found(tmp_path: Path, write: Write, overrides: list[str]) -> None:
    recipe = load_recipe(write(tmp_path), overrides=["output.baseline=false", *overrides])
    run = jobs.train(recipe, out=tmp_path / "run", find_rate=True)
    assert run.rate_search is not None
    rate = load_recipe(run.folder / "recipe.yaml").arguments["learning_rate"]
    assert rate == pytest.approx(run.rate_search["suggestion"], rel=0.1)
