"""Texts without labels, from a file of lines, a table, a folder or the bundled reviews."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from tidegate.data.bundled import PREFIX, bundled_path
from tidegate.data.files import checked_lines, existing, open_text, plain_suffix
from tidegate.data.sources import read_text_examples

__all__ = ["read_texts"]

_TABLES = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".json")
_REPORT_EVERY = 1000


def read_texts(
    source: str | Path,
    text: str = "text",
    *,
    encoding: str = "utf-8",
    errors: str = "strict",
    progress: Callable[[int], None] | None = None,
) -> Iterator[str]:
    """The texts of a source, one after the other.

    Args:
        source: A file with a text a line; CSV, TSV, JSON Lines or a folder with the texts under the field `text`; plain
            or compressed. Or ``bundled:reviews_en`` or ``bundled:reviews_zh``: the training part.
        text: The field of the texts.
        encoding: Of the file.
        errors: What is done with bytes that are not in the encoding, as in `read_text_examples`.
        progress: Called now and then with the number of texts read so far.

    Raises:
        DataError: The source cannot be read; the message names file and line.
    """
    if str(source).startswith(PREFIX):
        path = bundled_path(str(source))
        yield from read_text_examples(path, text=text, label=None, split="split", split_value="train").texts
        return
    path = existing(Path(source))
    if path.is_dir() or plain_suffix(path) in _TABLES:
        yield from read_text_examples(
            path, text=text, label=None, encoding=encoding, errors=errors, progress=progress
        ).texts
        return
    with open_text(path, encoding=encoding, errors=errors) as stream:
        for number, line in enumerate(checked_lines(stream, path), 1):
            if progress is not None and number % _REPORT_EVERY == 0:
                progress(number)
            yield line
