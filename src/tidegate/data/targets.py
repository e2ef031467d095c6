"""From files to texts with the targets of several tasks, of which a row may have all or some."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidegate.data.readers import Record
from tidegate.data.sources import Label, is_missing, is_whole_number, label_of, read_records, text_of
from tidegate.errors import DataError, nearest

__all__ = ["TargetExamples", "align_targets", "read_target_examples", "whole_labels"]


@dataclass(frozen=True)
class TargetExamples:
    """Texts, the targets of each task, None where a text has none, and where each text stands."""

    texts: list[str]
    targets: dict[str, list[Any]]
    origins: list[str]

    def __len__(self) -> int:
        return len(self.texts)

    def counts(self) -> dict[str, int]:
        """Task -> how many texts have its target."""
        return {task: sum(value is not None for value in values) for task, values in self.targets.items()}

    def of_task(self, task: str) -> TargetExamples:
        """The texts that have the target of a task, with this target alone."""
        rows = [row for row, value in enumerate(self.targets[task]) if value is not None]
        return TargetExamples(
            [self.texts[row] for row in rows],
            {task: [self.targets[task][row] for row in rows]},
            [self.origins[row] for row in rows],
        )


def read_target_examples(
    sources: Sequence[str | os.PathLike[str]],
    kinds: Mapping[str, str],
    *,
    columns: Mapping[str, str] | None = None,
    text: str = "text",
    split: str | None = None,
    parts: Iterable[str] = (),
    **reading: Any,
) -> TargetExamples:
    """Read texts and their targets, from one file or from several of which each may have some of the columns.

    A target is missing where a file has not its column, an object not its field, or where the field is empty or null.
    Labels of a classification are texts here; `whole_labels` turns those that are all whole numbers into ints.

    Args:
        sources: Paths of CSV, TSV or JSON Lines files, or folders.
        kinds: Task -> ``"classification"`` or ``"regression"``.
        columns: Task -> the column of its targets, where it has another name than the task.
        text: The column of the texts.
        split: The column that says to which part a row belongs; None takes all rows.
        parts: Its values of the rows to take.
        reading: How the files are read, as of `read_records`.

    Raises:
        DataError: A file cannot be read, has no column of texts, there are no rows, no file has the column of a task,
            or a target is no label or number; the message names file and line.
    """
    named = {task: (columns or {}).get(task, task) for task in kinds}
    wanted, seen = set(parts), dict[str, None]()
    texts: list[str] = []
    origins: list[str] = []
    targets: dict[str, list[Any]] = {task: [] for task in kinds}
    for source in sources:
        for record in read_records(source, **reading):
            seen |= dict.fromkeys(record.fields)
            for column in (text, *(() if split is None else (split,))):
                _check_column(record, column)
            if split is not None and str(record.fields[split]).strip() not in wanted:
                continue
            texts.append(text_of(record, text))
            origins.append(record.origin)
            for task, column in named.items():
                targets[task].append(_target_of(record, column, kinds[task]))
    listed = " and ".join(map(str, sources))
    if not texts:
        raise DataError(f"{listed}: there are no rows" + (f" of the part {'/'.join(sorted(wanted))}" if split else ""))
    for task, column in named.items():
        if column not in seen:
            raise DataError(
                f"{listed}: there is no column {column!r}, which has the targets of the task {task!r}; found "
                f"{', '.join(map(repr, seen))}.{nearest(column, seen)}"
            )
    return TargetExamples(texts, targets, origins)


def whole_labels(labels: Sequence[Label | None]) -> list[Label | None]:
    """The labels as ints where all of them are whole numbers, else as they are."""
    whole = all(label is None or is_whole_number(label) for label in labels)
    return [int(label) if whole and label is not None else label for label in labels]


def align_targets(examples: TargetExamples, classes: Mapping[str, Sequence[Label] | None]) -> TargetExamples:
    """The labels of examples as those of trained tasks, ``"1"`` as 1 where that is the label; numbers as they are.

    Args:
        examples: What was read.
        classes: Task -> its labels; None of a regression.

    Raises:
        DataError: A label is none of the task's, with its place.
    """
    targets = dict(examples.targets)
    for task, labels in classes.items():
        if labels is None or task not in targets:
            continue
        known = {str(label): label for label in labels}
        for value, origin in zip(targets[task], examples.origins, strict=True):
            if value is not None and str(value) not in known:
                listed = ", ".join(repr(label) for label in list(labels)[:20])
                raise DataError(
                    f"{origin}: the label {value!r} is none that the task {task!r} was trained on ({listed})."
                    f"{nearest(str(value), known)}"
                )
        targets[task] = [None if value is None else known[str(value)] for value in targets[task]]
    return TargetExamples(examples.texts, targets, examples.origins)


def _check_column(record: Record, column: str) -> None:
    if column not in record.fields:
        raise DataError(
            f"{record.origin}: there is no column {column!r}; found {', '.join(map(repr, record.fields))}."
            f"{nearest(column, record.fields)}"
        )


def _target_of(record: Record, column: str, kind: str) -> Any:
    value: Any = record.fields.get(column)
    if is_missing(value) or (isinstance(value, str) and not value.strip()):
        return None
    if kind == "classification":
        label = label_of(record, column)
        return None if label is None else str(label)
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{record.origin}: expected a finite number in column {column!r}, found {value!r:.60}")
    return number
