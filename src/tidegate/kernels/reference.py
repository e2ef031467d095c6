"""The definition of truth: recurrences in plain PyTorch, slow, obvious, differentiable twice, on any device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from tidegate.kernels.ragged import Ragged

__all__ = ["Weights", "gru"]


class Weights(NamedTuple):
    """The parameters of one direction of one layer, with torch's names, shapes and gate order (r z n for the GRU).

    Attributes:
        weight_ih: ``[G*H, I]``, G the number of gates.
        weight_hh: ``[G*H, H]``.
        bias_ih: ``[G*H]`` or None.
        bias_hh: ``[G*H]`` or None.
    """

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None = None
    bias_hh: Tensor | None = None


Cell = Callable[[Tensor, Tensor], Tensor]


def gru_cell(x: Tensor, h: Tensor, weights: Weights, reset_after: bool) -> Tensor:
    """One step of the GRU: ``x [B, I], h [B, H] -> h' [B, H]``. The equations stand at :func:`tidegate.kernels.gru`."""
    x_r, x_z, x_n = linear(x, weights.weight_ih, weights.bias_ih).chunk(3, dim=-1)
    w_r, w_z, w_n = weights.weight_hh.chunk(3)
    b_r, b_z, b_n = (None, None, None) if weights.bias_hh is None else weights.bias_hh.chunk(3)
    r = torch.sigmoid(x_r + linear(h, w_r, b_r))
    z = torch.sigmoid(x_z + linear(h, w_z, b_z))
    n = torch.tanh(x_n + (r * linear(h, w_n, b_n) if reset_after else linear(r * h, w_n, b_n)))
    return (1 - z) * n + z * h


def _scan(cell: Cell, x: Tensor, h_0: Tensor, batch_sizes: Tensor, reverse: bool) -> tuple[Tensor, Tensor]:
    """Run `cell` over the steps of ``x [N, I]``; only the rows alive at a step take it."""
    xs = x.split(batch_sizes.tolist())
    outputs = list(xs)
    h = h_0
    for t in reversed(range(len(xs))) if reverse else range(len(xs)):
        alive = xs[t].shape[0]
        outputs[t] = cell(xs[t], h[:alive])
        h = torch.cat([outputs[t], h[alive:]])
    return torch.cat([h_0[:0], *outputs]), h


def gru_steps(
    x: Tensor, weights: Sequence[Weights], h_0: Tensor, batch_sizes: Tensor, reset_after: bool
) -> tuple[Tensor, Tensor]:
    """A layer of the GRU in one or two directions, knowing of the layout only the rows alive at each step."""
    outputs, h_n = [], []
    for direction, parameters in enumerate(weights):

        def cell(x_t: Tensor, h: Tensor, parameters: Weights = parameters) -> Tensor:
            return gru_cell(x_t, h, parameters, reset_after)

        output, last = _scan(cell, x, h_0[direction], batch_sizes, reverse=direction == 1)
        outputs.append(output)
        h_n.append(last)
    return torch.cat(outputs, dim=-1), torch.stack(h_n)


def gru(
    x: Tensor, weights: Sequence[Weights], h_0: Tensor, ragged: Ragged, *, reset_after: bool = True
) -> tuple[Tensor, Tensor]:
    """:func:`tidegate.kernels.gru`, step by step."""
    return gru_steps(x, weights, h_0, ragged.batch_sizes, reset_after)
