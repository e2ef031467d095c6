"""The forms in which sequences come to a layer: padded, packed, unbatched, with a mask. Into ragged rows and back."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from tidegate.kernels.ragged import Ragged, ragged_from_lengths, ragged_full, sort_rows, unsort_rows
from tidegate.kernels.watching import is_watched
from tidegate.layers.merging import merge_directions

__all__ = ["Form", "RaggedForm", "Walk", "enter"]


class Walk(NamedTuple):
    """What layers made of ragged values.

    Attributes:
        output: ``[N, ...]``, the last layer's outputs.
        carried: ``[N, D*P]``, the last layer's states h at each step.
        initial: ``[D, B, P]``, those before the first step, rows in sorted order.
        merge: How the directions of `carried` are merged where a state takes the place of an output.
        last: The last states of each layer, rows in sorted order.
    """

    output: Tensor
    carried: Tensor
    initial: Tensor
    merge: str
    last: list[Any]


class Form:
    """Padded sequences of one length, ``[T, B, ...]`` or ``[B, T, ...]``; the others differ from it.

    Attributes:
        values: ``[N, ...]``, the values in the ragged layout.
        ragged: Their layout.
        unbatched: Whether there is one sequence without a dimension for it.
    """

    unbatched = False

    def __init__(self, input: Tensor, batch_first: bool) -> None:
        steps = input.transpose(0, 1) if batch_first else input
        num_steps, num_rows = steps.shape[:2]
        self._shape = (num_steps, num_rows)
        self._batch_first = batch_first
        self.values = steps.flatten(0, 1)
        self.ragged = ragged_full(num_rows, num_steps, input.device)

    def leave(self, values: Tensor) -> Tensor | PackedSequence:
        """Values ``[N, ...]`` in the form of the input; zeros where there is no step."""
        steps = values.view(*self._shape, *values.shape[1:])
        return steps.transpose(0, 1) if self._batch_first else steps

    def leave_output(self, walk: Walk) -> Tensor | PackedSequence:
        """The output of a walk in the form of the input; at a hole in a mask the states that are carried over it."""
        return self.leave(walk.output)

    def sort(self, state: Tensor) -> Tensor:
        """A state ``[..., B, H]`` in the caller's order of rows to the sorted order."""
        return state

    def unsort(self, state: Tensor) -> Tensor:
        """The inverse of :meth:`sort`."""
        return state


class _Unbatched(Form):
    """One sequence, ``[T, ...]``."""

    unbatched = True

    def __init__(self, input: Tensor) -> None:
        super().__init__(input.unsqueeze(1), False)

    def leave(self, values: Tensor) -> Tensor:
        return values


class _Packed(Form):
    def __init__(self, packed: PackedSequence) -> None:
        places = torch.arange(int(packed.batch_sizes[0]))
        sorted_lengths = (packed.batch_sizes[:, None] > places).sum(0).to(packed.data.device)
        self._packed = packed
        self.values = packed.data
        # Already sorted, so that the layout is the packed one whatever order ties were packed in.
        self.ragged = ragged_from_lengths(sorted_lengths)

    def leave(self, values: Tensor) -> PackedSequence:
        return self._packed._replace(data=values)

    def sort(self, state: Tensor) -> Tensor:
        order = self._packed.sorted_indices
        return state if order is None else state.index_select(-2, order)

    def unsort(self, state: Tensor) -> Tensor:
        back = self._packed.unsorted_indices
        return state if back is None else state.index_select(-2, back)


class RaggedForm(Form):
    """Values in the ragged layout already, ``[N, ...]``; states in the caller's order of rows."""

    def __init__(self, values: Tensor, ragged: Ragged) -> None:
        self.values, self.ragged = values, ragged

    def leave(self, values: Tensor) -> Tensor:
        """The values as they are."""
        return values

    def sort(self, state: Tensor) -> Tensor:
        """A state ``[..., B, H]`` to the sorted order."""
        return sort_rows(state, self.ragged, dim=-2)

    def unsort(self, state: Tensor) -> Tensor:
        """The inverse of :meth:`sort`."""
        return unsort_rows(state, self.ragged, dim=-2)


class _WithLengths(RaggedForm):
    def __init__(self, input: Tensor, lengths: Tensor, batch_first: bool) -> None:
        self._shape = input.shape[:2]
        rows = input if batch_first else input.transpose(0, 1)
        num_rows, num_steps = rows.shape[:2]
        self.ragged = ragged = ragged_from_lengths(_checked_lengths(lengths, rows), num_steps)
        # Where each value lies in the input and in the output, which have one form.
        row_of, step_of = ragged.row_of, ragged.step_of
        self._places = row_of * num_steps + step_of if batch_first else step_of * num_rows + row_of
        self.values = input.flatten(0, 1).index_select(0, self._places)

    def leave(self, values: Tensor) -> Tensor:
        return _spread(values, self._places, self._shape)


