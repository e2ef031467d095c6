"""The native kernels as ops of torch: ``tidegate::recurrent_forward``, ``recurrent_backward`` and ``project``.

They have rules for fake tensors and for vmap, which folds the mapped dimension into the rows. Autograd is
:mod:`tidegate.kernels.cpu`'s.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tidegate.kernels import cpu_ops
from tidegate.kernels.cpu_ops import backward_made, forward_made, new_empty
from tidegate.kernels.fakes import fake_rule
from tidegate.kernels.watching import is_watched

__all__ = ["ops_for"]


_Results = Callable[..., tuple[Tensor | None, ...]]


def _op(function: _Results, check: Callable[..., None] | None = None) -> Callable[..., tuple[Tensor, ...]]:
    """As an op of torch, which may be called by anyone and whose results are tensors, empty for None."""

    def op(*arguments: Any) -> tuple[Tensor, ...]:
        if check is not None:
            check(*arguments)
        made: Any = function(*arguments)
        return tuple(made[0].new_empty(0) if tensor is None else tensor for tensor in made)

    return op


def _fake(op: Callable[..., Any], made: _Results) -> Callable[..., tuple[Tensor, ...]]:
    return _op(fake_rule(op, functools.partial(made, new_empty)))


def _project_fake(x: Tensor, weights: Sequence[Tensor]) -> Tensor:
    return x.new_empty(x.shape[0], sum(weight.shape[0] for weight in weights))


def _is_mapped(dims: Any) -> bool:
    return any(dim is not None for dim in dims) if isinstance(dims, (list, tuple)) else dims is not None


def _project_vmap(info: Any, in_dims: tuple, x: Tensor, weights: Sequence[Tensor]) -> tuple[Tensor, int]:
    if _is_mapped(in_dims[1]):
        raise ValueError(_UNMAPPED)
    made = torch.ops.tidegate.project(x.movedim(in_dims[0], 0).flatten(0, 1), weights)
    return made.unflatten(0, (info.batch_size, -1)), 0


# How vmap folds: for each argument the dimension of its rows, None where it has none and may not be mapped.
_FORWARD_ROWS = (None, 0, *[None] * 10, 1, 1, 1, 0, 0, None, None, None)
_FORWARD_MADE = (0, 1, 1, 0, 0, 0, 0)
_BACKWARD_ROWS = (None, 0, 1, 1, 0, 0, 0, 0, 0, 0, *[None] * 6, 1, 1, 1, 0, 0, None, None)
_BACKWARD_MADE = (0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1)


_UNMAPPED = "vmap over weights or lengths is not supported; map over inputs and states"


def _fold(tensor: Tensor, vmap_dim: int | None, size: int, rows_dim: int) -> Tensor:
    """Fold the mapped dimension into the rows, behind them, so that the rows alive stay a prefix."""
    if vmap_dim is None:
        mapped = tensor.unsqueeze(rows_dim + 1)
        mapped = mapped.expand(*mapped.shape[: rows_dim + 1], size, *mapped.shape[rows_dim + 2 :])
    else:
        mapped = tensor.movedim(vmap_dim, rows_dim + 1)
    return mapped.flatten(rows_dim, rows_dim + 1)


def _vmap_rule(op_name: str, rows_dims: Sequence[int | None], made_dims: Sequence[int], batch_sizes_at: int) -> Any:
    def rule(info: Any, in_dims: tuple, *args: Any) -> tuple[Any, Any]:
        size = info.batch_size
        folded = []
        for at, (arg, dim, rows_dim) in enumerate(zip(args, in_dims, rows_dims, strict=True)):
            if rows_dim is None and _is_mapped(dim):
                raise ValueError(_UNMAPPED)
            if rows_dim is not None and isinstance(arg, Tensor):
                folded.append(_fold(arg, dim, size, rows_dim))
            else:
                folded.append(arg * size if at == batch_sizes_at else arg)
        made = getattr(torch.ops.tidegate, op_name)(*folded)
        return tuple(
            t.unflatten(dim, (-1, size)) if t.numel() else t.unsqueeze(0).expand(size, *t.shape)
            for t, dim in zip(made, made_dims, strict=True)
        ), tuple(dim + 1 if t.numel() else 0 for t, dim in zip(made, made_dims, strict=True))

    return rule


# library.define and impl have half the overhead of custom_op.
_library = torch.library.Library("tidegate", "FRAGMENT")
_library.define(
    "recurrent_forward(str cell, Tensor gates, Tensor[] weight_hh, Tensor? scale_hh, Tensor? weight_hr,"
    " Tensor? scale_hr, Tensor[] bias_ih, Tensor[] bias_hh, Tensor? peephole, Tensor? norm_ih, Tensor? norm_hh,"
    " Tensor? norm_c, Tensor h_0, Tensor? c_0, Tensor? dropout_mask, Tensor? zoneout_h, Tensor? zoneout_c,"
    " float[] numbers, Tensor batch_sizes, bool training)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)
_library.define(
    "recurrent_backward(str cell, Tensor grad_output, Tensor grad_h_n, Tensor? grad_c_n, Tensor? saved,"
    " Tensor? normalized, Tensor? deviation, Tensor? input_moments, Tensor? gates, Tensor output, Tensor[] weight_hh,"
    " Tensor? weight_hr, Tensor? peephole, Tensor? norm_ih, Tensor? norm_hh, Tensor? norm_c, Tensor h_0, Tensor? c_0,"
    " Tensor? dropout_mask, Tensor? zoneout_h, Tensor? zoneout_c, float[] numbers, Tensor batch_sizes)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)
_library.define("project(Tensor x, Tensor[] weights) -> Tensor")
for _name, _impl, _rule, _vmap in (
    ("project", cpu_ops.project, _project_fake, _project_vmap),
    (
        "recurrent_forward",
        _op(cpu_ops.recurrent_forward, cpu_ops.check_forward),
        _fake(cpu_ops.recurrent_forward, forward_made),
        _vmap_rule("recurrent_forward", _FORWARD_ROWS, _FORWARD_MADE, 18),
    ),
    (
        "recurrent_backward",
        _op(cpu_ops.recurrent_backward),
        _fake(cpu_ops.recurrent_backward, backward_made),
        _vmap_rule("recurrent_backward", _BACKWARD_ROWS, _BACKWARD_MADE, 22),
    ),
):
    _library.impl(_name, _impl, "CPU")
    torch.library.register_fake(f"tidegate::{_name}", _rule, lib=_library)
    torch.library.register_vmap(f"tidegate::{_name}", _vmap, lib=_library)


def ops_for(tensor: Tensor) -> Any:
    """Where to call the ops: the registered ones where anything looks on or transforms, else the plain functions.

    The dispatcher takes longer than a small kernel.
    """
    watched = is_watched() or type(tensor) not in (Tensor, torch.nn.Parameter) or not tensor.is_cpu
    return torch.ops.tidegate if watched else cpu_ops
