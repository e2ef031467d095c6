from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tidegate.data.batch import LengthBucketedSampler, make_batch
from tidegate.errors import DataError
from tidegate.kernels.ragged import pad, to_batch_major

IDS = [np.array(row, dtype=np.int64) for row in ([1, 2], [], [3, 4, 5], [6], [7, 8])]


def test_values_lie_in_ragged_order():
    batch = make_batch(IDS)
    assert batch.values.tolist() == [3, 1, 7, 6, 4, 2, 8, 5]
    assert batch.values.dtype == torch.int64
    assert batch.ragged.lengths.tolist() == [2, 0, 3, 1, 2]
    assert batch.ragged.batch_sizes.tolist() == [4, 3, 1]
    assert pad(batch.values, batch.ragged).tolist() == [[1, 2, 0], [0, 0, 0], [3, 4, 5], [6, 0, 0], [7, 8, 0]]
    assert (batch.num_rows, batch.num_values) == (5, 8)
    assert batch.targets is None and batch.weights is None
    assert batch.origin.tolist() == [0, 1, 2, 3, 4]


def test_targets_weights_and_origin_stay_in_the_order_of_the_rows():
    batch = make_batch(
        IDS, targets=[0, 1, 2, 1, 0], weights=np.array([1, 2, 0, 0.5, 1]), origin=np.array([9, 8, 7, 6, 5])
    )
    assert batch.targets is not None and batch.targets.tolist() == [0, 1, 2, 1, 0]
    assert batch.weights is not None and batch.weights.tolist() == [1, 2, 0, 0.5, 1]
    assert batch.weights.dtype == torch.float32
    assert batch.origin.tolist() == [9, 8, 7, 6, 5] and batch.origin.dtype == torch.int64


def test_read_only_arrays_are_taken_without_a_warning():
    targets = np.array([0, 1, 2, 1, 0])
    targets.flags.writeable = False
    batch = make_batch(IDS, targets=targets, weights=np.broadcast_to(np.float64(1), (5,)))
    assert batch.targets is not None and batch.targets.tolist() == [0, 1, 2, 1, 0]


def test_a_batch_of_empty_rows():
    batch = make_batch([np.array([], dtype=np.int64)] * 2, targets=torch.tensor([1.5, 2.5]))
    assert (batch.num_rows, batch.num_values) == (2, 0)
    assert batch.targets is not None and batch.targets.dtype == torch.float32


def test_to_moves_every_tensor():
    moved = make_batch(IDS, targets=[0] * 5, weights=[1] * 5).to("meta")
    assert moved.targets is not None and moved.weights is not None
    tensors = [moved.values, moved.targets, moved.weights, moved.origin, moved.ragged.lengths, moved.ragged.row_of]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert make_batch(IDS).to("cpu").values.tolist() == make_batch(IDS).values.tolist()


def test_a_batch_is_frozen():
    with pytest.raises(AttributeError):
        make_batch(IDS).values = torch.zeros(1)  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("name", ["targets", "weights", "origin"])
def test_counts_must_agree(name):
    with pytest.raises(DataError, match=rf"{name} must be one a row: expected 5, found shape \(4,\)"):
        make_batch(IDS, **{name: [1, 2, 3, 4]})


def test_no_rows_are_no_batch():
    with pytest.raises(DataError, match="at least one row"):
        make_batch([])


@given(st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=8))
def test_batch_major_gives_back_the_rows(rows):
    batch = make_batch([np.array(row, dtype=np.int64) for row in rows])
    assert to_batch_major(batch.values, batch.ragged).tolist() == [value for row in rows for value in row]


@given(
    st.lists(st.integers(0, 50), max_size=300),
    st.integers(1, 9),
    st.booleans(),
    st.integers(0, 3),
    st.integers(0, 2**40),
)
def test_every_example_once_an_epoch(lengths, batch_size, shuffle, epoch, random_state):
    sampler = LengthBucketedSampler(lengths, batch_size, random_state=random_state, shuffle=shuffle)
    batches = sampler.batches(epoch)
    assert sorted(int(example) for batch in batches for example in batch) == list(range(len(lengths)))
    assert len(batches) == len(sampler)
    assert sorted(map(len, batches))[1:] == [batch_size] * (len(batches) - 1)


def as_lists(batches):
    return [batch.tolist() for batch in batches]


def test_batches_depend_on_random_state_and_epoch_alone():
    lengths = np.random.default_rng(0).integers(1, 300, 5000)
    sampler = LengthBucketedSampler(lengths, 16, random_state=3)
    later = as_lists(sampler.batches(4))
    sampler.batches(0)
    assert as_lists(sampler.batches(4)) == later
    assert as_lists(LengthBucketedSampler(lengths.tolist(), 16, random_state=3).batches(4)) == later
    assert as_lists(sampler.batches(5)) != later
    assert as_lists(LengthBucketedSampler(lengths, 16, random_state=4).batches(4)) != later


def test_rows_of_a_batch_have_like_lengths_and_batches_are_mixed():
    lengths = np.random.default_rng(0).integers(1, 400, 8192)
    sampler = LengthBucketedSampler(lengths, 16, random_state=0)
    batches = sampler.batches(0)
    spread = [int(np.ptp(lengths[batch])) for batch in batches]
    # Rows at random spread over some 350 of the 400; within a sorted chunk of 1,024 over some 6.
    assert np.mean(spread) < 12
    means = np.array([lengths[batch].mean() for batch in batches])
    # Neighbours in the order of training are strangers in length: over 100 apart, and in sorted chunks some 6.
    assert np.abs(np.diff(means)).mean() > 60
    partners = [{frozenset(batch.tolist()) for batch in sampler.batches(epoch)} for epoch in (0, 1)]
    assert not partners[0] & partners[1]


def test_without_shuffling_the_longest_come_first_and_ties_keep_their_order():
    sampler = LengthBucketedSampler([2, 5, 2, 9, 5], 2, random_state=0, shuffle=False)
    assert as_lists(sampler.batches(0)) == as_lists(sampler.batches(7)) == [[3, 1], [4, 0], [2]]


def test_batch_size_is_at_least_one():
    with pytest.raises(DataError, match="batch_size must be at least 1, found 0"):
        LengthBucketedSampler([1], 0, random_state=0)