class _Masked(RaggedForm):
    """Only the steps of the mask are among the values; a row ends with its length or its last step of the mask."""

    def __init__(
        self, input: Tensor, mask: Tensor, lengths: Tensor | None, batch_first: bool, unbatched: bool = False
    ) -> None:
        self._batch_first, self.unbatched = batch_first, unbatched
        rows, mask = (input, mask) if batch_first else (input.transpose(0, 1), mask.transpose(0, 1))
        mask = mask.to(rows.device)
        num_rows, num_steps = mask.shape
        steps = torch.arange(num_steps, device=rows.device)
        if lengths is None:
            ends = torch.cat([steps.new_zeros(num_rows, 1), mask * (steps + 1)], 1).amax(1)
        else:
            ends = ragged_from_lengths(_checked_lengths(lengths, rows), num_steps).lengths
            mask = mask & (steps < ends[:, None])
        self._before = mask.cumsum(1)  # [B, T], steps of the mask up to each and with it
        self.ragged = ragged_from_lengths(mask.sum(1), num_steps)
        # The steps of each row's mask first, in their order.
        at_step = torch.sort((~mask).to(torch.uint8), dim=1, stable=True).indices
        start = self.ragged.row_of * num_steps
        self._places = start + at_step.flatten().index_select(0, start + self.ragged.step_of)
        self._hole = ~mask & (steps < ends[:, None])
        self.values = rows.flatten(0, 1).index_select(0, self._places)

    def leave(self, values: Tensor) -> Tensor:
        return self._finish(self._spread(values))

    def leave_output(self, walk: Walk) -> Tensor:
        rows = self._spread(walk.output)
        if torch.compiler.is_compiling() or bool(self._hole.any()):
            carried = merge_directions(self._carried(walk), walk.merge)
            hole = self._hole[(..., *[None] * (rows.dim() - 2))]
            rows = torch.where(hole, carried.unflatten(0, self._hole.shape), rows)
        return self._finish(rows)

    def _spread(self, values: Tensor) -> Tensor:
        """``[B, T, ...]``, zeros where there is no step of the mask."""
        return _spread(values, self._places, self._hole.shape)

    def _finish(self, rows: Tensor) -> Tensor:
        if self.unbatched:
            return rows.squeeze(0)
        return rows if self._batch_first else rows.transpose(0, 1)

    def _carried(self, walk: Walk) -> Tensor:
        """``[B*T, D, P]``: at a hole each direction's state after the step before it, in the direction's order."""
        ragged, num_values, num_directions = self.ragged, walk.carried.shape[0], walk.initial.shape[0]
        starts = ragged.batch_sizes.cumsum(0) - ragged.batch_sizes
        place = torch.argsort(ragged.order)[:, None]
        directions = []
        for d, states in enumerate(walk.carried.chunk(num_directions, -1)):
            # Forward the last step of the mask before the hole, backward the first after it, or the initial state.
            step = self._before - 1 if d == 0 else self._before
            walked = (step >= 0) & (step < ragged.lengths[:, None])
            at = starts[step.clamp(0, max(starts.shape[0] - 1, 0))] + place
            table = torch.cat([states, walk.initial[d].to(states.dtype)])
            directions.append(table.index_select(0, torch.where(walked, at, num_values + place).flatten()))
        return torch.stack(directions, 1)


def _spread(values: Tensor, places: Tensor, shape: torch.Size) -> Tensor:
    """Each value at its place in a tensor of zeros ``[*shape, ...]``."""
    spread = values.new_zeros((shape[0] * shape[1], *values.shape[1:]))
    # In place, where no transform is without a rule for that.
    put = spread.index_copy if is_watched() else spread.index_copy_
    return put(0, places, values).view(*shape, *values.shape[1:])


def enter(
    input: Tensor | PackedSequence,
    lengths: Tensor | None,
    mask: Tensor | None,
    batch_first: bool,
    name: str,
    more_dimensions: bool = False,
) -> Form:
    """Bring an input of any form into the ragged layout.

    Args:
        input: ``[T, B, ...]``, ``[B, T, ...]`` with `batch_first`, ``[T, I]`` unbatched, or a PackedSequence.
        lengths: ``[B]`` or None; the steps of each sequence, of any integer type, on any device.
        mask: Bool of the input's first two dimensions (``[T]`` unbatched) or None; True where there is a step.
        batch_first: Which of the two padded forms it is.
        name: What errors call the layer.
        more_dimensions: Whether a step may have more than one.

    Raises:
        ValueError: The form is none of these, lengths or mask do not fit it, or a PackedSequence comes with them.
    """
    if isinstance(input, PackedSequence):
        if lengths is not None or mask is not None:
            raise ValueError("a PackedSequence knows its lengths; expected lengths=None and mask=None with it")
        return _Packed(input)
    if input.dim() < 2 or (input.dim() > 3 and not more_dimensions):
        raise ValueError(f"{name}: Expected input to be 2D or 3D, got {input.dim()}D tensor instead")
    unbatched = input.dim() == 2
    if unbatched and lengths is not None:
        raise ValueError("an unbatched 2-D input is one whole sequence; expected lengths=None with it")
    if mask is not None:
        mask = torch.as_tensor(mask)
        expected = input.shape[: 1 if unbatched else 2]
        if mask.dtype != torch.bool or mask.shape != expected:
            raise ValueError(
                f"expected a mask of shape {tuple(expected)} and type bool, True where there is a step; "
                f"found {tuple(mask.shape)} of {mask.dtype}"
            )
        if unbatched:
            return _Masked(input.unsqueeze(1), mask.unsqueeze(1), None, False, unbatched=True)
        return _Masked(input, mask, lengths, batch_first)
    if lengths is not None:
        return _WithLengths(input, lengths, batch_first)
    return _Unbatched(input) if unbatched else Form(input, batch_first)


def _checked_lengths(lengths: Tensor, rows: Tensor) -> Tensor:
    lengths = torch.as_tensor(lengths)
    if lengths.shape != rows.shape[:1]:
        raise ValueError(
            f"expected one length for each of the {rows.shape[0]} rows; found shape {tuple(lengths.shape)}"
        )
    return lengths.to(rows.device)
