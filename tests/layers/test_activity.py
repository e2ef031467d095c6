from __future__ import annotations

import torch

from tidegate.kernels.ragged import ragged_from_lengths, to_batch_major
from tidegate.layers.activity import activity, temporal_activity


def test_activities_are_means_a_row() -> None:
    lengths = [3, 0, 5, 1, 5]
    ragged = ragged_from_lengths(lengths)
    values = torch.randn(14, 6, generator=torch.Generator().manual_seed(0))
    rows = to_batch_major(values, ragged).split(lengths)
    for row, (steps, found, changes) in enumerate(
        zip(rows, activity(values, ragged), temporal_activity(values, ragged), strict=True)
    ):
        expected = steps.square().mean() if len(steps) else torch.zeros(())
        moved = steps.diff(dim=0).square().mean() if len(steps) > 1 else torch.zeros(())
        torch.testing.assert_close(found, expected, msg=f"row {row}")
        torch.testing.assert_close(changes, moved, msg=f"row {row}")


def test_no_step_at_all() -> None:
    ragged = ragged_from_lengths([0, 0])
    for measure in (activity, temporal_activity):
        assert measure(torch.zeros(0, 3), ragged).tolist() == [0, 0]
