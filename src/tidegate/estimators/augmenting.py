"""How estimators of one network over texts change the texts that they learn from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tidegate.data.augment import Augmentation, Augmenter, read_synonyms
from tidegate.data.encoder import Encoded, TextEncoder
from tidegate.data.seeds import derive_seed
from tidegate.data.word_forms import WordForms
from tidegate.estimators.word_reading import encode_with
from tidegate.features.cooccurrence import cooccurrence_vectors
from tidegate.features.neighbours import nearest_tokens

__all__ = ["augmenter_of", "checked_augmentation"]


def checked_augmentation(model: Any) -> Augmentation:
    """The changes that an estimator's arguments ask for.

    Raises:
        ValueError: One is out of range, or has no effect.
    """
    changes = ("delete", "swap", "insert", "replace", "noise", "share")
    augmentation = Augmentation(**{name: getattr(model, f"augment_{name}") for name in changes})
    if model.synonyms is not None and not augmentation.needs_neighbours:
        raise ValueError("synonyms has no effect without augment_insert or augment_replace; set one of them")
    return augmentation


def augmenter_of(
    model: Any,
    augmentation: Augmentation,
    encoder: TextEncoder,
    encoded: Encoded,
    texts: Sequence[str],
    vectors: np.ndarray | None,
    random_state: int,
    forms: WordForms | None,
) -> Augmenter | None:
    """What changes the training texts, or None."""
    if not augmentation.active:
        return None
    neighbours: dict[int, list[int]] | None = None
    if augmentation.needs_neighbours:
        neighbours = _neighbours(model, encoder, encoded, vectors, random_state)
    return Augmenter(
        augmentation,
        encoded.ids if forms is None else encode_with(encoder, texts, forms).ids,
        random_state=random_state,
        neighbours=neighbours,
        texts=texts,
        encode=lambda text: encode_with(encoder, [text], forms).ids[0],
    )


def _neighbours(
    model: Any, encoder: TextEncoder, encoded: Encoded, vectors: np.ndarray | None, random_state: int
) -> dict[int, list[int]]:
    """Neighbours in meaning: by the file of synonyms, by given vectors, or by the company that tokens keep."""
    index = encoder.vocabulary.index
    if model.synonyms is not None:
        found = {
            index[word]: [index[other] for other in others if other in index]
            for word, others in read_synonyms(model.synonyms).items()
            if word in index
        }
        neighbours = {token: near for token, near in found.items() if near}
        if not neighbours:
            raise ValueError(f"synonyms={model.synonyms!r}: no word of the file is in the vocabulary of the texts")
        return neighbours
    if vectors is not None:
        return nearest_tokens(vectors)
    seed = derive_seed(random_state, "cooccurrence")
    return nearest_tokens(cooccurrence_vectors(encoded.ids, encoder.num_tokens, 64, random_state=seed))
