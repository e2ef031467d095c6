"""From texts to token ids: one frozen value that a model carries from training into use."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate.data.text import TOKENIZERS, Tokenize, canonical_json, load_bpe, prepare, train_bpe
from tidegate.data.vocabulary import UNKNOWN, Vocabulary
from tidegate.errors import BundleError, DataError, RecipeError, nearest

Progress = Callable[[int, int], None]

TOKENIZER_NAMES = (*TOKENIZERS, "bpe")
NORMALIZATIONS = ("NFC", "NFD", "NFKC", "NFKD")
TRUNCATIONS = {
    "head": "the beginning was kept",
    "tail": "the end was kept",
    "ends": "the first quarter and the end were kept",
}
_PROGRESS_EVERY = 256


@dataclass(frozen=True)
class Encoded:
    """The ids of texts, and what was cut.

    Attributes:
        ids: One int64 array of token ids a text; that of an empty text is empty.
        lengths: The number of tokens of each text before cutting, int64.
    """

    ids: list[NDArray[np.int64]]
    lengths: NDArray[np.int64]

    @property
    def truncated(self) -> int:
        """How many texts had more tokens than the limit."""
        kept = np.fromiter(map(len, self.ids), np.int64, len(self.ids))
        return int((self.lengths > kept).sum())

    @property
    def longest(self) -> int:
        """The number of tokens of the longest text, before cutting."""
        return int(self.lengths.max(initial=0))


@dataclass(frozen=True)
class TextEncoder:
    """Turns texts into token ids; made by `fit`, kept in a bundle by `to_dict`.

    Attributes:
        tokenizer: ``"words"`` (words with their contractions, marks, and Chinese and Japanese characters one by one),
            ``"characters"``, ``"bpe"`` (learned byte-pair pieces) or ``"jieba"`` (Chinese words).
        lowercase: Whether letters are put into lower case.
        strip_html: Whether tags are removed and entities resolved.
        normalization: The Unicode form that texts are put into, or None.
        max_tokens: Longer texts are cut to so many tokens; None keeps all.
        truncation: What is kept of a longer text: ``"head"`` its beginning, ``"tail"`` its end, ``"ends"`` a quarter of
            the tokens from its beginning and the others from its end.
        vocabulary: The tokens and their ids; id 0 is every token that training did not keep.
        bpe: The learned state of the byte-pair tokeniser (JSON), or None.
    """

    tokenizer: str
    lowercase: bool
    strip_html: bool
    normalization: str | None
    max_tokens: int | None
    truncation: str
    vocabulary: Vocabulary
    bpe: str | None = None

    @classmethod
    def fit(cls, texts: Iterable[str], **options: Any) -> TextEncoder:
        """The encoder of `fit_encode`, whose options these are."""
        return cls.fit_encode(texts, **options)[0]

    @classmethod
    def fit_encode(
        cls,
        texts: Iterable[str],
        *,
        tokenizer: str = "words",
        lowercase: bool = True,
        strip_html: bool = True,
        normalization: str | None = "NFKC",
        max_tokens: int | None = None,
        truncation: str = "head",
        max_vocabulary: int = 30000,
        min_count: int = 1,
        progress: Progress | None = None,
    ) -> tuple[TextEncoder, Encoded]:
        """Learn the vocabulary of texts, and for ``"bpe"`` its pieces, and encode them, cutting them only once.

        Args:
            texts: The training texts.
            tokenizer, lowercase, strip_html, normalization, max_tokens, truncation: As the attributes.
            max_vocabulary: The largest number of ids, that of unknown tokens included.
            min_count: Tokens that occur less often in what ``max_tokens`` keeps of the texts are unknown. For
                ``"bpe"``, pairs that occur less often in the whole texts are not merged.
            progress: Called now and then with the number of texts done and of all.

        Raises:
            RecipeError: A setting has no legal value.
            DataError: A text is not a text, or no token is left.
        """
        _check_count("max_vocabulary", max_vocabulary, 2)
        _check_count("min_count", min_count, 1)
        settings = {
            "tokenizer": tokenizer,
            "lowercase": lowercase,
            "strip_html": strip_html,
            "normalization": normalization,
            "max_tokens": max_tokens,
            "truncation": truncation,
        }
        unfitted = cls(**settings, vocabulary=Vocabulary([UNKNOWN]))
        unfitted._check_settings()
        # NumPy's numbers, which grids of scikit-learn hold, are none that JSON writes.
        settings |= {
            "lowercase": bool(lowercase),
            "strip_html": bool(strip_html),
            "max_tokens": None if max_tokens is None else int(max_tokens),
        }
        unfitted = replace(unfitted, **settings)
        texts = _checked_texts(texts)
        if not texts:
            raise DataError("expected texts to learn a vocabulary from, found none")
        if tokenizer == "bpe":
            state = train_bpe(map(unfitted.prepare, texts), max_vocabulary=max_vocabulary, min_count=min_count)
            encoder = cls(**settings, vocabulary=Vocabulary(load_bpe(state)[1]), bpe=state)
            encoded = encoder.encode(texts, progress=progress)
        else:
            encoder, encoded = unfitted._fit_tokens(texts, max_vocabulary, min_count, progress)
        if not encoded.longest:
            raise DataError(f"the {len(texts)} texts are all empty; a vocabulary needs some token")
        if encoder.num_tokens == 1:
            raise DataError(
                f"the {len(texts)} texts leave no token for the vocabulary: none occurs min_count={min_count} times; "
                "give more text or lower min_count"
            )
        return encoder, encoded

    def _fit_tokens(
        self, texts: list[str], max_vocabulary: int, min_count: int, progress: Progress | None
    ) -> tuple[TextEncoder, Encoded]:
        # Numbers in the order of appearance first: one small array a text instead of all its strings.
        number_of: defaultdict[str, int] = defaultdict()
        number_of.default_factory = number_of.__len__
        encoded = self._encode(texts, number_of.__getitem__, progress)
        seen = list(number_of)
        counts = Counter(dict(zip(seen, _total_counts(encoded.ids, len(seen)), strict=True)))
        vocabulary = Vocabulary.from_counts(counts, max_size=max_vocabulary, min_count=min_count)
        ids = np.array(vocabulary.encode(seen), dtype=np.int64)
        encoder = replace(self, vocabulary=vocabulary)
        return encoder, Encoded([ids[numbers] for numbers in encoded.ids], encoded.lengths)

    def prepare(self, text: str) -> str:
        """The text as it is cut into tokens: without HTML, normalised, in lower case, as the settings say."""
        return prepare(text, lowercase=self.lowercase, html=self.strip_html, normalization=self.normalization)

    def tokenize(self, text: str) -> list[str]:
        """All tokens of a text, before any cut to ``max_tokens``."""
        return self._split(self.prepare(text))

    def encode(
        self,
        texts: Iterable[str],
        *,
        progress: Progress | None = None,
        unknown: Callable[[str], int] | None = None,
    ) -> Encoded:
        """The token ids of texts.

        Args:
            texts: Texts; an empty one gets no token.
            unknown: Gives a number to each token that is not in the vocabulary, as `WordForms.number` does; None gives
                them 0.
            progress: Called now and then with the number of texts done and of all.

        Raises:
            DataError: One of them is not a text, with its number.
        """
        get = self.vocabulary.index.get
        if unknown is None:
            return self._encode(_checked_texts(texts), lambda token: get(token, 0), progress)

        def number(token: str) -> int:
            found = get(token)
            return unknown(token) if found is None else found

        return self._encode(_checked_texts(texts), number, progress)

    def _encode(self, texts: list[str], id_of: Callable[[str], int], progress: Progress | None) -> Encoded:
        ids: list[NDArray[np.int64]] = []
        lengths = np.empty(len(texts), dtype=np.int64)
        limit = self.max_tokens
        for number, text in enumerate(texts):
            if progress is not None and number % _PROGRESS_EVERY == 0:
                progress(number, len(texts))
            tokens = self.tokenize(text)
            lengths[number] = len(tokens)
            if limit is not None and len(tokens) > limit:
                tokens = _cut(tokens, limit, self.truncation)
            ids.append(np.fromiter(map(id_of, tokens), np.int64, len(tokens)))
        if progress is not None:
            progress(len(texts), len(texts))
        return Encoded(ids, lengths)

    def describe_truncation(self, encoded: Encoded) -> str:
        """One sentence on what was cut, or an empty text when nothing was."""
        if not encoded.truncated:
            return ""
        total = len(encoded.ids)
        return (
            f"{encoded.truncated:,} of {total:,} texts ({encoded.truncated / total:.1%}) were longer than "
            f"max_tokens={self.max_tokens} and were cut: {TRUNCATIONS[self.truncation]}. "
            f"The longest had {encoded.longest:,} tokens."
        )

    @property
    def num_tokens(self) -> int:
        """The number of ids, that of unknown tokens included."""
        return len(self.vocabulary)

    @cached_property
    def _split(self) -> Tokenize:
        return TOKENIZERS[self.tokenizer] if self.bpe is None else load_bpe(self.bpe)[0]

    def __getstate__(self) -> dict[str, Any]:
        return self._settings()

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def to_dict(self) -> dict[str, Any]:
        """All of the encoder as values that JSON holds."""
        state = self._settings()
        if self.bpe is None:
            return {**state, "vocabulary": list(self.vocabulary.tokens)}
        # The pieces stand in the byte-pair state already.
        return {**state, "vocabulary": None, "bpe": json.loads(self.bpe)}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> TextEncoder:
        """The encoder that `to_dict` wrote.

        Raises:
            BundleError: A key is missing, unknown, or has no legal value.
        """
        names = set(cls.__dataclass_fields__)
        if not isinstance(state, dict) or set(state) != names:
            found = sorted(state) if isinstance(state, dict) else type(state).__name__
            raise BundleError(f"the tokeniser's state: expected the keys {sorted(names)}, found {found}")
        try:
            if state["bpe"] is None:
                if not isinstance(state["vocabulary"], list):
                    raise DataError("the vocabulary is not a list")
                encoder = cls(**{**state, "vocabulary": Vocabulary(state["vocabulary"])})
            else:
                bpe = canonical_json(json.dumps(state["bpe"]))
                encoder = cls(**{**state, "vocabulary": Vocabulary(load_bpe(bpe)[1]), "bpe": bpe})
            encoder._check_settings()
        except (DataError, RecipeError) as error:
            raise BundleError(f"the tokeniser's state: {error}") from None
        if (encoder.tokenizer == "bpe") != (encoder.bpe is not None):
            raise BundleError(f"the tokeniser's state: tokenizer={encoder.tokenizer!r} does not fit the key 'bpe'")
        return encoder

    def _check_settings(self) -> None:
        _check_choice("tokenizer", self.tokenizer, TOKENIZER_NAMES)
        _check_choice("truncation", self.truncation, tuple(TRUNCATIONS))
        if self.normalization is not None:
            _check_choice("normalization", self.normalization, NORMALIZATIONS)
        if self.max_tokens is not None:
            _check_count("max_tokens", self.max_tokens, 1)
        for name in ("lowercase", "strip_html"):
            if not isinstance(getattr(self, name), bool | np.bool_):
                raise RecipeError(f"{name}={getattr(self, name)!r}: expected true or false")


def _cut(tokens: list[str], limit: int, truncation: str) -> list[str]:
    if truncation == "head":
        return tokens[:limit]
    first = 0 if truncation == "tail" else limit // 4
    return tokens[:first] + tokens[len(tokens) - (limit - first) :]


def _total_counts(arrays: Sequence[NDArray[np.int64]], size: int) -> list[int]:
    total = np.zeros(size, dtype=np.int64)
    for group in _groups(arrays):
        total += np.bincount(np.concatenate(group), minlength=size)
    return total.tolist()


def _groups(arrays: Sequence[NDArray[np.int64]], size: int = 4096) -> Iterator[Sequence[NDArray[np.int64]]]:
    for start in range(0, len(arrays), size):
        yield arrays[start : start + size]


def _checked_texts(texts: Iterable[str]) -> list[str]:
    if isinstance(texts, str | bytes):
        raise DataError(f"expected a list of texts, found one {type(texts).__name__}; put it into a list: [text]")
    checked = list(texts)
    for number, text in enumerate(checked):
        if not isinstance(text, str):
            raise DataError(f"text {number}: expected a text (str), found {type(text).__name__} {text!r:.60}")
    return checked


def _check_choice(name: str, value: Any, legal: Sequence[str]) -> None:
    if value not in legal:
        listed = ", ".join(repr(choice) for choice in legal)
        raise RecipeError(f"{name}={value!r}: expected one of {listed}.{nearest(str(value), legal)}")


def _check_count(name: str, value: Any, smallest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < smallest:
        raise RecipeError(f"{name}={value!r}: expected a whole number of at least {smallest}")
