"""JSON Lines for tagging: a text with spans of characters, or tokens with tags; with an intent or without."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.data.raw_text import Token, cut_text
from tidegate.data.readers import read_json_lines
from tidegate.data.tag_schemes import Span, spans_of, tags_of
from tidegate.errors import DataError, nearest

__all__ = ["SpanLayout", "read_span_lines"]

FIELDS = {
    "text": ("text",),
    "spans": ("spans", "entities"),
    "tokens": ("tokens", "words"),
    "tags": ("tags", "labels", "slots", "ner_tags"),
    "intent": ("intent",),
}

Parts = tuple[list[list[str]], list[list[str]] | None, list[str] | None, list[str], "SpanLayout"]


@dataclass(frozen=True)
class SpanLayout:
    """The objects of a file, the names of what was read of them, and where the tokens stand in each text.

    Attributes:
        records: The objects as they were read.
        names: What each of `FIELDS` is called in the file; those that it has not are not there.
        tokens: The tokens of each text with their places, or None where the file has tokens itself.
    """

    records: list[dict[str, Any]]
    names: dict[str, str]
    tokens: list[list[Token]] | None

    def lines(self, sentences: Sequence[Sequence[str]], tags: Sequence[Sequence[str]]) -> Iterator[str]:
        """The objects with other spans or tags, their other fields as they were.

        Raises:
            DataError: These are not the sentences of the file.
        """
        if len(tags) != len(self.records):
            raise DataError(f"the file has {len(self.records)} sentences, found tags of {len(tags)}")
        for number, (record, row) in enumerate(zip(self.records, tags, strict=True)):
            if self.tokens is None:
                changed: Any = {self.names.get("tags", "tags"): list(row)}
            else:
                placed = self.tokens[number]
                found = [
                    {"start": placed[span.start].start, "end": placed[span.end - 1].end, "label": span.type}
                    for span in spans_of(row)
                ]
                changed = {self.names.get("spans", "spans"): found}
            yield json.dumps({**record, **changed}, ensure_ascii=False)


def read_span_lines(
    path: Path,
    *,
    tokenizer: str = "words",
    fields: Mapping[str, str] | None = None,
    encoding: str = "utf-8",
    errors: str = "strict",
) -> Parts:
    """Sentences of a file with a JSON object a line, in one of two forms that all lines share.

    ``{"text": "Ada met Bo.", "spans": [{"start": 0, "end": 3, "label": "PER"}]}``: spans count characters as Python
    does, and may be written ``[0, 3, "PER"]``. The text is cut by the tokenizer, and a token that a span ends within is
    cut there. ``{"tokens": ["Ada", "met"], "tags": ["B-PER", "O"], "intent": "greet"}``: one tag a token; the intent,
    one label for the sentence, may stand in both forms.

    Args:
        path: The file.
        tokenizer: Of `TAGGING_TOKENIZERS`.
        fields: What the fields ``text``, ``spans``, ``tokens``, ``tags`` and ``intent`` are called in the file, where
            it is none of the usual: ``entities``; ``words``; ``labels``, ``slots``, ``ner_tags``.
        encoding: Character encoding of the file.
        errors: As in `open_text`.

    Raises:
        DataError: A line is not such an object, a span lies outside the text, is empty or overlaps another, or there is
            not one tag a token; with file and line.
    """
    for name in fields or {}:
        if name not in FIELDS:
            raise DataError(f"fields: {name!r} is none of {', '.join(FIELDS)}.{nearest(name, FIELDS)}")
    records: list[dict[str, Any]] = []
    sentences: list[list[str]] = []
    tags: list[list[str]] = []
    intents: list[str] = []
    placed: list[list[Token]] = []
    origins: list[str] = []
    names: dict[str, str] = {}
    for record in read_json_lines(path, None, encoding, errors):
        where = f"{path.parent / record.origin}"
        if not records:
            names = _names(record.fields, fields or {}, where)
        for name in names.values():
            if name not in record.fields:
                raise DataError(f"{where}: there is no field {name!r}, which the first line has; all lines need it")
        if "text" in names:
            text = record.fields[names["text"]]
            if not isinstance(text, str):
                raise DataError(f"{where}: expected a text in {names['text']!r}, found {text!r:.60}")
            spans = _spans(record.fields.get(names.get("spans", ""), []), text, where)
            tokens = _cut_at(cut_text(text, tokenizer), spans, text)
            sentences.append([token.text for token in tokens])
            tags.append(_tags_from(spans, tokens, where))
            placed.append(tokens)
        else:
            words = _words(record.fields[names["tokens"]], names["tokens"], where)
            sentences.append(words)
            if "tags" in names:
                row = _words(record.fields[names["tags"]], names["tags"], where)
                if len(row) != len(words):
                    raise DataError(f"{where}: expected one tag a token, found {len(words)} tokens, {len(row)} tags")
                tags.append(row)
        if "intent" in names:
            intents.append(str(record.fields[names["intent"]]))
        records.append(record.fields)
        origins.append(record.origin)
    layout = SpanLayout(records, names, placed or None)
    has_tags = "spans" in names or "tags" in names
    return sentences, tags if has_tags else None, intents if "intent" in names else None, origins, layout


def _names(record: Mapping[str, Any], given: Mapping[str, str], where: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for field, usual in FIELDS.items():
        if field in given and given[field] not in record:
            raise DataError(f"{where}: there is no field {given[field]!r}.{nearest(given[field], record)}")
        name = given.get(field) or next((name for name in usual if name in record), None)
        if name is not None:
            found[field] = name
    if "tokens" in found and ("tags" in found or "spans" not in found):
        found.pop("text", None)
        found.pop("spans", None)
    elif "text" in found:
        found.pop("tokens", None)
        found.pop("tags", None)
    else:
        raise DataError(
            f'{where}: expected a field "text" (with "spans") or "tokens" (with "tags"), found '
            f"{', '.join(map(repr, record)) or 'an empty object'}"
        )
    return found


def _words(value: Any, name: str, where: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise DataError(f"{where}: expected a list of texts in {name!r}, found {value!r:.60}")
    return list(value)


def _spans(value: Any, text: str, where: str) -> list[Span]:
    if not isinstance(value, list):
        raise DataError(f"{where}: expected a list of spans, found {value!r:.60}")
    spans = []
    for item in value:
        try:
            if isinstance(item, Mapping):
                label = next(item[name] for name in ("label", "type", "tag") if name in item)
                span = Span(item["start"], item["end"], label)
            else:
                span = Span(*item)
        except (TypeError, KeyError, StopIteration):
            raise DataError(
                f'{where}: expected spans as {{"start": 0, "end": 3, "label": "PER"}} or [0, 3, "PER"], '
                f"found {item!r:.80}"
            ) from None
        numbers = all(isinstance(place, int) and not isinstance(place, bool) for place in span[:2])
        if not numbers or not isinstance(span.type, str) or not 0 <= span.start < span.end <= len(text):
            raise DataError(f"{where}: the span {item!r:.80} lies outside the text of {len(text)} characters")
        spans.append(span)
    spans.sort()
    for first, second in itertools.pairwise(spans):
        if second.start < first.end:
            raise DataError(f"{where}: the spans {list(first)} and {list(second)} overlap; a token has one tag")
    return spans


def _cut_at(tokens: list[Token], spans: list[Span], text: str) -> list[Token]:
    """The tokens, cut where a span begins or ends within one."""
    borders = {place for span in spans for place in span[:2]}
    cut = []
    for token in tokens:
        places = [token.start, *sorted(place for place in borders if token.start < place < token.end), token.end]
        cut += [Token(text[a:b], a, b) for a, b in itertools.pairwise(places)]
    return cut


def _tags_from(spans: list[Span], tokens: list[Token], where: str) -> list[str]:
    covered = []
    for span in spans:
        inside = [number for number, token in enumerate(tokens) if span.start <= token.start and token.end <= span.end]
        if not inside:
            raise DataError(f"{where}: the span {list(span)} holds white space alone")
        covered.append(Span(inside[0], inside[-1] + 1, span.type))
    return tags_of(covered, len(tokens), "bio")
