"""BM25 of documents that need not be in any index, with the statistics of a collection."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["LexicalScorer"]


@dataclass(frozen=True)
class LexicalScorer:
    """Scores of documents for a query by Lucene's BM25 (Kamphuis et al. 2020), as ``build_index`` with ``"lucene"``.

    Attributes:
        frequencies: In how many documents of the collection each term is.
        num_documents: How many they are.
        mean_length: Their mean number of terms.
        k1, b: As `build_index` has them.
    """

    frequencies: Mapping[str, int]
    num_documents: int
    mean_length: float
    k1: float = 1.2
    b: float = 0.75

    @classmethod
    def fit(cls, documents: Iterable[Sequence[str]], *, k1: float = 1.2, b: float = 0.75) -> LexicalScorer:
        """Count the terms of a collection."""
        frequencies: Counter[str] = Counter()
        count = total = 0
        for terms in documents:
            frequencies.update(set(terms))
            count += 1
            total += len(terms)
        return cls(dict(frequencies), count, total / max(count, 1), k1, b)

    def idf(self, term: str) -> float:
        """The weight of a term: the rarer, the more."""
        holding = self.frequencies.get(term, 0)
        return math.log(1 + (self.num_documents - holding + 0.5) / (holding + 0.5))

    def scores(self, query: Sequence[str], documents: Iterable[Sequence[str]]) -> np.ndarray:
        """The scores of documents, ``[documents]`` float32; terms that the collection has not count nothing."""
        weights = {term: times * self.idf(term) for term, times in Counter(query).items() if term in self.frequencies}
        found = []
        for terms in documents:
            counts = Counter(terms)
            norm = self.k1 * (1 - self.b + self.b * len(terms) / max(self.mean_length, 1e-9))
            found.append(sum(weight * counts[term] / (counts[term] + norm) for term, weight in weights.items()))
        return np.array(found, dtype=np.float32)

    def to_dict(self) -> dict[str, Any]:
        """All of it as values that JSON holds."""
        return {
            **{name: getattr(self, name) for name in self.__dataclass_fields__},
            "frequencies": dict(self.frequencies),
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> LexicalScorer:
        """The scorer that `to_dict` wrote."""
        return cls(**state)
