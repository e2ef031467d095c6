"""From files, folders and frames to records, and from records to labelled texts."""

from __future__ import annotations

import csv
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.data.files import COMPRESSIONS, checked_lines, existing, open_text, plain_suffix
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
_UNLABELLED_FOLDER = "unsup"
_WHOLE_NUMBER = re.compile(r"-?[1-9][0-9]{0,17}|0")
_PROGRESS_EVERY = 1000


@dataclass(frozen=True)
class Record:
    """One row: its fields by name, and where it stands, e.g. ``reviews.csv:17`` or ``frame row 3``."""

    fields: dict[str, Any]
    origin: str


@dataclass(frozen=True)
class TextExamples:
    """Texts, their labels (None when there are none), and where each one stands."""

    texts: list[str]
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
    if _is_frame(source):
        yield from _read_frame(source, columns)
        return
    if not isinstance(source, str | Path):
        raise DataError(
            "expected a path of a CSV, TSV or JSON Lines file or of a folder, or a pandas or polars frame, "
            f"found {type(source).__name__}"
        )
    path = existing(Path(source).expanduser())
    kind = _format_of(path, format)
    if kind == "folder":
        yield from _read_folder(path, columns, encoding, errors)
    elif kind == "jsonl":
        yield from _read_json_lines(path, columns, encoding, errors)
    else:
        separator = delimiter or ("," if kind == "csv" else "\t")
        if quote == "auto":
            quote = '"' if kind == "csv" else None
        yield from _read_table(path, columns, header, separator, quote, encoding, errors)


def read_text_examples(
    source: Any,
    *,
    text: str = "text",
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

    Labels that are all whole numbers, written as numbers or as text, become int; otherwise all of them are text. This
    is decided over the whole source, whatever the split, so that parts of one file agree.

    Args:
        source, format, header, delimiter, quote, encoding, errors: As in `read_records`.
        text: The column of the texts. An empty text is a text.
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
    columns = [name for name in (text, label, split) if name is not None]
    texts: list[str] = []
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
        value = None if label is None else _label_of(record, label)
        if wanted is not None and split is not None:
            part = str(record.fields[split]).strip()
            parts[part] += 1
            if part not in wanted:
                if value is not None:
                    other_labels.add(value)
                continue
        if label is not None and value is None:
            raise DataError(f"{record.origin}: the label is missing (column {label!r} is empty)")
        texts.append(_text_of(record, text))
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
    whole = all(_is_whole_number(value) for value in {*present, *other_labels})
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


def duplicated_texts(train: Sequence[str], test: Sequence[str]) -> list[int]:
    """The numbers of the test texts that stand in the training texts, whatever their case and white space."""
    seen = {_fingerprint(text) for text in train}
    return [number for number, text in enumerate(test) if _fingerprint(text) in seen]


def _fingerprint(text: str) -> str:
    return " ".join(text.split()).casefold()


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
            f"(then perhaps {', '.join(COMPRESSIONS)}); rename the file or pass format={'|'.join(FORMATS[:3])}"
        )
    return kind


def _name_of(source: Any) -> str:
    return str(source) if isinstance(source, str | Path) else "the frame"


def _check_columns(where: str, found: Sequence[str], wanted: Sequence[str] | None) -> list[str]:
    for name in wanted or ():
        if name not in found:
            listed = ", ".join(repr(column) for column in found)
            raise DataError(f"{where}: there is no column {name!r}; found {listed or 'none'}.{nearest(name, found)}")
    return list(found if wanted is None else dict.fromkeys(wanted))


def _read_table(
    path: Path,
    columns: Sequence[str] | None,
    header: Sequence[str] | None,
    delimiter: str,
    quote: str | None,
    encoding: str,
    errors: str,
) -> Iterator[Record]:
    for option, value in (("delimiter", delimiter), ("quote", quote)):
        if value is not None and (len(value) != 1 or value in "\r\n\0"):
            raise DataError(f"{option}={value!r}: expected one character")
    # The module's limit of 131,072 characters a field is one for the process; a long review may be longer.
    csv.field_size_limit(max(csv.field_size_limit(), min(sys.maxsize, 2**31 - 1)))
    with open_text(path, encoding=encoding, errors=errors, newline="") as stream:
        reader = csv.reader(
            checked_lines(stream, path),
            delimiter=delimiter,
            quotechar=quote,
            quoting=csv.QUOTE_NONE if quote is None else csv.QUOTE_MINIMAL,
            strict=True,
        )
        rows = _table_rows(reader, path, quote)
        first = 1
        if header is None:
            first, row = next(rows, (0, []))
            if not first:
                raise DataError(f"{path}: the file is empty; expected a line of column names, then a line a row")
            names = [name.strip() for name in row]
        else:
            names = list(header)
        repeated = [name for name, count in Counter(names).items() if count > 1]
        if repeated:
            raise DataError(f"{path}:{first}: the column {repeated[0]!r} stands there twice; names must differ")
        try:
            wanted = _check_columns(f"{path}:{first}", names, columns)
        except DataError as error:
            raise DataError(f"{error}{_delimiter_hint(names, delimiter)}") from None
        places = [(name, names.index(name)) for name in wanted]
        for line, row in rows:
            if len(row) != len(names):
                raise DataError(
                    f"{path}:{line}: expected {len(names)} fields ({', '.join(names)}), found {len(row)}; "
                    + _width_hint(len(row) > len(names), delimiter, quote)
                )
            yield Record({name: row[place] for name, place in places}, f"{path.name}:{line}")


