"""One reader a format: tables (CSV, TSV), JSON Lines, folders of texts, and frames, each into records."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.data.files import checked_lines, open_text, plain_suffix
from tidegate.errors import DataError, nearest

_UNLABELLED_FOLDER = "unsup"


@dataclass(frozen=True)
class Record:
    """One row: its fields by name, and where it stands, e.g. ``reviews.csv:17`` or ``frame row 3``."""

    fields: dict[str, Any]
    origin: str


def _check_columns(where: str, found: Sequence[str], wanted: Sequence[str] | None) -> list[str]:
    for name in wanted or ():
        if name not in found:
            listed = ", ".join(repr(column) for column in found)
            raise DataError(
                f"{where}: there is no column {name!r}; found {listed or 'none'}.{_nearest_column(name, found)}"
            )
    return list(found if wanted is None else dict.fromkeys(wanted))


def _nearest_column(name: str, found: Sequence[str]) -> str:
    same = [column for column in found if column.strip().casefold() == name.strip().casefold()]
    return f" Did you mean {same[0]!r}?" if same else nearest(name, found)


def read_table(
    path: Path,
    columns: Sequence[str] | None,
    header: Sequence[str] | None,
    delimiter: str,
    quote: str | None,
    encoding: str,
    errors: str,
) -> Iterator[Record]:
    """The rows of a CSV or TSV file, each with the line on which it begins; empty lines are passed over.

    Raises:
        DataError: The file is empty, lacks a wanted column, or has a row of other width or an unclosed quotation mark.
    """
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
            hint = _first_line_hint(names, columns, delimiter) if header is None else ""
            raise DataError(f"{error}{hint}") from None
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


def _first_line_hint(names: list[str], columns: Sequence[str] | None, delimiter: str) -> str:
    for other, name in ((",", "','"), ("\t", "'\\t'"), (";", "';'"), ("|", "'|'")):
        if len(names) == 1 and other != delimiter and other in names[0]:
            return f" The first line looks separated otherwise: pass delimiter={name}"
    if columns and not set(columns) & set(names):
        return " If the first line is a row already, name the columns in their order: pass header="
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


def read_json_lines(path: Path, columns: Sequence[str] | None, encoding: str, errors: str) -> Iterator[Record]:
    """The objects of a JSON Lines file, one a line; empty lines are passed over.

    Raises:
        DataError: The file is empty, a line is not a JSON object, or an object lacks a wanted field.
    """
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


def read_folder(root: Path, columns: Sequence[str] | None, encoding: str, errors: str) -> Iterator[Record]:
    """The texts of a folder of class folders, or of such folders under folders of parts, sorted by name.

    Raises:
        DataError: The folder has neither form.
    """
    folders = _folders(root)
    nested = [(part, folder) for part in folders for folder in _folders(part) if _text_files(folder)]
    # aclImdb keeps lists of addresses beside its class folders (train/urls_pos.txt); those are no texts.
    parts = {part for part, _ in nested}
    with_splits = bool(nested) and all(folder in parts for folder in folders if _text_files(folder))
    found = nested if with_splits else [(root, folder) for folder in folders if _text_files(folder)]
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
            fields = {"split": part.name, "label": folder.name, "text": text.removesuffix("\n"), "name": path.name}
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


def is_frame(source: Any) -> bool:
    """Whether a value is a frame of pandas or polars, neither of which is imported for the question.

    Raises:
        DataError: It is a series or a lazy frame.
    """
    package = type(source).__module__.split(".")[0]
    if package in ("pandas", "polars") and type(source).__name__ != "DataFrame":
        advice = "call .collect() on it" if type(source).__name__ == "LazyFrame" else "pass a frame with named columns"
        raise DataError(f"expected a {package} DataFrame, found a {type(source).__name__}; {advice}")
    return package in ("pandas", "polars")


def read_frame(frame: Any, columns: Sequence[str] | None) -> Iterator[Record]:
    """The rows of a pandas or polars frame, counted from 0.

    Raises:
        DataError: The frame lacks a wanted column.
    """
    names = [str(name) for name in frame.columns]
    wanted = _check_columns("the frame", names, columns)
    if type(frame).__module__.startswith("pandas"):
        values = [frame.iloc[:, names.index(name)].tolist() for name in wanted]
    else:
        values = [frame[name].to_list() for name in wanted]
    for number, row in enumerate(zip(*values, strict=True)):
        yield Record(dict(zip(wanted, row, strict=True)), f"frame row {number}")
