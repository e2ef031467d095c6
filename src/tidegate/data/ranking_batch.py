"""Batches of queries with their candidate documents, all rows of one ragged batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from tidegate.data.batch import Batch, make_batch
from tidegate.data.seeds import derive_seed

__all__ = ["Candidates", "RankingBatch", "RankingBatches", "make_ranking_batch"]


@dataclass(frozen=True)
class Candidates:
    """A query and documents that may answer it, encoded.

    Attributes:
        query: The ids of its tokens.
        documents: The ids of each document's tokens.
        lexical: ``[documents]`` float32, their BM25 scores.
        relevance: ``[documents]`` bool, whether each answers the query, or None.
    """

    query: np.ndarray
    documents: Sequence[np.ndarray]
    lexical: np.ndarray
    relevance: np.ndarray | None = None

    def select(self, places: np.ndarray) -> Candidates:
        """The same query with some of its documents."""
        relevance = None if self.relevance is None else self.relevance[places]
        return Candidates(self.query, [self.documents[place] for place in places], self.lexical[places], relevance)


@dataclass(frozen=True)
class RankingBatch(Batch):
    """Q queries and R documents; ``values`` and ``ragged`` hold the queries' rows first, then the documents'.

    Attributes:
        query_of: ``[R]`` int64, the query of each document, ascending.
        lexical: ``[R]`` float32.
        num_queries: Q.
    """

    query_of: Tensor
    lexical: Tensor
    num_queries: int

    def to(self, device: torch.device | str) -> RankingBatch:
        """The same batch on a device."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        moved = {name: value.to(device) if hasattr(value, "to") else value for name, value in values.items()}
        return RankingBatch(**moved)


def make_ranking_batch(groups: Sequence[Candidates], origin: np.ndarray | None = None) -> RankingBatch:
    """The batch of some queries; ``targets`` ``[R]`` float32 are 1 where a document answers."""
    documents = [row for group in groups for row in group.documents]
    batch = make_batch([*(group.query for group in groups), *documents])
    sizes = [len(group.documents) for group in groups]
    known = [group.relevance for group in groups if group.relevance is not None]
    targets = torch.from_numpy(np.concatenate(known).astype(np.float32)) if len(known) == len(groups) else None
    return RankingBatch(
        batch.values,
        batch.ragged,
        targets,
        None,
        torch.arange(len(groups)) if origin is None else torch.from_numpy(np.asarray(origin, dtype=np.int64)),
        torch.repeat_interleave(torch.arange(len(groups)), torch.tensor(sizes)),
        torch.from_numpy(np.concatenate([group.lexical for group in groups]).astype(np.float32)),
        len(groups),
    )


class RankingBatches:
    """Batches over queries; in training each query comes with one answer and some other documents, drawn each epoch.

    Args:
        groups: The queries, each with an answer and another document at least.
        batch_size: Queries of a batch.
        negatives: Documents beside the answer; None takes all candidates, in the same order every epoch.
        random_state: Seed of the order and of the draws.
    """

    def __init__(
        self, groups: Sequence[Candidates], *, batch_size: int, negatives: int | None, random_state: int
    ) -> None:
        self.groups, self.batch_size = groups, batch_size
        self.negatives, self.random_state = negatives, random_state
        # An answer a row: a query with three answers is learned from three times an epoch.
        answers = [
            (row, int(place))
            for row, group in enumerate(groups)
            if group.relevance is not None
            for place in np.flatnonzero(group.relevance)
        ]
        self.rows = answers if negatives is not None else [(row, -1) for row in range(len(groups))]

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def epoch(self, epoch: int) -> Iterator[RankingBatch]:
        """The batches of one epoch, counted from 0."""
        generator = np.random.default_rng(derive_seed(self.random_state, "ranking", epoch))
        order = np.arange(len(self.rows)) if self.negatives is None else generator.permutation(len(self.rows))
        for start in range(0, len(order), self.batch_size):
            chosen = [self.rows[place] for place in order[start : start + self.batch_size]]
            yield make_ranking_batch(
                [self._draw(row, answer, generator) for row, answer in chosen],
                np.array([row for row, _ in chosen]),
            )

    def _draw(self, row: int, answer: int, generator: np.random.Generator) -> Candidates:
        group = self.groups[row]
        if self.negatives is None or group.relevance is None:
            return group
        others = np.flatnonzero(~group.relevance)
        drawn = generator.choice(others, min(self.negatives, len(others)), replace=False)
        return group.select(np.concatenate([[answer], drawn]))
