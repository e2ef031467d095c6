"""The ragged layout: a batch of sequences of different lengths without one padded step.

The values of all sequences lie in one tensor ``[N, ...]``, N the sum of the lengths: rows sorted by length (stable,
descending), step after step, only the rows alive at each step. ``lengths=[2, 3, 1]`` for rows a, b, c gives
``b0 a0 c0  b1 a1  b2`` with ``batch_sizes=[3, 2, 1]``, as ``torch.nn.utils.rnn.PackedSequence`` has it. A sequence of
length zero sorts last and owns no value.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from tidegate.kernels.watching import is_watched

__all__ = [
    "Ragged",
    "flip",
    "from_batch_major",
    "pack",
    "pad",
    "ragged_from_lengths",
    "ragged_full",
    "sort_rows",
    "to_batch_major",
    "unsort_rows",
]


@dataclass(frozen=True)
class Ragged:
    """Where each step of each sequence lies among the N values of a ragged batch.

    Attributes:
        lengths: ``[B]`` int64, steps of each row, in the caller's order.
        order: ``[B]`` int64, the caller's row at each sorted place (stable, descending length).
        batch_sizes: ``[T]`` int64, rows alive at each step; their sum is N. T may exceed the longest length.
        row_of: ``[N]`` int64, the caller's row that each value belongs to.
    """

    lengths: Tensor
    order: Tensor
    batch_sizes: Tensor
    row_of: Tensor

    @property
    def num_rows(self) -> int:
        """B, the number of sequences, those of length zero included."""
        return self.lengths.shape[0]

    @property
    def num_steps(self) -> int:
        """T, the number of steps the layout was made for."""
        return self.batch_sizes.shape[0]

    @property
    def num_values(self) -> int:
        """N, the sum of the lengths."""
        return self.row_of.shape[0]

    @property
    def step_of(self) -> Tensor:
        """``[N]`` int64, the step of each value within its sequence."""
        ends = self.batch_sizes.cumsum(0)
        places = torch.arange(self.num_values, device=ends.device)
        return torch.searchsorted(ends, places, right=True)

    def to(self, device: torch.device | str) -> Ragged:
        """The same layout with its tensors on `device`."""
        return Ragged(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def ragged_from_lengths(lengths: Tensor | Sequence[int], num_steps: int | None = None) -> Ragged:
    """The layout of sequences of the given lengths; zero lengths are allowed.

    Args:
        lengths: ``[B]`` of any integer type, on any device.
        num_steps: T, at least the longest length, which is the default.

    Raises:
        ValueError: The lengths are not a vector of integers, one is negative, or one exceeds `num_steps`.
    """
    lengths = torch.as_tensor(lengths)
    if lengths.dim() != 1 or lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        raise ValueError(
            "lengths must be a vector of integers, one a sequence; "
            f"found shape {tuple(lengths.shape)} of {lengths.dtype}"
        )
    lengths = lengths.to(torch.int64)
    if not torch.compiler.is_compiling() and lengths.numel() > 0:
        shortest, longest = (int(bound) for bound in torch.aminmax(lengths))
        if shortest < 0:
            raise ValueError(f"lengths must not be negative; found {shortest}")
        if num_steps is None:
            num_steps = longest
        elif longest > num_steps:
            raise ValueError(f"a length of {longest} exceeds the {num_steps} steps of the input")
    if num_steps is None:
        num_steps = int(lengths.max()) if lengths.numel() > 0 else 0
    make = torch.ops.tidegate.ragged_layout if is_watched() or type(lengths) is not Tensor else _layout
    return Ragged(lengths, *make(lengths, num_steps))


def ragged_full(num_rows: int, num_steps: int, device: torch.device | str | None = None) -> Ragged:
    """The layout of `num_rows` sequences that all have `num_steps` steps: plain time-major order."""
    # Kept for the next call of the same shape: making it takes longer than a small kernel. Not what a compiler traces,
    # nor fake tensors; and as ordinary tensors, which inference mode's are not.
    if is_watched():
        return _make_full(num_rows, num_steps, device)
    return _kept_full(num_rows, num_steps, device or "cpu")


def _make_full(num_rows: int, num_steps: int, device: torch.device | str | None) -> Ragged:
    order = torch.arange(num_rows, device=device)
    return Ragged(
        lengths=torch.full((num_rows,), num_steps, dtype=torch.int64, device=device),
        order=order,
        batch_sizes=torch.full((num_steps,), num_rows, dtype=torch.int64, device=device),
        row_of=order.repeat(num_steps),
    )


@functools.lru_cache(maxsize=8)
def _kept_full(num_rows: int, num_steps: int, device: torch.device | str) -> Ragged:
    with torch.inference_mode(False):
        return _make_full(num_rows, num_steps, device)


def _layout(lengths: Tensor, num_steps: int) -> tuple[Tensor, Tensor, Tensor]:
    sorted_lengths, order = torch.sort(lengths, descending=True, stable=True)
    steps = torch.arange(num_steps, device=lengths.device)
    alive = sorted_lengths > steps[:, None]
    _, place_of = alive.nonzero(as_tuple=True)
    return order, alive.sum(1), order[place_of]


def _layout_fake(lengths: Tensor, num_steps: int) -> tuple[Tensor, Tensor, Tensor]:
    num_values = torch.library.get_ctx().new_dynamic_size()
    return (
        torch.empty_like(lengths),
        lengths.new_empty(num_steps),
        lengths.new_empty(num_values),
    )


# An op, since its N depends on the data, which torch.compile traces through an op and not through plain indexing.
_library = torch.library.Library("tidegate", "FRAGMENT")
_library.define("ragged_layout(Tensor lengths, SymInt num_steps) -> (Tensor, Tensor, Tensor)")
_library.impl("ragged_layout", _layout, "CompositeExplicitAutograd")
torch.library.register_fake("tidegate::ragged_layout", _layout_fake, lib=_library)


def _padded_index(ragged: Ragged, num_steps: int) -> Tensor:
    return ragged.row_of * num_steps + ragged.step_of


def pack(padded: Tensor, ragged: Ragged) -> Tensor:
    """``[B, T, ...]`` with padding to the ragged values ``[N, ...]``.

    Raises:
        ValueError: `padded` has other rows or fewer steps than the layout.
    """
    if padded.shape[0] != ragged.num_rows or padded.shape[1] < ragged.num_steps:
        raise ValueError(
            f"expected {ragged.num_rows} rows of at least {ragged.num_steps} steps; found shape {tuple(padded.shape)}"
        )
    return padded.flatten(0, 1).index_select(0, _padded_index(ragged, padded.shape[1]))


def pad(values: Tensor, ragged: Ragged, num_steps: int | None = None) -> Tensor:
    """Ragged values ``[N, ...]`` to ``[B, T, ...]`` with zeros beyond the lengths; T is `num_steps` or the layout's."""
    num_steps = ragged.num_steps if num_steps is None else num_steps
    padded = values.new_zeros((ragged.num_rows * num_steps, *values.shape[1:]))
    padded = padded.index_copy(0, _padded_index(ragged, num_steps), values)
    return padded.unflatten(0, (ragged.num_rows, num_steps))


