"""Lengths and masks of every kind, merges and residual connections, against torch.nn on one row at a time."""

from __future__ import annotations

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

import tidegate
from layers.recurrent_cases import LAYERS, flat, loss_of, ours, states, with_options
from layers.row_oracle import run_row
from tidegate.layers.merging import MERGES

# Holes at the start, in the middle and at the end, one after another; rows without a step; whole rows.
MASK = torch.tensor(
    [
        [1, 1, 0, 1, 0, 0, 1, 0],
        [0, 0, 1, 0, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 1],
    ],
    dtype=torch.bool,
)
FORMS = [
    {"bidirectional": True, "num_layers": 2, "merge": merge, "residual": residual}
    for merge in MERGES
    for residual in (False, True)
] + [
    {"num_layers": 2},
    {"num_layers": 3, "residual": True},
    {"hidden_size": [7, 4, 4]},
    {"hidden_size": (4, 6), "bidirectional": True, "residual": True},
    {"hidden_size": [5, 5], "bidirectional": True, "merge": "sum", "residual": True},
    {"hidden_size": [5, 6], "bidirectional": True, "merge": "none", "residual": True},
    {"bias": False, "bidirectional": True},
]
INPUTS = 5


def make(name, form, seed=0):
    torch.manual_seed(seed)
    return ours(name, INPUTS, **({"hidden_size": 6} | form), batch_first=True).double()


def random_states(layer, rows):
    """Random hx, and the same for each row, layer and direction."""
    directions = layer.num_directions
    drawn = {
        name: [[torch.randn(rows, size).double() for _ in range(directions)] for size in sizes]
        for name, sizes in layer._states.sizes.items()
    }
    listed = isinstance(layer.hidden_size, tuple)
    kinds = [[state for layer_states in kind for state in layer_states] for kind in drawn.values()]
    hx = [tuple(kind) if listed else torch.stack(kind) for kind in kinds]
    by_row = [
        [
            [[kind[number][d][row] for kind in drawn.values()] for d in range(directions)]
            for number in range(layer.num_layers)
        ]
        for row in range(rows)
    ]
    return (tuple(hx) if len(hx) > 1 else hx[0]), by_row


def kinds_of(last):
    """The states of each kind: L*D tensors ``[B, H]``."""
    kinds = last if isinstance(last, tuple) and not isinstance(last[0], torch.Tensor) else None
    if kinds is None:
        kinds = last if isinstance(last, tuple) and last[0].dim() == 3 else (last,)
    return [list(kind) for kind in kinds]


def assert_equals_rows(layer, x, hx, by_row, mask, *, lengths=None, given_mask=None):
    """Values and gradients of a call are those of each row by itself; `mask` is what lengths and mask amount to."""
    ends = (mask * torch.arange(1, mask.shape[1] + 1)).amax(1) if lengths is None else lengths
    leaf = x.clone().requires_grad_()
    output, last = layer(leaf, hx, lengths=lengths, mask=given_mask)
    twin = x.clone().requires_grad_()
    expected = torch.zeros_like(output)
    expected_last = [[torch.zeros_like(state) for state in kind] for kind in kinds_of(last)]
    for row, end in enumerate(ends.tolist()):
        steps, ends_of_row, _ = run_row(layer, twin[row, :end], by_row[row], mask[row, :end].tolist())
        rest = output.shape[1] - end
        padded = torch.cat([steps, steps.new_zeros(rest, *expected.shape[2:])])
        expected = torch.cat([expected[:row], padded[None], expected[row + 1 :]])
        for kind, states_of_kind in enumerate(expected_last):
            for place, state in enumerate(states_of_kind):
                number, d = divmod(place, layer.num_directions)
                end_state = ends_of_row[number][d][kind]
                states_of_kind[place] = torch.cat([state[:row], end_state[None], state[row + 1 :]])
    found = [output, *(state for kind in kinds_of(last) for state in kind)]
    wanted = [expected, *(state for kind in expected_last for state in kind)]
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)
    leaves = list(layer.parameters())
    got = torch.autograd.grad(loss_of((found[0], tuple(found[1:]))), [leaf, *leaves])
    want = torch.autograd.grad(loss_of((wanted[0], tuple(wanted[1:]))), [twin, *leaves])
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("name", "form"),
    [(name, form) for name in ("RNN", "LSTM", "GRU") for form in FORMS]
    + [(name, form) for name in ("RNN-relu", "LSTM-projected") for form in FORMS[8:13]],
    ids=str,
)
def test_masks_with_holes_equal_torch_on_each_row(name, form):
    layer = make(name, form)
    x = torch.randn(6, 8, INPUTS).double()
    hx, by_row = random_states(layer, 6)
    assert_equals_rows(layer, x, hx, by_row, MASK, given_mask=MASK)


@pytest.mark.parametrize("name", LAYERS)
def test_lengths_and_a_mask_the_row_ends_with_its_length(name):
    layer = make(name, {"num_layers": 2, "bidirectional": True})
    x = torch.randn(6, 8, INPUTS).double()
    hx, by_row = random_states(layer, 6)
    lengths = torch.tensor([8, 5, 4, 6, 8, 0])
    mask = MASK & (torch.arange(8) < lengths[:, None])
    assert_equals_rows(layer, x, hx, by_row, mask, lengths=lengths, given_mask=MASK)


