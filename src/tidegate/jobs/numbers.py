"""What the commands do with regressions of texts: read numbers, fit, judge, evaluate, predict."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidegate.config import Recipe
from tidegate.data.bundled import PREFIX
from tidegate.data.pairs import flatten, shown
from tidegate.data.text_targets import TextTargets, load_rated_reviews, number_of, read_text_targets
from tidegate.errors import DataError
from tidegate.jobs.classification import finished_run, read_judged, run_facts
from tidegate.jobs.pairs import pair_columns, rows_to_read
from tidegate.jobs.run_steps import Task, add_metrics, noted_warnings, timed, truncation_notes
from tidegate.jobs.text_data import check_first_rows, data_notes, read_parts, read_unlabelled

if TYPE_CHECKING:
    from tidegate.estimators.text_regressor import TextRegressor

__all__ = ["NumberPrediction", "TargetSplits", "fit_targets", "regression_task"]

_RATED = "reviews_en"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NumberPrediction:
    """What a model says of a text: a number, and of a model of whole ratings the probability of each."""

    text: Any
    number: float
    probabilities: dict[str, float] | None = None

    def as_json(self) -> dict[str, Any]:
        """What `predict --json` prints."""
        more = {} if self.probabilities is None else {"probabilities": self.probabilities}
        return {"text": self.text, "number": self.number, **more}

    def as_line(self) -> str:
        """What `predict` prints."""
        return f"{self.number:.6g}"

    def as_example(self) -> str:
        """What `train` prints of a sentence to try."""
        return f"{self.number:+.3f}  {shown(self.text)}"


@dataclass(frozen=True)
class TargetSplits:
    """The parts of a data set of texts and targets."""

    train: TextTargets
    validation: TextTargets | None
    test: TextTargets | None
    unlabelled: list[str] | None = None

    def parts(self) -> dict[str, TextTargets]:
        """Name -> examples, of the parts that are there."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: examples for name, examples in named.items() if examples is not None}


def regression_task() -> Task:
    """How a recipe of text regression is run."""
    return Task(
        unit="texts",
        make=_make,
        read=_read,
        notes=data_notes,
        fit=fit_targets,
        judge=_judge,
        evaluate=_evaluate,
        predict=_predict,
        first_rows=check_first_rows,
    )


def _make(**arguments: Any) -> TextRegressor:
    from tidegate.estimators.text_regressor import TextRegressor

    return TextRegressor(**arguments)


def _read(recipe: Recipe) -> TargetSplits:
    if recipe.bundled is not None:
        parts = {part: _load_bundled(recipe.bundled, part) for part in ("train", "validation", "test")}
    else:
        parts = read_parts(recipe, _read_numbers)
    return TargetSplits(parts["train"], parts.get("validation"), parts.get("test"), read_unlabelled(recipe))


def _read_numbers(source: Any, **options: Any) -> TextTargets:
    return read_text_targets(source, number_of, **options)


def _load_bundled(name: str, part: str) -> TextTargets:
    name = name.removeprefix(PREFIX)
    if name != _RATED:
        raise DataError(f"{PREFIX}{name} has labels and no numbers to learn; {PREFIX}{_RATED} has ratings")
    return load_rated_reviews(part)


def fit_targets(model: Any, splits: TargetSplits, **options: Any) -> None:
    """Fit an estimator on the parts of a recipe's data."""
    held = splits.validation
    validation = None if held is None else (held.texts, held.targets)
    if splits.unlabelled is not None:
        options["unlabelled"] = splits.unlabelled
    model.fit(splits.train.texts, splits.train.targets, validation_data=validation, **options)


def _judge(
    recipe: Recipe, model: TextRegressor, splits: TargetSplits, run: Any, timing: dict[str, float], started: float
) -> Any:
    """Test metrics, baseline, report and predictions of a regression that was just trained."""
    from tidegate.reporting.facts import NumberFacts
    from tidegate.reporting.number_metrics import number_metrics, worst_errors

    output: Any = recipe.sections.output
    notes = list(run.notes)
    timing |= model.timing_
    lengths = {name: values.tolist() for name, values in model.token_lengths.items()}
    judged: dict[str, Any] = {}
    if splits.test is not None:
        test = splits.test
        _log.info("testing on %s texts", f"{len(test):,}")
        lengths["test"] = model.encoder_.encode(flatten(test.texts)[0]).lengths.tolist()
        with timed(timing, "test"):
            predicted = model.predict(test.texts)
            judged["test"] = number_metrics(test.targets, predicted)
        judged["mistakes"] = worst_errors(test.texts, test.targets, predicted, test.origins)
        judged |= {"truth": test.targets, "predicted": predicted.tolist()}
        add_metrics(run.model, {"test": judged["test"]})
        if output.baseline is not None:
            from tidegate.reporting.compare import ridge_baseline

            _log.info("training the TF-IDF baseline")
            own = "words" if model.tokenizer == "bpe" else model.tokenizer
            tokenizer: str = output.baseline.get("tokenizer") or own
            train = (splits.train.texts, splits.train.targets)
            with timed(timing, "baseline"), noted_warnings(notes):
                judged["baseline"] = ridge_baseline(train, (test.texts, test.targets), tokenizer=tokenizer)
    elif output.baseline is not None:
        notes.append("there is no test part, so neither the model nor the baseline was tested")
    notes += truncation_notes(model, lengths)
    timing["total"] = time.perf_counter() - started
    facts = NumberFacts(
        **run_facts(recipe, model, splits, run), token_lengths=lengths, timing=timing, notes=notes, **judged
    )
    return finished_run(run, facts, output, _predict(model, output.try_), started)


def _evaluate(model: TextRegressor, data: str, columns: dict[str, Any], **reading: Any) -> dict[str, Any]:
    from tidegate.reporting.number_metrics import number_metrics

    columns = {**columns, "text": pair_columns(columns.get("text"), model.reads_pairs)}
    examples = read_judged(data, columns, _read_numbers, _load_bundled, **reading)
    return number_metrics(examples.targets, model.predict(examples.texts))


def _predict(model: TextRegressor, texts: list[str]) -> list[NumberPrediction]:
    if not texts:
        return []
    texts = rows_to_read(model, texts)
    numbers = model.predict(texts).tolist()
    if model.levels_ is None:
        return [NumberPrediction(text, number) for text, number in zip(texts, numbers, strict=True)]
    names = [f"{level:g}" for level in model.levels_.tolist()]
    return [
        NumberPrediction(text, number, {name: round(float(value), 6) for name, value in zip(names, row, strict=True)})
        for text, number, row in zip(texts, numbers, model.predict_levels(texts), strict=True)
    ]
