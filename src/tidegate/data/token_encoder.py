"""Given tokens as numbers: words, the characters in them, their capitals, and pairs of neighbours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tidegate.data.language_words import LanguageWords
from tidegate.data.vocabulary import Vocabulary
from tidegate.errors import BundleError, DataError

__all__ = ["CASES", "EncodedSentences", "TokenEncoder"]

# What a word looks like (Collobert et al. 2011; Reimers & Gurevych 2017).
CASES = ("other", "lower", "upper", "initial", "mixed", "number", "mostly digits", "some digits")
_DIGITS = str.maketrans("123456789１２３４５６７８９", "0" * 9 + "０" * 9)
_SENTENCE_END = "</s>"


@dataclass(frozen=True)
class EncodedSentences:
    """Sentences as numbers: each token is a form, and what is known of a form stands in tables once.

    Attributes:
        forms: One int64 array a sentence: the number of each token's form.
        bigrams: One int64 array a sentence: the id of each token with the next one; None where they are not used.
        words: ``[forms]`` the id of each form as a word.
        cases: ``[forms]`` which of `CASES` it is.
        characters: The ids of all forms' characters, one form after another.
        starts: ``[forms + 1]`` where each form's characters begin.
        language: ``[forms]`` the id of each form in a language model's vocabulary; None where none is read.
    """

    forms: list[np.ndarray]
    bigrams: list[np.ndarray] | None
    words: np.ndarray
    cases: np.ndarray
    characters: np.ndarray
    starts: np.ndarray
    language: np.ndarray | None = None

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each sentence."""
        return np.fromiter(map(len, self.forms), np.int64, len(self.forms))


