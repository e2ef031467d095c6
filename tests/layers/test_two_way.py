from __future__ import annotations

import pytest
import torch

from tidegate.kernels.ragged import pack, pad, ragged_from_lengths
from tidegate.layers.two_way import TwoWayStack

LENGTHS = torch.tensor([3, 0, 5, 1])


def inputs(seed: int = 0) -> torch.Tensor:
    return torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(seed))


def test_each_direction_is_that_of_torch_over_every_row_by_itself():
    torch.manual_seed(0)
    stack = TwoWayStack("gru", 6, 4, 2, True)
    ragged, padded = ragged_from_lengths(LENGTHS), inputs()
    output = pad(stack.forward_ragged(pack(padded, ragged), ragged)[0], ragged)
    layers = [pad(layer, ragged) for layer in stack.layer_outputs(pack(padded, ragged), ragged)]
    assert stack.output_size == 8 and stack.back is not None
    torch.testing.assert_close(layers[-1], output)
    oracles = []
    for one in (stack.ahead, stack.back):
        weights = {f"{name[:-1]}{place}": w for place in (0, 1) for name, w in one.layers[place].state_dict().items()}
        oracles.append(torch.nn.GRU(6, 4, 2))
        oracles[-1].load_state_dict(weights)
    for row, length in enumerate(LENGTHS.tolist()):
        if not length:
            continue
        values = padded[row, :length]
        expected = [oracles[0](values)[0], oracles[1](values.flip(0))[0].flip(0)]
        torch.testing.assert_close(output[row, :length], torch.cat(expected, 1))
    first = torch.nn.GRU(6, 4)
    first.load_state_dict(stack.back.layers[0].state_dict())
    torch.testing.assert_close(layers[0][2, :, 4:], first(padded[2].flip(0))[0].flip(0))


def test_no_direction_sees_the_other_side():
    torch.manual_seed(0)
    stack = TwoWayStack("lstm", 6, 4, 3, True)
    ragged = ragged_from_lengths(torch.tensor([5]))
    one, other = inputs(1)[0], inputs(1)[0].clone()
    other[2] += 1
    ours, theirs = stack.forward_ragged(one, ragged)[0], stack.forward_ragged(other, ragged)[0]
    # Forward, steps before the change are as they were; backward, those after it.
    torch.testing.assert_close(ours[:2, :4], theirs[:2, :4], rtol=0, atol=0)
    torch.testing.assert_close(ours[3:, 4:], theirs[3:, 4:], rtol=0, atol=0)
    assert not torch.equal(ours[3:, :4], theirs[3:, :4])
    assert not torch.equal(ours[:2, 4:], theirs[:2, 4:])


def test_one_direction_goes_on_from_its_states_and_two_do_not():
    torch.manual_seed(0)
    stack = TwoWayStack("gru", 6, 4, 2, False)
    whole, half = ragged_from_lengths(torch.tensor([4])), ragged_from_lengths(torch.tensor([2]))
    values = inputs(2)[0, :4]
    first, states = stack.forward_ragged(values[:2], half)
    second, _ = stack.forward_ragged(values[2:], half, states)
    torch.testing.assert_close(torch.cat([first, second]), stack.forward_ragged(values, whole)[0])
    assert stack.output_size == 4
    with pytest.raises(ValueError, match="no states to go on from"):
        TwoWayStack("gru", 6, 4, 1, True).forward_ragged(values, whole, states)
