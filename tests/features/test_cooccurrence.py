from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tidegate.features.cooccurrence import cooccurrence_counts, cooccurrence_vectors


def texts(count: int, num_tokens: int, seed: int) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.integers(0, num_tokens, size=generator.integers(0, 12)) for _ in range(count)]


@pytest.mark.parametrize("window", [1, 2, 5, 40])
def test_counts_are_those_of_a_loop_over_all_pairs(window: int) -> None:
    ids = texts(30, 7, seed=window)
    expected = Counter()
    for row in ids:
        for first in range(len(row)):
            for second in range(len(row)):
                if first != second and abs(first - second) <= window:
                    expected[int(row[first]), int(row[second])] += 1
    counts = cooccurrence_counts(ids, 7, window).toarray()
    assert {(a, b): int(counts[a, b]) for a, b in np.argwhere(counts)} == dict(expected)


def test_vectors_factorise_the_positive_information() -> None:
    ids = texts(200, 9, seed=0)
    ids[0] = np.array([3, 3, 4, 4, 5] * 30)
    counts = cooccurrence_counts(ids, 9, 2).toarray()
    shares = counts.sum(0) ** 0.75 / (counts.sum(0) ** 0.75).sum()
    with np.errstate(divide="ignore"):
        information = np.maximum(0, np.log(counts / counts.sum(1, keepdims=True) / shares))
    vectors = cooccurrence_vectors(ids, 9, 9, window=2).astype(np.float64)
    # With the information M = U S V^T, U S U^T squared is M M^T.
    gram = vectors @ vectors.T
    scale = np.linalg.norm(gram) / np.linalg.norm(information)
    np.testing.assert_allclose(gram @ gram, information @ information.T * scale**2, atol=1e-3 * scale**2)
    assert vectors.std() == pytest.approx(1.0, abs=1e-5)
    assert cooccurrence_vectors(ids, 9, 4, window=2).shape == (9, 4)
    assert cooccurrence_vectors(ids, 9, 20, window=2).shape == (9, 9)


def test_tokens_of_like_company_have_like_vectors() -> None:
    generator = np.random.default_rng(1)
    # Tokens 0 and 1 stand among 4..11, tokens 2 and 3 among 12..19.
    ids = []
    for _ in range(400):
        kind = generator.integers(2)
        row = generator.integers(4, 12, size=7) + 8 * kind
        row[generator.integers(7)] = 2 * kind + generator.integers(2)
        ids.append(row)
    vectors = cooccurrence_vectors(ids, 20, 4)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    likeness = unit @ unit.T
    assert min(likeness[0, 1], likeness[2, 3]) > 0.9
    assert likeness[:2, 2:4].max() < 0.3


def test_the_same_seed_gives_the_same_vectors_bit_for_bit() -> None:
    ids = texts(100, 40, seed=2)
    first, second = (cooccurrence_vectors(ids, 40, 8, random_state=5) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("ids", [[], [np.empty(0, dtype=np.int64)], [np.array([2]), np.array([1])]])
def test_without_company_the_vectors_are_zero(ids: list[np.ndarray]) -> None:
    np.testing.assert_array_equal(cooccurrence_vectors(ids, 5, 3), np.zeros((5, 3)))


def test_a_token_without_company_has_zeros() -> None:
    vectors = cooccurrence_vectors([np.array([0, 1, 2, 0, 2]), np.array([4])], 5, 3)
    np.testing.assert_allclose(vectors[3:], 0, atol=1e-6)
    assert np.abs(vectors[:3]).max() > 0.1


def test_a_window_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="window must be at least 1; found 0"):
        cooccurrence_vectors([np.array([0, 1])], 2, 1, window=0)
