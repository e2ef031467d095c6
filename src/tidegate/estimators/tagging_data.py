"""What a tagger is given: its arguments, sentences, tags and intents, checked."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from tidegate.data.raw_text import TAGGING_TOKENIZERS
from tidegate.data.tag_schemes import SCHEMES, illegal_places, repair_tags
from tidegate.errors import DataError
from tidegate.estimators.base import check_choice, data_digest
from tidegate.heads.sequence import POOLINGS
from tidegate.heads.tag import OUTPUT_LAYERS
from tidegate.layers.character_encoder import CHARACTER_ENCODERS

__all__ = [
    "check_intents",
    "check_sentences",
    "check_tagger_arguments",
    "check_tags",
    "legal_tags",
    "numbered",
    "sentences_digest",
]

MODEL_SCHEMES = ("bioes", "bio")
ILLEGAL_TAGS = ("repair", "drop", "error")


def check_tagger_arguments(model: Any) -> None:
    """Check the ranges of the arguments that a tagger alone has.

    Raises:
        ValueError: An argument is out of range.
    """
    check_choice("tokenizer", model.tokenizer, tuple(TAGGING_TOKENIZERS))
    check_choice("tag_scheme", model.tag_scheme, ("auto", *SCHEMES))
    check_choice("model_scheme", model.model_scheme, MODEL_SCHEMES)
    check_choice("illegal_tags", model.illegal_tags, ILLEGAL_TAGS)
    check_choice("output_layer", model.output_layer, OUTPUT_LAYERS)
    check_choice("intent_pooling", model.intent_pooling, POOLINGS)
    if not 0 < model.intent_weight < float("inf"):
        raise ValueError(f"intent_weight must be above 0; found {model.intent_weight!r}")
    if model.char_encoder is not None:
        check_choice("char_encoder", model.char_encoder, CHARACTER_ENCODERS)
    for name, least in (
        ("max_vocabulary", 2),
        ("min_count", 1),
        ("extra_words", 0),
        ("char_embedding_size", 1),
        ("char_hidden_size", 1),
        ("bigram_embedding_size", 0),
        ("window", 4),
    ):
        value = getattr(model, name)
        if name == "window" and value is None:
            continue
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}; found {value!r}")


def check_sentences(X: Any) -> list[list[str]]:
    """Sentences as lists of tokens.

    Raises:
        DataError: X is no list of lists of texts; the message names the sentence.
    """
    if isinstance(X, (str, bytes)):
        raise DataError("X must be a list of sentences, each a list of tokens; found a single text")
    sentences = []
    for row, tokens in enumerate(X):
        if isinstance(tokens, (str, bytes)):
            raise DataError(
                f"sentence {row} of X is one text, {tokens!r:.60}; expected a list of its tokens. Raw text is tagged "
                "by extract(), and by the command tidegate predict"
            )
        if isinstance(tokens, np.ndarray):
            tokens = tokens.tolist()
        tokens = list(tokens)
        for token in tokens:
            if not isinstance(token, str) or not token:
                raise DataError(f"sentence {row} of X: expected tokens that are texts and not empty, found {token!r}")
        sentences.append(tokens)
    return sentences


def check_tags(y: Any, sentences: Sequence[Sequence[str]]) -> list[list[str]]:
    """One list of tags a sentence.

    Raises:
        DataError: y is missing, there is not one tag a token, or one is no text.
    """
    if y is None:
        raise DataError("y is missing: fitting needs one list of tags a sentence")
    rows = [list(tags) for tags in y]
    if len(rows) != len(sentences):
        raise DataError(f"X has {len(sentences)} sentences and y has tags of {len(rows)}; there must be as many")
    for row, (tags, tokens) in enumerate(zip(rows, sentences, strict=True)):
        if len(tags) != len(tokens):
            raise DataError(f"sentence {row} has {len(tokens)} tokens and {len(tags)} tags; there must be one a token")
        for place, tag in enumerate(tags):
            if not isinstance(tag, str) or not tag:
                raise DataError(f"the tag of token {place} of sentence {row} must be a text; found {tag!r}")
    return [[str(tag) for tag in tags] for tags in rows]


def check_intents(intents: Any, num_sentences: int) -> list[str]:
    """One intent a sentence.

    Raises:
        DataError: There is not one a sentence, or one is no text.
    """
    labels = list(intents)
    if len(labels) != num_sentences:
        raise DataError(f"X has {num_sentences} sentences and there are {len(labels)} intents; there must be one each")
    for row, label in enumerate(labels):
        if not isinstance(label, str) or not label:
            raise DataError(f"the intent of sentence {row} must be a text; found {label!r}")
    return [str(label) for label in labels]


def legal_tags(
    tags: list[list[str]], scheme: str, policy: str, name: str = "y"
) -> tuple[list[list[str]], list[int], int]:
    """Tags that keep to their scheme.

    Args:
        tags: Of each sentence.
        scheme: One of `SCHEMES`.
        policy: ``"repair"``, ``"drop"`` or ``"error"``.
        name: What the tags are called.

    Returns:
        The tags, repaired where that is the policy; the sentences to drop; and how many were illegal.

    Raises:
        DataError: A tag is of no scheme, or one is illegal and the policy is ``"error"``.
    """
    broken = {row: places for row, sentence in enumerate(tags) if (places := illegal_places(sentence, scheme))}
    if not broken:
        return tags, [], 0
    first, places = next(iter(broken.items()))
    place = min(places[0], len(tags[first]) - 1)
    shown = " ".join(tags[first][max(0, place - 2) : place + 3])
    statement = (
        f"{len(broken):,} of {len(tags):,} sentences of {name} have tags that {scheme.upper()} does not allow "
        f"(the first: sentence {first}, token {place}: ... {shown} ...)"
    )
    if policy == "error":
        raise DataError(
            f'{statement}; mend them, or pass illegal_tags="repair" or "drop", or the tag_scheme that they keep to'
        )
    done = "they were read as conlleval reads them" if policy == "repair" else "they were left out"
    warnings.warn(f"{statement}; {done}", stacklevel=3)
    if policy == "drop":
        return tags, list(broken), len(broken)
    return [repair_tags(row, scheme) if number in broken else row for number, row in enumerate(tags)], [], len(broken)


def numbered(rows: Sequence[Sequence[str]], names: Sequence[str]) -> tuple[list[np.ndarray], list[str]]:
    """Each row's names as their numbers, and all names: those given, then new ones as they come."""
    index = {name: number for number, name in enumerate(names)}
    numbers = [np.array([index.setdefault(name, len(index)) for name in row], dtype=np.int64) for row in rows]
    return numbers, list(index)


def sentences_digest(parts: Sequence[tuple[Any, ...]], weights: np.ndarray | None) -> str:
    """What a run was trained on, each part its sentences, tags and intents, as `data_digest` has it."""
    return data_digest(
        (
            ("\0".join(tokens) for tokens in sentences),
            np.array([["\0".join(row) for row in tags], labels or []], dtype=object),
            weights,
        )
        for sentences, tags, labels in parts
    )
