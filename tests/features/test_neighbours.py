from __future__ import annotations

import numpy as np

from tidegate.features.neighbours import nearest_tokens


def test_neighbours_are_the_nearest_by_angle() -> None:
    vectors = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    found = nearest_tokens(vectors, count=3, least=0.2)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    for token in range(1, 60):
        order = [other for other in np.argsort(-cosines[token]) if other not in (0, token)][:3]
        expected = [int(other) for other in order if cosines[token, other] >= 0.2]
        assert found.get(token, []) == expected
    assert 0 not in found


def test_rare_tokens_and_lonely_ones_have_none() -> None:
    vectors = np.eye(6, dtype=np.float32)
    vectors[2] = vectors[1]
    vectors[5] = vectors[1]
    assert nearest_tokens(vectors, most=5) == {1: [2], 2: [1]}
    assert nearest_tokens(vectors[:1]) == {}
    assert nearest_tokens(np.zeros((4, 3), dtype=np.float32)) == {}
