"""Collections to search: documents, queries, and judgments of which document answers which query."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.data.files import checked_lines, existing, open_text, plain_suffix
from tidegate.data.readers import read_json_lines, read_table
from tidegate.errors import DataError

__all__ = ["Document", "Judgments", "read_documents", "read_judgments", "read_queries"]

# What answers a query: the identifiers of documents, by that of the query.
Judgments = dict[str, set[str]]
_TABLES = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_REPORT_EVERY = 100
_LINES = (".jsonl", ".ndjson", ".json")


@dataclass(frozen=True)
class Document:
    """A document, or a query: what it is called, and its text (of a document, with its title before it)."""

    id: str
    text: str


def read_documents(
    source: str | os.PathLike[str],
    *,
    text: str = "text",
    title: str = "title",
    encoding: str = "utf-8",
    errors: str = "strict",
    progress: Callable[[int], None] | None = None,
) -> list[Document]:
    """The documents of a file or folder.

    - JSON Lines, CSV, TSV: a document a row, its identifier under ``id`` or ``_id`` (without either, its number from
      1), its text under `text`, before it what stands under `title`, where there is such a field.
    - A folder: its ``.txt`` files and those of its folders, each one document, called by its path in the folder.
    - Anything else in the form of the SMART collections (Cranfield, CISI, Medline): ``.I`` identifier, ``.T`` title,
      ``.W`` text, and fields that are passed over. Cranfield's texts begin with their title, which then counts twice.

    Files may be compressed (.gz, .xz, .bz2).

    Args:
        source: The file or folder.
        text: The field of the text.
        title: The field of the title.
        encoding: Character encoding of the files.
        errors: What is done with bytes that are not in the encoding: ``"strict"`` raises, ``"replace"`` puts U+FFFD.
        progress: Called now and then with the number of documents read so far.

    Raises:
        DataError: A file cannot be read as said, or two documents have the same identifier; the message says where.
    """
    path = existing(Path(source))
    found: Iterable[Document]
    if path.is_dir():
        found = (_read_file(path, file, encoding, errors) for file in sorted(path.rglob("*.txt")))
    elif plain_suffix(path) in (*_TABLES, *_LINES):
        found = _read_rows(path, text, title, encoding, errors)
    else:
        smart = _read_smart(path, encoding, errors)
        found = (Document(name, _joined(fields.get("T"), fields.get("W", ""))) for name, fields in smart)
    documents = []
    for document in found:
        documents.append(document)
        if progress is not None and len(documents) % _REPORT_EVERY == 0:
            progress(len(documents))
    if not documents:
        raise DataError(f"{path}: expected documents, found none")
    _check_distinct(path, documents)
    return documents


def read_queries(
    source: str | os.PathLike[str],
    *,
    text: str = "text",
    by_place: bool = False,
    encoding: str = "utf-8",
    errors: str = "strict",
) -> list[Document]:
    """The queries of a file: as `read_documents`, or plain text (``.txt``), a query a line, called by its number.

    Args:
        source: The file.
        text: The field of the text.
        by_place: Call the queries 1, 2, 3, ... in the order of the file, whatever it calls them. Cranfield's judgments
            mean these numbers.
        encoding, errors: As of `read_documents`.

    Raises:
        DataError: The file cannot be read as said, or two queries have the same identifier.
    """
    path = existing(Path(source))
    if path.is_file() and plain_suffix(path) == ".txt":
        with open_text(path, encoding=encoding, errors=errors) as stream:
            lines = [line.strip() for line in checked_lines(stream, path)]
        queries = [Document(str(number), line) for number, line in enumerate(lines, 1) if line]
    else:
        queries = read_documents(path, text=text, encoding=encoding, errors=errors)
    return [Document(str(number), query.text) for number, query in enumerate(queries, 1)] if by_place else queries


def read_judgments(source: str | os.PathLike[str], *, least: int = 1) -> Judgments:
    """Which documents answer which query.

    A line each: query, document, grade (BEIR, with a line of names, and Cranfield), or query, a field without meaning,
    document, grade (TREC); divided by tabs or blanks.

    Args:
        source: The file.
        least: The smallest grade that counts as an answer. Cranfield's grades begin at -1, and -1 is a good one.

    Raises:
        DataError: A line has another number of fields, or a grade that is no whole number; the message names it.
    """
    path, judgments = Path(source), {}
    with open_text(path) as stream:
        for number, line in enumerate(stream, 1):
            fields = line.split()
            if not fields or (number == 1 and fields[-1] in ("score", "grade", "relevance")):
                continue
            if len(fields) not in (3, 4):
                raise DataError(
                    f"{path}:{number}: expected query, document and grade (or TREC's four fields), found "
                    f"{len(fields)} fields: {line.strip()[:60]!r}"
                )
            query, document, grade = fields[0], fields[-2], fields[-1]
            try:
                answers = int(grade) >= least
            except ValueError:
                raise DataError(f"{path}:{number}: expected a whole number as the grade, found {grade!r}") from None
            if answers:
                judgments.setdefault(query, set()).add(document)
    if not judgments:
        raise DataError(f"{path}: no line has a grade of at least {least}")
    return judgments


def _read_file(folder: Path, file: Path, encoding: str, errors: str) -> Document:
    with open_text(file, encoding=encoding, errors=errors) as stream:
        return Document(file.relative_to(folder).as_posix(), "".join(checked_lines(stream, file)))


def _read_rows(path: Path, text: str, title: str, encoding: str, errors: str) -> Iterator[Document]:
    suffix = plain_suffix(path)
    records: Iterable[Any]
    if suffix in _LINES:
        records = read_json_lines(path, None, encoding, errors)
    else:
        separator = _TABLES[suffix]
        records = read_table(path, None, None, separator, '"' if separator == "," else None, encoding, errors)
    for number, record in enumerate(records, 1):
        fields = record.fields
        if not isinstance(fields.get(text), str):
            found = ", ".join(fields) or "no fields"
            raise DataError(f"{record.origin}: expected a text under {text!r}, found {found}; name another field")
        name = next((fields[key] for key in ("id", "_id") if fields.get(key) is not None), number)
        yield Document(str(name), _joined(fields.get(title), fields[text]))


def _joined(title: Any, text: str) -> str:
    return f"{title.strip()}\n{text}" if isinstance(title, str) and title.strip() else text


def _read_smart(path: Path, encoding: str, errors: str) -> Iterator[tuple[str, dict[str, str]]]:
    name: str | None = None
    fields: dict[str, list[str]] = {}
    current: list[str] | None = None
    with open_text(path, encoding=encoding, errors=errors) as stream:
        for number, line in enumerate(checked_lines(stream, path), 1):
            if line.startswith(".I") and len(line.split()) == 2:
                if name is not None:
                    yield name, {key: "".join(lines) for key, lines in fields.items()}
                name, fields, current = line.split()[1], {}, None
            elif len(line) > 1 and line[0] == "." and line[1].isupper() and not line[2:].strip():
                if name is None:
                    raise DataError(_no_collection(path, number, line))
                current = fields.setdefault(line[1], [])
            elif current is not None:
                current.append(line)
            elif line.strip():
                raise DataError(_no_collection(path, number, line))
    if name is not None:
        yield name, {key: "".join(lines) for key, lines in fields.items()}


def _no_collection(path: Path, number: int, line: str) -> str:
    return (
        f"{path}:{number}: expected JSON Lines, CSV, TSV, a folder of .txt files, or a SMART collection (.I, .T, .W), "
        f"found {line.strip()[:60]!r}"
    )


def _check_distinct(path: Path, documents: list[Document]) -> None:
    seen: set[str] = set()
    for document in documents:
        if document.id in seen:
            raise DataError(f"{path}: the identifier {document.id!r} is there twice; give each its own")
        seen.add(document.id)
