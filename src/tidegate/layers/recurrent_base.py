"""What all recurrent layers share: parameters, the walk over layers, random masks."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tidegate import kernels
from tidegate.kernels.ragged import Ragged
from tidegate.kernels.reference import GATES, PLAIN, Options, Weights
from tidegate.layers.dropout import draw_mask
from tidegate.layers.dropout import dropout as drop_entries
from tidegate.layers.forms import Form, Walk
from tidegate.layers.initialization import initialize_
from tidegate.layers.merging import add_input, merge_directions, merged_size
from tidegate.layers.recurrent_arguments import (
    check_dropout,
    check_merge,
    check_probability,
    check_sizes,
    check_switches,
    zoneout_rates,
)
from tidegate.layers.sequence_layer import SequenceLayer, State
from tidegate.layers.states import StateLayout
from tidegate.layers.tracing import name_traces

__all__ = ["RecurrentBase"]

_DEFAULTS: dict[str, Any] = {
    "proj_size": 0,
    "num_layers": 1,
    "bias": True,
    "batch_first": False,
    "dropout": 0.0,
    "bidirectional": False,
    "reset_after": True,
    "recurrent_dropout": 0.0,
    "weight_dropout": 0.0,
    "zoneout": 0.0,
    "layer_norm": False,
    "learn_initial_state": False,
    "peephole": False,
    "merge": "concat",
    "residual": False,
    "init": "torch",
}


class RecurrentBase(SequenceLayer[State]):
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
        hidden_size: int | Sequence[int],
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
        *,
        recurrent_dropout: float,
        weight_dropout: float,
        zoneout: float | tuple[float, float],
        layer_norm: bool,
        learn_initial_state: bool,
        merge: str,
        residual: bool,
        init: str | Sequence[str],
        proj_size: int = 0,
        peephole: bool = False,
    ) -> None:
        super().__init__()
        sizes = check_sizes(input_size, hidden_size, num_layers, proj_size)
        check_switches(
            bias=bias,
            batch_first=batch_first,
            bidirectional=bidirectional,
            layer_norm=layer_norm,
            learn_initial_state=learn_initial_state,
            residual=residual,
            peephole=peephole,
        )
        check_dropout(dropout)
        if dropout > 0 and len(sizes) == 1:
            warnings.warn(
                f"dropout stands between layers, so dropout={dropout} does nothing with num_layers=1; "
                "set num_layers to 2 or more, or dropout to 0",
                stacklevel=3,
            )
        check_probability("recurrent_dropout", recurrent_dropout)
        check_probability("weight_dropout", weight_dropout)
        check_merge(merge, bidirectional)
        listed = isinstance(hidden_size, list | tuple)
        self._cell = cell
        self.mode = mode
        self.input_size = input_size
        self.hidden_size: int | tuple[int, ...] = sizes if listed else sizes[0]
        self.num_layers = len(sizes)
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        self.recurrent_dropout = float(recurrent_dropout)
        self.weight_dropout = float(weight_dropout)
        self.zoneout = zoneout
        self.layer_norm = layer_norm
        self.learn_initial_state = learn_initial_state
        self.peephole = peephole
        self.merge = merge
        self.residual = residual
        self.init = init if isinstance(init, str) else tuple(init)
        self._zoneout_c, self._zoneout_h = zoneout_rates(zoneout, mode)
        self._sizes = sizes
        state_sizes = {"h_0": tuple(proj_size or size for size in sizes)}
        if mode == "LSTM":
            state_sizes["c_0"] = sizes
        self._states = StateLayout(self.num_directions, state_sizes, listed)
        # For each layer and direction the names of its weights, None for those that it does not have.
        self._names: list[list[list[str | None]]] = []
        # For each layer the weights of the inputs that `residual` adds, None where these are as large as its outputs.
        self._residual_names: list[list[str | None]] = []
        for layer in range(self.num_layers):
            shapes = self._shapes(layer)
            self._names.append(
                [
                    [f"{kind}_{suffix}" if kind in shapes else None for kind in Weights._fields]
                    for suffix in self._suffixes(layer)
                ]
            )
            self._residual_names.append(self._name_residual(layer))
            made = {f"{kind}_{suffix}": shapes[kind] for suffix in self._suffixes(layer) for kind in shapes}
            made |= {
                name: (self._size_of_output(layer), self._size_of_input(layer)) for name in self._projections(layer)
            }
            for name, shape in made.items():
                self.register_parameter(name, nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))
        self.reset_parameters()

    @property
    def num_directions(self) -> int:
        """D, 2 if bidirectional, else 1."""
        return 2 if self.bidirectional else 1

    @property
    def output_size(self) -> int:
        """Features of the output at a step; of each direction where `merge` is none."""
        return self._size_of_output(self.num_layers - 1)

    @property
    def all_weights(self) -> list[list[nn.Parameter]]:
        """The parameters that torch.nn's layer has, a list for each layer and direction."""
        directions = [names for layer in self._names for names in layer]
        return [[getattr(self, name) for name in names[:5] if name is not None] for names in directions]

    def reset_parameters(self) -> None:
        """Draw the parameters anew: see :func:`tidegate.initialize_`, whose ``"torch"`` comes first.

        One seed gives torch.nn's layer and this one the same weights.
        """
        given = (self.init,) if isinstance(self.init, str) else self.init
        initialize_(self, given if given[:1] == ("torch",) else ("torch", *given))

    def flatten_parameters(self) -> None:
        """Nothing: the weights need no special place. For code that was written for torch.nn."""

    def extra_repr(self) -> str:
        """The arguments that differ from their defaults: torch.nn's as torch.nn shows them, then the others."""
        parts = [f"{self.input_size}, {list(self._sizes) if self._states.listed else self.hidden_size}"]
        for name, default in _DEFAULTS.items():
            value = getattr(self, name, default)
            if value != default and not (name == "num_layers" and self._states.listed):
                parts.append(f"{name}={value!r}")
        return ", ".join(parts)

    def walk(self, values: Tensor, ragged: Ragged, states: Any, traces: dict[str, Tensor] | None = None) -> Walk:
        """All layers over ragged values ``[N, I]``, from states of each layer in sorted order or None."""
        self._check_values(values)
        if states is None:
            states = self._initial_states(values, ragged.num_rows)
        last: list[tuple[Tensor, ...]] = []
        carried, h_0 = values, values
        for layer, (h_0, *c_0) in enumerate(states):
            inputs = values
            if layer > 0 and self.dropout > 0:
                inputs = nn.functional.dropout(values, self.dropout, self.training)
            carried, h_n, c_n, gates = kernels.recurrence(
                self._cell,
                inputs if inputs.dim() == 2 else inputs.flatten(1),
                self._weights(layer),
                h_0,
                c_0[0] if c_0 else None,
                ragged,
                self._options(values, ragged, layer),
                None,
                traces is not None,
            )
            if traces is not None and gates is not None:
                traces |= name_traces(self._cell, gates, carried, self._suffixes(layer))
            last.append((h_n,) if c_n is None else (h_n, c_n))
            output = carried
            if self.merge != "concat":
                output = merge_directions(carried.unflatten(1, (self.num_directions, -1)), self.merge)
            if self.residual:
                names = self._residual_names[layer]
                output = add_input(output, values, [None if name is None else getattr(self, name) for name in names])
            values = output
        return Walk(values, carried, h_0, self.merge, last)

    def _enter_states(self, hx: Any, form: Form) -> list[tuple[Tensor, ...]] | None:
        if hx is None:
            return None
        self._states.check_dimensions(hx, form)
        return self._states.enter(hx, form)

    def _leave_states(self, last: list[Any], form: Form) -> Any:
        return self._states.leave(last, form)

    def _check_values(self, values: Tensor) -> None:
        if values.shape[-1] != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {values.shape[-1]}"
            )
        own = self._parameters.get("weight_ih_l0")
        dtype = (self.weight_ih_l0 if own is None else own).dtype
        if values.dtype != dtype and not (
            values.device.type in ("cpu", "cuda") and torch.is_autocast_enabled(values.device.type)
        ):
            raise ValueError(
                f"RNN input dtype ({values.dtype}) does not match weight dtype ({dtype}). "
                f"Convert input: input.to({dtype}), or convert model: model.to({values.dtype})"
            )

    def _initial_states(self, values: Tensor, num_rows: int) -> list[tuple[Tensor, ...]]:
        if not self.learn_initial_state:
            return self._states.zeros(values, num_rows)
        return [
            tuple(
                torch.stack([getattr(self, f"{name}_{suffix}") for suffix in self._suffixes(layer)])[:, None].expand(
                    -1, num_rows, -1
                )
                for name in self._states.sizes
            )
            for layer in range(self.num_layers)
        ]

    def _options(self, values: Tensor, ragged: Ragged, layer: int) -> Options:
        """The options of one layer's call; random masks in training, expectations in evaluation."""
        if self._zoneout_h == 0 and self._zoneout_c == 0 and (self.recurrent_dropout == 0 or not self.training):
            return PLAIN
        units = self._sizes[layer]
        of_state = self.proj_size or units
        mask = None
        if self.recurrent_dropout > 0 and self.training:
            kept = torch.rand(self.num_directions, ragged.num_rows, of_state, device=values.device)
            mask = (kept >= self.recurrent_dropout).to(values.dtype) / (1 - self.recurrent_dropout)
        zoneout_h = self._zone(self._zoneout_h, values, of_state)
        zoneout_c = self._zone(self._zoneout_c, values, units)
        return Options(mask, zoneout_h, zoneout_c)

    def _zone(self, rate: float, values: Tensor, units: int) -> Tensor | float | None:
        if rate == 0:
            return None
        if not self.training:
            return rate
        return draw_mask((values.shape[0], self.num_directions * units), rate, values.device)

    def _suffixes(self, layer: int) -> list[str]:
        return [f"l{layer}", f"l{layer}_reverse"][: self.num_directions]

    def _size_of_input(self, layer: int) -> int:
        """Features of a layer's input; of each direction's own where directions stay apart."""
        return self.input_size if layer == 0 else self._size_of_output(layer - 1)

    def _size_of_output(self, layer: int) -> int:
        return merged_size(self.merge, self.num_directions, self.proj_size or self._sizes[layer])

    def _name_residual(self, layer: int) -> list[str | None]:
        if not self.residual:
            return []
        suffixes = self._suffixes(layer) if self.merge == "none" else [f"l{layer}"]
        needed = self._size_of_input(layer) != self._size_of_output(layer)
        return [f"weight_res_{suffix}" if needed else None for suffix in suffixes]

    def _projections(self, layer: int) -> list[str]:
        return [name for name in self._residual_names[layer] if name is not None]

    def _shapes(self, layer: int) -> dict[str, tuple[int, ...]]:
        """Name -> shape of the parameters of one direction of one layer, without suffix, in order."""
        units = self._sizes[layer]
        of_state = self.proj_size or units
        entries = GATES[self._cell] * units
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (entries, self._size_of_input(layer)),
            "weight_hh": (entries, of_state),
        }
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
            shapes |= {name: (sizes[layer],) for name, sizes in self._states.sizes.items()}
        return shapes

    def _weights(self, layer: int) -> list[Weights]:
        # As getattr finds them, which takes ten times as long in an nn.Module; parametrised or pruned weights are
        # attributes and parameters no longer.
        own = self._parameters
        made = [
            Weights(*[name and (own[name] if name in own else getattr(self, name)) for name in names])  # pyright: ignore
            for names in self._names[layer]
        ]
        if self.weight_dropout > 0 and self.training:
            # Drawn from the parameters, which stay as they are, in every call.
            made = [w._replace(weight_hh=drop_entries(w.weight_hh, self.weight_dropout, True)) for w in made]
        if self.merge == "none" and layer > 0:
            # Each direction goes on from its own states, which are one half of the layer's input.
            size = self._size_of_input(layer)
            made = [
                w._replace(weight_ih=nn.functional.pad(w.weight_ih, half))
                for w, half in zip(made, ((0, size), (size, 0)), strict=True)
            ]
        return made
