from __future__ import annotations

import numpy as np
import torch
from scipy import sparse

from tidegate.features.cooccurrence import cooccurrence_counts
from tidegate.features.glove import Glove, fit_glove


def equation_8(w, v, b, c, X, maximum: float, power: float) -> float:
    """The paper's sum, pair by pair."""
    total = 0.0
    for i in range(len(X)):
        for j in range(len(X)):
            if X[i, j] > 0:
                weight = min(1.0, (X[i, j] / maximum) ** power)
                total += weight * (w[i] @ v[j] + b[i] + c[j] - np.log(X[i, j])) ** 2
    return total


def gradients(w, v, b, c, X, maximum: float, power: float) -> list[np.ndarray]:
    parts = [np.zeros_like(part) for part in (w, v, b, c)]
    for i in range(len(X)):
        for j in range(len(X)):
            if X[i, j] > 0:
                weight = min(1.0, (X[i, j] / maximum) ** power)
                error = 2 * weight * (w[i] @ v[j] + b[i] + c[j] - np.log(X[i, j]))
                parts[0][i] += error * v[j]
                parts[1][j] += error * w[i]
                parts[2][i] += error
                parts[3][j] += error
    return parts


def test_the_loss_and_its_gradient_are_those_of_equation_8() -> None:
    generator = np.random.default_rng(0)
    X = generator.gamma(0.6, 4.0, size=(7, 7)) * (generator.random((7, 7)) < 0.6)
    model = Glove(7, 3, maximum=5.0, power=0.6).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.from_numpy(generator.normal(size=parameter.shape)))
    rows, columns = np.nonzero(X)
    assert (X > 5.0).any() and (X[X > 0] < 5.0).any()
    loss = model(*(torch.from_numpy(part) for part in (rows, columns, X[rows, columns])))
    arrays = [parameter.detach().numpy() for parameter in model.parameters()]
    np.testing.assert_allclose(loss.item(), equation_8(*arrays, X, 5.0, 0.6), rtol=1e-12)
    loss.backward()
    for parameter, expected in zip(model.parameters(), gradients(*arrays, X, 5.0, 0.6), strict=True):
        assert parameter.grad is not None
        np.testing.assert_allclose(parameter.grad.numpy(), expected, rtol=1e-10, atol=1e-12)


def test_training_brings_the_products_to_the_logarithms() -> None:
    generator = np.random.default_rng(1)
    truth = np.exp(generator.normal(size=(20, 2)) @ generator.normal(size=(2, 20)) * 0.7 + 1.0)
    losses = []
    fit_glove(
        sparse.csr_matrix(truth),
        8,
        epochs=200,
        learning_rate=0.1,
        maximum=10.0,
        progress=lambda _, loss: losses.append(loss),
    )
    assert len(losses) == 200
    assert losses[-1] < 0.01 * losses[0]


def test_a_seed_repeats() -> None:
    counts = sparse.csr_matrix(np.random.default_rng(2).integers(0, 5, size=(9, 9)).astype(float))
    first, second, other = (fit_glove(counts, 4, epochs=2, random_state=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - other).max() > 1e-3
    assert first.shape == (9, 4)


def test_harmonic_counts_weigh_a_pair_by_its_distance() -> None:
    ids = [np.array([0, 1, 2, 0])]
    counts = cooccurrence_counts(ids, 3, 3, harmonic=True).toarray()
    # 0-1 at distances 1 and 2, 0-2 at 2 and 1, 1-2 at 1, 0-0 at 3, each seen from both sides.
    np.testing.assert_allclose(counts, [[2 / 3, 1.5, 1.5], [1.5, 0, 1], [1.5, 1, 0]])
