"""The vocabulary: tokens and their ids, id 0 for every token that is not in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

from tidegate.errors import DataError

UNKNOWN = "<unk>"


class Vocabulary:
    """Tokens and their ids 0, 1, 2, ...; id 0 is ``<unk>``, the id of every token that is not listed.

    Args:
        tokens: All tokens in the order of their ids, without repeats, ``<unk>`` first.

    Raises:
        DataError: The first token is not ``<unk>``, or a token is repeated or not a text.
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        self.tokens: tuple[str, ...] = tuple(tokens)
        if not self.tokens or self.tokens[0] != UNKNOWN:
            raise DataError(f"a vocabulary begins with {UNKNOWN!r}, found {list(self.tokens[:1])}")
        seen: set[str] = set()
        for number, token in enumerate(self.tokens):
            if not isinstance(token, str):
                raise DataError(f"token {number} of the vocabulary is not a text: {token!r}")
            if token in seen:
                raise DataError(f"token {number} of the vocabulary is a repeat: {token!r}")
            seen.add(token)

    @classmethod
    def from_counts(cls, counts: Mapping[str, int], *, max_size: int, min_count: int = 1) -> Vocabulary:
        """The most frequent tokens, equal counts in the order of their text, so that the same texts give the same ids.

        Args:
            counts: How often each token occurs.
            max_size: The largest number of ids, ``<unk>`` included.
            min_count: Tokens that occur less often are left out.
        """
        kept = [token for token, count in counts.items() if count >= min_count and token != UNKNOWN]
        kept.sort(key=lambda token: (-counts[token], token))
        return cls([UNKNOWN, *kept[: max(max_size - 1, 0)]])

    @cached_property
    def index(self) -> dict[str, int]:
        """The id of each token."""
        return {token: number for number, token in enumerate(self.tokens)}

    def encode(self, tokens: Iterable[str]) -> list[int]:
        """The ids of tokens, 0 for those that are not in the vocabulary."""
        get = self.index.get
        return [get(token, 0) for token in tokens]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The tokens of ids.

        Raises:
            DataError: An id is negative or too large.
        """
        tokens = []
        for number in ids:
            if not 0 <= number < len(self.tokens):
                raise DataError(f"token id {number} is not from 0 to {len(self.tokens) - 1}")
            tokens.append(self.tokens[number])
        return tokens

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: object) -> bool:
        return token in self.index

    def __iter__(self) -> Iterator[str]:
        return iter(self.tokens)

    def __eq__(self, other: object) -> bool:
        return self.tokens == other.tokens if isinstance(other, Vocabulary) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.tokens)

    def __repr__(self) -> str:
        return f"Vocabulary({_preview(self.tokens)})"

    def __getstate__(self) -> dict[str, tuple[str, ...]]:
        return {"tokens": self.tokens}


def _preview(tokens: Sequence[str], shown: int = 6) -> str:
    listed = ", ".join(repr(token) for token in tokens[:shown])
    return f"[{listed}{', ...' if len(tokens) > shown else ''}], {len(tokens)} tokens"
