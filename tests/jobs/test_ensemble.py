from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import tidegate
from tidegate import jobs
from tidegate.cli import app
from tidegate.config import load_recipe
from tidegate.errors import DataError, TidegateError
from tidegate.jobs import ensemble
from tiny_reviews import rows, write_csv, write_tiny

LINEAR = """\
task: linear-text-classification
data: {train: train.csv, test: test.csv}
model: {C: 1.0}
training: {random_state: 0}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ensemble")
    write_csv(folder / "valid.csv", rows(60, 3))
    write_tiny(folder)
    (folder / "linear.yaml").write_text(LINEAR, encoding="utf-8")
    for name in ("tiny", "linear"):
        jobs.train(load_recipe(folder / f"{name}.yaml", overrides=["output.report=false"]), out=folder / name)
    return folder


def test_a_linear_and_a_recurrent_model_are_joined_and_judged(folder: Path, tmp_path: Path) -> None:
    models = [folder / "linear" / "model.tg", folder / "tiny" / "model.tg"]
    result = ensemble.join(
        models, tmp_path / "joined.tg", data=str(folder / "valid.csv"), test=str(folder / "test.csv")
    )
    assert result.kinds == ["linear-text-classifier", "text-classifier"]
    assert result.held_out is not None and result.test is not None
    assert (result.held_out.rows, result.test.rows) == (60, 30)
    alone = [jobs.evaluate(model, str(folder / "test.csv")).metrics["accuracy"] for model in models]
    assert result.test.members == alone
    judged = jobs.evaluate(result.model, str(folder / "test.csv")).metrics
    assert judged == result.metrics
    assert judged["accuracy"] == result.test.together >= min(alone)
    texts = [text for _, text in rows(30, 2)]
    predicted = [item.label for batch in jobs.predict(result.model, [texts]) for item in batch]
    assert predicted == tidegate.load(result.model).predict(texts).tolist()


def test_the_command_shows_members_and_ensemble(folder: Path, tmp_path: Path) -> None:
    models = [str(folder / "linear" / "model.tg"), str(folder / "tiny" / "model.tg")]
    data = ["--data", str(folder / "valid.csv"), "--test", str(folder / "test.csv")]
    done = CliRunner().invoke(app, ["ensemble", *models, *data, "--out", str(tmp_path / "a.tg")])
    assert done.exit_code == 0, done.output
    assert "held out: 60 texts" in done.stdout and "cross-fitted" in done.stdout
    assert "together" in done.stdout and "text-classifier" in done.stdout
    again = CliRunner().invoke(
        app, ["ensemble", *models, "--weights", "3,1", "--out", str(tmp_path / "b.tg"), "--json"]
    )
    told = json.loads(again.stdout)
    assert told["held_out"] is None and "weighed 0.750, 0.250" in told["weights"]
    texts = [text for _, text in rows(30, 2)]
    said = [tidegate.load(model).predict_proba(texts) for model in models]
    np.testing.assert_allclose(
        tidegate.load(tmp_path / "b.tg").predict_proba(texts), 0.75 * said[0] + 0.25 * said[1], rtol=1e-6
    )


def test_what_cannot_be_joined_is_told_and_nothing_written(folder: Path, tmp_path: Path) -> None:
    models, out = [folder / "linear" / "model.tg", folder / "tiny" / "model.tg"], tmp_path / "out.tg"
    valid = str(folder / "valid.csv")
    with pytest.raises(TidegateError, match="--weights fit needs --data"):
        ensemble.join(models, out)
    with pytest.raises(DataError, match="the same texts"):
        ensemble.join(models, out, data=valid, test=valid)
    with pytest.raises(TidegateError, match="one number a member, 2 of them; found 3"):
        ensemble.join(models, out, weights=[1, 2, 3])
    with pytest.raises(DataError, match="at least two members; found 1"):
        ensemble.join(models[:1], out, weights="equal")
    with pytest.raises(TidegateError, match="no such file"):
        ensemble.join([*models, tmp_path / "none.tg"], out, weights="equal")
    write_csv(tmp_path / "odd.csv", [("other", "a text")])
    with pytest.raises(DataError, match="'other' is not one that the model was trained on"):
        ensemble.join(models, out, data=str(tmp_path / "odd.csv"))
    assert not out.exists()
    out.write_text("mine")
    with pytest.raises(TidegateError, match=r"the file exists\. Replace it"):
        ensemble.join(models, out, weights="equal")
    assert out.read_text() == "mine"
