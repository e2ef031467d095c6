"""Token vectors from the company that tokens keep: a factorised co-occurrence matrix of the training texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

__all__ = ["cooccurrence_counts", "cooccurrence_vectors"]

_CONTEXT_POWER = 0.75


def cooccurrence_vectors(
    ids: Sequence[np.ndarray], num_tokens: int, size: int, *, window: int = 10, random_state: int = 0
) -> np.ndarray:
    """Vectors of tokens such that tokens of like surroundings have like vectors (Levy & Goldberg 2014).

    With n(a, b) the co-occurrences of `cooccurrence_counts`, n(a) their sum over b, and p(b) in proportion to
    n(b)^0.75 (Levy, Goldberg & Dagan 2015), the positive pointwise mutual information
    ``max(0, log(n(a, b) / (n(a) p(b))))`` is factorised as U S V^T, and the vectors are the leading columns of
    U S^(1/2), scaled to a variance of 1 over all elements, which is that of a table drawn at random.

    Args:
        ids: One vector of ids in [0, num_tokens) a text.
        num_tokens: V.
        size: E. At most V columns come out of the factorisation.
        window: The distance in tokens up to which two tokens are company.
        random_state: Seed of the randomised factorisation (Halko, Martinsson & Tropp 2011).

    Returns:
        ``[V, min(E, V)]`` float32. A token that keeps no company has zeros; without any company all are.
    """
    counts = cooccurrence_counts(ids, num_tokens, window).tocoo()
    size = min(size, num_tokens)
    totals = np.bincount(counts.row, weights=counts.data, minlength=num_tokens)
    smoothed = totals**_CONTEXT_POWER
    # The matrix is symmetric, so that rows and columns have the same sums.
    information = np.log(counts.data * smoothed.sum() / (totals[counts.row] * smoothed[counts.col]))
    positive = information > 0
    if not positive.any():
        return np.zeros((num_tokens, size), dtype=np.float32)
    places = counts.row[positive], counts.col[positive]
    matrix = sparse.csr_matrix((information[positive], places), shape=counts.shape)
    generator = np.random.RandomState(np.random.MT19937(random_state))  # scikit-learn takes no newer one
    left, singular, _ = randomized_svd(matrix, size, random_state=generator)
    vectors = left * np.sqrt(singular)
    return (vectors / vectors.std()).astype(np.float32)


def cooccurrence_counts(
    ids: Sequence[np.ndarray], num_tokens: int, window: int, *, harmonic: bool = False
) -> sparse.csr_matrix:
    """How often two tokens stand in one text at most `window` tokens apart: ``[V, V]``, symmetric.

    Args:
        ids: One vector of ids in [0, num_tokens) a text.
        num_tokens: V.
        window: The distance in tokens up to which two tokens are company.
        harmonic: Whether a pair d tokens apart counts 1/d, as in GloVe, instead of 1.

    Raises:
        ValueError: The window is below 1.
    """
    if window < 1:
        raise ValueError(f"window must be at least 1; found {window}")
    lengths = np.fromiter(map(len, ids), np.int64, len(ids))
    values = np.concatenate([*ids, np.empty(0, dtype=np.int64)])
    text = np.repeat(np.arange(len(ids)), lengths)
    counts = sparse.csr_matrix((num_tokens, num_tokens), dtype=np.float64)
    for distance in range(1, min(window, int(lengths.max(initial=0)) - 1) + 1):
        together = text[:-distance] == text[distance:]
        before, after = values[:-distance][together], values[distance:][together]
        shares = np.full(len(before), 1 / distance if harmonic else 1.0)
        counts = counts + sparse.csr_matrix((shares, (before, after)), shape=counts.shape)
    return sparse.csr_matrix(counts + counts.T)
