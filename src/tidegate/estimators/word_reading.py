"""What an estimator's network reads of a word beside its vector: its characters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tidegate.data.encoder import Encoded, TextEncoder
from tidegate.data.vocabulary import Vocabulary
from tidegate.data.word_forms import WordFields, WordForms, character_vocabulary
from tidegate.errors import BundleError, DataError
from tidegate.estimators.base import check_choice
from tidegate.layers.character_encoder import CHARACTER_ENCODERS

__all__ = [
    "CHARACTERS",
    "check_character_arguments",
    "encode_with",
    "fields_to_dict",
    "learn_word_fields",
    "network_arguments",
    "split_fields",
]

# The estimator's arguments that say how the characters of a word are read, with what they are where nobody sets them.
CHARACTERS = {"char_encoder": None, "char_embedding_size": 30, "char_hidden_size": 50}
_OF_LETTERS = {"characters": "each of its tokens is one character", "bpe": "its tokens are pieces of words"}


def check_character_arguments(model: Any) -> None:
    """Check the arguments of an estimator whose network may read the characters of words.

    Raises:
        ValueError: An argument is out of range, or has no effect beside the others.
    """
    for name in ("char_embedding_size", "char_hidden_size"):
        value = getattr(model, name)
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1; found {value!r}")
        if model.char_encoder is None and value != CHARACTERS[name]:
            raise ValueError(f"{name}={value!r} has no effect without char_encoder; set it to one of cnn, gru, lstm")
    if model.char_encoder is None:
        return
    check_choice("char_encoder", model.char_encoder, CHARACTER_ENCODERS)
    if reason := _OF_LETTERS.get(model.tokenizer):
        raise ValueError(
            f"char_encoder={model.char_encoder!r} reads the characters of words, and tokenizer={model.tokenizer!r} "
            f"has none: {reason}; set tokenizer to words or jieba, or leave char_encoder out"
        )
    for name in ("init_from", "pretrain_epochs", "adapt_epochs"):
        if getattr(model, name, None):
            raise ValueError(
                f"{name} trains an encoder that reads the words' vectors alone, and char_encoder puts more beside "
                "them; leave one of the two out"
            )


def learn_word_fields(
    model: Any, encoder: TextEncoder, texts: Sequence[str], known: WordFields | None = None
) -> tuple[WordFields | None, WordForms | None, list[np.ndarray]]:
    """What is read of a word, learned from texts: the characters of their words; with the numbers of their words.

    Args:
        model: The estimator.
        encoder: Of its texts.
        texts: What it learns from.
        known: What was learned before, which then stays.

    Returns:
        None, None and an empty list where a word's id is all that is read.
    """
    if known is not None:
        forms = WordForms(known)
        return known, forms, encode_with(encoder, texts, forms).ids
    if getattr(model, "char_encoder", None) is None:
        return None, None, []
    first = encoder.num_tokens
    words: dict[str, int] = {}
    ids = encoder.encode(texts, unknown=lambda word: words.setdefault(word, first + len(words))).ids
    fields = WordFields(encoder.vocabulary, character_vocabulary([*encoder.vocabulary.tokens[1:], *words]))
    forms = WordForms(fields)
    for word in words:
        forms.number(word)  # which are the numbers that `ids` hold
    return fields, forms, ids


def fields_to_dict(fields: WordFields | None) -> dict[str, Any]:
    """What a bundle's tokeniser holds of it beside the encoder."""
    if fields is None or fields.characters is None:
        return {}
    return {"characters": list(fields.characters.tokens)}


def split_fields(state: dict[str, Any]) -> tuple[TextEncoder, WordFields | None]:
    """The encoder and the fields that a bundle's tokeniser holds.

    Raises:
        BundleError: They are damaged.
    """
    state = dict(state)
    characters = state.pop("characters", None)
    encoder = TextEncoder.from_dict(state)
    if characters is None:
        return encoder, None
    try:
        return encoder, WordFields(encoder.vocabulary, Vocabulary(characters))
    except (DataError, TypeError) as error:
        raise BundleError(f"the tokeniser's characters: {error}") from None


def network_arguments(fields: WordFields | None) -> dict[str, int]:
    """The arguments of a network that reads so much of a word, beside the estimator's own."""
    return {} if fields is None or fields.characters is None else {"num_characters": len(fields.characters)}


def encode_with(encoder: TextEncoder, texts: Sequence[str], forms: WordForms | None) -> Encoded:
    """The ids of texts, where there are forms with a number for each word that the vocabulary has not."""
    return encoder.encode(texts, unknown=None if forms is None else forms.number)