@dataclass(frozen=True)
class TokenEncoder:
    """Turns tokens into numbers; made by `fit`, kept in a bundle by `to_dict`.

    Attributes:
        lowercase: Whether words differ by capitals; characters and cases always do.
        replace_digits: Whether all digits of a word are read as 0.
        words: The words with a vector that learns; id 0 is every other.
        extra_words: Further words, whose vectors are given and stay; their ids follow.
        characters: The characters; id 0 is every other.
        bigrams: The pairs of neighbours, as ``"first\\nsecond"``; id 0 is every other. None where they are not used.
        language: The words of a language model whose states are read, or None.
    """

    lowercase: bool
    replace_digits: bool
    words: Vocabulary
    extra_words: tuple[str, ...]
    characters: Vocabulary
    bigrams: Vocabulary | None
    language: LanguageWords | None = None

    @classmethod
    def fit(
        cls,
        sentences: Sequence[Sequence[str]],
        *,
        lowercase: bool,
        replace_digits: bool,
        max_vocabulary: int,
        min_count: int,
        use_bigrams: bool,
        known_words: Iterable[str] = (),
        language: LanguageWords | None = None,
    ) -> TokenEncoder:
        """Learn the vocabularies of some sentences.

        Args:
            sentences: Tokens.
            lowercase, replace_digits: As the attributes.
            max_vocabulary: The largest number of words, the unknown one included; of pairs four times as many.
            min_count: Words and pairs that occur less often are unknown; words that are `known_words` are kept.
            use_bigrams: Whether pairs of neighbours are read too.
            known_words: Words that have a vector of their own already.
            language: As the attribute.

        Raises:
            DataError: There is no token.
        """
        empty = Vocabulary(["<unk>"])
        unfitted = cls(lowercase, replace_digits, empty, (), empty, None)
        counts: Counter[str] = Counter(token for tokens in sentences for token in tokens)
        if not counts:
            raise DataError(f"the {len(sentences)} sentences have no token")
        keys: Counter[str] = Counter()
        characters: Counter[str] = Counter()
        for token, count in counts.items():
            keys[unfitted.key(token)] += count
            for character in token:
                characters[character] += count
        known = set(known_words)
        raised = Counter({key: max(count, min_count) if key in known else count for key, count in keys.items()})
        words = Vocabulary.from_counts(raised, max_size=max_vocabulary, min_count=min_count)
        bigrams = None
        if use_bigrams:
            pairs = Counter(pair for tokens in sentences for pair in _pairs(tokens))
            bigrams = Vocabulary.from_counts(pairs, max_size=4 * max_vocabulary, min_count=min_count)
        extra = tuple(word for word in dict.fromkeys(known_words) if word not in words.index)
        letters = Vocabulary.from_counts(characters, max_size=len(characters) + 1)
        return cls(lowercase, replace_digits, words, extra, letters, bigrams, language)

    def key(self, token: str) -> str:
        """The word that a token is looked up as."""
        word = token.lower() if self.lowercase else token
        return word.translate(_DIGITS) if self.replace_digits else word

    @cached_property
    def _word_ids(self) -> dict[str, int]:
        extra = {word: number for number, word in enumerate(self.extra_words, len(self.words))}
        return {**extra, **self.words.index}

    def encode(self, sentences: Sequence[Sequence[str]]) -> EncodedSentences:
        """Sentences as numbers; a sentence may be empty.

        Raises:
            DataError: A token is empty or no text, with its place.
        """
        numbers: dict[str, int] = {}
        forms = []
        for row, tokens in enumerate(sentences):
            try:
                forms.append(np.array([numbers.setdefault(token, len(numbers)) for token in tokens], dtype=np.int64))
            except TypeError:
                raise DataError(f"sentence {row}: expected tokens that are texts, found {list(tokens)!r:.80}") from None
        for token in numbers:
            if not isinstance(token, str) or not token:
                row = next(place for place, tokens in enumerate(sentences) if token in tokens)
                raise DataError(f"sentence {row}: expected tokens that are texts of a character at least: {token!r}")
        lookup, letters = self._word_ids.get, self.characters.index.get
        characters = np.array([letters(letter, 0) for token in numbers for letter in token], dtype=np.int64)
        starts = np.zeros(len(numbers) + 1, dtype=np.int64)
        np.cumsum([len(token) for token in numbers], out=starts[1:])
        bigrams = None
        if self.bigrams is not None:
            pairs = self.bigrams.index.get
            bigrams = [np.array([pairs(pair, 0) for pair in _pairs(row)], dtype=np.int64) for row in sentences]
        return EncodedSentences(
            forms,
            bigrams,
            np.array([lookup(self.key(token), 0) for token in numbers], dtype=np.int64),
            np.array([_case(token) for token in numbers], dtype=np.int64),
            characters,
            starts,
            None if self.language is None else np.array([self.language.number(token) for token in numbers], np.int64),
        )

    def to_dict(self) -> dict[str, Any]:
        """All of the encoder as values that JSON holds."""
        return {
            "lowercase": self.lowercase,
            "replace_digits": self.replace_digits,
            "words": list(self.words.tokens),
            "extra_words": list(self.extra_words),
            "characters": list(self.characters.tokens),
            "bigrams": None if self.bigrams is None else list(self.bigrams.tokens),
            **({} if self.language is None else {"language": self.language.to_dict()}),
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> TokenEncoder:
        """The encoder that `to_dict` wrote.

        Raises:
            BundleError: A key is missing, unknown, or has no legal value.
        """
        names = set(cls.__dataclass_fields__)
        if not isinstance(state, dict) or set(state) | {"language"} != names:
            found = sorted(state) if isinstance(state, dict) else type(state).__name__
            raise BundleError(f"the encoder's state: expected the keys {sorted(names)}, found {found}")
        try:
            return cls(
                bool(state["lowercase"]),
                bool(state["replace_digits"]),
                Vocabulary(state["words"]),
                tuple(state["extra_words"]),
                Vocabulary(state["characters"]),
                None if state["bigrams"] is None else Vocabulary(state["bigrams"]),
                LanguageWords.from_dict(state["language"]) if "language" in state else None,
            )
        except (DataError, TypeError, KeyError) as error:
            raise BundleError(f"the encoder's state: {error}") from None


def _pairs(tokens: Sequence[str]) -> list[str]:
    return [f"{first}\n{second}" for first, second in zip(tokens, [*tokens[1:], _SENTENCE_END], strict=False)]


def _case(token: str) -> int:
    digits = sum(character.isdigit() for character in token)
    if digits == len(token):
        return CASES.index("number")
    if digits * 2 > len(token):
        return CASES.index("mostly digits")
    if token.islower():
        name = "lower"
    elif token.isupper():
        name = "upper"
    elif token[0].isupper() and not any(character.isupper() for character in token[1:]):
        name = "initial"
    elif any(character.isupper() for character in token):
        name = "mixed"
    else:
        name = "other"
    return CASES.index("some digits" if digits and name in ("other", "lower") else name)
