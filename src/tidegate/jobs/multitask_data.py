"""The data that a recipe of several tasks names: its parts, with labels that agree, and what one must know of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tidegate.config import READING, Recipe
from tidegate.data.bundled import PREFIX, bundled_path
from tidegate.data.sources import Label, read_records
from tidegate.data.targets import TargetExamples, align_targets, read_target_examples, whole_labels
from tidegate.errors import DataError
from tidegate.jobs.splits import Splits, repeated_note
from tidegate.jobs.text_data import VALIDATION_NAMES, options_named, read_unlabelled

__all__ = ["check_first_targets", "read_target_splits", "target_notes"]

_PARTS = ("train", "validation", "test")


def read_target_splits(recipe: Recipe) -> Splits[TargetExamples]:
    """The data of a recipe of several tasks.

    Raises:
        DataError: A file cannot be read as the recipe says, a task has no target to learn from, or a part has a label
            that the training data lack.
    """
    kinds = _kinds(recipe)
    with options_named("In the recipe", "data.{}"):
        parts = _read_parts(recipe, kinds)
    train = parts["train"]
    targets = dict(train.targets)
    classes: dict[str, list[Label] | None] = {}
    for task, kind in kinds.items():
        if not train.counts()[task]:
            raise DataError(
                f"{recipe.document.place(('data',))}: no training text has a target of the task {task!r}. Check its "
                "column (data.columns)."
            )
        if kind == "classification":
            targets[task] = whole_labels(targets[task])
        found = sorted({value for value in targets[task] if value is not None}, key=str)
        classes[task] = found if kind == "classification" else None
        if kind == "classification" and len(found) < 2:
            raise DataError(
                f"{recipe.document.place(('data',))}: the task {task!r} needs two classes at least; all "
                f"{train.counts()[task]:,} targets are {found[0]!r}. Check its column (data.columns)."
            )
    held, test = parts.get("validation"), parts.get("test")
    return Splits(
        replace(train, targets=targets),
        None if held is None else align_targets(held, classes),
        None if test is None else align_targets(test, classes),
        read_unlabelled(recipe),
    )


def target_notes(splits: Splits[TargetExamples]) -> list[str]:
    """Statements on targets that are missing, and on texts that stand in two parts."""
    notes = []
    for name, examples in splits.parts().items():
        counts = examples.counts()
        if any(count < len(examples) for count in counts.values()):
            listed = ", ".join(f"{count:,} of {task}" for task, count in counts.items())
            notes.append(f"of {len(examples):,} {name} texts there are targets {listed}")
        if name != "train":
            notes += repeated_note(name, splits.train.texts, examples.texts, examples.origins)
    return notes


def check_first_targets(recipe: Recipe) -> dict[str, str]:
    """Read the first row of each data file, which shows whether it has texts, and together the columns of the tasks.

    Returns:
        Key of the section data -> what was read.

    Raises:
        DataError: A file cannot be read as the recipe says, or has no rows, or a column is in none of them.
    """
    data: Any = recipe.sections.data
    text, found = data.get("text", "text"), {}
    for part in ("source", *_PARTS):
        paths = [bundled_path(recipe.bundled)] if recipe.bundled and part == "source" else recipe.data_paths(part)
        if not paths:
            continue
        columns: dict[str, None] = {}
        for path in paths:
            with options_named("In the recipe", "data.{}"):
                first = next(iter(read_records(path, **_reading(recipe))), None)
                if first is None:
                    raise DataError(f"{path}: there are no rows.")
                for column in [text, *([data.get("split", "split")] if part == "source" else [])]:
                    if column not in first.fields:
                        raise DataError(f"{path}: there is no column {column!r}; found {', '.join(first.fields)}.")
            columns |= dict.fromkeys(first.fields)
        for task in _kinds(recipe):
            column = data.get("columns", {}).get(task, task)
            # An object of JSON Lines may leave out what another one has.
            if column not in columns and not any(".json" in path.name or ".ndjson" in path.name for path in paths):
                raise DataError(
                    f"{' and '.join(map(str, paths))}: there is no column {column!r}, which has the targets of the "
                    f"task {task!r}; found {', '.join(columns)}."
                )
        found[part] = PREFIX + recipe.bundled if recipe.bundled else ", ".join(map(str, paths))
    return found


def _read_parts(recipe: Recipe, kinds: dict[str, str]) -> dict[str, TargetExamples]:
    data: Any = recipe.sections.data
    options: dict[str, Any] = {"columns": data.get("columns"), **_reading(recipe)}
    if data.get("text"):
        options["text"] = data["text"]
    if "source" not in data:
        paths = {part: recipe.data_paths(part) for part in _PARTS}
        return {part: read_target_examples(found, kinds, **options) for part, found in paths.items() if found}
    path = bundled_path(recipe.bundled) if recipe.bundled else recipe.data_paths("source")[0]
    split = data.get("split", "split")
    values = {str(row.fields[split]).strip() for row in read_records(path, columns=[split], **_reading(recipe))}
    names = {"train": ["train"], "validation": [n for n in VALIDATION_NAMES if n in values][:1]}
    names["test"] = ["test"] if "test" in values else []
    return {
        part: read_target_examples([path], kinds, split=split, parts=chosen, **options)
        for part, chosen in names.items()
        if chosen
    }


def _kinds(recipe: Recipe) -> dict[str, str]:
    """Task -> its kind."""
    model: Any = recipe.sections.model
    return model["tasks"]


def _reading(recipe: Recipe) -> dict[str, Any]:
    """How the recipe says that files are read, as arguments; the rest is left to the reader's defaults."""
    data: Any = recipe.sections.data
    return {key: value for key, value in data.items() if key in READING}
