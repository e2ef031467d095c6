"""A saved language model as a source of features: its vocabulary, its shape and its weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tidegate.data.encoder import TextEncoder
from tidegate.data.language_words import LanguageWords
from tidegate.data.vocabulary import Vocabulary
from tidegate.deploy.bundle import load_bundle
from tidegate.errors import BundleError
from tidegate.layers.language_states import LanguageStates

__all__ = ["LanguageSource", "named_language_model", "read_language_model"]


@dataclass(frozen=True)
class LanguageSource:
    """What other models need of a language model.

    Attributes:
        path: Its file.
        tokenizer: What its tokens are: ``"words"``, ``"characters"`` or ``"jieba"``.
        words: Its vocabulary, and how it is built.
        weights: By name.
    """

    path: str
    tokenizer: str
    words: LanguageWords
    weights: Mapping[str, np.ndarray]

    def put_into(self, states: LanguageStates) -> None:
        """Give its weights to the module that reads it."""
        taken = {name: array for name, array in self.weights.items() if name.startswith("encoder.")}
        taken["table"] = self.weights["embedding.weight"]
        states.load_state_dict(
            {**states.state_dict(), **{name: torch.from_numpy(array.copy()) for name, array in taken.items()}}
        )

    def describe(self, words: Vocabulary) -> str:
        """A sentence on how many of the words it knows.

        Raises:
            ValueError: None of them.
        """
        known = sum(self.words.number(word) > 0 for word in words.tokens[1:])
        if not known:
            raise ValueError(
                f"language_model={self.path!r} knows none of the {len(words) - 1:,} words (the first are "
                f"{', '.join(map(repr, words.tokens[1:6]))}); give one of the same language and tokenizer"
            )
        return f"{self.path}: the language model knows {known:,} of {len(words) - 1:,} words"


def named_language_model(model: Any) -> LanguageSource | None:
    """What `read_language_model` gives of the file that an estimator over texts names, where it names one."""
    path = getattr(model, "language_model", None)
    return None if path is None else read_language_model(path, model.tokenizer)


def read_language_model(path: str | os.PathLike[str], tokenizer: str | None) -> LanguageSource:
    """A language model's file as a source of features.

    Args:
        path: A file that `TextLanguageModel.save` wrote.
        tokenizer: That of the model which reads it, or None where its tokens are given.

    Raises:
        BundleError: The file cannot be read, or is no language model.
        ValueError: Its tokens are others than those of the model which reads it.
    """
    name = os.fspath(path)
    bundle = load_bundle(path)
    if bundle.kind != "language-model":
        raise BundleError(
            f"{name}: expected a language model, which `tidegate language train` makes; found {bundle.kind!r}"
        )
    encoder, config = TextEncoder.from_dict(bundle.tokenizer), bundle.config
    if encoder.tokenizer == "bpe":
        raise ValueError(
            f"language_model={name!r} reads byte pairs, which are not those of other texts; train one of words"
        )
    if tokenizer is not None and tokenizer != encoder.tokenizer:
        raise ValueError(
            f"language_model={name!r} reads {encoder.tokenizer}, and tokenizer={tokenizer!r}; both must read the same"
        )
    settings = {
        "cell": config["cell"],
        "size": int(config["hidden_size"]),
        "num_layers": int(config["num_layers"]),
        "bidirectional": bool(config["bidirectional"]),
    }
    words = LanguageWords(encoder.vocabulary, encoder.lowercase, settings)
    return LanguageSource(name, encoder.tokenizer, words, bundle.weights)
