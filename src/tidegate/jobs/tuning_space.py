"""The space of a search: dotted keys of a recipe, each with values or a range, checked before anything is trained."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tidegate.errors import RecipeError
from tidegate.schema.located_yaml import parse_document

__all__ = ["DEFAULT_SPACE", "Choice", "Range", "Space", "override", "parse_space"]

# What is searched where nothing is named.
DEFAULT_SPACE = (
    "training.learning_rate=3e-4..1e-2:log",
    "training.label_smoothing=0..0.2",
    "model.dropout=0.1..0.7",
    "model.embedding_dropout=0.1..0.7",
    "model.hidden_size=64,128,192",
    "model.pooling=attention,mean,max",
)
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"^({_NUMBER})\.\.({_NUMBER})(?::(log|{_NUMBER}))?$")


@dataclass(frozen=True)
class Choice:
    """A key that takes one of some values."""

    key: str
    values: tuple[Any, ...]

    def ends(self) -> tuple[Any, ...]:
        """The values that a recipe must accept for the whole to be legal."""
        return self.values

    def grid(self) -> tuple[Any, ...]:
        """All values."""
        return self.values


@dataclass(frozen=True)
class Range:
    """A key that takes a number from `low` to `high`, whole ones where both are, evenly or by their logarithm."""

    key: str
    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None

    @property
    def whole(self) -> bool:
        """Whether the numbers are whole."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def ends(self) -> tuple[Any, ...]:
        """The values that a recipe must accept for the whole range to be legal."""
        return (self.low, self.high)

    def grid(self) -> tuple[Any, ...]:
        """The numbers of a range with a step.

        Raises:
            RecipeError: It has none.
        """
        if self.step is None:
            raise RecipeError(
                f"--search {self.key}: a grid needs values or a step: {self.key}=64,128 or {self.key}=64..256:64."
            )
        count = math.floor((self.high - self.low) / self.step + 1e-9) + 1
        return tuple(self.low + place * self.step for place in range(count))


Space = tuple[Choice | Range, ...]


def override(key: str, value: Any) -> str:
    """A value as ``--set`` takes it."""
    if value is None or isinstance(value, bool):
        return f"{key}={ {None: 'null', True: 'true', False: 'false'}[value] }"
    if isinstance(value, float):
        return f"{key}={value!r}" if "e" not in repr(value) else f"{key}={value:.17g}"
    return f"{key}={value}"


def parse_space(given: Sequence[str], check: Callable[[Sequence[str]], Any]) -> Space:
    """The space that ``--search KEY=SPEC`` describe.

    A spec is ``64,128,256`` (values, as YAML), ``0.1..0.7`` (a range), ``16..64:16`` (with a step) or
    ``1e-4..1e-2:log``.

    Args:
        given: The specs; none at all takes :data:`DEFAULT_SPACE`.
        check: Loads the recipe with overrides, and raises where one is not legal.

    Raises:
        RecipeError: A spec cannot be read, a range is empty, a key is unknown or named twice, or the recipe does not
            accept a value.
    """
    space = tuple(_parse(text) for text in (given or DEFAULT_SPACE))
    keys = [item.key for item in space]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise RecipeError(f"--search {twice[0]}: the key is named twice.")
    for item in space:
        if item.key.split(".")[0] not in ("text", "model", "training"):
            raise RecipeError(
                f"--search {item.key}: expected a key of the sections text, model or training; the data stay the same."
            )
        for value in item.ends():
            check([override(item.key, value)])
    return space


def _parse(text: str) -> Choice | Range:
    place = f"--search {text}"
    key, equals, spec = (part.strip() for part in text.partition("="))
    if not equals or "." not in key or not spec:
        raise RecipeError(
            f"{place}: expected KEY=VALUES or KEY=LOW..HIGH, as model.hidden_size=64,128 or "
            "training.learning_rate=1e-4..1e-2:log."
        )
    if ".." in spec:
        return _parse_range(place, key, spec)
    values = tuple(parse_document(part.strip(), place, numbered=False).value for part in spec.split(","))
    if len(values) < 2:
        raise RecipeError(f"{place}: expected two values or more, or a range; one is what --set is for.")
    if len(set(map(repr, values))) < len(values):
        raise RecipeError(f"{place}: a value is named twice.")
    return Choice(key, values)


def _parse_range(place: str, key: str, spec: str) -> Range:
    match = _RANGE.match(spec)
    if match is None:
        raise RecipeError(f"{place}: expected LOW..HIGH, LOW..HIGH:log or LOW..HIGH:STEP, found {spec!r}.")
    low, high = _number(match[1]), _number(match[2])
    log = match[3] == "log"
    step = None if match[3] in (None, "log") else _number(match[3])
    if low >= high:
        raise RecipeError(f"{place}: an impossible range: expected the lower end first, found {low} and {high}.")
    if log and low <= 0:
        raise RecipeError(f"{place}: a range by logarithm must begin above 0, found {low}.")
    if step is not None and not 0 < step <= high - low:
        raise RecipeError(f"{place}: expected a step above 0 and within the range, found {step}.")
    if isinstance(low, float) or isinstance(high, float) or isinstance(step, float):
        low, high = float(low), float(high)
    return Range(key, low, high, log, step)


def _number(text: str) -> int | float:
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)
