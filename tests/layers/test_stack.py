"""Stacks of one and of several cells against torch.nn run on one row at a time."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import tidegate
from layers.recurrent_cases import loss_of
from tidegate.kernels.ragged import from_batch_major, ragged_from_lengths, to_batch_major
from tidegate.layers.stack import CELLS, STACKS, RecurrentStack

# What tests compare with: the cell of torch.nn and whether it is bidirectional.
TORCH = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}
KINDS = {name: (TORCH[name.removeprefix("bi")], name.startswith("bi")) for name in CELLS}
STACKED = {
    "gru-blstm": (nn.GRU, nn.LSTM),
    ("lstm", "gru", "rnn"): (nn.LSTM, nn.GRU, nn.RNN),
    ("bigru", "lstm"): (nn.GRU, nn.LSTM),
    ("birnn", "bigru", "bilstm"): (nn.RNN, nn.GRU, nn.LSTM),
}


def run_by_torch(stack: RecurrentStack, row: Tensor, residual: bool = False) -> tuple[Tensor, list[Tensor]]:
    """Output and each layer's last h of one row ``[T, I]``, by torch.nn's layers with the same parameters."""
    last = []
    for place, layer in enumerate(stack.layers):
        kind = {"GRU": nn.GRU, "LSTM": nn.LSTM, "RNN_TANH": nn.RNN}[layer.mode]
        twin = kind(layer.input_size, layer.hidden_size, bidirectional=layer.bidirectional).to(row.dtype)
        output, state = torch.func.functional_call(twin, dict(layer.named_parameters()), (row,))
        last.append((state[0] if isinstance(state, tuple) else state).flatten())
        row = output + stack.residuals[place](row) if residual else output
    return row, last


@pytest.mark.parametrize("lengths", [[4, 0, 7, 1, 4], [3], [0, 2]])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_each_row_equals_torch_on_that_row_alone(cell: str, num_layers: int, lengths: list[int]) -> None:
    torch.manual_seed(1)
    stack = RecurrentStack(cell, 3, 5, num_layers).double()
    kind, bidirectional = KINDS[cell]
    assert [type(layer).__name__ for layer in stack.layers] == [kind.__name__] * num_layers
    assert stack.bidirectional is bidirectional
    ragged = ragged_from_lengths(lengths)
    batch_major = torch.randn(sum(lengths), 3).double()
    values = from_batch_major(batch_major, ragged).requires_grad_()
    reference = batch_major.clone().requires_grad_()

    output, final = stack.encode(values, ragged)
    expected_output, expected_final = [], []
    for row in reference.split(lengths):
        if len(row) == 0:
            expected_final.append(torch.zeros(stack.output_size).double())
            continue
        steps, states = run_by_torch(stack, row)
        expected_output.append(steps)
        expected_final.append(states[-1])
    expected_output, expected_final = torch.cat(expected_output), torch.stack(expected_final)
    torch.testing.assert_close(to_batch_major(output, ragged), expected_output)
    torch.testing.assert_close(final, expected_final)

    parameters = list(stack.parameters())
    found = torch.autograd.grad(loss_of((to_batch_major(output, ragged), final)), [values, *parameters])
    wanted = torch.autograd.grad(loss_of((expected_output, expected_final)), [reference, *parameters])
    torch.testing.assert_close(to_batch_major(found[0], ragged), wanted[0])
    for a, b in zip(found[1:], wanted[1:], strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("cells", STACKED, ids=str)
def test_mixed_stacks_equal_torchs_layers_on_each_row(cells, residual) -> None:
    torch.manual_seed(0)
    kinds = STACKED[cells]
    sizes = [5, 4, 4][: len(kinds)]
    stack = RecurrentStack(cells, 3, sizes, batch_first=True, residual=residual).double()
    assert [type(layer).__name__ for layer in stack.layers] == [kind.__name__ for kind in kinds]
    x = torch.randn(4, 6, 3).double()
    lengths = torch.tensor([3, 6, 1, 4])
    leaf, twin = x.clone().requires_grad_(), x.clone().requires_grad_()
    output, last = stack(leaf, lengths=lengths)
    parameters = list(stack.parameters())
    total, expected_total = [], []
    for row, length in enumerate(lengths.tolist()):
        steps, states = run_by_torch(stack, twin[row, :length], residual)
        torch.testing.assert_close(output[row, :length], steps)
        assert (output[row, length:] == 0).all()
        for state, expected in zip(last, states, strict=True):
            h = state[0] if isinstance(state, tuple) else state
            torch.testing.assert_close(h[:, row].flatten(), expected)
            total.append(h[:, row].sin().sum())
            expected_total.append(expected.sin().sum())
        total.append(output[row, :length].pow(2).sum())
        expected_total.append(steps.pow(2).sum())
    found = torch.autograd.grad(torch.stack(total).sum(), [leaf, *parameters])
    wanted = torch.autograd.grad(torch.stack(expected_total).sum(), [twin, *parameters])
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_the_named_stack_is_a_bidirectional_gru_under_a_bidirectional_lstm() -> None:
    stack = RecurrentStack("gru-blstm", 3, 5)
    assert repr(stack.layers[0]) == "GRU(3, 5, bidirectional=True)"
    assert repr(stack.layers[1]) == "LSTM(10, 5, bidirectional=True)"
    assert list(STACKS) == ["gru-blstm"]
    assert stack.output_size == 10


@pytest.mark.parametrize("merge", ["sum", "mean", "product"])
def test_merged_directions_are_the_next_layers_input_and_the_final_state(merge) -> None:
    torch.manual_seed(0)
    stack = RecurrentStack(["bigru", "bilstm"], 3, [5, 4], merge=merge).double()
    assert [layer.input_size for layer in stack.layers] == [3, 5]
    x = torch.randn(6, 2, 3).double()
    merged = {"sum": torch.add, "mean": lambda a, b: (a + b) / 2, "product": torch.mul}[merge]
    values = x
    for layer in stack.layers:
        twin = (nn.GRU if layer.mode == "GRU" else nn.LSTM)(layer.input_size, layer.hidden_size, bidirectional=True)
        twin.double().load_state_dict(layer.state_dict())
        apart, last = twin(values)
        values = merged(*apart.chunk(2, -1))
    torch.testing.assert_close(stack(x)[0], values)
    _, final = stack.encode(x.flatten(0, 1), ragged_from_lengths([6, 6]))
    torch.testing.assert_close(final, merged(*last[0]))


@pytest.mark.parametrize("cells", [*STACKED, "gru"], ids=str)
def test_states_go_in_and_come_out(cells) -> None:
    torch.manual_seed(0)
    stack = RecurrentStack(cells, 3, 5, learn_initial_state=True, zoneout=0.2, layer_norm=True).double().eval()
    if stack.bidirectional:
        x = torch.randn(6, 2, 3).double()
        _, last = stack(x)
        again, _ = stack(x, last)
        below, of_below = stack.layers[0](x, last[0])
        assert not torch.equal(again, stack(x)[0])
        torch.testing.assert_close(stack(x, last)[1][0], of_below)
        torch.testing.assert_close(stack.layers[1](below, last[1])[0] if len(last) == 2 else again, again)
        return
    x = torch.randn(7, 2, 3).double()
    whole, last = stack(x)
    first, state = stack(x[:3])
    second, state = stack(x[3:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    torch.testing.assert_close(state, last)
    steps, state = [], None
    for x_t in x:
        output, state = stack.step(x_t, state)
        steps.append(output)
    torch.testing.assert_close(torch.stack(steps), whole)
    torch.testing.assert_close(state, last)
    alone, of_row = stack.step(x[0, 1])
    torch.testing.assert_close(alone, whole[0, 1])
    torch.testing.assert_close(stack.step(x[1, 1], of_row)[0], whole[1, 1])


def test_every_form_of_input() -> None:
    torch.manual_seed(0)
    stack = RecurrentStack("gru-blstm", 3, 5, batch_first=True).eval()
    x = torch.randn(3, 6, 3)
    lengths = torch.tensor([4, 6, 1])
    output, last = stack(x, lengths=lengths)
    packed, packed_last = stack(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
    unpacked, _ = nn.utils.rnn.pad_packed_sequence(packed, batch_first=True)
    torch.testing.assert_close(unpacked, output)
    torch.testing.assert_close(packed_last, last)
    alone, _ = stack(x[1])
    torch.testing.assert_close(alone, output[1])
    holes = torch.tensor([[1, 0, 1, 1, 0, 1]] * 3).bool()
    masked, _ = stack(x, mask=holes)
    torch.testing.assert_close(masked[:, holes[0]], stack(x[:, holes[0]])[0])
    # At a hole the forward half is that of the step before it, the backward half that of the step after it.
    torch.testing.assert_close(masked[:, 1], torch.cat([masked[:, 0, :5], masked[:, 2, 5:]], 1))
    traces = stack.trace(x, lengths=lengths)
    torch.testing.assert_close(
        torch.cat([traces["layers.1.hidden_l0"], traces["layers.1.hidden_l0_reverse"]], -1), output
    )
    assert {name.split(".")[1] for name in traces} == {"0", "1"}


def test_a_stack_of_layers_that_are_made_already() -> None:
    torch.manual_seed(0)
    layers = [tidegate.GRU(3, 4, num_layers=2, reset_after=False), tidegate.LSTM(4, 6, proj_size=2, peephole=True)]
    stack = RecurrentStack.of(layers, batch_first=True, residual=True).eval()
    x = torch.randn(2, 5, 3)
    below, _ = layers[0](x.transpose(0, 1))
    below = below + x.transpose(0, 1) @ stack.residuals[0].weight.T
    above, _ = layers[1](below)
    above = above + below @ stack.residuals[1].weight.T
    torch.testing.assert_close(stack(x)[0], above.transpose(0, 1))
    assert stack.output_size == 2
    assert "residual=True, batch_first=True" in repr(stack)


def test_a_stack_of_layers_of_every_kind() -> None:
    torch.manual_seed(0)
    layers = [tidegate.GRU(3, 4, bidirectional=True, merge="sum"), tidegate.MinGRU(4, 6), tidegate.LRU(6, 5)]
    stack = RecurrentStack.of(layers).eval()
    x = torch.randn(7, 2, 3)
    lengths = torch.tensor([7, 4])
    values = x
    for layer in layers:
        values, _ = layer(values, lengths=lengths)
    torch.testing.assert_close(stack(x, lengths=lengths)[0], values)
    causal = RecurrentStack.of(layers[1:])
    whole, last = causal(x[..., [0, 1, 2, 0]])
    state = None
    for t, x_t in enumerate(x[..., [0, 1, 2, 0]]):
        output, state = causal.step(x_t, state)
        torch.testing.assert_close(output, whole[t])
    torch.testing.assert_close(state, last)


@pytest.mark.parametrize("cell", CELLS)
def test_only_empty_rows(cell: str) -> None:
    stack = RecurrentStack(cell, 3, 5, 2)
    output, final = stack.encode(torch.zeros(0, 3), ragged_from_lengths([0, 0, 0]))
    assert output.shape == (0, stack.output_size)
    assert torch.equal(final, torch.zeros(3, stack.output_size))


@pytest.mark.parametrize("cell", CELLS)
def test_dropout_stands_between_the_layers_alone(cell: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 3, 3)
    one, two = (RecurrentStack(cell, 3, 5, layers, dropout=0.5) for layers in (1, 2))
    assert torch.equal(one(x)[0], one(x)[0])
    assert not torch.equal(two(x)[0], two(x)[0])
    two.eval()
    assert torch.equal(two(x)[0], two(x)[0])


def test_what_a_residual_connection_adds_is_not_dropped() -> None:
    torch.manual_seed(0)
    stack = RecurrentStack("gru", 5, 5, 2, dropout=0.999, residual=True)
    with torch.no_grad():
        for name, parameter in stack.layers[1].named_parameters():
            if name != "weight_ih_l0":
                parameter.zero_()
    x = torch.randn(6, 3, 5)
    below = stack.layers[0](x)[0] + x
    # With all its input dropped and all else zero the second layer says nothing.
    torch.testing.assert_close(stack(x)[0], below, atol=0.05, rtol=0)


def test_copies_and_state_dicts() -> None:
    torch.manual_seed(0)
    stack = RecurrentStack("gru-blstm", 3, 5, residual=True)
    x = torch.randn(6, 2, 3)
    other = RecurrentStack("gru-blstm", 3, 5, residual=True)
    other.load_state_dict(stack.state_dict())
    for twin in (copy.deepcopy(stack), pickle.loads(pickle.dumps(stack)), other):
        torch.testing.assert_close(twin(x), stack(x))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RecurrentStack("gruu", 3, 5), r"cell must be one of gru, .*found 'gruu'. Did you mean 'gru'\?"),
        (lambda: RecurrentStack(["gru", "lstn"], 3, 5), r"found 'lstn'. Did you mean 'lstm'\?"),
        (lambda: RecurrentStack([], 3, 5), "found none"),
        (lambda: RecurrentStack(["gru", "lstm"], 3, 5, 3), "cells names 2 layers; found 3"),
        (lambda: RecurrentStack("gru-blstm", 3, [5, 5, 5]), "cells names 2 layers; found 3"),
        (lambda: RecurrentStack("gru", 3, [5, 5], 3), "hidden_size lists 2 layers and num_layers is 3"),
        (lambda: RecurrentStack("gru", 3, 5, 2, merge="sum"), "merge='sum' is for two directions"),
        (lambda: RecurrentStack("bigru", 3, 5, merge="none"), "concat, sum, mean, product; found 'none'"),
        (lambda: RecurrentStack.of([tidegate.GRU(3, 4), tidegate.GRU(3, 4)]), "input_size 3 over GRU of 4 features"),
        (lambda: RecurrentStack.of([]), "found none"),
        (lambda: RecurrentStack("bigru", 3, 5).step(torch.zeros(2, 3)), "a bidirectional RecurrentStack"),
        (
            lambda: RecurrentStack("gru", 3, 5, 2)(torch.zeros(2, 1, 3), torch.zeros(2, 1, 5)),
            "one hx for each of the 2",
        ),
        (lambda: RecurrentStack("gru", 3, 5, 2)(torch.zeros(2, 1, 3), (torch.zeros(1, 1, 5),)), "found 1 in one"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()
