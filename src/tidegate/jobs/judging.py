"""What follows the training of every task: its test, its baseline, the report and the sentences to try."""

from __future__ import annotations

import dataclasses
import logging
import time
from typing import TYPE_CHECKING, Any

from tidegate.config import Recipe
from tidegate.jobs.run_folder import RECIPE_FILE, REPORT_FILE
from tidegate.jobs.run_steps import add_metrics, noted_warnings, timed
from tidegate.jobs.splits import Splits
from tidegate.jobs.tasks import Task, Trained

if TYPE_CHECKING:
    from tidegate.jobs.runs import Training

__all__ = ["judge"]

_log = logging.getLogger(__name__)


def judge(
    task: Task,
    recipe: Recipe,
    model: Any,
    splits: Splits[Any],
    run: Training,
    timing: dict[str, float],
    started: float,
) -> Training:
    """Test a model that was just trained beside its baseline, write the report, and complete what is known of the run.

    Args:
        task: What differs by task.
        recipe, model, splits: What was trained, and on what.
        run: What is known so far.
        timing: Seconds of the steps so far, which those of the test and the baseline join.
        started: When the run began, by ``time.perf_counter``.
    """
    output: Any = recipe.sections.output
    options = getattr(output, "baseline", None)
    timing |= model.timing_
    trained = Trained(recipe, model, splits, splits.test, run.folder, timing, list(run.notes))
    lengths = {name: values.tolist() for name, values in getattr(model, "token_lengths", {}).items()}
    judged: dict[str, Any] = {}
    if splits.test is not None:
        _log.info("testing on %s %s", f"{len(splits.test):,}", task.unit)
        judged = task.test(trained)
        lengths |= judged.pop("token_lengths", {})
        add_metrics(run.model, {name: judged[name] for name in ("test", "single") if name in judged})
        if options is not None and task.baseline is not None:
            own = getattr(model, "tokenizer", "words")  # an encoder of the BERT family has its own
            tokenizer = options.get("tokenizer") or ("words" if own == "bpe" else own)
            _log.info("training the TF-IDF baseline")
            with timed(timing, "baseline"), noted_warnings(trained.notes):
                judged["baseline"] = task.baseline(trained, tokenizer)
    elif options is not None or getattr(output, "single_tasks", False):
        trained.notes.append("there is no test part, so neither the model nor what it is compared with was tested")
    for note in (*getattr(model, "notes", ()), *task.say(model, lengths)):  # an ensemble tells of its members
        _log.info(note)
        trained.notes.append(note)
    timing["total"] = time.perf_counter() - started
    facts = {**_facts(recipe, model, splits, run), "token_lengths": lengths, **task.describe(model, splits), **judged}
    return _finish(run, task.facts(**facts, timing=timing, notes=trained.notes), output, task, model, started)


def _facts(recipe: Recipe, model: Any, splits: Splits[Any], run: Training) -> dict[str, Any]:
    """What the facts of every run begin with: title, recipe, counts, history, environment, rate search."""
    from tidegate.environment import describe_environment
    from tidegate.schema.located_yaml import parse_document

    neural = hasattr(model, "network_")
    return {
        "title": recipe.sections.output.title or recipe.name,
        "recipe": parse_document((run.folder / RECIPE_FILE).read_text(encoding="utf-8"), RECIPE_FILE).value,
        "counts": {name: len(examples) for name, examples in splits.parts().items()},
        "history": model.history_ if neural else (),
        "best_epoch": model.best_epoch_ if neural else None,
        "environment": describe_environment().summary(),
        "rate_search": run.rate_search,
    }


def _finish(run: Training, facts: Any, output: Any, task: Task, model: Any, started: float) -> Training:
    """Write the report, or the metrics alone, and predict the sentences to try."""
    from tidegate.reporting.report import write_metrics, write_report

    report = write_report(run.folder, facts) if output.report else None
    if report is None:
        (run.folder / REPORT_FILE).unlink(missing_ok=True)  # of a run that was resumed, and is of other facts
        write_metrics(run.folder, facts)
    return dataclasses.replace(
        run,
        report=report,
        test=facts.test,
        baseline=facts.baseline,
        predictions=task.predict(model, output.try_),
        notes=list(facts.notes),
        seconds=time.perf_counter() - started,
    )
