"""The states of a stack of layers: what is given and returned, and what each layer's kernel takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tidegate.layers.forms import Form

__all__ = ["StateLayout"]


@dataclass(frozen=True)
class StateLayout:
    """Which states there are and in which form they come and go.

    Given and returned are ``[L*D, B, H]``, as torch.nn has it, or where sizes are a list, L*D tensors ``[B, H]`` in the
    same order; of the LSTM the pair of h and c. A kernel takes those of its layer, ``[D, B, H]`` in sorted order.

    Attributes:
        directions: D.
        sizes: For ``"h_0"``, and of the LSTM ``"c_0"``, the size in each layer.
        listed: Whether sizes are a list.
    """

    directions: int
    sizes: dict[str, tuple[int, ...]]
    listed: bool

    def enter(self, hx: Any, form: Form) -> list[tuple[Tensor, ...]] | None:
        """Given states, checked, for each layer; None for None.

        Raises:
            RuntimeError: A state's shape is not what the layers and the input expect.
            ValueError: There are more or fewer states.
        """
        if hx is None:
            return None
        kinds = self._kinds(hx)
        num_rows = form.ragged.num_rows
        taken: list[list[Tensor]] = []
        for place, (kind, (name, sizes)) in enumerate(zip(kinds, self.sizes.items(), strict=True)):
            label = f"hidden[{place}]" if len(self.sizes) > 1 else "hidden"
            if self.listed:
                layers = self._enter_list(kind, name, sizes, form, num_rows)
            else:
                expected = (len(sizes) * self.directions, num_rows, sizes[0])
                state = kind.unsqueeze(1) if form.unbatched else kind
                if state.shape != expected:
                    raise RuntimeError(f"Expected {label} size {expected}, got {list(kind.shape)}")
                state = form.sort(state)
                # One layer's states are all of them: not sliced, which at batch 1 would be felt.
                layers = [state] if len(sizes) == 1 else list(state.split(self.directions))
            taken.append(layers)
        return list(zip(*taken, strict=True))

    def leave(self, last: list[tuple[Tensor, ...]], form: Form) -> Any:
        """The last states of each layer as they are returned."""
        kinds: list[Any] = []
        for layers in zip(*last, strict=True):
            if self.listed:
                rows = [row for state in layers for row in form.unsort(state).unbind(0)]
                kinds.append(tuple(row.squeeze(0) for row in rows) if form.unbatched else tuple(rows))
            else:
                state = form.unsort(layers[0] if len(layers) == 1 else torch.cat(layers))
                kinds.append(state.squeeze(1) if form.unbatched else state)
        return kinds[0] if len(kinds) == 1 else tuple(kinds)

    def zeros(self, values: Tensor, num_rows: int) -> list[tuple[Tensor, ...]]:
        """Where nothing is given. For a training step, which keeps it, one zero that is seen at every place."""
        shapes = [[(self.directions, num_rows, size) for size in sizes] for sizes in self.sizes.values()]
        make = values.new_zeros(()).expand if torch.is_grad_enabled() else values.new_zeros
        kinds = [[make(shape) for shape in of_kind] for of_kind in shapes]
        return list(zip(*kinds, strict=True))

    def check_dimensions(self, hx: Any, form: Form) -> None:
        """Raise torch.nn's error where batched states come to an unbatched input, or the other way round."""
        if hx is None or self.listed:
            return
        expected = 2 if form.unbatched else 3
        for state in self._kinds(hx, check=False):
            if state.dim() != expected:
                kind = "unbatched 2-D" if form.unbatched else "batched 3-D"
                raise RuntimeError(f"For {kind} input, hx should also be {expected}-D but got {state.dim()}-D tensor")

    def _kinds(self, hx: Any, check: bool = True) -> tuple[Any, ...]:
        alone = isinstance(hx, Tensor) or (self.listed and len(self.sizes) == 1)
        kinds = (hx,) if alone else tuple(hx)
        if check and len(kinds) != len(self.sizes):
            raise ValueError(f"expected hx to be {' and '.join(self.sizes)}; found {len(kinds)} tensors")
        return kinds

    def _enter_list(self, kind: Any, name: str, sizes: tuple[int, ...], form: Form, num_rows: int) -> list[Tensor]:
        expected = [(num_rows, size) for size in sizes for _ in range(self.directions)]
        if form.unbatched:
            expected = [(size,) for _, size in expected]
        found = [tuple(state.shape) for state in kind]
        if found != expected:
            raise RuntimeError(f"Expected {name} to be tensors of the sizes {expected}, got {found}")
        states = [state.unsqueeze(0) if form.unbatched else state for state in kind]
        step = self.directions
        return [form.sort(torch.stack(states[at : at + step])) for at in range(0, len(states), step)]