def _batch_major_index(ragged: Ragged, step_of: Tensor) -> Tensor:
    starts = ragged.lengths.cumsum(0) - ragged.lengths
    return starts[ragged.row_of] + step_of


def to_batch_major(values: Tensor, ragged: Ragged) -> Tensor:
    """Values in the order of the caller's rows, the steps of a row side by side: ``a0 a1 b0 b1 b2 c0``."""
    return torch.empty_like(values).index_copy(0, _batch_major_index(ragged, ragged.step_of), values)


def from_batch_major(values: Tensor, ragged: Ragged) -> Tensor:
    """The inverse of :func:`to_batch_major`."""
    return values.index_select(0, _batch_major_index(ragged, ragged.step_of))


def flip(values: Tensor, ragged: Ragged) -> Tensor:
    """Each sequence reversed within its own length: ``a0 a1 | b0 b1 b2`` becomes ``a1 a0 | b2 b1 b0``."""
    batch_major = to_batch_major(values, ragged)
    mirrored = ragged.lengths[ragged.row_of] - 1 - ragged.step_of
    return batch_major.index_select(0, _batch_major_index(ragged, mirrored))


def sort_rows(rows: Tensor, ragged: Ragged, dim: int = 0) -> Tensor:
    """The caller's rows along `dim` in the sorted order of the kernels."""
    return rows if ragged.num_rows == 1 else rows.index_select(dim, ragged.order)


def unsort_rows(rows: Tensor, ragged: Ragged, dim: int = 0) -> Tensor:
    """Rows along `dim` from the sorted order of the kernels back to the caller's."""
    return rows if ragged.num_rows == 1 else rows.index_select(dim, torch.argsort(ragged.order))
