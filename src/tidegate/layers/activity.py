"""Activity of a recurrent layer's output, which regularisation keeps small and slow (Merity et al. 2017)."""

from __future__ import annotations

import torch
from torch import Tensor

from tidegate.kernels.ragged import Ragged

__all__ = ["activity", "temporal_activity"]


def activity(values: Tensor, ragged: Ragged) -> Tensor:
    """The mean square of each row's values, over steps and features; arXiv:1708.01009.

    Args:
        values: ``[N, F]`` in ragged order.
        ragged: The layout of `values`.

    Returns:
        ``[B]`` in the caller's order; 0 where a row has no step.
    """
    return _row_means(values.square().mean(1), ragged.row_of, ragged.lengths)


def temporal_activity(values: Tensor, ragged: Ragged) -> Tensor:
    """The mean square of each row's changes from a step to the next, as `activity`; 0 where a row has one step."""
    first = int(ragged.batch_sizes[0]) if ragged.num_steps else 0
    places = torch.arange(first, ragged.num_values, device=values.device)
    # The rows alive at a step come first among those of the step before.
    before = places - ragged.batch_sizes.to(values.device)[ragged.step_of[first:] - 1]
    changes = values[first:] - values[before]
    return _row_means(changes.square().mean(1), ragged.row_of[first:], ragged.lengths - 1)


def _row_means(values: Tensor, row_of: Tensor, counts: Tensor) -> Tensor:
    sums = values.new_zeros(counts.shape[0]).index_add(0, row_of, values)
    return sums / counts.clamp(min=1)
