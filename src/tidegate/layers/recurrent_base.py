"""What all recurrent layers share: parameters, the forms of input and state, the walk over layers, random masks."""

from __future__ import annotations

import math
import warnings
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from tidegate import kernels
from tidegate.kernels.ragged import Ragged, pack, pad, ragged_from_lengths, ragged_full, sort_rows, unsort_rows
from tidegate.kernels.reference import GATES, Options, Weights
from tidegate.layers.recurrent_arguments import (
    check_dropout,
    check_probability,
    check_sizes,
    check_switches,
    zoneout_rates,
)

__all__ = ["RecurrentBase"]

# Tensor, or for the LSTM a pair of them.
State = TypeVar("State")
_PLAIN = Options()


class RecurrentBase(nn.Module, Generic[State]):
    """A stack of recurrent layers of one cell; :class:`RNN`, :class:`LSTM` and :class:`GRU` tell what theirs is.

    Args:
        cell: One of :data:`tidegate.kernels.CELLS`.
        mode: The cell as torch.nn calls it.
        zoneout: Probabilities of keeping h, and for the LSTM c.
        peephole: Whether an LSTM's gates see the cell state.

    The further arguments are those of the cells.
    """

    def __init__(
        self,
        cell: str,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
        *,
        recurrent_dropout: float,
        zoneout: float | tuple[float, float],
        layer_norm: bool,
        learn_initial_state: bool,
        proj_size: int = 0,
        peephole: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(input_size, hidden_size, num_layers, proj_size)
        check_switches(
            bias=bias,
            batch_first=batch_first,
            bidirectional=bidirectional,
            layer_norm=layer_norm,
            learn_initial_state=learn_initial_state,
            peephole=peephole,
        )
        check_dropout(dropout)
        if dropout > 0 and num_layers == 1:
            warnings.warn(
                f"dropout stands between layers, so dropout={dropout} does nothing with num_layers=1; "
                "set num_layers to 2 or more, or dropout to 0",
                stacklevel=3,
            )
        check_probability("recurrent_dropout", recurrent_dropout)
        self._cell = cell
        self.mode = mode
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        self.recurrent_dropout = float(recurrent_dropout)
        self.zoneout = zoneout
        self.layer_norm = layer_norm
        self.learn_initial_state = learn_initial_state
        self.peephole = peephole
        self._zoneout_c, self._zoneout_h = zoneout_rates(zoneout, mode)
        # For each layer and direction the names of the weights that it has: to look for the others takes long.
        self._names: list[list[list[tuple[str, str]]]] = []
        for layer in range(num_layers):
            shapes = self._shapes(layer)
            kinds = [kind for kind in Weights._fields if kind in shapes]
            self._names.append([[(kind, f"{kind}_{suffix}") for kind in kinds] for suffix in self._suffixes(layer)])
            for suffix in self._suffixes(layer):
                for kind, shape in shapes.items():
                    parameter = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
                    self.register_parameter(f"{kind}_{suffix}", parameter)
        self.reset_parameters()

    @property
    def num_directions(self) -> int:
        """D, 2 if bidirectional, else 1."""
        return 2 if self.bidirectional else 1

    @property
    def all_weights(self) -> list[list[nn.Parameter]]:
        """The parameters that torch.nn's layer has, a list for each layer and direction."""
        of_torch = Weights._fields[:5]
        directions = [names for layer in self._names for names in layer]
        return [[getattr(self, name) for kind, name in names if kind in of_torch] for names in directions]

    def reset_parameters(self) -> None:
        """Draw what torch.nn's layer has from U(-1/sqrt(H), 1/sqrt(H)), in its order: one seed gives both the same.

        Then peepholes from the same distribution. Gains start at one, the bias of ``norm_c`` and learned initial states
        at zero.
        """
        bound = 1 / math.sqrt(self.hidden_size)
        for weights in self.all_weights:
            for parameter in weights:
                nn.init.uniform_(parameter, -bound, bound)
        for name, parameter in self.named_parameters():
            if name.startswith("peephole"):
                nn.init.uniform_(parameter, -bound, bound)
            elif name.startswith("norm_c"):
                nn.init.ones_(parameter[0])
                nn.init.zeros_(parameter[1])
            elif name.startswith("norm_"):
                nn.init.ones_(parameter)
            elif name.startswith(("h_0", "c_0")):
                nn.init.zeros_(parameter)

    def flatten_parameters(self) -> None:
        """Nothing: the weights need no special place. For code that was written for torch.nn."""

    def extra_repr(self) -> str:
        """The arguments that differ from their defaults: torch.nn's as torch.nn shows them, then the others."""
        parts = [f"{self.input_size}, {self.hidden_size}"]
        defaults: dict[str, Any] = {
            "proj_size": 0,
            "num_layers": 1,
            "bias": True,
            "batch_first": False,
            "dropout": 0.0,
            "bidirectional": False,
            "reset_after": True,
            "recurrent_dropout": 0.0,
            "zoneout": 0.0,
            "layer_norm": False,
            "learn_initial_state": False,
            "peephole": False,
        }
        for name, default in defaults.items():
            if (value := getattr(self, name, default)) != default:
                parts.append(f"{name}={value}")
        return ", ".join(parts)

    def forward(
        self, input: Tensor | PackedSequence, hx: State | None = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor | PackedSequence, State]:
        """Run the layers over padded, packed or unbatched sequences.

        Args:
            input: ``[T, B, I]``, ``[B, T, I]`` with `batch_first`, ``[T, I]`` unbatched, or a PackedSequence.
            hx: ``[L*D, B, H]`` (``[L*D, H]`` unbatched), initial states; for the LSTM the pair of h, of `proj_size`
                where there is a projection, and c. Where None, zeros or the learned initial states.
            lengths: ``[B]``, the steps of each sequence, of any integer type, on any device, zero allowed. What lies
                beyond is never read; outputs there are zeros, and a sequence of length zero returns its initial state.

        Returns:
            ``output``, the last layer's states at each step, of the kind and form of the input, ``D*H`` features
            (``D*proj_size`` with a projection); and the last states of each layer and direction, of hx's form.

        Raises:
            ValueError, RuntimeError: The shapes do not fit the layer (the conditions of torch.nn).
        """
        states = _as_states(hx)
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise ValueError("a PackedSequence knows its lengths; expected lengths=None with it")
            output, last = self._forward_packed(input, states)
            return output, _as_hx(last)
        if input.dim() not in (2, 3):
            raise ValueError(
                f"{self.mode.split('_')[0]}: Expected input to be 2D or 3D, got {input.dim()}D tensor instead"
            )
        batched = input.dim() == 3
        for state in states or ():
            if state.dim() != input.dim():
                kind = "batched 3-D" if batched else "unbatched 2-D"
                raise RuntimeError(
                    f"For {kind} input, hx should also be {input.dim()}-D but got {state.dim()}-D tensor"
                )
        if not batched:
            if lengths is not None:
                raise ValueError("an unbatched 2-D input is one whole sequence; expected lengths=None with it")
            whole, last = self._forward_full(
                input.unsqueeze(1), None if states is None else tuple(state.unsqueeze(1) for state in states)
            )
            return whole.squeeze(1), _as_hx(tuple(state.squeeze(1) for state in last))
        if lengths is not None:
            rows = input if self.batch_first else input.transpose(0, 1)
            padded, last = self._forward_lengths(rows, states, lengths)
            return padded if self.batch_first else padded.transpose(0, 1), _as_hx(last)
        whole, last = self._forward_full(input.transpose(0, 1) if self.batch_first else input, states)
        return whole.transpose(0, 1) if self.batch_first else whole, _as_hx(last)

    def forward_ragged(self, values: Tensor, ragged: Ragged, hx: State | None = None) -> tuple[Tensor, State]:
        """The same over values in the ragged layout: ``[N, I] -> [N, D*H]``; states in the caller's row order."""
        output, last = self._forward_ragged(values, ragged, _as_states(hx))
        return output, _as_hx(last)

    def _forward_ragged(
        self, values: Tensor, ragged: Ragged, states: tuple[Tensor, ...] | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        in_order = None if states is None else tuple(sort_rows(state, ragged, dim=1) for state in states)
        output, last = self._run(values, ragged, in_order)
        return output, tuple(unsort_rows(state, ragged, dim=1) for state in last)

    def _forward_full(self, steps: Tensor, states: tuple[Tensor, ...] | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        num_steps, num_rows, _ = steps.shape
        output, last = self._run(steps.flatten(0, 1), ragged_full(num_rows, num_steps, steps.device), states)
        return output.unflatten(0, (num_steps, num_rows)), last

    def _forward_lengths(
        self, rows: Tensor, states: tuple[Tensor, ...] | None, lengths: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        num_rows, num_steps, _ = rows.shape
        lengths = torch.as_tensor(lengths)
        if lengths.shape != (num_rows,):
            raise ValueError(f"expected one length for each of the {num_rows} rows; found shape {tuple(lengths.shape)}")
        ragged = ragged_from_lengths(lengths.to(rows.device), num_steps)
        output, last = self._forward_ragged(pack(rows, ragged), ragged, states)
        return pad(output, ragged), last

    def _forward_packed(
        self, packed: PackedSequence, states: tuple[Tensor, ...] | None
    ) -> tuple[PackedSequence, tuple[Tensor, ...]]:
        places = torch.arange(int(packed.batch_sizes[0]))
        sorted_lengths = (packed.batch_sizes[:, None] > places).sum(0).to(packed.data.device)
        # Already sorted, so that the layout is the packed one whatever order ties were packed in.
        ragged = ragged_from_lengths(sorted_lengths)
        order, back = packed.sorted_indices, packed.unsorted_indices
        if states is not None and order is not None:
            states = tuple(state.index_select(1, order) for state in states)
        output, last = self._run(packed.data, ragged, states)
        if back is not None:
            last = tuple(state.index_select(1, back) for state in last)
        return packed._replace(data=output), last

    def _run(
        self, values: Tensor, ragged: Ragged, states: tuple[Tensor, ...] | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """All layers over ragged values, states in sorted order."""
        self._check_values(values)
        if states is None:
            states = self._initial_states(values, ragged.num_rows)
        else:
            self._check_states(states, ragged.num_rows)
        # One layer's states are all of them: neither sliced nor joined, which at batch 1 would be felt.
        single = self.num_layers == 1
        of_layers = [[state] if single else state.split(self.num_directions) for state in states]
        last: list[tuple[Tensor, ...]] = []
        for layer, (h_0, *c_0) in enumerate(zip(*of_layers, strict=True)):
            if layer > 0 and self.dropout > 0:
                values = nn.functional.dropout(values, self.dropout, self.training)
            values, h_n, c_n, _ = kernels.recurrence(
                self._cell,
                values,
                self._weights(layer),
                h_0,
                c_0[0] if c_0 else None,
                ragged,
                self._options(values, ragged),
            )
            last.append((h_n,) if c_n is None else (h_n, c_n))
        return values, last[0] if single else tuple(torch.cat(states) for states in zip(*last, strict=True))

    def _check_values(self, values: Tensor) -> None:
        if values.shape[-1] != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {values.shape[-1]}"
            )
        dtype = self.weight_ih_l0.dtype
        if values.dtype != dtype and not (
            values.device.type in ("cpu", "cuda") and torch.is_autocast_enabled(values.device.type)
        ):
            raise ValueError(
                f"RNN input dtype ({values.dtype}) does not match weight dtype ({dtype}). "
                f"Convert input: input.to({dtype}), or convert model: model.to({values.dtype})"
            )

    def _check_states(self, states: tuple[Tensor, ...], num_rows: int) -> None:
        sizes = self._state_sizes()
        if len(states) != len(sizes):
            raise ValueError(f"expected hx to be {' and '.join(sizes)}; found {len(states)} tensors")
        for place, (state, size) in enumerate(zip(states, sizes.values(), strict=True)):
            expected = (self.num_layers * self.num_directions, num_rows, size)
            if state.shape != expected:
                name = f"hidden[{place}]" if len(sizes) > 1 else "hidden"
                raise RuntimeError(f"Expected {name} size {expected}, got {list(state.shape)}")

    def _initial_states(self, values: Tensor, num_rows: int) -> tuple[Tensor, ...]:
        count = self.num_layers * self.num_directions
        if not self.learn_initial_state:
            return tuple(values.new_zeros(count, num_rows, size) for size in self._state_sizes().values())
        suffixes = [suffix for layer in range(self.num_layers) for suffix in self._suffixes(layer)]
        return tuple(
            torch.stack([getattr(self, f"{name}_{suffix}") for suffix in suffixes])[:, None].expand(-1, num_rows, -1)
            for name in self._state_sizes()
        )

    def _options(self, values: Tensor, ragged: Ragged) -> Options:
        """The options of one layer's call; random masks in training, expectations in evaluation."""
        of_state = self.proj_size or self.hidden_size
        mask = None
        if self.recurrent_dropout > 0 and self.training:
            kept = torch.rand(self.num_directions, ragged.num_rows, of_state, device=values.device)
            mask = (kept >= self.recurrent_dropout).to(values.dtype) / (1 - self.recurrent_dropout)
        zoneout_h = self._zone(self._zoneout_h, values, of_state)
        zoneout_c = self._zone(self._zoneout_c, values, self.hidden_size)
        if mask is None and zoneout_h is None and zoneout_c is None:
            return _PLAIN
        return Options(mask, zoneout_h, zoneout_c)

    def _zone(self, rate: float, values: Tensor, units: int) -> Tensor | float | None:
        if rate == 0:
            return None
        if not self.training:
            return rate
        return torch.rand(values.shape[0], self.num_directions * units, device=values.device) < rate

    def _suffixes(self, layer: int) -> list[str]:
        return [f"l{layer}", f"l{layer}_reverse"][: self.num_directions]

    def _state_sizes(self) -> dict[str, int]:
        """The names of the initial states and their sizes."""
        sizes = {"h_0": self.proj_size or self.hidden_size}
        return sizes | {"c_0": self.hidden_size} if self.mode == "LSTM" else sizes

    def _shapes(self, layer: int) -> dict[str, tuple[int, ...]]:
        """Name -> shape of the parameters of one direction of one layer, without suffix, in order."""
        units, of_state = self.hidden_size, self.proj_size or self.hidden_size
        entries = GATES[self._cell] * units
        features = self.input_size if layer == 0 else of_state * self.num_directions
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (entries, features), "weight_hh": (entries, of_state)}
        if self.bias:
            shapes |= {"bias_ih": (entries,), "bias_hh": (entries,)}
        if self.proj_size:
            shapes["weight_hr"] = (self.proj_size, units)
        if self.peephole:
            shapes["peephole"] = (3, units)
        if self.layer_norm:
            shapes |= {"norm_ih": (entries,), "norm_hh": (entries,)}
            if self.mode == "LSTM":
                shapes["norm_c"] = (2, units)
        if self.learn_initial_state:
            shapes |= {name: (size,) for name, size in self._state_sizes().items()}
        return shapes

    def _weights(self, layer: int) -> list[Weights]:
        return [Weights(**{kind: getattr(self, name) for kind, name in names}) for names in self._names[layer]]


def _as_states(hx: Any) -> tuple[Tensor, ...] | None:
    return hx if hx is None else (hx,) if isinstance(hx, Tensor) else tuple(hx)


def _as_hx(states: tuple[Tensor, ...]) -> Any:
    return states[0] if len(states) == 1 else states