def _table_rows(reader: Any, path: Path, quote: str | None) -> Iterator[tuple[int, list[str]]]:
    """Rows with the number of the line on which each begins; empty lines are passed over."""
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(
                f"{path}:{line}: a field in quotation marks that begins in this row is not closed as CSV does it "
                f"({error}); inside such a field write {quote}{quote} for {quote}, or, if the file does not quote "
                "its fields, pass quote=None"
            ) from None
        if row:
            yield line, row


def _delimiter_hint(names: list[str], delimiter: str) -> str:
    for other, name in ((",", "','"), ("\t", "'\\t' (or format='tsv')"), (";", "';'"), ("|", "'|'")):
        if len(names) == 1 and other != delimiter and other in names[0]:
            return f" The first line looks separated otherwise: pass delimiter={name}"
    return ""


def _width_hint(too_many: bool, delimiter: str, quote: str | None) -> str:
    name = {"\t": "tab", ",": "comma"}.get(delimiter, repr(delimiter))
    if quote is None:
        return (
            f"a field that holds a {name} or a line end needs quotation marks: if the file has them, pass quote='\"', "
            "else mend the row"
        )
    if too_many:
        return f"put fields that hold a {name} into quotation marks ({quote})"
    return f"complete the row, or look whether an earlier field opens a quotation mark {quote} and does not close it"


def _read_json_lines(path: Path, columns: Sequence[str] | None, encoding: str, errors: str) -> Iterator[Record]:
    found_any = False
    with open_text(path, encoding=encoding, errors=errors, newline="\n") as stream:
        for number, line in enumerate(checked_lines(stream, path), 1):
            if not line.strip():
                continue
            found_any = True
            where = f"{path}:{number}"
            try:
                fields = json.loads(line)
            except (ValueError, RecursionError) as error:
                hint = "; the file must hold one JSON object a line, not one array or object over many lines"
                raise DataError(
                    f"{where}: this line is not JSON: {error}{hint if number == 1 and line.strip() in '[{' else ''}"
                ) from None
            if not isinstance(fields, dict):
                raise DataError(
                    f'{where}: expected one JSON object a line, as {{"text": ..., "label": ...}}, '
                    f"found {_JSON_NAMES.get(type(fields), 'a value')}"
                )
            wanted = _check_columns(where, list(fields), columns)
            yield Record({name: fields[name] for name in wanted}, f"{path.name}:{number}")
    if not found_any:
        raise DataError(f"{path}: the file is empty; expected one JSON object a line")


_JSON_NAMES = {
    list: "an array",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def _read_folder(root: Path, columns: Sequence[str] | None, encoding: str, errors: str) -> Iterator[Record]:
    classes = _folders(root)
    with_splits = False
    if not any(_text_files(folder) for folder in classes):
        nested = [(part, folder) for part in classes for folder in _folders(part) if _text_files(folder)]
        with_splits = bool(nested)
        found = [(part.name, folder) for part, folder in nested]
    else:
        found = [("", folder) for folder in classes if _text_files(folder)]
    if not found:
        raise DataError(
            f"{root}: expected a folder a class with one .txt file a text (pos/1.txt, neg/1.txt), or such folders "
            f"under train and test; found {_listing(root)}"
        )
    names = ["split", "label", "text", "name"] if with_splits else ["label", "text", "name"]
    wanted = _check_columns(str(root), names, columns)
    for part, folder in found:
        for path in _text_files(folder):
            with open_text(path, encoding=encoding, errors=errors) as stream:
                text = "".join(checked_lines(stream, path))
            fields = {"split": part, "label": folder.name, "text": text.removesuffix("\n"), "name": path.name}
            yield Record({name: fields[name] for name in wanted}, path.relative_to(root).as_posix())


def _folders(root: Path) -> list[Path]:
    return sorted(
        entry
        for entry in root.iterdir()
        if entry.is_dir() and not entry.name.startswith(".") and entry.name != _UNLABELLED_FOLDER
    )


def _text_files(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if plain_suffix(entry) == ".txt" and entry.is_file())


def _listing(root: Path) -> str:
    names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in root.iterdir())
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") if names else "nothing"


def _is_frame(source: Any) -> bool:
    package = type(source).__module__.split(".")[0]
    if package in ("pandas", "polars") and type(source).__name__ != "DataFrame":
        advice = "call .collect() on it" if type(source).__name__ == "LazyFrame" else "pass a frame with named columns"
        raise DataError(f"expected a {package} DataFrame, found a {type(source).__name__}; {advice}")
    return package in ("pandas", "polars")


def _read_frame(frame: Any, columns: Sequence[str] | None) -> Iterator[Record]:
    names = [str(name) for name in frame.columns]
    wanted = _check_columns("the frame", names, columns)
    if type(frame).__module__.startswith("pandas"):
        values = [frame.iloc[:, names.index(name)].tolist() for name in wanted]
    else:
        values = [frame[name].to_list() for name in wanted]
    for number, row in enumerate(zip(*values, strict=True)):
        yield Record(dict(zip(wanted, row, strict=True)), f"frame row {number}")


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or type(value).__name__ in _MISSING_TYPES


_MISSING_TYPES = ("NAType", "NaTType")


def _text_of(record: Record, column: str) -> str:
    value = record.fields[column]
    if isinstance(value, str):
        return value
    if _is_missing(value):
        raise DataError(
            f"{record.origin}: the text is missing (column {column!r} holds {value!r}); leave the row out, or give it "
            'an empty text (""), in pandas with frame.fillna({' + repr(column) + ': ""})'
        )
    raise DataError(f"{record.origin}: expected a text in column {column!r}, found {type(value).__name__} {value!r}")


def _label_of(record: Record, column: str) -> Label | None:
    value = record.fields[column]
    if isinstance(value, str):
        return value.strip() or None
    if _is_missing(value):
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


def _is_whole_number(value: Label) -> bool:
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
