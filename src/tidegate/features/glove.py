"""GloVe: vectors of words whose products tell how often the words stand together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Glove", "fit_glove"]

_INITIAL_RANGE = 0.5


class Glove(nn.Module):
    """Two vectors and two biases a word (Pennington, Socher & Manning 2014).

    Equation 8, over the pairs (i, j) with X_ij > 0:
    ``J = sum f(X_ij) (w_i . v_j + b_i + c_j - log X_ij)^2`` with ``f(x) = min(1, (x / maximum)^power)``.

    Args:
        num_words: V.
        size: D.
        maximum: The count from which on pairs weigh the same, the paper's x_max.
        power: The paper's alpha.
        sparse: Whether the gradients of the vectors hold the rows of the pairs alone, as AdaGrad and SGD take them.
    """

    def __init__(
        self, num_words: int, size: int, *, maximum: float = 100.0, power: float = 0.75, sparse: bool = False
    ) -> None:
        super().__init__()
        self.maximum, self.power, self.sparse = maximum, power, sparse
        bound = _INITIAL_RANGE / size
        self.words = nn.Parameter(torch.empty(num_words, size).uniform_(-bound, bound))
        self.contexts = nn.Parameter(torch.empty(num_words, size).uniform_(-bound, bound))
        self.word_biases = nn.Parameter(torch.empty(num_words).uniform_(-bound, bound))
        self.context_biases = nn.Parameter(torch.empty(num_words).uniform_(-bound, bound))

    def forward(self, rows: Tensor, columns: Tensor, counts: Tensor) -> Tensor:
        """J over some pairs: words ``[N]``, contexts ``[N]`` and their counts ``[N]``, above 0."""
        words = functional.embedding(rows, self.words, sparse=self.sparse)
        contexts = functional.embedding(columns, self.contexts, sparse=self.sparse)
        products = (words * contexts).sum(1)
        biases = self.word_biases.index_select(0, rows) + self.context_biases.index_select(0, columns)
        weights = (counts / self.maximum).pow(self.power).clamp(max=1.0)
        return (weights * (products + biases - counts.log()).square()).sum()

    def sums(self) -> np.ndarray:
        """The sums of each word's two vectors, ``[V, D]`` float32, which are what is kept of a model."""
        return (self.words + self.contexts).detach().numpy()


def fit_glove(
    counts: sparse.csr_matrix,
    size: int,
    *,
    epochs: int = 15,
    maximum: float = 100.0,
    power: float = 0.75,
    learning_rate: float = 0.3,
    batch_size: int = 8192,
    random_state: int = 0,
    progress: Callable[[int, float], None] | None = None,
    advance: Callable[[int, int], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> np.ndarray:
    """Train GloVe with AdaGrad on a matrix of co-occurrences.

    Args:
        counts: ``[V, V]``, as `cooccurrence_counts` with ``harmonic=True`` gives it.
        size: D.
        epochs: Passes over all pairs.
        maximum: x_max of equation 8.
        power: alpha of equation 8.
        learning_rate: AdaGrad's. The paper's 0.05 is of a step a pair; one step for the sum over a batch bears more.
        batch_size: Pairs of a step.
        random_state: Seed of the first values and of the order of the pairs.
        progress: Called after each epoch with its number, from 1, and the mean of the loss over the pairs.
        advance: Called after each step with how many pairs of the epoch are done, and how many it has.
        stop: Asked before each step whether to end now, with what was learned so far.

    Returns:
        ``[V, D]`` float32, the sums of a word's two vectors.
    """
    found_rows, found_columns, found = sparse.find(counts)
    rows, columns = (torch.from_numpy(part.astype(np.int64)) for part in (found_rows, found_columns))
    values = torch.from_numpy(found.astype(np.float32))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random_state)
        model = Glove(len(counts.indptr) - 1, size, maximum=maximum, power=power, sparse=True)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=learning_rate, initial_accumulator_value=1.0)
    for epoch in range(1, epochs + 1):
        order = torch.from_numpy(np.random.default_rng([random_state, epoch]).permutation(len(values)))
        total, done = 0.0, 0
        for chosen in order.split(batch_size):
            if stop is not None and stop():
                return model.sums()
            optimizer.zero_grad()
            loss = model(rows[chosen], columns[chosen], values[chosen])
            loss.backward()
            with torch.sparse.check_sparse_tensor_invariants(enable=False):  # said outright, else torch warns
                optimizer.step()
            total += float(loss.detach())
            done += len(chosen)
            if advance is not None:
                advance(done, len(values))
        if progress is not None:
            progress(epoch, total / max(len(values), 1))
    return model.sums()
