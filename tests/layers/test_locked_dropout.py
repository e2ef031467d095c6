from __future__ import annotations

import torch

from tidegate.kernels.ragged import ragged_from_lengths, to_batch_major
from tidegate.layers.locked_dropout import locked_dropout


def test_a_feature_is_dropped_at_all_steps_of_its_row_or_at_none():
    torch.manual_seed(0)
    ragged = ragged_from_lengths([5, 1, 0, 9])
    dropped = to_batch_major(locked_dropout(torch.ones(15, 4000), ragged, 0.25, True), ragged)
    rows = [dropped[:5], dropped[5:6], dropped[6:]]
    for row in rows:
        assert (row == row[0]).all()
        assert set(row.unique().tolist()) <= {0.0, torch.tensor(1 / 0.75).item()}
        # Of 4,000 draws at 0.25 the share has a deviation of 0.007.
        assert abs((row[0] == 0).float().mean().item() - 0.25) < 0.035
    assert not torch.equal(rows[0][0], rows[2][0])


def test_it_does_nothing_out_of_training_or_at_rate_zero():
    ragged, values = ragged_from_lengths([2, 1]), torch.randn(3, 4)
    assert locked_dropout(values, ragged, 0.5, False) is values
    assert locked_dropout(values, ragged, 0.0, True) is values
