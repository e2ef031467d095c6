"""Layer norm inside the native recurrences: gradients of every gain against float64, every instruction set, threads."""

from __future__ import annotations

import pytest
import torch

from tidegate.kernels import gru, lstm, rnn
from tidegate.kernels.ragged import ragged_from_lengths
from tidegate.kernels.reference import GATES, Weights
from tidegate.native import extension

CELLS = {"gru": gru, "lstm": lstm, "rnn": rnn}
LENGTHS = [3, 0, 5, 2, 9, 1, 4, 9, 9, 6, 7]
TOLERANCE = {torch.float32: 3e-4, torch.float64: 1e-11}


@pytest.fixture(autouse=True)
def _best_isa_afterwards():
    yield
    extension().set_isa("")


def values_of(cell, units, dtype, backend, lengths=LENGTHS, directions=2):
    """Output and the gradients of inputs and all weights, in `dtype`."""
    generator = torch.Generator().manual_seed(units)

    def draw(*shape, scale=1.0, offset=0.0):
        made = torch.randn(*shape, generator=generator, dtype=torch.float64) * scale + offset
        return made.to(dtype).requires_grad_()

    width, ragged = GATES[cell if cell != "rnn" else "rnn_tanh"] * units, ragged_from_lengths(lengths)
    # Far from zero, where one pass for mean and variance would lose digits.
    x = draw(ragged.num_values, 5, offset=20.0)
    weights = [
        Weights(
            weight_ih=draw(width, 5, scale=0.5),
            weight_hh=draw(width, units, scale=units**-0.5),
            bias_ih=draw(width),
            bias_hh=draw(width),
            norm_ih=draw(width, scale=0.3, offset=0.7),
            norm_hh=draw(width, scale=0.3, offset=0.7),
            norm_c=draw(2, units, scale=0.3, offset=0.7) if cell == "lstm" else None,
        )
        for _ in range(directions)
    ]
    states = [draw(directions, len(lengths), units) for _ in range(2 if cell == "lstm" else 1)]
    entering = tuple(states) if cell == "lstm" else states[0]
    output, *_ = CELLS[cell](x, weights, entering, ragged, backend=backend)
    slopes = torch.randn(output.shape, generator=generator, dtype=torch.float64).to(dtype)
    leaves = {"x": x} | {f"state {i}": state for i, state in enumerate(states)}
    for d, w in enumerate(weights):
        leaves |= {f"{name} {d}": leaf for name, leaf in w._asdict().items() if leaf is not None}
    grads = torch.autograd.grad((output * slopes).sum(), list(leaves.values()))
    return {"output": output.detach()} | dict(zip(leaves, grads, strict=True))


@pytest.mark.parametrize("isa", extension().available_isas())
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_every_instruction_set_gives_the_reference_in_float64(isa, cell, dtype):
    extension().set_isa(isa)
    for units in (1, 7, 16, 33, 64, 130):
        found = values_of(cell, units, dtype, "native")
        expected = values_of(cell, units, torch.float64, "reference")
        for name, a in found.items():
            b = expected[name]
            assert (a.double() - b).abs().max() < TOLERANCE[dtype] * (1 + b.abs().max()), (name, units)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("lengths", [LENGTHS, [12], [30] * 40])
def test_one_thread_equals_many(cell, lengths):
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(values_of(cell, 70, torch.float32, "native", lengths))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        # The gradients of the other weights are products of PyTorch's.
        made = [name for name in other if name.startswith(("output", "state", "norm"))]
        assert not [name for name in made if not torch.equal(results[0][name], other[name])]
