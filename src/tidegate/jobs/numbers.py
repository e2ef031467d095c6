"""What the commands do with regressions of texts: read numbers, fit, judge, evaluate, predict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidegate.config import Recipe
from tidegate.data.bundled import PREFIX
from tidegate.data.pairs import flatten, shown
from tidegate.data.text_targets import TextTargets, load_rated_reviews, number_of, read_text_targets
from tidegate.errors import DataError
from tidegate.jobs.pairs import pair_columns, rows_to_read
from tidegate.jobs.run_steps import timed, truncation_notes
from tidegate.jobs.splits import Splits
from tidegate.jobs.tasks import Task, Trained, estimator
from tidegate.jobs.text_data import check_first_rows, data_notes, read_judged, read_parts, read_unlabelled
from tidegate.reporting.facts import NumberFacts

if TYPE_CHECKING:
    from tidegate.estimators.text_regressor import TextRegressor

__all__ = ["NumberPrediction", "regression_task"]

_RATED = "reviews_en"


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


def regression_task() -> Task:
    """How a recipe of text regression is run."""
    return Task(
        unit="texts",
        make=estimator("TextRegressor"),
        read=_read,
        notes=data_notes,
        facts=NumberFacts,
        test=_test,
        baseline=_baseline,
        say=truncation_notes,
        evaluate=_evaluate,
        predict=_predict,
        first_rows=check_first_rows,
        ensemble=estimator("TextRegressorEnsemble"),
    )


def _read(recipe: Recipe) -> Splits[TextTargets]:
    if recipe.bundled is not None:
        parts = {part: _load_bundled(recipe.bundled, part) for part in ("train", "validation", "test")}
    else:
        parts = read_parts(recipe, _read_numbers)
    return Splits(parts["train"], parts.get("validation"), parts.get("test"), read_unlabelled(recipe))


def _read_numbers(source: Any, **options: Any) -> TextTargets:
    return read_text_targets(source, number_of, **options)


def _load_bundled(name: str, part: str) -> TextTargets:
    name = name.removeprefix(PREFIX)
    if name != _RATED:
        raise DataError(f"{PREFIX}{name} has labels and no numbers to learn; {PREFIX}{_RATED} has ratings")
    return load_rated_reviews(part)


def _test(trained: Trained) -> dict[str, Any]:
    from tidegate.reporting.number_metrics import number_metrics, worst_errors

    model, examples = trained.model, trained.test
    with timed(trained.timing, "test"):
        predicted = model.predict(examples.texts)
        test = number_metrics(examples.targets, predicted)
    return {
        "test": test,
        "mistakes": worst_errors(examples.texts, examples.targets, predicted, examples.origins),
        "truth": examples.targets,
        "predicted": predicted.tolist(),
        "token_lengths": {"test": model.encoder_.encode(flatten(examples.texts)[0]).lengths.tolist()},
    }


def _baseline(trained: Trained, tokenizer: str) -> dict[str, Any]:
    from tidegate.reporting.compare import ridge_baseline

    train, test = ((part.texts, part.targets) for part in (trained.splits.train, trained.test))
    return ridge_baseline(train, test, tokenizer=tokenizer)


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
