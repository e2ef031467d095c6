"""From files to texts with a number each, or with a set of labels each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tidegate.data.bundled import load_review_ratings, load_reviews
from tidegate.data.readers import Record
from tidegate.data.sources import columns_of, is_missing, label_of, read_records, text_of
from tidegate.errors import DataError, nearest

__all__ = ["TextTargets", "label_set_reader", "load_rated_reviews", "number_of", "read_text_targets"]

Value = Callable[[Record, str], Any]


@dataclass(frozen=True)
class TextTargets:
    """Texts, what is to be learned of each, and where each one stands."""

    texts: list[str]
    targets: list[Any]
    origins: list[str]

    def __len__(self) -> int:
        return len(self.texts)


def read_text_targets(
    source: Any,
    value_of: Value,
    *,
    text: str | Sequence[str] = "text",
    label: str = "label",
    split: str | None = None,
    split_value: str | int | Sequence[str | int] | None = None,
    **reading: Any,
) -> TextTargets:
    """Read texts and their targets.

    Args:
        source: A path or a frame, as of `read_records`.
        value_of: From a record and the column to its target: `number_of`, or what `label_set_reader` makes.
        text: The column of the texts, or the two of pairs.
        label: The column of the targets.
        split: The column that says to which part a row belongs; None takes all rows.
        split_value: Its value, or values, of the rows to take.
        reading: How the file is read, as of `read_records`.

    Raises:
        DataError: The source cannot be read, a text or a target is none, or there are no rows of the part.
    """
    wanted = {split_value} if isinstance(split_value, (str, int)) else set(split_value or ())
    columns = [*columns_of(text), label, *([] if split is None else [split])]
    texts, targets, origins = [], [], []
    found: dict[str, None] = {}
    for record in read_records(source, columns=columns, **reading):
        if split is not None:
            part = str(record.fields[split]).strip()
            found[part] = None
            if part not in {str(name) for name in wanted}:
                continue
        texts.append(text_of(record, text))
        targets.append(value_of(record, label))
        origins.append(record.origin)
    if not texts and split is not None:
        listed = ", ".join(map(repr, list(found)[:20])) or "no rows"
        named = "/".join(sorted(map(str, wanted)))
        raise DataError(f"{source}: no row has {named!r} in column {split!r}; found {listed}.{nearest(named, found)}")
    if not texts:
        raise DataError(f"{source}: there are no rows")
    return TextTargets(texts, targets, origins)


def number_of(record: Record, column: str) -> float:
    """The number in a field.

    Raises:
        DataError: It is missing, is no number, or is not finite; the message names file and line.
    """
    value: Any = record.fields[column]
    if is_missing(value) or (isinstance(value, str) and not value.strip()):
        raise DataError(f"{record.origin}: the number is missing (column {column!r} is empty); leave the row out")
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{record.origin}: expected a finite number in column {column!r}, found {value!r:.60}")
    return number


def label_set_reader(separator: str) -> Value:
    """What reads the labels of a field, text between separators or a list as JSON Lines has them; empty is no label."""

    def labels_of(record: Record, column: str) -> list[str]:
        value: Any = record.fields[column]
        if is_missing(value):
            return []
        if isinstance(value, (list, tuple)):
            parts = [str(label_of(Record({column: part}, record.origin), column) or "") for part in value]
        else:
            parts = str(label_of(record, column) or "").split(separator)
        return list(dict.fromkeys(part.strip() for part in parts if part.strip()))

    return labels_of


def load_rated_reviews(split: str) -> TextTargets:
    """The bundled English reviews with their human ratings, -4 to 4.

    Args:
        split: ``"train"``, ``"validation"`` (or ``"valid"``) or ``"test"``.

    Raises:
        DataError: The split does not exist.
    """
    examples = load_reviews("en", split)
    return TextTargets(examples.texts, list(load_review_ratings(split)), examples.origins)
