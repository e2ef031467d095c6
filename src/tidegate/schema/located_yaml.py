"""YAML whose every value knows its line: plain values by the rules of YAML 1.2, and errors that name the place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from tidegate.errors import RecipeError

KeyPath = tuple[str | int, ...]

_LARGEST_FILE = 1 << 20
_DEEPEST = 20
_TAG = "tag:yaml.org,2002:"
# The core schema of YAML 1.2. PyYAML's own rules are those of 1.1, by which `1e-3` is a text and `no` is false.
_SCALARS = (
    ("null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    ("bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    ("int", re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), list("-+0123456789")),
    (
        "float",
        re.compile(
            r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
        ),
        list("-+.0123456789"),
    ),
)


class _Loader(Reader, Scanner, Parser, Composer, BaseResolver):
    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        BaseResolver.__init__(self)


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # PyYAML's own class attribute, emptied


for _name, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(_TAG + _name, _pattern, _first)
    _Dumper.add_implicit_resolver(_TAG + _name, _pattern, _first)


def _represent_text(dumper: yaml.SafeDumper, text: str) -> ScalarNode:
    # PyYAML leaves these line separators bare in plain text, and then reads them back as line ends.
    style = '"' if any(mark in text for mark in "\x85\u2028\u2029") else None
    return dumper.represent_scalar(_TAG + "str", text, style=style)


_Dumper.add_representer(str, _represent_text)


@dataclass(frozen=True)
class Document:
    """A parsed document.

    Attributes:
        name: What the document is called in errors: its file.
        value: Dicts with text keys, lists, texts, numbers, true/false and null.
        places: Key path -> where it stands, e.g. ``("model", "cell") -> "sentiment.yaml:7"``.
    """

    name: str
    value: Any
    places: dict[KeyPath, str]

    def place(self, path: KeyPath) -> str:
        """Where a key path stands; for one that is absent, where its nearest parent stands."""
        return self.places.get(self._present(path), self.name)

    def rank(self, path: KeyPath) -> int:
        """Where a key path stands among the others, to sort by."""
        present = self._present(path)
        return next((rank for rank, other in enumerate(self.places) if other == present), -1)

    def _present(self, path: KeyPath) -> KeyPath:
        while path and path not in self.places:
            path = path[:-1]
        return path


def read_document(path: Path) -> Document:
    """Read a YAML file.

    Raises:
        RecipeError: The file is missing, too large, no UTF-8 or no YAML of plain values; with file and line.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise RecipeError(f"{path}: the recipe could not be read: {error.strerror or error}.") from None
    if len(data) > _LARGEST_FILE:
        raise RecipeError(f"{path}: expected a recipe of at most {_LARGEST_FILE:,} bytes, found a larger file.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RecipeError(
            f"{path}:{line}: expected UTF-8, found the byte 0x{data[error.start]:02x}. Save the file as UTF-8."
        ) from None
    return parse_document(text, str(path))


def parse_document(text: str, name: str, *, numbered: bool = True) -> Document:
    """Parse YAML text; ``numbered=False`` leaves line numbers out of places, for a text that is one value.

    Raises:
        RecipeError: The text is no YAML, repeats a key, or uses tags, anchors or keys that are not texts.
    """

    def place(line: int) -> str:
        return f"{name}:{line + 1}" if numbered else name

    places: dict[KeyPath, str] = {}

    def convert(node: Node, path: KeyPath) -> Any:
        where = place(node.start_mark.line)
        places.setdefault(path, where)
        if not isinstance(node, ScalarNode) and node.tag not in (_TAG + "map", _TAG + "seq"):
            raise RecipeError(f"{where}: a recipe has no tags, found {node.tag!r}. Write the plain value.")
        if isinstance(node, MappingNode):
            result: dict[str, Any] = {}
            for key_node, value_node in node.value:
                key_place = place(key_node.start_mark.line)
                key = key_node.value if isinstance(key_node, ScalarNode) else None
                if not isinstance(key, str) or not key:
                    raise RecipeError(f"{key_place}: expected a name before the colon, found something else.")
                key_path = (*path, key)
                if key in result:
                    raise RecipeError(
                        f"{key_place}: the key {dotted(key_path)} is repeated; it first stands at {places[key_path]}. "
                        "Remove one of the two."
                    )
                places[key_path] = key_place
                result[key] = convert(value_node, key_path)
            return result
        if isinstance(node, SequenceNode):
            return [convert(item, (*path, index)) for index, item in enumerate(node.value)]
        return _scalar(node, where)

    root = _compose(text, place)
    return Document(name, convert(root, ()) if root is not None else None, places)


def dump_document(value: dict[str, Any], comment: str = "") -> str:
    """YAML text that :func:`parse_document` reads back as the same value, under a comment."""
    head = "".join(f"# {line}\n" if line else "#\n" for line in comment.splitlines())
    return head + yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def dotted(path: KeyPath) -> str:
    """A key path as people write it: ``output.try[0]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _compose(text: str, place: Any) -> Node | None:
    try:
        loader, depth = _Loader(text), 0
        while not loader.check_event(yaml.StreamEndEvent):
            event = loader.get_event()
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
                raise RecipeError(
                    f"{place(event.start_mark.line)}: a recipe has no anchors or aliases (& and *). Write the value "
                    "out, or put quotes around a text that starts with & or *."
                )
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise RecipeError(f"{place(event.start_mark.line)}: expected at most {_DEEPEST} levels, found more.")
        return _Loader(text).get_single_node()
    except ReaderError as error:
        line = text.count("\n", 0, error.position)
        raise RecipeError(
            f"{place(line)}: expected text, found the character {chr(int(error.character))!r}. Remove it."
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise RecipeError(
            f"{place(mark.line if mark else 0)}: this is not YAML: {problem}. "
            "Check the indentation (spaces, no tabs) and put quotes around texts with : # or brackets."
        ) from None


def _scalar(node: Node, where: str) -> Any:
    tag, text = node.tag.removeprefix(_TAG), node.value
    try:
        if tag == "str":
            return text
        if tag == "null":
            return None
        if tag == "bool":
            return {"true": True, "false": False}[text.lower()]
        if tag == "int":
            return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
        if tag == "float":
            return float(re.sub(r"\.(?=inf|nan)", "", text.lower()))
    except (ValueError, KeyError):
        raise RecipeError(f"{where}: expected a value of the type {tag}, found {text[:60]!r}.") from None
    raise RecipeError(f"{where}: a recipe has no tags, found {node.tag!r}. Write the plain value.")
