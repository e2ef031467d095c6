"""Files of columns: a token a line, an empty line between sentences, as CoNLL's shared tasks and CoNLL-U have them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.data.files import checked_lines, open_text
from tidegate.errors import DataError, nearest

__all__ = ["CONLLU_COLUMNS", "ColumnLayout", "read_columns", "read_conllu"]

CONLLU_COLUMNS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
DOCUMENT_MARK = "-DOCSTART-"
# Blanks and tabs alone: tokens of Chinese files may be other white space of Unicode.
_EDGES = " \t\r"
_FIELD = re.compile(r"[^ \t]+")
_TAB_FIELD = re.compile(r"[^\t]+")
_WORD_LINE = re.compile(r"[0-9]+")

Parts = tuple[list[list[str]], list[list[str]] | None, None, list[str], "ColumnLayout"]


@dataclass(frozen=True)
class ColumnLayout:
    """The lines of a file of columns, and which of them are the tokens of each sentence.

    Attributes:
        all_lines: Every line without its line end, comments and marks of documents among them.
        places: The numbers of each sentence's lines, from 0.
        tag_column: Where the tag stands.
        field: The pattern of a field.
        documents: The number of marks of documents.
    """

    all_lines: list[str]
    places: dict[int, list[int]]
    tag_column: int
    field: re.Pattern[str]
    documents: int

    def lines(self, sentences: Sequence[Sequence[str]], tags: Sequence[Sequence[str]]) -> Iterator[str]:
        """The file's lines with other tags; all else stays as it was, blanks too.

        Raises:
            DataError: These are not the sentences of the file.
        """
        lines = list(self.all_lines)
        if len(tags) != len(self.places):
            raise DataError(f"the file has {len(self.places)} sentences, found tags of {len(tags)}")
        for number, row in enumerate(tags):
            for place, tag in zip(self.places[number], row, strict=True):
                fields = list(self.field.finditer(lines[place].removesuffix("\r")))
                start, end = fields[self.tag_column].span()
                lines[place] = lines[place][:start] + tag + lines[place][end:]
        yield from lines


def read_columns(
    path: Path, *, token_column: int = 0, tag_column: int = -1, encoding: str = "utf-8", errors: str = "strict"
) -> Parts:
    """Sentences of a file whose columns stand apart by blanks, tabs or both.

    Every line has as many columns as most have. A line that begins with ``#`` before a sentence, and has another number
    of columns, is a comment; one that begins with ``-DOCSTART-`` opens a document.

    Raises:
        DataError: A line has more or fewer columns, or there is no such column; with file and line.
    """
    lines = _lines(path, encoding, errors)
    widths = [len(_FIELD.findall(line.removesuffix("\r"))) for line in lines]
    # A file of unequal lines is judged by what most of them have, so that the odd one is named.
    counted = Counter(
        width for width, line in zip(widths, lines, strict=True) if width and not line.startswith(("#", DOCUMENT_MARK))
    )
    width = counted.most_common(1)[0][0] if counted else 0
    for name, column in (("token_column", token_column), ("tag_column", tag_column)):
        if width and not -width <= column < width:
            raise DataError(f"{path}: {name}={column}: the lines have {width} columns, 0 to {width - 1}")

    def parse(number: int, line: str, inside: bool) -> tuple[str, str] | None:
        if not inside and line.startswith("#") and widths[number] != width:
            return None
        if widths[number] != width:
            raise DataError(
                f"{path}:{number + 1}: expected {width} columns, as most lines have, found {widths[number]} in "
                f"{line.strip(_EDGES)!r:.60}; complete the line, or put an empty line between sentences"
            )
        fields = _FIELD.findall(line)
        return fields[token_column], fields[tag_column]

    has_tags = width > 1 and token_column % width != tag_column % width
    sentences, tags, origins, places, documents = _sentences(path, lines, parse)
    layout = ColumnLayout(lines, places, tag_column, _FIELD, documents)
    return sentences, tags if has_tags else None, None, origins, layout


def read_conllu(
    path: Path, *, tag_column: int | str = "upos", encoding: str = "utf-8", errors: str = "strict"
) -> Parts:
    """Sentences of a CoNLL-U file: its words, without the lines of word groups (1-2) and empty nodes (1.1).

    Raises:
        DataError: A line has not ten columns with tabs between them, or there is no such column; with file and line.
    """
    column = _conllu_column(tag_column)
    lines = _lines(path, encoding, errors)

    def parse(number: int, line: str, inside: bool) -> tuple[str, str] | None:
        if line.startswith("#"):
            return None
        fields = line.split("\t")
        if len(fields) != len(CONLLU_COLUMNS):
            raise DataError(
                f"{path}:{number + 1}: expected the {len(CONLLU_COLUMNS)} columns of CoNLL-U with a tab between each "
                f"two, found {len(fields)}; a file with other columns is read with format='conll'"
            )
        if not _WORD_LINE.fullmatch(fields[0]):
            return None
        return fields[1], fields[column]

    sentences, tags, origins, places, documents = _sentences(path, lines, parse)
    return sentences, tags, None, origins, ColumnLayout(lines, places, column, _TAB_FIELD, documents)


def _conllu_column(column: Any) -> int:
    if isinstance(column, int) and -len(CONLLU_COLUMNS) <= column < len(CONLLU_COLUMNS):
        return column
    name = str(column).lower()
    if name not in CONLLU_COLUMNS:
        raise DataError(
            f"tag_column={column!r}: expected one of {', '.join(CONLLU_COLUMNS)}.{nearest(name, CONLLU_COLUMNS)}"
        )
    return CONLLU_COLUMNS.index(name)


def _lines(path: Path, encoding: str, errors: str) -> list[str]:
    with open_text(path, encoding=encoding, errors=errors, newline="\n") as stream:
        return [line.removesuffix("\n") for line in checked_lines(stream, path)]


def _sentences(
    path: Path, lines: Sequence[str], parse: Callable[[int, str, bool], tuple[str, str] | None]
) -> tuple[list[list[str]], list[list[str]], list[str], dict[int, list[int]], int]:
    sentences: list[list[str]] = []
    tags: list[list[str]] = []
    origins: list[str] = []
    places: dict[int, list[int]] = {}
    documents, inside = 0, False
    for number, raw in enumerate(lines):
        line = raw.removesuffix("\r")
        if not line.strip(" \t"):
            inside = False
        elif line.startswith(DOCUMENT_MARK):
            documents += 1
            inside = False
        elif (found := parse(number, line, inside)) is not None:
            if not inside:
                inside = True
                places[len(sentences)] = []
                sentences.append([])
                tags.append([])
                origins.append(f"{path.name}:{number + 1}")
            token, tag = found
            sentences[-1].append(token)
            tags[-1].append(tag)
            places[len(sentences) - 1].append(number)
    return sentences, tags, origins, places, documents
