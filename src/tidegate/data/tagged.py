"""Sentences with one tag a token: read from any of the usual files, and written back in the same form."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from tidegate.data.columns import read_columns, read_conllu
from tidegate.data.files import plain_suffix
from tidegate.data.span_lines import read_span_lines
from tidegate.data.word_tags import UNITS, read_word_tags
from tidegate.errors import DataError, TidegateError, nearest

__all__ = ["TAGGED_FORMATS", "Layout", "TaggedExamples", "read_tagged", "write_tagged"]

TAGGED_FORMATS = {
    "conll": "a token a line with its columns, an empty line between sentences",
    "conllu": "CoNLL-U of Universal Dependencies",
    "jsonl": "a JSON object a line: a text with spans of characters, or tokens with tags",
    "word/tag": "a sentence a line, its words as word/tag",
}
_OPTIONS = {
    "conll": {"token_column", "tag_column"},
    "conllu": {"tag_column"},
    "jsonl": {"tokenizer", "fields"},
    "word/tag": {"unit"},
}


class Layout(Protocol):
    """What a file held besides tokens and tags, so that other tags can be written in its form."""

    def lines(self, sentences: Sequence[Sequence[str]], tags: Sequence[Sequence[str]]) -> Iterator[str]:
        """The lines of the file with these tags, without line ends."""
        ...


@dataclass(frozen=True)
class TaggedExamples:
    """Sentences as tokens, their tags, and where each one stands.

    Attributes:
        sentences: The tokens of each sentence.
        tags: One tag a token, or None where the file has none.
        intents: One label a sentence, or None.
        origins: Where each sentence begins, as ``eng.train:17``.
        layout: How the file was written.
    """

    sentences: list[list[str]]
    tags: list[list[str]] | None
    intents: list[str] | None
    origins: list[str]
    layout: Layout

    def __len__(self) -> int:
        return len(self.sentences)

    @property
    def num_tokens(self) -> int:
        """All tokens together."""
        return sum(map(len, self.sentences))

    def with_tags(self, tags: list[list[str]]) -> TaggedExamples:
        """The same sentences with other tags."""
        return replace(self, tags=tags)

    def select(self, indices: Iterable[int]) -> TaggedExamples:
        """The sentences with these numbers, in this order; their layout is that of the whole file."""
        chosen = [int(index) for index in indices]

        def take(values: list[Any] | None) -> Any:
            return None if values is None else [values[index] for index in chosen]

        return replace(
            self,
            sentences=take(self.sentences),
            tags=take(self.tags),
            intents=take(self.intents),
            origins=take(self.origins),
        )


def read_tagged(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    token_column: int | None = None,
    tag_column: int | str | None = None,
    unit: str | None = None,
    tokenizer: str | None = None,
    fields: dict[str, str] | None = None,
    encoding: str = "utf-8",
    errors: str = "strict",
) -> TaggedExamples:
    """Read sentences with one tag a token.

    Args:
        path: A file, plain or compressed (.gz, .xz, .bz2).
        format: One of `TAGGED_FORMATS`; None goes by the name: ``.jsonl``, ``.conllu``, and any other is ``"conll"``.
        token_column: Of CoNLL columns, where the token stands, from 0, or from -1 backwards; 0 by default.
        tag_column: Of CoNLL columns, where the tag stands; -1 by default. Of CoNLL-U a column's name or number;
            ``"upos"`` by default.
        unit: Of word/tag lines, what a token is: ``"words"``, which bear the file's tags (the default), or
            ``"characters"``, whose tags B, I, E and S say where words begin and end, or ``"tagged-characters"``, which
            say the word's tag as well.
        tokenizer: Of JSON Lines with a text, how it is cut, one of `TAGGING_TOKENIZERS`; ``"words"`` by default.
        fields: Of JSON Lines, other names for the fields ``text``, ``spans``, ``tokens``, ``tags`` and ``intent``.
        encoding, errors: As in `open_text`.

    Raises:
        DataError: The file cannot be read as said, or holds no sentence; the message names file and line.
    """
    path = Path(path).expanduser()
    kind = _format_of(path) if format is None else format
    if kind not in TAGGED_FORMATS:
        raise DataError(f"format={kind!r}: expected one of {', '.join(TAGGED_FORMATS)}.{nearest(kind, TAGGED_FORMATS)}")
    given = {
        name: value
        for name, value in {
            "token_column": token_column,
            "tag_column": tag_column,
            "unit": unit,
            "tokenizer": tokenizer,
            "fields": fields,
        }.items()
        if value is not None
    }
    if idle := sorted(set(given) - _OPTIONS[kind]):
        raise DataError(f"{path}: {idle[0]}={given[idle[0]]!r} has no effect on the format {kind!r}; remove it")
    if unit is not None and unit not in UNITS:
        raise DataError(f"unit={unit!r}: expected one of {', '.join(UNITS)}.{nearest(unit, UNITS)}")
    readers: dict[str, Any] = {
        "conll": read_columns,
        "conllu": read_conllu,
        "jsonl": read_span_lines,
        "word/tag": read_word_tags,
    }
    examples = TaggedExamples(*readers[kind](path, encoding=encoding, errors=errors, **given))
    if not examples.sentences:
        raise DataError(f"{path}: there is no sentence; expected {TAGGED_FORMATS[kind]}")
    return examples


def write_tagged(path: str | os.PathLike[str], examples: TaggedExamples, tags: Sequence[Sequence[str]]) -> Path:
    """Write sentences with other tags in the form of the file that they were read from.

    Raises:
        DataError: There is not one tag a token.
        TidegateError: The file cannot be written.
    """
    path = Path(path)
    if len(tags) != len(examples) or any(
        len(row) != len(tokens) for row, tokens in zip(tags, examples.sentences, strict=True)
    ):
        raise DataError("expected one tag for every token of every sentence")
    try:
        with open(path, "w", encoding="utf-8", newline="") as stream:
            stream.writelines(f"{line}\n" for line in examples.layout.lines(examples.sentences, tags))
    except OSError as error:
        raise TidegateError(f"{path}: the file could not be written: {error.strerror or error}.") from None
    return path


def _format_of(path: Path) -> str:
    return {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".conllu": "conllu"}.get(
        plain_suffix(path), "conll"
    )
