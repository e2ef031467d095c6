"""A search of a recipe of each task: by the task's own figure, in its own direction, with its own default space."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from features.tiny_bert import write_tiny_bert
from jobs.test_contextual import RECIPE as CONTEXTUAL
from jobs.test_linear import RECIPE as LINEAR
from jobs.test_multitask import write_tasks
from jobs.test_pairs import RECIPE as PAIRS
from jobs.test_pairs import write_pairs
from jobs.test_tagging import RECIPE as TAGGING
from tidegate import jobs
from tidegate.config import load_recipe, shipped_recipes
from tidegate.errors import RecipeError, TidegateError
from tidegate.jobs import tuning
from tidegate.jobs.tuning_space import DEFAULT_SPACES, default_space, parse_space
from tidegate.reporting.task_scores import task_figure
from tidegate.schema.tasks import TASKS
from tiny_kinds import write_kinds
from tiny_reviews import write_tiny
from tiny_stars import write_numbers
from tiny_tags import conll, tiny_sentences

pytest.importorskip("optuna")


def write_tags(folder: Path) -> Path:
    for seed, (name, count) in enumerate([("train", 60), ("valid", 20), ("test", 10)]):
        sentences, tags, _ = tiny_sentences(count, seed)
        (folder / f"{name}.conll").write_text(conll(sentences, tags), encoding="utf-8")
    path = folder / "tags.yaml"
    path.write_text(TAGGING, encoding="utf-8")
    return path


def write_both(folder: Path) -> Path:
    write_pairs(folder / "train.csv", 80, 1)
    write_pairs(folder / "test.csv", 10, 2)
    path = folder / "pairs.yaml"
    path.write_text(PAIRS, encoding="utf-8")
    return path


def write_contextual(folder: Path) -> Path:
    pytest.importorskip("transformers")
    write_tiny_bert(folder / "bert")
    return write_tiny(folder, CONTEXTUAL, train=40, test=10)


def search(recipe: Path, *space: str, **options: Any) -> tuning.Tuning:
    out = options.pop("out", recipe.parent / "found")
    return tuning.tune(recipe, search=space, sampler="random", seed=0, out=out, **options)


def of_two_epochs(recipe: Path, *space: str, **options: Any) -> tuning.Tuning:
    overrides = ["training.max_epochs=2", *options.pop("overrides", ())]
    return search(recipe, *(space or ("model.hidden_size=4,8",)), overrides=overrides, **options)


@pytest.mark.parametrize(
    ("write", "overrides", "monitor", "best"),
    [
        (write_numbers, (), "loss", min),
        pytest.param(write_numbers, ("training.monitor=spearman",), "spearman", max, marks=pytest.mark.slow),
        (write_kinds, (), "micro_f1", max),
        pytest.param(write_tasks, (), "mean", max, marks=pytest.mark.slow),
        (write_tasks, ("training.monitor=stars_mae",), "stars_mae", min),
        pytest.param(write_tasks, ("training.monitor=tone",), "tone_accuracy", max, marks=pytest.mark.slow),
        (write_tags, (), "f1", max),
        (write_both, (), "loss", min),
        (write_contextual, (), "accuracy", max),
    ],
)
def test_trials_are_compared_by_the_figure_of_the_task(
    write: Callable[[Path], Path],
    overrides: tuple[str, ...],
    monitor: str,
    best: Callable[[list[float]], float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = write(tmp_path)
    found = of_two_epochs(recipe, "training.learning_rate=1e-4,5e-2", overrides=overrides, trials=2)
    assert found.monitor == monitor and len(found.trials) == 2
    metrics = [trial.metric for trial in found.trials if trial.metric is not None]
    assert found.best is not None and found.best.metric == best(metrics) and len(metrics) == 2
    assert [trial.epochs for trial in found.trials] == [2, 2]
    assert found.recipe is not None
    chosen = load_recipe(found.recipe)
    assert chosen.task == load_recipe(recipe).task
    assert chosen.arguments["learning_rate"] == found.best.values["training.learning_rate"]
    assert chosen.arguments["max_epochs"] == 2
    assert f"Validation {monitor}" in found.report.read_text(encoding="utf-8")


def test_a_linear_recipe_is_searched_over_lists_too_and_has_no_epochs(tmp_path: Path) -> None:
    recipe = write_tiny(tmp_path, LINEAR)
    space = ["text.ngram_range=[1,1],[1,2]", "model.C=0.1..10:log", "model.classifier=logistic,svm"]
    found = search(recipe, *space, trials=3)
    assert found.monitor == "accuracy" and found.default is None  # C=null is no number of the range
    assert [trial.epochs for trial in found.trials] == [0, 0, 0]
    assert {tuple(trial.values["text.ngram_range"]) for trial in found.trials} <= {(1, 1), (1, 2)}
    assert found.best is not None and found.recipe is not None
    best = load_recipe(found.recipe).arguments
    assert best["ngram_range"] == found.best.values["text.ngram_range"] and best["C"] == found.best.values["model.C"]
    run = jobs.train(load_recipe(found.recipe, overrides=["output.report=false"]), out=tmp_path / "run")
    assert run.validation_accuracy == found.best.metric
    facts = json.loads((found.folder / "trials.json").read_text(encoding="utf-8"))
    assert facts["trials"] == [vars(trial) for trial in found.trials]
    again = search(recipe, *space, trials=3)
    assert again.trials == found.trials


def test_the_first_trial_is_the_recipe_where_it_lies_within_the_space(tmp_path: Path) -> None:
    recipe = write_tiny(tmp_path, LINEAR)
    found = search(recipe, "text.ngram_range=[1,2],[1,1]", "text.weighting=tfidf,counts", trials=1)
    assert found.trials[0].values == {"text.ngram_range": [1, 1], "text.weighting": "counts"}
    assert found.default == found.trials[0].metric is not None


def test_a_search_of_numbers_goes_on_and_refuses_other_data(tmp_path: Path) -> None:
    recipe = write_numbers(tmp_path)
    first = of_two_epochs(recipe, trials=1)
    more = of_two_epochs(recipe, trials=2)
    assert more.trials[0] == first.trials[0] and len(more.trials) == 2
    train = tmp_path / "train.csv"
    train.write_text(train.read_text(encoding="utf-8").replace("stars,text\n", "stars,text\n2,one more\n"), "utf-8")
    with pytest.raises(TidegateError, match="another study named 'stars': the data differ"):
        of_two_epochs(recipe, trials=3)


def test_tags_that_differ_make_another_study(tmp_path: Path) -> None:
    recipe = write_tags(tmp_path)
    of_two_epochs(recipe, trials=1, overrides=["training.max_epochs=1"])
    path = tmp_path / "valid.conll"
    path.write_text(path.read_text(encoding="utf-8").replace("B-LOC", "B-PER"), encoding="utf-8")
    with pytest.raises(TidegateError, match="the data differ"):
        of_two_epochs(recipe, trials=2, overrides=["training.max_epochs=1"])


def test_the_epochs_metric_ends_a_bad_trial_where_lower_is_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import optuna

    class WorseThanTheFirst(optuna.pruners.BasePruner):
        def prune(self, study: Any, trial: Any) -> bool:
            told = trial.intermediate_values
            first = study.get_trials(deepcopy=False)[0].intermediate_values
            return trial.number > 0 and told[max(told)] < first[max(told)]

    monkeypatch.setattr(optuna.pruners, "MedianPruner", lambda **_: WorseThanTheFirst())
    recipe = write_numbers(tmp_path)
    found = search(recipe, "training.learning_rate=1e-6,5e-2", trials=4, overrides=["training.monitor=mae"])
    slow = [trial for trial in found.trials if trial.values["training.learning_rate"] == 1e-6]
    assert found.trials[0].values["training.learning_rate"] == 5e-2 and slow
    assert all(trial.state == "pruned" and trial.epochs == 1 for trial in slow)
    assert found.best is not None and found.best.values["training.learning_rate"] == 5e-2
    assert all(trial.metric is not None and trial.metric > (found.best.metric or 0) for trial in slow)


@pytest.mark.parametrize(
    ("write", "space", "message"),
    [
        (write_tags, "model.hiden_size=4,8", r"model\.hiden_size: unknown key\. Did you mean 'hidden_size'"),
        (write_tags, "training.label_smoothing=0..0.1", r"training\.label_smoothing: unknown key"),
        (write_numbers, "training.monitor=mae,loss", "trials are compared by it, so that all share it: use --set"),
        (write_numbers, "training.loss=squared,absolute", r"losses of different training\.loss cannot be compared"),
        (write_kinds, "training.validation_fraction=0.1,0.2", "trials are compared by it"),
        (write_tasks, "model.task=a,b", "unknown key. Did you mean 'tasks'"),
    ],
)
def test_what_cannot_be_searched_in_a_task(
    write: Callable[[Path], Path], space: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=message):
        search(write(tmp_path), space)
    assert not (tmp_path / "found").exists()


def test_a_task_by_itself_stands_for_its_main_figure() -> None:
    kinds = {"tone": "classification", "stars": "regression"}
    names = ["tone", "stars", "stars_mae", "mean", "loss"]
    assert [task_figure(kinds, name) for name in names] == ["tone_accuracy", "stars_r2", "stars_mae", "mean", "loss"]


def test_without_validation_data_there_is_nothing_to_compare_by(tmp_path: Path) -> None:
    recipe = write_numbers(tmp_path)
    with pytest.raises(RecipeError, match=r"no validation data to compare trials by: name data\.validation, or set"):
        search(recipe, "model.hidden_size=4,8", overrides=["training.validation_fraction=0"])
    with pytest.raises(TidegateError, match=r"none of 1 trials was finished\. The first failed: momentum=0\.9"):
        of_two_epochs(recipe, "model.hidden_size=4,8", overrides=["training.momentum=0.9"], trials=1)


def test_every_task_has_a_default_space_that_its_recipes_accept(tmp_path: Path) -> None:
    assert set(DEFAULT_SPACES) == set(TASKS)
    seen: dict[str, Any] = {}
    for name in (path for path in shipped_recipes() if path not in ("imdb", "imdb_ulmfit")):
        recipe = load_recipe(name, check_files=False)

        def load(more: Any, name: str = name) -> Any:
            return load_recipe(name, overrides=more, check_files=False)

        if recipe.task not in seen:
            seen[recipe.task] = parse_space(default_space(recipe.task, recipe.arguments), load)
    assert set(seen) == set(TASKS) - {"multi-label-text-classification"}  # of which none ships
    kinds = write_kinds(tmp_path)
    space = parse_space(
        DEFAULT_SPACES["multi-label-text-classification"], lambda more: load_recipe(kinds, overrides=more)
    )
    assert len(space) == 6
    rates = [default_space("contextual-text-classification", {"fine_tune": tuned})[0] for tuned in (False, True)]
    assert rates == ["training.learning_rate=3e-4..1e-2:log", "training.learning_rate=1e-5..3e-4:log"]


@pytest.mark.slow
def test_a_killed_search_of_a_tagger_goes_on(tmp_path: Path) -> None:
    recipe = write_tags(tmp_path)
    space, out = ["model.hidden_size=4,8"], tmp_path / "found"
    code = (
        "from tidegate.jobs import tuning\n"
        f"tuning.tune({str(recipe)!r}, search={space!r}, sampler='random', trials=50, out={str(out)!r}, "
        "shown=lambda *_: print('done', flush=True))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=os.environ)
    assert process.stdout is not None
    limit = time.monotonic() + 120
    while process.stdout.readline() != b"done\n":
        assert process.poll() is None and time.monotonic() < limit
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    found = search(recipe, *space, trials=4, out=out)
    assert len(found.trials) >= 4 and found.trials[0].state == "complete"
    assert found.best is not None and found.monitor == "f1"
