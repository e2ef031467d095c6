"""What an estimator's network reads of a word beside its vector: its characters, the states of a language model."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from tidegate.data.encoder import Encoded, TextEncoder
from tidegate.data.language_words import LanguageWords
from tidegate.data.vocabulary import Vocabulary
from tidegate.data.word_forms import WordFields, WordForms, character_vocabulary
from tidegate.errors import BundleError, DataError
from tidegate.estimators.base import check_choice
from tidegate.estimators.language_source import LanguageSource
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

_log = logging.getLogger(__name__)
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
    beside = next((name for name in ("char_encoder", "language_model") if getattr(model, name, None)), None)
    for name in ("init_from", "pretrain_epochs", "adapt_epochs"):
        if beside is not None and getattr(model, name, None):
            raise ValueError(
                f"{name} trains an encoder that reads the words' vectors alone, and {beside} puts more beside "
                "them; leave one of the two out"
            )
    if model.char_encoder is None:
        return
    check_choice("char_encoder", model.char_encoder, CHARACTER_ENCODERS)
    if reason := _OF_LETTERS.get(model.tokenizer):
        raise ValueError(
            f"char_encoder={model.char_encoder!r} reads the characters of words, and tokenizer={model.tokenizer!r} "
            f"has none: {reason}; set tokenizer to words or jieba, or leave char_encoder out"
        )


def learn_word_fields(
    model: Any,
    encoder: TextEncoder,
    texts: Sequence[str],
    known: WordFields | None = None,
    source: LanguageSource | None = None,
) -> tuple[WordFields | None, WordForms | None, list[np.ndarray]]:
    """What is read of a word, learned from texts; with the numbers of their words.

    Args:
        model: The estimator.
        encoder: Of its texts.
        texts: What it learns from.
        known: What was learned before, which then stays.
        source: The language model whose states stand beside the vectors, or None.

    Returns:
        None, None and an empty list where a word's id is all that is read.
    """
    if known is not None:
        forms = WordForms(known)
        return known, forms, encode_with(encoder, texts, forms).ids
    reads_characters = getattr(model, "char_encoder", None) is not None
    if not reads_characters and source is None:
        return None, None, []
    # The characters are known only once all words are, whose numbers are the same with them and without.
    plain = WordForms(WordFields(encoder.vocabulary))
    ids = encoder.encode(texts, unknown=plain.number).ids
    words = plain.further
    characters = character_vocabulary([*encoder.vocabulary.tokens[1:], *words]) if reads_characters else None
    fields = WordFields(encoder.vocabulary, characters)
    if source is not None:
        _log.info(source.describe(encoder.vocabulary))
        fields = dataclasses.replace(fields, language=source.words)
    forms = WordForms(fields)
    for word in words:
        forms.number(word)
    return fields, forms, ids


def fields_to_dict(fields: WordFields | None) -> dict[str, Any]:
    """What a bundle's tokeniser holds of it beside the encoder."""
    state: dict[str, Any] = {}
    if fields is not None and fields.characters is not None:
        state["characters"] = list(fields.characters.tokens)
    if fields is not None and fields.language is not None:
        state["language"] = fields.language.to_dict()
    return state


def split_fields(state: dict[str, Any]) -> tuple[TextEncoder, WordFields | None]:
    """The encoder and the fields that a bundle's tokeniser holds.

    Raises:
        BundleError: They are damaged.
    """
    state = dict(state)
    characters, language = state.pop("characters", None), state.pop("language", None)
    encoder = TextEncoder.from_dict(state)
    if characters is None and language is None:
        return encoder, None
    try:
        fields = WordFields(encoder.vocabulary, None if characters is None else Vocabulary(characters))
        if language is not None:
            fields = dataclasses.replace(fields, language=LanguageWords.from_dict(language))
    except (DataError, TypeError, KeyError) as error:
        raise BundleError(f"what the tokeniser knows of words: {error}") from None
    return encoder, fields


def network_arguments(fields: WordFields | None) -> dict[str, Any]:
    """The arguments of a network that reads so much of a word, beside the estimator's own."""
    arguments: dict[str, Any] = {}
    if fields is not None and fields.characters is not None:
        arguments["num_characters"] = len(fields.characters)
    if fields is not None and fields.language is not None:
        arguments["language"] = fields.language.arguments
    return arguments


def encode_with(encoder: TextEncoder, texts: Sequence[str], forms: WordForms | None) -> Encoded:
    """The ids of texts, where there are forms with a number for each word that the vocabulary has not."""
    return encoder.encode(texts, unknown=None if forms is None else forms.number)
