"""Words as rows of numbers: their id, their id in a language model, and their characters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tidegate.data.language_words import LanguageWords
from tidegate.data.vocabulary import Vocabulary

__all__ = ["LONGEST_WORD", "NO_CHARACTER", "WordFields", "WordForms", "character_vocabulary"]

LONGEST_WORD = 32  # characters that are read of a word
NO_CHARACTER = -1
# So many words beyond the vocabulary get a number; mistyped texts make new ones in every epoch.
_MOST_FORMS = 500_000


@dataclass(frozen=True)
class WordFields:
    """What is read of a word beside its id in the vocabulary.

    Attributes:
        words: The vocabulary; a token's id in it is that of its vector.
        characters: The known characters, id 0 every other, or None where words are not read letter by letter.
        language: The words of a language model, or None where none is read.
    """

    words: Vocabulary
    characters: Vocabulary | None = None
    language: LanguageWords | None = None

    @property
    def width(self) -> int:
        """Numbers of a row: the form, the language model's id, and the characters."""
        return self._beside + (0 if self.characters is None else LONGEST_WORD)

    def row(self, number: int, word: str) -> np.ndarray:
        """The row of one word, ``[width]`` int32."""
        row = np.full(self.width, NO_CHARACTER, dtype=np.int32)
        row[0] = number
        if self.language is not None:
            row[1] = self.language.number(word)
        if self.characters is not None:
            # Of a longer word its beginning and its end, where stems and endings stand.
            half = LONGEST_WORD // 2
            read = word if len(word) <= LONGEST_WORD else word[:half] + word[-half:]
            # The vocabulary's own name for unknown words has no letters of its own.
            letters = self.characters.encode(read) if number else [0]
            row[self._beside : self._beside + len(letters)] = letters
        return row

    @property
    def _beside(self) -> int:
        return 1 if self.language is None else 2

    @cached_property
    def table(self) -> np.ndarray:
        """The rows of the whole vocabulary, ``[V, width]``."""
        return np.stack([self.row(number, word) for number, word in enumerate(self.words)])


class WordForms:
    """Numbers for all words of some texts: a word of the vocabulary has its id, the others those that follow.

    Args:
        fields: What is read of a word.
    """

    def __init__(self, fields: WordFields) -> None:
        self.fields = fields
        self._numbers: dict[str, int] = {}
        self._further = np.empty((256, fields.width), dtype=np.int32)

    def number(self, word: str) -> int:
        """The number of a word that the vocabulary has not."""
        found = self._numbers.get(word)
        if found is None:
            place = len(self._numbers)
            if place >= _MOST_FORMS:
                return 0
            if place == len(self._further):
                self._further = np.concatenate([self._further, np.empty_like(self._further)])
            found = self._numbers[word] = len(self.fields.words) + place
            self._further[place] = self.fields.row(found, word)
        return found

    @property
    def further(self) -> list[str]:
        """The words beyond the vocabulary that have a number, in the order of their numbers."""
        return list(self._numbers)

    def rows(self, numbers: np.ndarray) -> np.ndarray:
        """Numbers ``[n]`` to rows ``[n, width]``: number, the language model's id, characters, -1 beyond the last."""
        known = len(self.fields.words)
        rows = self.fields.table[np.where(numbers < known, numbers, 0)]
        beyond = np.flatnonzero(numbers >= known)
        rows[beyond] = self._further[numbers[beyond] - known]
        return rows.astype(np.int64)


def character_vocabulary(words: Iterable[str]) -> Vocabulary:
    """The characters of some words, those of the most words first; id 0 is every other."""
    counts = Counter(character for word in words for character in word)
    return Vocabulary.from_counts(counts, max_size=len(counts) + 1)
