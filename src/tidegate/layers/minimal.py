"""Minimal gated layers: gates that see the input alone, so that all steps of a sequence are computed at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tidegate.kernels.minimal import CELLS, gates, minimal_recurrence
from tidegate.kernels.ragged import Ragged, flip
from tidegate.kernels.scan import at_least_float32
from tidegate.layers.forms import Form, Walk
from tidegate.layers.merging import merge_directions, merged_size
from tidegate.layers.recurrent_arguments import check_dropout, check_merge, check_sizes, check_switches
from tidegate.layers.sequence_layer import SequenceLayer
from tidegate.layers.states import StateLayout

__all__ = ["MinGRU", "MinLSTM"]

_CANDIDATES = ("linear", "positive")
_DEFAULTS: dict[str, Any] = {
    "num_layers": 1,
    "bias": True,
    "batch_first": False,
    "dropout": 0.0,
    "bidirectional": False,
    "candidate": "linear",
    "merge": "concat",
}


class _MinimalLayer(SequenceLayer[Tensor]):
    """Stacked layers ``h_t = k_t * h_{t-1} + (1 - k_t) * candidate_t``, k the share of the state that is kept."""

    _cell: str

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        candidate: str = "linear",
        merge: str = "concat",
    ) -> None:
        super().__init__()
        sizes = check_sizes(input_size, hidden_size, num_layers, 0)
        check_switches(bias=bias, batch_first=batch_first, bidirectional=bidirectional)
        check_dropout(dropout)
        if dropout > 0 and len(sizes) == 1:
            raise ValueError(
                f"dropout stands between layers, so dropout={dropout} does nothing with one; "
                "make it two layers or more, or dropout 0"
            )
        check_merge(merge, bidirectional)
        if merge == "none" and len(sizes) > 1:
            raise ValueError("merge='none' leaves two outputs where the next layer takes one; expected one layer")
        if candidate not in _CANDIDATES:
            raise ValueError(f"expected the candidate {' or '.join(_CANDIDATES)}; found {candidate!r}")
        listed = not isinstance(hidden_size, int)
        self.input_size, self.hidden_size, self.num_layers = input_size, sizes if listed else hidden_size, len(sizes)
        self.bias, self.batch_first, self.dropout = bias, batch_first, float(dropout)
        self.bidirectional, self.candidate, self.merge = bidirectional, candidate, merge
        self._layout = StateLayout(self.num_directions, {"h_0": sizes}, listed)
        for layer, size in enumerate(sizes):
            features = input_size if layer == 0 else merged_size(merge, self.num_directions, sizes[layer - 1])
            for suffix in self._suffixes(layer):
                weight = torch.empty(CELLS[self._cell] * size, features, device=device, dtype=dtype)
                self.register_parameter(f"weight_ih_{suffix}", nn.Parameter(weight))
                offset = torch.empty(CELLS[self._cell] * size, device=device, dtype=dtype) if bias else None
                self.register_parameter(f"bias_ih_{suffix}", None if offset is None else nn.Parameter(offset))
        self.reset_parameters()

    @property
    def num_directions(self) -> int:
        """D, 2 if bidirectional, else 1."""
        return 2 if self.bidirectional else 1

    @property
    def output_size(self) -> int:
        """Features of the output at a step; of each direction where `merge` is none."""
        return merged_size(self.merge, self.num_directions, self._layout.sizes["h_0"][-1])

    def reset_parameters(self) -> None:
        """Draw weights and biases from U(-1/sqrt(F), 1/sqrt(F)), F the features that enter, as torch.nn.Linear does."""
        for layer in range(self.num_layers):
            for suffix in self._suffixes(layer):
                weight, offset = self._parameters_of(suffix)
                bound = 1 / math.sqrt(weight.shape[1])
                nn.init.uniform_(weight, -bound, bound)
                if offset is not None:
                    nn.init.uniform_(offset, -bound, bound)

    def extra_repr(self) -> str:
        """The arguments that differ from their defaults."""
        sizes = list(self._layout.sizes["h_0"]) if self._layout.listed else self.hidden_size
        values = {name: getattr(self, name) for name in _DEFAULTS if not (self._layout.listed and name == "num_layers")}
        changed = [f"{name}={value!r}" for name, value in values.items() if value != _DEFAULTS[name]]
        return ", ".join([f"{self.input_size}, {sizes}", *changed])

    def walk(self, values: Tensor, ragged: Ragged, states: Any, traces: dict[str, Tensor] | None = None) -> Walk:
        """All layers over ragged values ``[N, I]``, from states of each layer in sorted order or None."""
        if values.shape[-1] != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {values.shape[-1]}"
            )
        states = self._layout.zeros(values, ragged.num_rows) if states is None else states
        carried, h_0, last = values, values, []
        for layer, (h_0,) in enumerate(states):
            if layer > 0 and self.dropout > 0:
                values = functional.dropout(values, self.dropout, self.training)
            outputs, ends = [], []
            for direction, suffix in enumerate(self._suffixes(layer)):
                steps = values if direction == 0 else flip(values, ragged)
                projected = functional.linear(steps, *self._parameters_of(suffix))
                state = h_0[direction].to(torch.promote_types(projected.dtype, torch.float32))
                positive = self.candidate == "positive"
                output, h_n = minimal_recurrence(projected, state, ragged, self._cell, positive=positive)
                outputs.append(output if direction == 0 else flip(output, ragged))
                ends.append(h_n)
                if traces is not None:
                    kept, candidate = gates(at_least_float32(projected), self._cell, positive)
                    seen = [kept.sigmoid(), candidate]
                    seen = seen if direction == 0 else [flip(one, ragged) for one in seen]
                    traces |= {f"kept_{suffix}": seen[0], f"candidate_{suffix}": seen[1]}
                    traces[f"hidden_{suffix}"] = outputs[-1]
            carried = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-1)
            values = merge_directions(carried.unflatten(-1, (self.num_directions, -1)), self.merge)
            last.append((torch.stack(ends),))
        return Walk(values, carried, h_0, self.merge, last)

    def _enter_states(self, hx: Any, form: Form) -> list[tuple[Tensor, ...]] | None:
        self._layout.check_dimensions(hx, form)
        return self._layout.enter(hx, form)

    def _leave_states(self, last: list[Any], form: Form) -> Any:
        return self._layout.leave(last, form)

    def _suffixes(self, layer: int) -> list[str]:
        return [f"l{layer}", f"l{layer}_reverse"][: self.num_directions]

    def _parameters_of(self, suffix: str) -> tuple[Tensor, Tensor | None]:
        return getattr(self, f"weight_ih_{suffix}"), getattr(self, f"bias_ih_{suffix}")


class MinGRU(_MinimalLayer):
    r"""The minimal gated recurrent unit (Feng et al. 2024, arXiv:2410.01201), trained in parallel over time.

    .. math::
        z_t &= \sigma(W_z x_t + b_z) \\
        \tilde h_t &= W_h x_t + b_h \\
        h_t &= (1 - z_t) \odot h_{t-1} + z_t \odot \tilde h_t

    The update gate has the paper's sign: it is the share of what is new, where :class:`tidegate.GRU`'s keeps what was.
    Of each layer and direction the parameters are ``weight_ih_l0 [2H, I]`` and ``bias_ih_l0 [2H]``, z and then h. Time
    and memory are linear in the length; no logarithms are needed, which the paper's parallel form takes for stability.

    Args:
        input_size: I, features of a step.
        hidden_size: H, units of a direction, or a list with those of each layer.
        num_layers: Stacked layers.
        bias: Whether the products have biases.
        batch_first: Padded inputs and outputs are ``[B, T, ...]`` instead of ``[T, B, ...]``.
        dropout: Probability of dropout on the outputs of each layer but the last.
        bidirectional: A second set of weights walks each sequence from its own last step down; outputs are joined.
        device: Where the parameters are made.
        dtype: Their type.
        candidate: ``"linear"``, as above, or ``"positive"``: g(W_h x + b_h) with g(x) = x + 0.5 from zero up and
            sigmoid(x) below, which the paper's log-space form and experiments have. Its states start from g(0) = 0.5
            there: give ``hx`` for that.
        merge: How the directions become one output: ``"concat"``, ``"sum"``, ``"mean"``, ``"product"``, or ``"none"``,
            ``[..., 2, H]``.

    :meth:`trace` names ``kept_l0`` (1 - z; of :class:`MinLSTM` f / (f + i)), ``candidate_l0`` and ``hidden_l0``.

    Raises:
        ValueError: A size is not positive, a probability is none, dropout has no layers to stand between, the
            candidate or merge is unknown or has nothing to merge, or directions left apart would enter a second layer.
        TypeError: A size is not an integer, or a switch not a bool.
    """

    _cell = "min_gru"


class MinLSTM(_MinimalLayer):
    r"""The minimal long short-term memory (Feng et al. 2024, arXiv:2410.01201), trained in parallel over time.

    .. math::
        f_t &= \sigma(W_f x_t + b_f) \qquad i_t = \sigma(W_i x_t + b_i) \\
        \tilde h_t &= W_h x_t + b_h \\
        h_t &= \frac{f_t}{f_t + i_t} \odot h_{t-1} + \frac{i_t}{f_t + i_t} \odot \tilde h_t

    Of each layer and direction the parameters are ``weight_ih_l0 [3H, I]`` and ``bias_ih_l0 [3H]``: f, i and then h.
    The arguments are those of :class:`MinGRU`.

    Raises:
        ValueError: As for :class:`MinGRU`.
        TypeError: A size is not an integer, or a switch not a bool.
    """

    _cell = "min_lstm"
