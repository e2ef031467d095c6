from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.utils.rnn import pack_padded_sequence

from tidegate.kernels.ragged import (
    flip,
    from_batch_major,
    pack,
    pad,
    ragged_from_lengths,
    ragged_full,
    sort_rows,
    to_batch_major,
    unsort_rows,
)

lengths_lists = st.lists(st.integers(0, 9), min_size=1, max_size=12)


def padded_numbers(lengths: list[int], num_steps: int) -> torch.Tensor:
    """Every value tells its row and step: 100 * row + step."""
    return (100 * torch.arange(len(lengths))[:, None] + torch.arange(num_steps)).unsqueeze(-1).double()


def test_layout_of_the_module_docstring():
    ragged = ragged_from_lengths([2, 3, 1])
    assert ragged.order.tolist() == [1, 0, 2]
    assert ragged.batch_sizes.tolist() == [3, 2, 1]
    assert ragged.row_of.tolist() == [1, 0, 2, 1, 0, 1]
    assert ragged.step_of.tolist() == [0, 0, 0, 1, 1, 2]
    # cat([h_0 (3 rows), output (6 values)]): forward, the first step comes from h_0; reverse, the last one does.


@given(lengths_lists)
def test_pack_is_torchs_packed_data(lengths):
    present = [length for length in lengths if length > 0]
    if not present:
        return
    padded = padded_numbers(present, max(present))
    packed = pack_padded_sequence(padded, torch.tensor(present), batch_first=True, enforce_sorted=False)
    ragged = ragged_from_lengths(present)
    assert torch.equal(ragged.batch_sizes, packed.batch_sizes)
    # Torch does not sort stably, so rows of one length may stand in another order: compare step by step as sets.
    for ours, theirs in zip(
        pack(padded, ragged).split(ragged.batch_sizes.tolist()),
        packed.data.split(packed.batch_sizes.tolist()),
        strict=True,
    ):
        assert sorted(ours.flatten().tolist()) == sorted(theirs.flatten().tolist())


@given(lengths_lists, st.integers(0, 3))
def test_round_trips(lengths, extra):
    num_steps = max(lengths) + extra
    ragged = ragged_from_lengths(lengths, num_steps)
    padded = padded_numbers(lengths, num_steps)
    values = pack(padded, ragged)
    alive = torch.arange(num_steps) < torch.tensor(lengths)[:, None]
    assert ragged.num_values == sum(lengths)
    assert torch.equal(pad(values, ragged), padded * alive.unsqueeze(-1))
    assert torch.equal(to_batch_major(values, ragged).flatten(), padded[alive].flatten())
    assert torch.equal(from_batch_major(to_batch_major(values, ragged), ragged), values)
    assert torch.equal(flip(flip(values, ragged), ragged), values)
    for row, length in enumerate(lengths):
        flipped = pad(flip(values, ragged), ragged)[row, :length]
        assert torch.equal(flipped, padded[row, :length].flip(0))
    rows = torch.arange(len(lengths))
    assert torch.equal(unsort_rows(sort_rows(rows, ragged), ragged), rows)
    assert torch.tensor(lengths)[ragged.order].tolist() == sorted(lengths, reverse=True)


@pytest.mark.parametrize(("rows", "steps"), [(1, 1), (3, 4), (5, 1), (1, 6), (4, 0)])
def test_full_equals_general(rows, steps):
    full, general = ragged_full(rows, steps), ragged_from_lengths([steps] * rows, steps)
    for name in ("lengths", "order", "batch_sizes", "row_of"):
        assert torch.equal(getattr(full, name), getattr(general, name)), name


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_any_integer_type(dtype):
    assert ragged_from_lengths(torch.tensor([2, 0, 5], dtype=dtype)).batch_sizes.tolist() == [2, 2, 1, 1, 1]


@pytest.mark.parametrize(
    ("lengths", "num_steps", "message"),
    [
        (torch.tensor([1.0, 2.0]), None, "vector of integers"),
        (torch.tensor([[1, 2]]), None, "vector of integers"),
        (torch.tensor([2, -1]), None, "negative; found -1"),
        ([3, 5], 4, "a length of 5 exceeds the 4 steps"),
    ],
)
def test_impossible_lengths(lengths, num_steps, message):
    with pytest.raises(ValueError, match=message):
        ragged_from_lengths(lengths, num_steps)


def test_pack_names_a_wrong_shape():
    with pytest.raises(ValueError, match="expected 2 rows of at least 3 steps"):
        pack(torch.zeros(2, 2, 1), ragged_from_lengths([3, 1]))
