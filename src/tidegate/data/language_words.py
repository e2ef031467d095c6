"""The words of a language model that another model reads: their ids, and how the language model is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from tidegate.data.vocabulary import Vocabulary

__all__ = ["LanguageWords"]


@dataclass(frozen=True)
class LanguageWords:
    """A language model's vocabulary, and what builds its network.

    Attributes:
        vocabulary: Its tokens; id 0 is every other.
        lowercase: Whether they are in lower case.
        settings: ``cell``, ``size``, ``num_layers`` and ``bidirectional``.
    """

    vocabulary: Vocabulary
    lowercase: bool
    settings: Mapping[str, Any]

    def number(self, word: str) -> int:
        """The id of a word."""
        return self.vocabulary.index.get(word.lower() if self.lowercase else word, 0)

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the module that gives its states."""
        return {"num_tokens": len(self.vocabulary), **self.settings}

    def to_dict(self) -> dict[str, Any]:
        """All of it as values that JSON holds."""
        return {**self.settings, "tokens": list(self.vocabulary.tokens), "lowercase": self.lowercase}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """What `to_dict` wrote.

        Raises:
            KeyError, DataError, TypeError: It is damaged.
        """
        settings = dict(state)
        return cls(Vocabulary(settings.pop("tokens")), bool(settings.pop("lowercase")), settings)
