"""Every cell of the stack against torch.nn run on one row at a time."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tidegate.kernels.ragged import from_batch_major, ragged_from_lengths, to_batch_major
from tidegate.layers.stack import CELLS, RecurrentStack

TORCH = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}


def torch_twin(stack: RecurrentStack, cell: str, num_layers: int, bidirectional: bool) -> nn.RNNBase:
    twin = TORCH[cell](3, 5, num_layers, bidirectional=bidirectional)
    twin.load_state_dict(stack.layers.state_dict())
    return twin


@pytest.mark.parametrize("lengths", [[4, 0, 7, 1, 4], [3], [0, 2]])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_each_row_equals_torch_on_that_row_alone(
    cell: str, bidirectional: bool, num_layers: int, lengths: list[int]
) -> None:
    torch.manual_seed(1)
    stack = RecurrentStack(cell, 3, 5, num_layers, bidirectional)
    twin = torch_twin(stack, cell, num_layers, bidirectional)
    ragged = ragged_from_lengths(lengths)
    batch_major = torch.randn(sum(lengths), 3)
    values = from_batch_major(batch_major, ragged).requires_grad_()
    reference = batch_major.clone().requires_grad_()

    output, final = stack(values, ragged)
    directions = 2 if bidirectional else 1
    expected_output, expected_final = [], []
    for row in reference.split(lengths):
        if len(row) == 0:
            expected_final.append(torch.zeros(directions * 5))
            continue
        steps, state = twin(row)
        state = state[0] if cell == "lstm" else state
        expected_output.append(steps)
        expected_final.append(state[-directions:].flatten())
    expected_output, expected_final = torch.cat(expected_output), torch.stack(expected_final)
    torch.testing.assert_close(to_batch_major(output, ragged), expected_output, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(final, expected_final, atol=2e-6, rtol=1e-5)

    (output.square().sum() + final.sin().sum()).backward()
    (expected_output.square().sum() + expected_final.sin().sum()).backward()
    torch.testing.assert_close(to_batch_major(values.grad, ragged), reference.grad, atol=1e-5, rtol=1e-4)
    ours = dict(stack.layers.named_parameters())
    for name, parameter in twin.named_parameters():
        torch.testing.assert_close(ours[name].grad, parameter.grad, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("cell", CELLS)
def test_only_empty_rows(cell: str) -> None:
    stack = RecurrentStack(cell, 3, 5, 2, bidirectional=True)
    output, final = stack(torch.zeros(0, 3), ragged_from_lengths([0, 0, 0]))
    assert output.shape == (0, 10)
    assert torch.equal(final, torch.zeros(3, 10))


@pytest.mark.parametrize("cell", CELLS)
def test_dropout_stands_between_the_layers_alone(cell: str) -> None:
    torch.manual_seed(0)
    ragged = ragged_from_lengths([6, 3])
    values = torch.randn(9, 3)
    one, two = (RecurrentStack(cell, 3, 5, layers, dropout=0.5) for layers in (1, 2))
    assert torch.equal(one(values, ragged)[0], one(values, ragged)[0])
    assert not torch.equal(two(values, ragged)[0], two(values, ragged)[0])
    two.eval()
    assert torch.equal(two(values, ragged)[0], two(values, ragged)[0])


def test_an_unknown_cell_is_named_with_its_nearest() -> None:
    with pytest.raises(ValueError, match=r"cell must be one of gru, lstm, rnn; found 'gruu'. Did you mean 'gru'\?"):
        RecurrentStack("gruu", 3, 5)