@pytest.mark.parametrize("form", FORMS[5:13], ids=str)
@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_lengths_equal_torch_on_each_row(name, form):
    layer = make(name, form)
    x = torch.randn(5, 7, INPUTS).double()
    hx, by_row = random_states(layer, 5)
    lengths = torch.tensor([3, 7, 0, 1, 7])
    mask = torch.arange(7) < lengths[:, None]
    assert_equals_rows(layer, x, hx, by_row, mask, lengths=lengths)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_lengths_of_any_integer_type_and_as_a_list(dtype):
    layer = make("GRU", {"bidirectional": True})
    x = torch.randn(4, 6, INPUTS).double()
    expected = flat(layer(x, lengths=torch.tensor([3, 6, 0, 1])))
    for lengths in (torch.tensor([3, 6, 0, 1], dtype=dtype), [3, 6, 0, 1]):
        for a, b in zip(flat(layer(x, lengths=lengths)), expected, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("name", LAYERS)
def test_a_mask_without_holes_is_lengths(name):
    layer = with_options(name, 3, 5, num_layers=2, bidirectional=True, batch_first=True).eval()
    lengths = torch.tensor([4, 0, 6, 1])
    x = torch.randn(4, 6, 3)
    expected = flat(layer(x, lengths=lengths))
    for a, b in zip(flat(layer(x, mask=torch.arange(6) < lengths[:, None])), expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("name", LAYERS)
def test_what_is_masked_is_never_read(name, merge):
    layer = with_options(name, 3, 5, bidirectional=True, batch_first=True, merge=merge, residual=True)
    clean = torch.randn(6, 8, 3)
    poisoned = clean.masked_fill(~MASK[..., None], torch.nan).requires_grad_()
    results = []
    for x in (poisoned, clean):
        torch.manual_seed(1)
        results.append(flat(layer(x, mask=MASK)))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)
    (gradient,) = torch.autograd.grad(loss_of((results[0][0], tuple(results[0][1:]))), poisoned)
    assert (gradient[~MASK] == 0).all()
    assert (gradient[MASK].abs().sum(-1) > 0).all()


@pytest.mark.parametrize("name", LAYERS)
def test_masks_of_each_form_of_input(name):
    layer = with_options(name, 3, 5, num_layers=2, bidirectional=True).eval()
    x = torch.randn(8, 6, 3)
    output, *last = flat(layer(x, mask=MASK.T))
    batch_first = with_options(name, 3, 5, num_layers=2, bidirectional=True, batch_first=True).eval()
    other, *other_last = flat(batch_first(x.transpose(0, 1), mask=MASK))
    for a, b in zip([output, *last], [other.transpose(0, 1), *other_last], strict=True):
        assert torch.equal(a, b)
    for row in range(6):
        alone, *alone_last = flat(layer(x[:, row], mask=MASK[row]))
        torch.testing.assert_close(alone, output[:, row])
        for a, b in zip(alone_last, last, strict=True):
            torch.testing.assert_close(a, b[:, row])


def test_packed_input_of_each_merge():
    lengths = torch.tensor([3, 6, 1])
    x = torch.randn(3, 6, INPUTS).double()
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    for merge in MERGES:
        layer = make("GRU", {"bidirectional": True, "num_layers": 2, "merge": merge})
        hx = states("GRU", layer, 3)
        padded, last = layer(x, hx, lengths=lengths)
        output, packed_last = layer(packed, hx)
        torch.testing.assert_close(packed_last, last)
        order = packed.sorted_indices.tolist()
        rows = [[] for _ in order]
        values = iter(output.data)
        for alive in packed.batch_sizes.tolist():
            for place in order[:alive]:
                rows[place].append(next(values))
        for row, length in zip(range(3), lengths.tolist(), strict=True):
            torch.testing.assert_close(torch.stack(rows[row]), padded[row, :length])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: g(torch.zeros(2, 3, 5), mask=torch.ones(3, 2)), r"mask of shape \(2, 3\) and type bool.*\(3, 2\)"),
        (lambda g: g(torch.zeros(2, 3, 5), mask=torch.ones(2, 3)), "type bool.*torch.float32"),
        (lambda g: g(torch.zeros(2, 5), mask=torch.ones(3, dtype=torch.bool)), r"mask of shape \(2,\)"),
        (
            lambda g: g(pack_padded_sequence(torch.zeros(2, 1, 5), [2]), mask=torch.ones(2, 1, dtype=torch.bool)),
            "lengths=None and mask=None",
        ),
        (
            lambda g: g(torch.zeros(2, 3, 5), lengths=torch.tensor([1, 2, 3]), mask=torch.ones(2, 3) > 0),
            "a length of 3 exceeds the 2 steps",
        ),
        (lambda g: g(torch.zeros(2, 3, 5), lengths=torch.tensor([1.0, 2, 1])), "vector of integers"),
        (lambda g: g(torch.zeros(2, 3, 5), lengths=torch.tensor([-1, 2, 1])), "must not be negative"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(tidegate.GRU(5, 7))
