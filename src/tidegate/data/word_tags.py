"""Lines of words with their tags, as ``word/tag  word/tag``: the form of the People's Daily corpus."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidegate.data.files import checked_lines, open_text
from tidegate.data.tag_schemes import Span, spans_of, tags_of
from tidegate.errors import DataError

__all__ = ["UNITS", "WordTagLayout", "read_word_tags"]

UNITS = ("words", "characters", "tagged-characters")
_BLANKS = re.compile(r"[ \t]+")

Parts = tuple[list[list[str]], list[list[str]], None, list[str], "WordTagLayout"]


@dataclass(frozen=True)
class WordTagLayout:
    """What a token of the file is: a word with its tag, or a character with the place that it has in a word."""

    unit: str

    def lines(self, sentences: Sequence[Sequence[str]], tags: Sequence[Sequence[str]]) -> Iterator[str]:
        """A line a sentence, two blanks between words. Words of characters without tags are written bare."""
        for tokens, row in zip(sentences, tags, strict=True):
            if self.unit == "words":
                yield "  ".join(f"{token}/{tag}" for token, tag in zip(tokens, row, strict=True))
            else:
                words = [("".join(tokens[span.start : span.end]), span.type) for span in spans_of(row)]
                yield "  ".join(f"{word}/{kind}" if kind else word for word, kind in words)


def read_word_tags(path: Path, *, unit: str = "words", encoding: str = "utf-8", errors: str = "strict") -> Parts:
    """Sentences of a file with a sentence a line; empty lines are passed over.

    The tag is what follows a word's last ``/``.

    Raises:
        DataError: A word has no tag, or a tag no word; with file and line.
    """
    sentences: list[list[str]] = []
    tags: list[list[str]] = []
    origins: list[str] = []
    with open_text(path, encoding=encoding, errors=errors, newline="\n") as stream:
        for number, line in enumerate(checked_lines(stream, path), 1):
            pairs = [item.rpartition("/") for item in _BLANKS.split(line.strip("\r\n \t")) if item]
            for word, slash, tag in pairs:
                if not slash or not word or not tag:
                    raise DataError(
                        f"{path}:{number}: expected words with their tags, as word/tag, found "
                        f"{word + slash + tag!r:.60}"
                    )
            if not pairs:
                continue
            if unit == "words":
                sentences.append([word for word, _, _ in pairs])
                tags.append([tag for _, _, tag in pairs])
            else:
                spans, end = [], 0
                for word, _, tag in pairs:
                    spans.append(Span(end, end + len(word), tag if unit == "tagged-characters" else ""))
                    end += len(word)
                sentences.append(list("".join(word for word, _, _ in pairs)))
                tags.append(tags_of(spans, end, "bioes"))
            origins.append(f"{path.name}:{number}")
    return sentences, tags, None, origins, WordTagLayout(unit)
