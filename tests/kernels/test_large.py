"""Weights and batches that leave the caches take other ways through the kernels than the small ones of other tests.

From the end of the weights at every other step, one direction after the other, and fetched during the products.
"""

from __future__ import annotations

import pytest
import torch

from tidegate.kernels import recurrence
from tidegate.kernels.ragged import ragged_from_lengths
from tidegate.kernels.reference import GATES, Weights

CELLS = ("gru", "gru_reset_before", "lstm", "rnn_tanh")
SIZES = {"weights": (640, [5, 3, 2, 0]), "values": (130, [12, 11] * 30)}


def run(cell, units, lengths, backend, dtype=torch.float32):
    """Output, last states and all gradients of a layer of two directions."""
    generator = torch.Generator().manual_seed(units)

    def draw(*shape, scale=1.0):
        made = torch.randn(*shape, generator=generator, dtype=torch.float64) * scale
        return made.to(dtype).requires_grad_()

    ragged, width, scale = ragged_from_lengths(lengths), GATES[cell] * units, units**-0.5
    x, h_0 = draw(ragged.num_values, 7), draw(2, len(lengths), units)
    c_0 = draw(2, len(lengths), units) if cell == "lstm" else None
    weights = [Weights(draw(width, 7), draw(width, units, scale=scale), draw(width), draw(width)) for _ in range(2)]
    made = recurrence(cell, x, weights, h_0, c_0, ragged, backend=backend)[:3]
    outputs = [tensor for tensor in made if tensor is not None]
    leaves = [x, h_0, *([] if c_0 is None else [c_0]), *(tensor for w in weights for tensor in w[:4])]
    toward = [torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(dtype) for tensor in outputs]
    return [tensor.detach() for tensor in outputs] + list(torch.autograd.grad(outputs, leaves, toward))


@pytest.fixture(autouse=True)
def _threads_afterwards():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("what", SIZES)
@pytest.mark.parametrize("cell", CELLS)
def test_large_ones_equal_the_reference_with_any_number_of_threads(cell, what):
    expected = run(cell, *SIZES[what], "reference", torch.float64)
    torch.set_num_threads(1)
    alone = run(cell, *SIZES[what], "native")
    for mine, other in zip(alone, expected, strict=True):
        torch.testing.assert_close(mine.double(), other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))
    made = 2 if cell != "lstm" else 3
    # The kernels' own: outputs, states and the gradient of h_0. Other gradients are products of PyTorch's.
    own = [*range(made), made + 1]
    for threads in (2, 3, 4):
        torch.set_num_threads(threads)
        found = run(cell, *SIZES[what], "native")
        assert all(torch.equal(found[place], alone[place]) for place in own)
