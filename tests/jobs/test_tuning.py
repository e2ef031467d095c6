from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tidegate.config import load_recipe
from tidegate.errors import RecipeError, TidegateError
from tidegate.jobs import tuning
from tiny_reviews import write_tiny

pytest.importorskip("optuna")

SEARCH = ["model.hidden_size=4,8", "training.learning_rate=1e-4..0.1:log"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny(folder)
    return folder


def search(folder: Path, **options: Any) -> tuning.Tuning:
    return tuning.tune(folder / "tiny.yaml", **{"search": SEARCH, "sampler": "random", "seed": 0, **options})


@pytest.fixture(scope="module")
def found(folder: Path) -> tuning.Tuning:
    return search(folder, trials=5, out=folder / "found", prune=False)


def test_the_first_trial_is_the_recipe_and_the_best_is_written_out(found: tuning.Tuning, folder: Path) -> None:
    assert [trial.number for trial in found.trials] == [0, 1, 2, 3, 4]
    assert found.trials[0].values == {"model.hidden_size": 8, "training.learning_rate": 0.05}
    assert found.default == found.trials[0].metric
    assert found.best is not None and found.recipe is not None
    assert found.best.metric == max(trial.metric for trial in found.trials if trial.metric is not None)
    best = load_recipe(found.recipe)
    assert best.arguments["hidden_size"] == found.best.values["model.hidden_size"]
    assert best.arguments["learning_rate"] == found.best.values["training.learning_rate"]
    assert best.data_path("train") == folder / "train.csv"
    assert best.sections.output.title == "Tiny reviews"


def test_the_metric_of_a_trial_is_that_of_its_recipe(found: tuning.Tuning, folder: Path, tmp_path: Path) -> None:
    from tidegate import jobs

    assert found.recipe is not None and found.best is not None
    run = jobs.train(load_recipe(found.recipe, overrides=["output.report=false"]), out=tmp_path / "run")
    assert run.validation_accuracy == pytest.approx(found.best.metric)


def test_the_page_and_the_facts_hold_every_trial(found: tuning.Tuning) -> None:
    facts = json.loads((found.folder / "trials.json").read_text(encoding="utf-8"))
    assert facts["trials"] == [vars(trial) for trial in found.trials]
    assert set(facts["importances"]) <= {"model.hidden_size", "training.learning_rate"}
    page = found.report.read_text(encoding="utf-8")
    assert page.count("<svg") == 1 + bool(facts["importances"])
    assert found.best is not None and f"{found.best.metric:.4f}" in page
    assert "5 trials finished, 0 ended early, 0 failed." in page


def test_called_again_a_search_goes_on_and_counts_what_is_done(found: tuning.Tuning, folder: Path) -> None:
    same = search(folder, trials=5, out=folder / "found", prune=False)
    assert [vars(trial) for trial in same.trials] == [vars(trial) for trial in found.trials]
    more = search(folder, trials=6, out=folder / "found", prune=False)
    assert len(more.trials) == 6
    assert [trial.metric for trial in more.trials[:5]] == [trial.metric for trial in found.trials]
    drawn = [trial.values["training.learning_rate"] for trial in more.trials]
    assert len(set(drawn)) == 6  # the same seed, and no trial drawn twice


def test_a_storage_of_another_search_is_refused_and_left_as_it_is(found: tuning.Tuning, folder: Path) -> None:
    before = Path(found.storage).read_bytes()
    for options, message in (
        ({"search": ["model.hidden_size=4,8"]}, "the space differ"),
        ({"overrides": ["model.num_layers=2"]}, "the recipe differ"),
    ):
        with pytest.raises(TidegateError, match=message):
            search(folder, out=folder / "found", **options)
    assert Path(found.storage).read_bytes() == before
    (folder / "no.db").write_text("not a database at all, but long enough to be looked at" * 40)
    with pytest.raises(TidegateError, match=r"no\.db: the storage of the search cannot be used"):
        search(folder, out=folder / "other", storage=str(folder / "no.db"))
    with pytest.raises(TidegateError, match=r"nowhere/x\.db: the storage of the search cannot be used"):
        search(folder, out=folder / "other", storage=str(folder / "nowhere" / "x.db"))


def test_a_grid_is_tried_whole_in_a_journal(folder: Path, tmp_path: Path) -> None:
    space = ["model.hidden_size=4,6", "model.num_layers=1..2:1"]
    result = search(folder, search=space, sampler="grid", out=tmp_path, storage=str(tmp_path / "study.journal"))
    tried = sorted(tuple(trial.values.values()) for trial in result.trials)
    assert tried == [(4, 1), (4, 2), (6, 1), (6, 2)]
    assert (tmp_path / "study.journal").stat().st_size > 0
    with pytest.raises(RecipeError, match="a grid needs values or a step"):
        search(folder, sampler="grid", out=tmp_path)


@pytest.mark.parametrize("sampler", ["tpe", pytest.param("gp", marks=pytest.mark.slow)])
def test_the_other_samplers_draw(sampler: str, folder: Path, tmp_path: Path) -> None:
    result = search(folder, sampler=sampler, trials=2, out=tmp_path)
    assert len(result.trials) == 2


def test_bad_trials_are_ended_early(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import optuna

    class AllButTheFirst(optuna.pruners.BasePruner):
        def prune(self, study: Any, trial: Any) -> bool:
            return trial.number > 0 and len(trial.intermediate_values) == 2

    monkeypatch.setattr(optuna.pruners, "MedianPruner", lambda **_: AllButTheFirst())
    result = search(folder, trials=2, out=tmp_path, overrides=["training.max_epochs=3"])
    assert [trial.state for trial in result.trials] == ["complete", "pruned"]
    assert [trial.epochs for trial in result.trials] == [3, 2]
    assert result.best == result.trials[0]
    assert "1 (ended early)" in result.report.read_text(encoding="utf-8")


def test_values_that_exclude_each_other_fail_their_trial_alone(folder: Path, tmp_path: Path) -> None:
    space = ["training.optimizer=sgd,adamw", "training.momentum=null,0.9"]
    result = search(folder, search=space, sampler="grid", out=tmp_path)
    failed = [trial.values for trial in result.trials if trial.state == "fail"]
    assert failed == [{"training.optimizer": "adamw", "training.momentum": 0.9}]
    assert result.best is not None


def test_what_cannot_be_searched(folder: Path, tmp_path: Path) -> None:
    for options, message in (
        ({"sampler": "tpee"}, r"--sampler: sampler must be one of tpe, random, grid, gp; found 'tpee'. Did you mean"),
        ({"trials": 0}, "--trials must be at least 1; found 0"),
        ({"search": ["model.hiden_size=1,2"]}, "Did you mean 'hidden_size'"),
    ):
        with pytest.raises(RecipeError, match=message):
            search(folder, out=tmp_path / "none", **options)
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_a_killed_search_goes_on(folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom tidegate.jobs import tuning\n"
        f"tuning.tune({str(folder / 'tiny.yaml')!r}, search={SEARCH!r}, sampler='random', trials=50, "
        f"out={str(tmp_path)!r}, shown=lambda *_: print('done', flush=True))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=os.environ)
    assert process.stdout is not None
    limit = time.monotonic() + 120
    while process.stdout.readline() != b"done\n":
        assert process.poll() is None and time.monotonic() < limit
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    result = search(folder, trials=4, out=tmp_path)
    assert len(result.trials) >= 4
    assert result.trials[0].state == "complete"
