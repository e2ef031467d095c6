"""What becomes of a layer's directions: how they are merged, and how the layer's input is added to them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear

__all__ = ["MERGES", "add_input", "merge_directions", "merged_size"]

MERGES = ("concat", "sum", "mean", "product", "none")


def merged_size(merge: str, directions: int, size: int) -> int:
    """Features of a layer's output at a step (with ``"none"`` of each direction), from those of a direction."""
    return directions * size if merge == "concat" else size


def merge_directions(states: Tensor, merge: str) -> Tensor:
    """States of the directions ``[..., D, P]`` as one output: ``[..., D*P]``, ``[..., P]``, or as they are by none."""
    if merge == "none":
        return states
    if merge == "concat" or states.shape[-2] == 1:
        return states.flatten(-2)
    if merge == "product":
        return states[..., 0, :] * states[..., 1, :]
    total = states[..., 0, :] + states[..., 1, :]
    return total if merge == "sum" else total / 2


def add_input(output: Tensor, values: Tensor, weights: Sequence[Tensor | None]) -> Tensor:
    """A residual connection (He et al. 2016, eq. 2): ``output + W values``, without W where the sizes are the same.

    Args:
        output: ``[N, F]``, or ``[N, 2, F]`` where the directions stay apart.
        values: ``[N, I]``, the layer's input, for both directions or, ``[N, 2, I]``, for each its own.
        weights: One ``[F, I]`` or None, or one for each direction where they stay apart.
    """
    if output.dim() == 2:
        (weight,) = weights
        return output + (values if weight is None else linear(values, weight))
    own = values.unbind(1) if values.dim() == 3 else (values, values)
    added = [v if w is None else linear(v, w) for v, w in zip(own, weights, strict=True)]
    return output + torch.stack(added, 1)
