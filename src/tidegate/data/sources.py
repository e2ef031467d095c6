"""From files, folders and frames to records, and from records to labelled texts."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.data.files import COMPRESSIONS, existing, plain_suffix
from tidegate.data.pairs import texts_of
from tidegate.data.readers import Record, is_frame, read_folder, read_frame, read_json_lines, read_table
from tidegate.errors import DataError, nearest

Label = str | int
Progress = Callable[[int], None]

FORMATS = ("csv", "tsv", "jsonl", "folder")
_FORMAT_OF_SUFFIX = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}
_WHOLE_NUMBER = re.compile(r"-?[1-9][0-9]{0,17}|0")
_PROGRESS_EVERY = 1000


@dataclass(frozen=True)
class TextExamples:
    """Texts or pairs of them, their labels (None when there are none), and where each one stands."""

    texts: list[Any]
    labels: list[Label] | None
    origins: list[str]

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, indices: Iterable[int]) -> TextExamples:
        """The examples with these numbers, in this order."""
        chosen = [int(index) for index in indices]
        return TextExamples(
            [self.texts[index] for index in chosen],
            None if self.labels is None else [self.labels[index] for index in chosen],
            [self.origins[index] for index in chosen],
        )


def read_records(
    source: Any,
    *,
    format: str | None = None,
    columns: Sequence[str] | None = None,
    header: Sequence[str] | None = None,
    delimiter: str | None = None,
    quote: str | None = "auto",
    encoding: str = "utf-8",
    errors: str = "strict",
) -> Iterator[Record]:
    """Read the rows of a file, a folder or a frame, one after another.

    Files are CSV, TSV or JSON Lines (one object a line), each plain or compressed (.gz, .xz, .bz2). A folder is in the
    form of aclImdb, ``root/train/pos/1.txt`` (fields split, label, text, name), or holds one folder a class,
    ``root/pos/1.txt`` (fields label, text, name); aclImdb's unlabelled folder ``unsup`` is left out. Frames are those
    of pandas and polars.

    Args:
        source: A path or a frame.
        format: ``"csv"``, ``"tsv"``, ``"jsonl"`` or ``"folder"``; None goes by the name.
        columns: The fields that are wanted; each must be there, and the others are left out. None keeps all.
        header: The names of the columns of a CSV or TSV file that has no line of names itself.
        delimiter: The character between the fields of a CSV or TSV file; None is a comma or a tab, by the format.
        quote: The character around fields that hold delimiters or line ends; None for files without quoting, where
            quotation marks are text. ``"auto"`` is ``"`` for CSV and None for TSV.
        encoding: Character encoding of the files.
        errors: What is done with bytes that are not in the encoding: ``"strict"`` raises, ``"replace"`` puts U+FFFD.

    Raises:
        DataError: The source cannot be read as said; the message names the file and the line.
    """
    if is_frame(source):
        yield from read_frame(source, columns)
        return
    if not isinstance(source, str | os.PathLike):
        raise DataError(
            "expected a path of a CSV, TSV or JSON Lines file or of a folder, or a pandas or polars frame, "
            f"found {type(source).__name__}"
        )
    path = existing(Path(os.fspath(source)).expanduser())
    kind = _format_of(path, format)
    if kind == "folder":
        yield from read_folder(path, columns, encoding, errors)
    elif kind == "jsonl":
        yield from read_json_lines(path, columns, encoding, errors)
    else:
        separator = delimiter or ("," if kind == "csv" else "\t")
        if quote == "auto":
            quote = '"' if kind == "csv" else None
        yield from read_table(path, columns, header, separator, quote, encoding, errors)


def read_text_examples(
    source: Any,
    *,
    text: str | Sequence[str] = "text",
    label: str | None = "label",
    split: str | None = None,
    split_value: str | int | Sequence[str | int] | None = None,
    format: str | None = None,
    header: Sequence[str] | None = None,
    delimiter: str | None = None,
    quote: str | None = "auto",
    encoding: str = "utf-8",
    errors: str = "strict",
    progress: Progress | None = None,
) -> TextExamples:
    """Read texts and their labels.

    Labels that are all whole numbers, written as numbers or as text, become int (true and false 1 and 0); otherwise
    all of them are text. This is decided over the whole source, whatever the split, so that parts of one file agree.

    Args:
        source, format, header, delimiter, quote, encoding, errors: As in `read_records`.
        text: The column of the texts, or the two of pairs. An empty text is a text.
        label: The column of the labels; None reads texts alone.
        split: The column that says to which part a row belongs.
        split_value: The part or parts to keep, needed with ``split``.
        progress: Called now and then with the number of rows read so far.

    Raises:
        DataError: A column, a text or a label is missing, a split has no rows, or what `read_records` raises.
    """
    if (split is None) != (split_value is None):
        raise DataError("split (a column) and split_value (the part to keep) are given together, or neither is")
    wanted = None if split_value is None else _split_values(split_value)
    columns = [name for name in (*columns_of(text), label, split) if name is not None]
    texts: list[Any] = []
    labels: list[Label | None] = []
    origins: list[str] = []
    other_labels: set[Label] = set()
    parts: Counter[str] = Counter()
    number = 0
    rows = read_records(
        source,
        format=format,
        columns=columns,
        header=header,
        delimiter=delimiter,
        quote=quote,
        encoding=encoding,
        errors=errors,
    )
    for number, record in enumerate(rows, 1):
        if progress is not None and number % _PROGRESS_EVERY == 0:
            progress(number)
        value = None if label is None else label_of(record, label)
        if wanted is not None and split is not None:
            part = str(record.fields[split]).strip()
            parts[part] += 1
            if part not in wanted:
                if value is not None:
                    other_labels.add(value)
                continue
        if label is not None and value is None:
            raise DataError(f"{record.origin}: the label is missing (column {label!r} is empty)")
        texts.append(text_of(record, text))
        labels.append(value)
        origins.append(record.origin)
    if wanted is not None:
        _check_parts(source, split, wanted, parts)
    if not texts:
        raise DataError(f"{_name_of(source)}: there are no rows")
    if progress is not None:
        progress(number)
    if label is None:
        return TextExamples(texts, None, origins)
    present = [value for value in labels if value is not None]
    whole = all(is_whole_number(value) for value in {*present, *other_labels})
    return TextExamples(texts, [int(value) if whole else str(value) for value in present], origins)


def align_labels(examples: TextExamples, classes: Sequence[Label]) -> list[Label]:
    """The labels of examples as labels of a trained model: ``"1"`` and 1 are the same where the model knows only one.

    Raises:
        DataError: The examples have no labels, or one that the model does not know, with its place.
    """
    if examples.labels is None:
        raise DataError("the examples have no labels, which an evaluation needs")
    known = {str(name): name for name in classes}
    aligned: list[Label] = []
    for value, origin in zip(examples.labels, examples.origins, strict=True):
        if str(value) not in known:
            listed = ", ".join(repr(name) for name in list(known.values())[:20])
            raise DataError(
                f"{origin}: the label {value!r} is not one that the model was trained on ({listed})."
                f"{nearest(str(value), known)}"
            )
        aligned.append(known[str(value)])
    return aligned


def duplicated_texts(train: Sequence[Any], test: Sequence[Any]) -> list[int]:
    """The numbers of the test texts that stand in the training texts, whatever their case and white space."""
    seen = {_fingerprint(text) for text in train}
    return [number for number, text in enumerate(test) if _fingerprint(text) in seen]


def _fingerprint(text: Any) -> tuple[str, ...]:
    return tuple(" ".join(part.split()).casefold() for part in texts_of(text))


def columns_of(text: str | Sequence[str]) -> list[str]:
    """The column of the texts, or the two of pairs, in a list."""
    return [text] if isinstance(text, str) else list(text)


def is_table(path: Path) -> bool:
    """Whether a path's name is that of a CSV or TSV file, for which delimiter, quote and header are."""
    return _FORMAT_OF_SUFFIX.get(plain_suffix(path)) in ("csv", "tsv")


