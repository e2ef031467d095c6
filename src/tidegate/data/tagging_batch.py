"""Batches of tagged sentences: words, characters of the words in them, tags, all ragged."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tidegate.data.batch import Batch, LengthBucketedSampler, rows_of_rank
from tidegate.data.token_encoder import EncodedSentences
from tidegate.kernels.ragged import from_batch_major, ragged_from_lengths

__all__ = ["TaggingBatch", "TaggingBatches", "make_tagging_batch"]


@dataclass(frozen=True)
class TaggingBatch(Batch):
    """Some sentences as one step takes them. ``values`` are the ids of words, ``targets`` the tags of tokens.

    Attributes:
        cases: ``[N]`` int64, what each token looks like.
        bigrams: ``[N]`` int64, each token with the next one, or None.
        form_of: ``[N]`` int64, which of the batch's W different forms each token is.
        characters: ``[M]`` int64, the characters of form after form.
        form_lengths: ``[W]`` int64, how many characters each form has.
        intents: ``[B]`` int64 in the caller's order of rows, or None.
        spelled: ``[W, F]`` what a network read of each form's characters already, or None; then there are none here.
        language: ``[N]`` int64, each token's id in a language model's vocabulary, or None.
    """

    cases: Tensor
    bigrams: Tensor | None
    form_of: Tensor
    characters: Tensor
    form_lengths: Tensor
    intents: Tensor | None
    spelled: Tensor | None = None
    language: Tensor | None = None

    def to(self, device: torch.device | str) -> TaggingBatch:
        """The same batch on a device."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return TaggingBatch(
            **{name: None if value is None else value.to(device) for name, value in values.items()}  # pyright: ignore
        )


def make_tagging_batch(
    encoded: EncodedSentences,
    rows: np.ndarray,
    tags: Sequence[np.ndarray] | None = None,
    intents: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    spelled: Tensor | None = None,
) -> TaggingBatch:
    """The batch of some rows of encoded sentences.

    Args:
        encoded: The sentences.
        rows: Which of them.
        tags: Of all sentences, the numbers of their tags.
        intents: Of all sentences, the numbers of their intents.
        weights: Of all sentences.
        spelled: ``[forms, F]`` what a network has read of the characters of all forms, or None.
    """
    ragged = ragged_from_lengths(torch.from_numpy(encoded.lengths[rows]))
    order = from_batch_major(torch.arange(ragged.num_values), ragged).numpy()

    def ordered(arrays: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate([arrays[row] for row in rows])[order] if len(rows) else np.empty(0, np.int64)

    forms = ordered(encoded.forms)
    if spelled is None:
        found, form_of = np.unique(forms, return_inverse=True)
    else:
        found, form_of = np.empty(0, np.int64), forms
    begins, sizes = encoded.starts[found], encoded.starts[found + 1] - encoded.starts[found]
    # The characters of the forms at hand: a run of numbers from each form's beginning.
    ends = np.cumsum(sizes)
    places = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(begins - (ends - sizes), sizes)
    return TaggingBatch(
        values=torch.from_numpy(encoded.words[forms]),
        ragged=ragged,
        targets=None if tags is None else torch.from_numpy(ordered(tags)),
        weights=None if weights is None else torch.from_numpy(weights[rows].astype(np.float32)),
        origin=torch.from_numpy(np.array(rows, dtype=np.int64)),
        cases=torch.from_numpy(encoded.cases[forms]),
        bigrams=None if encoded.bigrams is None else torch.from_numpy(ordered(encoded.bigrams)),
        form_of=torch.from_numpy(form_of.reshape(-1).astype(np.int64)),
        characters=torch.from_numpy(encoded.characters[places]),
        form_lengths=torch.from_numpy(sizes),
        intents=None if intents is None else torch.from_numpy(intents[rows]),
        spelled=spelled,
        language=None if encoded.language is None else torch.from_numpy(encoded.language[forms]),
    )


class TaggingBatches:
    """Batches over encoded sentences held in memory, of similar lengths within a batch.

    Args:
        encoded: The sentences.
        tags: The numbers of their tags.
        intents: ``[rows]`` numbers of their intents, or None.
        weights: ``[rows]`` or None.
        batch_size: Sentences of a batch.
        random_state: Seed of the order.
        shuffle: Whether each epoch has an order of its own; without it every epoch is the same.
    """

    def __init__(
        self,
        encoded: EncodedSentences,
        tags: Sequence[np.ndarray],
        intents: np.ndarray | None,
        weights: np.ndarray | None,
        *,
        batch_size: int,
        random_state: int,
        shuffle: bool,
    ) -> None:
        self.encoded, self.weights = encoded, weights
        self.labels: dict[str, Any] = {"tags": tags, "intents": intents}
        self.sampler = LengthBucketedSampler(encoded.lengths, batch_size, random_state=random_state, shuffle=shuffle)
        self._rank, self._world = 0, 1

    def share(self, rank: int, world: int) -> TaggingBatches:
        """The part of each batch that one of several processes takes."""
        part = copy.copy(self)
        part._rank, part._world = rank, world
        return part

    def __len__(self) -> int:
        return len(self.sampler)

    def epoch(self, epoch: int) -> Iterator[TaggingBatch]:
        """The batches of one epoch, counted from 0."""
        for whole in self.sampler.batches(epoch):
            rows, weights = rows_of_rank(whole, self.weights, self._rank, self._world)
            batch = make_tagging_batch(self.encoded, rows, **self.labels)
            if weights is not None:
                batch = replace(batch, weights=torch.from_numpy(weights.astype(np.float32)))
            yield batch
