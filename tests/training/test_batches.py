from __future__ import annotations

import numpy as np
import torch

from tidegate.kernels.ragged import to_batch_major
from tidegate.training.batches import EncodedBatches, batches_within


def source(shuffle: bool = True, seed: int = 0) -> EncodedBatches:
    ids = [np.arange(row, row + row % 4) for row in range(23)]
    weights = np.arange(23) / 2
    return EncodedBatches(ids, np.arange(23) % 3, weights, batch_size=4, random_state=seed, shuffle=shuffle)


def test_every_row_once_with_its_ids_target_and_weight() -> None:
    batches = list(source().epoch(3))
    assert len(batches) == len(source()) == 6
    seen = []
    for batch in batches:
        rows = to_batch_major(batch.values, batch.ragged).split(batch.ragged.lengths.tolist())
        for place, row in enumerate(batch.origin.tolist()):
            seen.append(row)
            assert rows[place].tolist() == list(range(row, row + row % 4))
            assert int(batch.targets[place]) == row % 3
            assert float(batch.weights[place]) == row / 2
    assert sorted(seen) == list(range(23))


def test_epochs_differ_only_when_shuffled() -> None:
    def order(batches: EncodedBatches, epoch: int) -> list[int]:
        return torch.cat([batch.origin for batch in batches.epoch(epoch)]).tolist()

    assert order(source(), 0) != order(source(), 1)
    assert order(source(), 1) == order(source(), 1)
    assert order(source(), 1) != order(source(seed=1), 1)
    assert order(source(shuffle=False), 0) == order(source(shuffle=False), 5)


def test_batches_within_keep_to_the_limits() -> None:
    lengths = np.array([5, 0, 100, 3, 3, 0, 7, 20, 9])
    batches = list(batches_within(lengths, max_rows=3, max_values=20))
    assert np.sort(np.concatenate(batches)).tolist() == list(range(9))
    for rows in batches:
        assert len(rows) <= 3
        assert lengths[rows].sum() <= 20 or len(rows) == 1
    assert [lengths[rows].tolist() for rows in batches] == [[0, 0, 3], [3, 5, 7], [9], [20], [100]]


def test_no_rows_make_no_batches() -> None:
    assert list(batches_within(np.zeros(0, dtype=np.int64), 3, 20)) == []