def _format_of(path: Path, format: str | None) -> str:
    if format is not None:
        if format not in FORMATS:
            raise DataError(f"format={format!r}: expected one of {', '.join(FORMATS)}.{nearest(format, FORMATS)}")
        if (format == "folder") != path.is_dir():
            raise DataError(f"{path}: format={format!r} was asked for, found a {'folder' if path.is_dir() else 'file'}")
        return format
    if path.is_dir():
        return "folder"
    kind = _FORMAT_OF_SUFFIX.get(plain_suffix(path))
    if kind is None:
        raise DataError(
            f"{path}: the name does not tell the format: expected it to end in {', '.join(_FORMAT_OF_SUFFIX)} "
            f"(then perhaps {', '.join(COMPRESSIONS)}); rename the file, or in Python pass "
            f"format={' or '.join(map(repr, FORMATS[:3]))}"
        )
    return kind


def _name_of(source: Any) -> str:
    return "the frame" if is_frame(source) else str(source)


def is_missing(value: Any) -> bool:
    """Whether a field of a record holds nothing: None, NaN, and what pandas has for them."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or type(value).__name__ in _MISSING_TYPES


_MISSING_TYPES = ("NAType", "NaTType")


def text_of(record: Record, column: str | Sequence[str]) -> Any:
    """The text of a record; of two columns the pair of both.

    Raises:
        DataError: It is missing, or no text.
    """
    if not isinstance(column, str):
        return tuple(text_of(record, name) for name in column)
    value = record.fields[column]
    if isinstance(value, str):
        return value
    if is_missing(value):
        raise DataError(
            f"{record.origin}: the text is missing (column {column!r} holds {value!r}); leave the row out, or give it "
            'an empty text (""), in pandas with frame.fillna({' + repr(column) + ': ""})'
        )
    raise DataError(f"{record.origin}: expected a text in column {column!r}, found {type(value).__name__} {value!r}")


def label_of(record: Record, column: str) -> Label | None:
    """The label of a record; None where it is missing.

    Raises:
        DataError: It is neither a text nor a whole number.
    """
    value = record.fields[column]
    if isinstance(value, str):
        return value.strip() or None
    if is_missing(value):
        return None
    try:
        whole = int(value)
    except (TypeError, ValueError, OverflowError):
        whole = None
    if whole is None or whole != value:
        raise DataError(
            f"{record.origin}: expected a text or a whole number as label in column {column!r}, "
            f"found {type(value).__name__} {value!r}"
        )
    return whole


def is_whole_number(value: Label) -> bool:
    """Whether a label is a whole number, as such or written out."""
    return _WHOLE_NUMBER.fullmatch(str(value)) is not None


def _split_values(value: str | int | Sequence[str | int]) -> set[str]:
    values = [value] if isinstance(value, str | int) else list(value)
    if not values:
        raise DataError("split_value names no part")
    return {str(part) for part in values}


def _check_parts(source: Any, split: str | None, wanted: set[str], found: Counter[str]) -> None:
    for part in sorted(wanted):
        if part not in found:
            listed = ", ".join(f"{name!r} ({count} rows)" for name, count in found.most_common(20))
            raise DataError(
                f"{_name_of(source)}: no row has {part!r} in column {split!r}; found {listed or 'no rows'}."
                f"{nearest(part, found)}"
            )
