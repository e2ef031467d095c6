"""How recurrent layers and stacks of them are called: whole sequences of any form, ragged values, single steps."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from tidegate.kernels.ragged import Ragged
from tidegate.layers.forms import Form, RaggedForm, Walk, enter

__all__ = ["SequenceLayer"]

# What goes in and comes out as `hx`: a tensor, for the LSTM a pair, for a stack a tuple with one for each layer.
State = TypeVar("State")


class SequenceLayer(nn.Module, Generic[State]):
    """Layers that carry a state along sequences: what :meth:`walk` does over ragged values, over any form of input."""

    batch_first: bool
    bidirectional: bool

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: State | None = None,
        *,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor | PackedSequence, State]:
        """Run the layers over padded, packed or unbatched sequences.

        Args:
            input: ``[T, B, I]``, ``[B, T, I]`` with `batch_first`, ``[T, I]`` unbatched, or a PackedSequence.
            hx: ``[L*D, B, H]`` (``[L*D, H]`` unbatched), initial states; for the LSTM the pair of h, of `proj_size`
                where there is a projection, and c. Where sizes are a list, a tuple of L*D tensors ``[B, H]`` stands for
                the tensor; in a :class:`RecurrentStack` a tuple has one hx for each layer. Where None, zeros or the
                learned initial states.
            lengths: ``[B]``, the steps of each sequence, of any integer type, on any device, zero allowed. What lies
                beyond is never read; outputs there are zeros, and a sequence of length zero returns its initial state.
            mask: Bool, ``[T, B]``, ``[B, T]`` with `batch_first`, ``[T]`` unbatched; True where there is a step. What
                is masked is never read. Within a sequence, which ends with its length where `lengths` are given and
                with the last True of its mask else, a masked step carries the states through: the output repeats the
                last layer's state there, each direction the one before in its own order, merged as everywhere and
                without the input that `residual` adds.

        Returns:
            ``output``, the last layer's states at each step, of the kind and form of the input, ``D*H`` features
            (``D*proj_size`` with a projection), as `merge` has it; and the last states of each layer and direction, of
            hx's form.

        Raises:
            ValueError, RuntimeError: The shapes do not fit the layer (the conditions of torch.nn).
        """
        form = enter(input, lengths, mask, self.batch_first, type(self).__name__)
        walk = self.walk(form.values, form.ragged, self._enter_states(hx, form))
        return form.leave_output(walk), self._leave_states(walk.last, form)

    def forward_ragged(self, values: Tensor, ragged: Ragged, hx: State | None = None) -> tuple[Tensor, State]:
        """The same over values in the ragged layout: ``[N, I] -> [N, D*H]``; states in the caller's row order."""
        form = RaggedForm(values, ragged)
        walk = self.walk(values, ragged, self._enter_states(hx, form))
        return walk.output, self._leave_states(walk.last, form)

    def step(self, input: Tensor, hx: State | None = None) -> tuple[Tensor, State]:
        """One step of each sequence, for streams: state in, state out.

        In evaluation T steps are one call over T steps. In training each call draws its random masks anew, those of
        `recurrent_dropout` and `weight_dropout` among them, which a call over a sequence draws once.

        Args:
            input: ``[B, I]``, or ``[I]`` unbatched.
            hx: The states, as :meth:`forward` takes and returns them.

        Returns:
            The output of the step, ``[B, H]`` or ``[H]``, and the states after it.

        Raises:
            ValueError: The layer is bidirectional, and its other half starts at the end of a sequence; or `input` has
                neither one dimension nor two.
        """
        if self.bidirectional:
            raise ValueError(
                f"a bidirectional {type(self).__name__} reads the end of a sequence first, so it has no single steps; "
                "expected bidirectional=False"
            )
        if input.dim() not in (1, 2):
            raise ValueError(f"expected one step, [B, I] or [I]; found shape {tuple(input.shape)}")
        form = enter(input.unsqueeze(0), None, None, False, type(self).__name__)
        walk = self.walk(form.values, form.ragged, self._enter_states(hx, form))
        output = walk.output.squeeze(0) if input.dim() == 1 else walk.output
        return output, self._leave_states(walk.last, form)

    @torch.no_grad()
    def trace(
        self,
        input: Tensor | PackedSequence,
        hx: State | None = None,
        *,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> dict[str, Any]:
        """Every gate, candidate and state of a call of :meth:`forward`, from the kernels that it takes.

        Named by layer and direction as the parameters are: of the GRU ``reset_gate_l0``, ``update_gate_l0``,
        ``candidate_l0`` and ``hidden_l0``; of the LSTM ``input_gate_l0``, ``forget_gate_l0``, ``candidate_l0`` (g),
        ``output_gate_l0``, ``cell_l0`` and ``hidden_l0``; of the RNN ``candidate_l0`` (the state before zoneout) and
        ``hidden_l0``; ``..._l0_reverse`` of the other direction. In a :class:`RecurrentStack` ``layers.0.`` stands
        before the names of its first layer.

        Returns:
            name -> ``[T, B, H]`` of the form of the input, without gradients; zeros where there is no step, holes in a
            mask among them.
        """
        form = enter(input, lengths, mask, self.batch_first, type(self).__name__)
        traces: dict[str, Tensor] = {}
        self.walk(form.values, form.ragged, self._enter_states(hx, form), traces)
        return {name: form.leave(values) for name, values in traces.items()}

    def walk(self, values: Tensor, ragged: Ragged, states: Any, traces: dict[str, Tensor] | None = None) -> Walk:
        """All layers over ragged values ``[N, I]``; states as :meth:`_enter_states` made them.

        Args:
            values: ``[N, I]``.
            ragged: Their layout.
            states: Initial states of each layer in sorted order, or None.
            traces: Where what the kernels hand out is to be put, by name.
        """
        raise NotImplementedError

    def _enter_states(self, hx: Any, form: Form) -> Any:
        """`hx` checked, for each layer, in sorted order; None where there is none."""
        raise NotImplementedError

    def _leave_states(self, last: list[Any], form: Form) -> Any:
        """The last states of each layer as hx."""
        raise NotImplementedError
