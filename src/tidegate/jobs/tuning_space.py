"""The space of a search: dotted keys of a recipe, each with values or a range, checked before anything is trained."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidegate.errors import RecipeError
from tidegate.schema.located_yaml import parse_document

__all__ = ["DEFAULT_SPACES", "Choice", "Range", "Space", "default_space", "override", "parse_space"]

_OF_TEXTS = (
    "model.dropout=0.1..0.7",
    "model.embedding_dropout=0.1..0.7",
    "model.hidden_size=64,128,192",
    "model.pooling=attention,mean,max",
)
_RATE, _SMOOTHING = "training.learning_rate=3e-4..1e-2:log", "training.label_smoothing=0..0.2"
# What is searched where nothing is named, by the task of the recipe.
DEFAULT_SPACES: dict[str, tuple[str, ...]] = {
    "text-classification": (_RATE, _SMOOTHING, *_OF_TEXTS),
    "text-regression": (_RATE, *_OF_TEXTS),
    "multi-label-text-classification": (_RATE, _SMOOTHING, *_OF_TEXTS),
    "multi-task-text": (_RATE, *_OF_TEXTS),
    "contextual-text-classification": (_RATE, _SMOOTHING, *_OF_TEXTS),
    "sequence-tagging": (
        "training.learning_rate=5e-4..1e-2:log",
        "training.weight_decay=1e-4..0.1:log",
        "model.dropout=0.1..0.6",
        "model.embedding_dropout=0.1..0.6",
        "model.word_dropout=0..0.1",
        "model.hidden_size=64,128,192",
    ),
    "linear-text-classification": (
        "text.weighting=tfidf,counts,binary",
        "text.ngram_range=[1,1],[1,2],[1,3]",
        "text.character_ngram_range=null,[2,4],[2,5]",
        "text.min_documents=1,2,3",
        "text.keep_marks=false,true",
        "model.classifier=logistic,svm,nbsvm,naive-bayes",
    ),
}
# An encoder that learns as well forgets what it knows at the rates of a network that was drawn.
_FINE_TUNING_RATE = "training.learning_rate=1e-5..3e-4:log"
# What all trials must share to be compared.
_SHARED = ("training.monitor", "training.validation_fraction")
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
        """What a sampler draws: the values, or where one of them is a list, say, the places of all."""
        plain = all(value is None or isinstance(value, bool | int | float | str) for value in self.values)
        return self.values if plain else tuple(range(len(self.values)))

    def drawn(self, value: Any) -> Any:
        """What a sampler draws for a value.

        Raises:
            ValueError: It is none of them.
        """
        return self.grid()[self.values.index(value)]

    def value(self, drawn: Any) -> Any:
        """The value that was drawn."""
        return self.values[self.grid().index(drawn)]


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

    def drawn(self, value: Any) -> Any:
        """What a sampler draws for a value, which is the value itself.

        Raises:
            ValueError: It is no number of the range.
        """
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            raise ValueError(f"{value!r} is not from {self.low} to {self.high}")
        return value

    def value(self, drawn: Any) -> Any:
        """The value that was drawn."""
        return drawn


Space = tuple[Choice | Range, ...]


def override(key: str, value: Any) -> str:
    """A value as ``--set`` takes it."""
    if value is None or isinstance(value, bool):
        return f"{key}={ {None: 'null', True: 'true', False: 'false'}[value] }"
    if isinstance(value, float):
        return f"{key}={value!r}" if "e" not in repr(value) else f"{key}={value:.17g}"
    return f"{key}={value}"


def default_space(task: str, arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """What is searched where nothing is named.

    Args:
        task: Of the recipe.
        arguments: Those of the estimator that the recipe sets.
    """
    space = DEFAULT_SPACES[task]
    return tuple(_FINE_TUNING_RATE if spec == _RATE and arguments.get("fine_tune") else spec for spec in space)


def parse_space(given: Sequence[str], check: Callable[[Sequence[str]], Any]) -> Space:
    """The space that ``--search KEY=SPEC`` describe.

    A spec is ``64,128,256`` (values, as YAML, lists too: ``[1,1],[1,2]``), ``0.1..0.7`` (a range), ``16..64:16`` (with
    a step) or ``1e-4..1e-2:log``.

    Args:
        given: The specs, of which `default_space` has some for every task.
        check: Loads the recipe with overrides, and raises where one is not legal.

    Raises:
        RecipeError: A spec cannot be read, a range is empty, a key is unknown or named twice, or the recipe does not
            accept a value.
    """
    space = tuple(_parse(text) for text in given)
    keys = [item.key for item in space]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise RecipeError(f"--search {twice[0]}: the key is named twice.")
    for item in space:
        if item.key.split(".")[0] not in ("text", "model", "training"):
            raise RecipeError(
                f"--search {item.key}: expected a key of the sections text, model or training; the data stay the same."
            )
        if item.key in _SHARED:
            raise RecipeError(f"--search {item.key}: trials are compared by it, so that all share it: use --set.")
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
    values = tuple(parse_document(f"[{spec}]", place, numbered=False).value)
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
