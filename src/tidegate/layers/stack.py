"""Stacks of recurrent layers of different cells."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tidegate.errors import nearest
from tidegate.kernels.ragged import Ragged, unsort_rows
from tidegate.layers.forms import Form, Walk
from tidegate.layers.locked_dropout import locked_dropout as drop_locked
from tidegate.layers.merging import MERGES, merge_directions
from tidegate.layers.recurrent import GRU, LSTM, RNN
from tidegate.layers.recurrent_arguments import check_dropout, check_probability, check_sizes, check_switches
from tidegate.layers.recurrent_base import RecurrentBase
from tidegate.layers.sequence_layer import SequenceLayer

__all__ = ["CELLS", "STACKS", "RecurrentStack"]

# Name -> the layer, and whether it is bidirectional by its name.
_LAYERS: dict[str, tuple[type[RecurrentBase], bool]] = {
    "gru": (GRU, False),
    "lstm": (LSTM, False),
    "rnn": (RNN, False),
    "bigru": (GRU, True),
    "bilstm": (LSTM, True),
    "birnn": (RNN, True),
}
CELLS = tuple(_LAYERS)
# Stacks with a name of their own, first layer first.
STACKS = {"gru-blstm": ("bigru", "bilstm")}


class RecurrentStack(SequenceLayer[tuple[Any, ...]]):
    """Recurrent layers on top of each other, each of its own cell and size.

    Called as :class:`GRU` is, over padded, packed, unbatched or ragged sequences; states go in and come out as a tuple
    with one `hx` for each layer. The layers are ``stack.layers``, each a :class:`RNN`, :class:`LSTM` or :class:`GRU` of
    one layer.

    Args:
        cells: A cell, ``"gru"`` (Cho et al. 2014), ``"lstm"`` (Hochreiter & Schmidhuber 1997) or ``"rnn"`` (Elman 1990,
            tanh), or bidirectional ``"bigru"``, ``"bilstm"``, ``"birnn"`` (Schuster & Paliwal 1997); a list with that
            of each layer; or the name of a stack: ``"gru-blstm"`` is a bidirectional GRU under a bidirectional LSTM.
        input_size: I, features of a step.
        hidden_size: H, units of a layer and direction, or a list with those of each layer.
        num_layers: L, where neither `cells` nor `hidden_size` tells.
        bidirectional: Whether every layer reads from the last step to the first, too.
        dropout: Probability of dropping a feature between the layers.
        batch_first: Padded inputs and outputs are ``[B, T, ...]`` instead of ``[T, B, ...]``.
        bias: Whether the products have biases.
        device: Where the parameters are made.
        dtype: Their type.
        merge: How the directions of a bidirectional layer become its output: ``"concat"``, ``"sum"``, ``"mean"`` or
            ``"product"``.
        residual: Add each layer's input to its output (stacked residual; Prakash et al. 2016, arXiv:1610.03098),
            through a matrix ``residuals.0.weight`` where the sizes differ. What is added is not dropped.
        recurrent_dropout: As in :class:`GRU`, in every layer; so are the further ones.
        weight_dropout: Probability of dropping an entry of the recurrent weights.
        zoneout: Probability that a unit keeps its previous state.
        layer_norm: Whether products and the LSTM's cell states are normalised.
        learn_initial_state: Whether the states to start from are parameters.
        init: How the weights start, by name: see :func:`tidegate.initialize_`.
        locked_dropout: Probability of dropping a feature between the layers for a whole sequence, the same at each of
            its steps, beside `dropout`, which draws anew at each.

    Raises:
        ValueError: A cell is not one of those named, lists are of different lengths, or as the layers raise it.
    """

    def __init__(
        self,
        cells: str | Sequence[str],
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        batch_first: bool = False,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        merge: str = "concat",
        residual: bool = False,
        recurrent_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        zoneout: float = 0.0,
        layer_norm: bool = False,
        learn_initial_state: bool = False,
        init: str | Sequence[str] = "torch",
        locked_dropout: float = 0.0,
    ) -> None:
        check_switches(bidirectional=bidirectional)
        names = _names(cells, hidden_size, num_layers)
        sizes = check_sizes(input_size, hidden_size, len(names), 0)
        chosen = [(kind, both or bidirectional) for kind, both in (_LAYERS[name] for name in names)]
        if merge not in MERGES or merge == "none":
            raise ValueError(
                f"a stack merges directions for the next layer by {', '.join(MERGES[:-1])}; found {merge!r}"
            )
        if merge != "concat" and not any(both for _, both in chosen):
            raise ValueError(f"merge={merge!r} is for two directions; expected a bidirectional layer with it")
        layers: list[RecurrentBase] = []
        for (kind, both), size in zip(chosen, sizes, strict=True):
            made: Any = kind
            layers.append(
                made(
                    layers[-1].output_size if layers else input_size,
                    size,
                    bias=bias,
                    bidirectional=both,
                    device=device,
                    dtype=dtype,
                    merge=merge if both else "concat",
                    recurrent_dropout=recurrent_dropout,
                    weight_dropout=weight_dropout,
                    zoneout=zoneout,
                    layer_norm=layer_norm,
                    learn_initial_state=learn_initial_state,
                    init=init,
                )
            )
        self._put_together(layers, dropout, residual, batch_first, locked_dropout)

    @classmethod
    def of(
        cls,
        layers: Iterable[SequenceLayer],
        *,
        dropout: float = 0.0,
        residual: bool = False,
        batch_first: bool = False,
        locked_dropout: float = 0.0,
    ) -> RecurrentStack:
        """A stack of layers that are made already, with whatever options they have.

        Args:
            layers: :class:`GRU`, :class:`LSTM`, :class:`RNN`, :class:`MinGRU`, :class:`LRU` and others of their kind,
                first to last.
            dropout: Probability of dropping a feature between the layers.
            residual: As above.
            batch_first: As above; that of the layers is not asked.
            locked_dropout: As above.

        Raises:
            ValueError: There is no layer, or one takes other features than the one below it gives.
        """
        stack = cls.__new__(cls)
        stack._put_together(list(layers), dropout, residual, batch_first, locked_dropout)
        return stack

    def _put_together(
        self, layers: Sequence[Any], dropout: float, residual: bool, batch_first: bool, locked_dropout: float
    ) -> None:
        nn.Module.__init__(self)
        check_dropout(dropout)
        check_probability("locked_dropout", locked_dropout)
        check_switches(residual=residual, batch_first=batch_first)
        if not layers:
            raise ValueError("expected one layer or more; found none")
        for below, above in itertools.pairwise(layers):
            if getattr(below, "merge", "concat") == "none":
                raise ValueError(
                    "merge='none' leaves two outputs where the next layer takes one; expected another merge"
                )
            if above.input_size != below.output_size:
                raise ValueError(
                    f"expected each layer to take what the one below it gives; found {type(above).__name__} of "
                    f"input_size {above.input_size} over {type(below).__name__} of {below.output_size} features"
                )
        if residual and getattr(layers[-1], "merge", "concat") == "none":
            raise ValueError("residual adds an input to one output; merge='none' leaves two")
        self.layers = nn.ModuleList(layers)
        self.dropout, self.residual, self.batch_first = float(dropout), residual, batch_first
        self.locked_dropout = float(locked_dropout)
        like = next(layers[0].parameters())
        self.residuals = nn.ModuleList(
            nn.Identity()
            if layer.input_size == layer.output_size
            else nn.Linear(layer.input_size, layer.output_size, bias=False, device=like.device, dtype=like.dtype)
            for layer in (layers if residual else ())
        )

    @property
    def bidirectional(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether any layer is."""
        return any(layer.bidirectional for layer in self._layers())

    @property
    def output_size(self) -> int:
        """Features of the output at a step."""
        return self._layers()[-1].output_size

    def extra_repr(self) -> str:
        """What is not shown of the layers."""
        shown = {"dropout": (self.dropout, 0.0), "residual": (self.residual, False)}
        shown["locked_dropout"] = (self.locked_dropout, 0.0)
        shown["batch_first"] = (self.batch_first, False)
        return ", ".join(f"{name}={value}" for name, (value, default) in shown.items() if value != default)

    def encode(self, values: Tensor, ragged: Ragged) -> tuple[Tensor, Tensor]:
        """Encode a ragged batch.

        Args:
            values: ``[N, I]`` in ragged order.
            ragged: The layout of `values`.

        Returns:
            The last layer's output at every step, ``[N, D*H]`` in ragged order, and its final state ``[B, D*H]`` in the
            caller's order, forward then backward, or merged; the initial state where a row has no step.
        """
        walk = self.walk(values, ragged, None)
        last = walk.last[-1][-1][0]  # [D, B, H]
        return walk.output, unsort_rows(merge_directions(last.transpose(0, 1), walk.merge), ragged)

    def walk(self, values: Tensor, ragged: Ragged, states: Any, traces: dict[str, Tensor] | None = None) -> Walk:
        """All layers over ragged values ``[N, I]``, from the states of each or None."""
        walk, last = Walk(values, values, values, "concat", []), []
        for place, layer in enumerate(self._layers()):
            inputs = values
            if place > 0 and self.dropout > 0:
                inputs = nn.functional.dropout(values, self.dropout, self.training)
            if place > 0 and self.locked_dropout > 0:
                inputs = drop_locked(inputs, ragged, self.locked_dropout, self.training)
            of_layer: dict[str, Tensor] | None = None if traces is None else {}
            walk = layer.walk(inputs, ragged, None if states is None else states[place], of_layer)
            if traces is not None and of_layer is not None:
                traces |= {f"layers.{place}.{name}": trace for name, trace in of_layer.items()}
            last.append(walk.last)
            values = walk.output + self.residuals[place](values) if self.residual else walk.output
        return walk._replace(output=values, last=last)

    def _layers(self) -> Any:
        return self.layers

    def _enter_states(self, hx: Any, form: Form) -> Any:
        if hx is None:
            return None
        if not isinstance(hx, tuple | list) or len(hx) != len(self.layers):
            found = f"{len(hx)} in one" if isinstance(hx, tuple | list) else type(hx).__name__
            raise ValueError(f"expected a tuple with one hx for each of the {len(self.layers)} layers; found {found}")
        return [layer._enter_states(state, form) for layer, state in zip(self._layers(), hx, strict=True)]

    def _leave_states(self, last: list[Any], form: Form) -> Any:
        return tuple(layer._leave_states(state, form) for layer, state in zip(self._layers(), last, strict=True))


def _names(cells: str | Sequence[str], hidden_size: int | Sequence[int], num_layers: int) -> tuple[str, ...]:
    """The cell of each layer."""
    legal = (*CELLS, *STACKS)
    listed = STACKS.get(cells, (cells,)) if isinstance(cells, str) else tuple(cells)
    for name in listed:
        if name not in CELLS:
            raise ValueError(f"cell must be one of {', '.join(legal)}; found {name!r}.{nearest(str(name), legal)}")
    if not listed:
        raise ValueError("expected the cell of one layer or more; found none")
    if isinstance(cells, str) and cells not in STACKS:
        return listed * len(check_sizes(1, hidden_size, num_layers, 0))
    counted = [num_layers] if num_layers != 1 else []
    counted += [len(hidden_size)] if isinstance(hidden_size, list | tuple) else []
    if any(count != len(listed) for count in counted):
        raise ValueError(f"cells names {len(listed)} layers; found {counted[-1]} by hidden_size or num_layers")
    return listed
