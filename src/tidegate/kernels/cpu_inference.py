"""Plain recurrences without a gradient on a CPU, by the shortest way: a small layer's call is mostly what Python does.

What is not plain, and what does not fit together, goes the general way of :mod:`tidegate.kernels`, which also says what
is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tidegate import native
from tidegate.kernels import cpu_ops
from tidegate.kernels.cpu_library import ops_for
from tidegate.kernels.ragged import Ragged
from tidegate.kernels.reference import GATES, Weights

__all__ = ["plain_recurrence"]

_TYPES = {torch.float32: "float32", torch.float64: "float64"}


def plain_recurrence(
    cell: str, x: Tensor, weights: Sequence[Weights], h_0: Tensor, c_0: Tensor | None, ragged: Ragged
) -> tuple[Tensor, Tensor, Tensor | None, None] | None:
    """:func:`tidegate.kernels.recurrence` without options, or None where it is for the general way.

    The kernel reads addresses, so every tensor is looked at here: its shape, type, device and that it is contiguous.
    """
    if torch.is_grad_enabled() or ops_for(x) is not cpu_ops or torch.is_autocast_enabled("cpu"):
        return None
    dtype, directions, batch_sizes = x.dtype, len(weights), ragged.batch_sizes
    if dtype not in _TYPES or x.dim() != 2 or h_0.dim() != 3 or (cell == "lstm") != (c_0 is not None):
        return None
    values, features = x.shape
    rows, units = h_0.shape[1:]
    width, state = GATES.get(cell, 0) * units, (directions, rows, units)
    matrix, square, vector = (width, features), (width, units), (width,)
    expected: list[tuple[Any, tuple[int, ...]]] = [(h_0, state)] if c_0 is None else [(h_0, state), (c_0, state)]
    read: list[Tensor | None] = []
    for w in weights:
        if not w.is_plain or (w.bias_ih is None) != (w.bias_hh is None):
            return None
        read += w.weight_hh, w.bias_ih, w.bias_hh
        expected += (w.weight_ih, matrix), (w.weight_hh, square)
        if w.bias_ih is not None:
            expected += (w.bias_ih, vector), (w.bias_hh, vector)
    for tensor, shape in expected:
        if tensor.shape != shape or tensor.dtype is not dtype or not (tensor.is_cpu and tensor.is_contiguous()):
            return None
    if directions == 1:
        read += None, None, None
    if (
        (len(read), values, rows) != (6, ragged.num_values, ragged.num_rows)
        or batch_sizes.dtype is not torch.int64
        or not (batch_sizes.dim() == 1 and batch_sizes.is_cpu and batch_sizes.is_contiguous())
    ):
        return None
    gates = cpu_ops.project(x, [w.weight_ih for w in weights])
    output, h_n = cpu_ops.new_pooled(x, values, directions * units), h_0.new_empty(state)
    c_n = None if c_0 is None else h_0.new_empty(state)
    native.extension().forward_plain(
        *(cell, _TYPES[dtype], batch_sizes.data_ptr(), batch_sizes.shape[0], values),
        *(directions, rows, units, torch.get_num_threads()),
        *[0 if tensor is None else tensor.data_ptr() for tensor in read],
        *(gates.data_ptr(), h_0.data_ptr(), 0 if c_0 is None else c_0.data_ptr()),
        *(output.data_ptr(), h_n.data_ptr(), 0 if c_n is None else c_n.data_ptr()),
    )
    return output, h_n, c_n, None
