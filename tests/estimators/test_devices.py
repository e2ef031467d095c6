"""Every estimator of a network learns in two processes what it learns in one, where no mask is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from estimators import test_contextual_text_classifier as contextual
from estimators import test_multi_task_text_model as multitask
from estimators import test_sequence_tagger as tagger
from estimators import test_text_classifier as classifier
from features.tiny_bert import write_tiny_bert
from tidegate import TextRegressor, jobs
from tidegate.cli import app
from tidegate.config import load_recipe
from tidegate.errors import RecipeError
from tiny_network import TINY
from tiny_reviews import write_tiny

WITHOUT: dict[str, Any] = {"dropout": 0.0, "embedding_dropout": 0.0, "max_epochs": 2}


def figures(model: Any) -> list[list[float]]:
    left_out = ("seconds", "tokens_per_second")
    return [[value for name, value in entry.items() if name not in left_out] for entry in model.history_]


def assert_alike(one: Any, two: Any) -> None:
    np.testing.assert_allclose(np.array(figures(one), float), np.array(figures(two), float), rtol=2e-3, atol=2e-4)
    for (name, tensor), other in zip(
        one.network_.state_dict().items(), two.network_.state_dict().values(), strict=True
    ):
        np.testing.assert_allclose(tensor.numpy(), other.numpy(), atol=2e-3, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"pretrain_epochs": 1, "class_weight": "balanced"},
        {"augment_delete": 0.2, "activity_penalty": 0.1, "monitor": "macro_f1"},
    ],
)
def test_a_classifier(changes: dict[str, Any]) -> None:
    one, two = (classifier.make(**WITHOUT, **changes, devices=n).fit(classifier.X, classifier.Y) for n in (1, 2))
    assert_alike(one, two)


@pytest.mark.slow
def test_a_regressor_and_several_tasks() -> None:
    arguments = {**TINY, **WITHOUT}
    fitted = [TextRegressor(**arguments, devices=n).fit(multitask.X, multitask.RATINGS) for n in (1, 2)]
    assert_alike(*fitted)
    for sampling in ("joint", "uniform"):
        both = [
            multitask.make(**WITHOUT, task_sampling=sampling, devices=n).fit(multitask.X, multitask.Y) for n in (1, 2)
        ]
        assert_alike(*both)


@pytest.mark.slow
def test_a_tagger() -> None:
    weights = np.random.default_rng(0).uniform(0.2, 2.0, len(tagger.X))
    fitted = [
        tagger.make(**WITHOUT, word_dropout=0.0, devices=n).fit(tagger.X, tagger.Y, weights, intents=tagger.INTENTS)
        for n in (1, 2)
    ]
    assert_alike(*fitted)


@pytest.mark.slow
def test_a_head_over_contextual_states(tmp_path: Path) -> None:
    folder = write_tiny_bert(tmp_path)
    changes: dict[str, Any] = {"max_epochs": 2, "dropout": 0.0}
    fitted = [contextual.make(folder, **changes, devices=n).fit(contextual.X, contextual.Y) for n in (1, 2)]
    assert_alike(*fitted)


@pytest.mark.slow
def test_a_recipe(tmp_path: Path) -> None:
    recipe = write_tiny(tmp_path)
    done = CliRunner().invoke(app, ["train", str(recipe), "--devices", "2", "--out", str(tmp_path / "two"), "-q"])
    assert done.exit_code == 0, done.output
    one = jobs.train(load_recipe(recipe), out=tmp_path / "one")
    two = jobs.train(load_recipe(recipe, overrides=["training.devices=2"]), out=tmp_path / "two", resume=True)
    assert one.test is not None and two.test is not None
    assert one.test["log_loss"] == pytest.approx(two.test["log_loss"], rel=1e-3)
    with pytest.raises(Exception, match="devices was 2 and is 1"):
        jobs.train(load_recipe(recipe), out=tmp_path / "two", resume=True)


def test_what_cannot_be_is_told_before_anything_is_written(tmp_path: Path) -> None:
    recipe = write_tiny(tmp_path)
    out = str(tmp_path / "run")
    done = CliRunner().invoke(app, ["train", str(recipe), "--devices", "0", "--out", out])
    assert done.exit_code == 2 and "--devices" in done.output
    with pytest.raises(RecipeError, match=r"training\.devices: expected a number of at least 1, found the number 0"):
        load_recipe(recipe, overrides=["training.devices=0"])
    keys = ["training.device=cuda:0", "training.devices=2"]
    with pytest.raises(RecipeError, match=r"training\.devices?: .*(names one GPU|needs a CUDA device)"):
        jobs.train(load_recipe(recipe, overrides=keys), out=out)
    assert not Path(out).exists()
