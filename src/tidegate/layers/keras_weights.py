r"""The weights of Keras 3's recurrent layers, as ``get_weights()`` gives and ``set_weights()`` takes them, and back.

Keras keeps ``kernel [I, G*H]``, ``recurrent_kernel [H, G*H]`` and ``bias``, gates in the order i f c o (LSTM) and z r h
(GRU). Its GRU computes :math:`h_t = z_t h_{t-1} + (1 - z_t) \tilde h_t` as tidegate's does; with ``reset_after`` its
bias is ``[2, 3H]``, of the input and of the state; everywhere else there is one bias, which is both of ours added up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from tidegate.errors import nearest
from tidegate.layers.foreign import (
    GATES,
    RecurrentLayer,
    as_array,
    check_array,
    directions_of,
    fill_,
    refuse_extras,
    reorder,
)
from tidegate.layers.recurrent import GRU, LSTM, RNN

__all__ = ["from_keras", "load_keras_", "to_keras"]

_ORDER = {"RNN": "h", "LSTM": "ifgo", "GRU": "zrn"}
_LAYERS: dict[str, type[RecurrentLayer]] = {"SimpleRNN": RNN, "LSTM": LSTM, "GRU": GRU}
_MERGES = {"concat": "concat", "sum": "sum", "ave": "mean", "mul": "product", None: "none"}


def from_keras(
    cell: str,
    weights: Sequence[Any],
    *,
    bidirectional: bool = False,
    merge_mode: str | None = "concat",
    activation: str = "tanh",
    reset_after: bool | None = None,
    batch_first: bool = True,
) -> RecurrentLayer:
    """A layer of tidegate that computes what a layer of Keras does.

    Args:
        cell: ``"SimpleRNN"``, ``"LSTM"`` or ``"GRU"``.
        weights: What ``get_weights()`` of the Keras layer gives; of a ``Bidirectional`` the forward layer's weights and
            then the backward layer's. Sizes, type and whether there are biases are read from these.
        bidirectional: Whether they are those of a ``Bidirectional``.
        merge_mode: That of the ``Bidirectional``: ``"concat"``, ``"sum"``, ``"ave"``, ``"mul"`` or None.
        activation: That of a SimpleRNN, ``"tanh"`` or ``"relu"``. The gated layers have Keras' defaults, tanh and
            sigmoid.
        reset_after: The GRU's; None reads it from the shape of the bias.
        batch_first: Whether padded inputs are ``[B, T, I]``, as Keras' are.

    Returns:
        A :class:`tidegate.RNN`, :class:`tidegate.LSTM` or :class:`tidegate.GRU`.

    Raises:
        ValueError: A name is unknown, the arrays are not those of such a layer, or a GRU without bias does not tell its
            `reset_after`.
    """
    if cell not in _LAYERS:
        raise ValueError(f"cell must be one of {', '.join(_LAYERS)}; found {cell!r}.{nearest(cell, _LAYERS)}")
    if merge_mode not in _MERGES:
        raise ValueError(f"merge_mode must be one of concat, sum, ave, mul and None; found {merge_mode!r}")
    directions = _split(weights, bidirectional)
    kernel = check_array("kernel", directions[0][0], (None, None))
    units = check_array("recurrent_kernel", directions[0][1], (None, kernel.shape[1])).shape[0]
    bias = len(directions[0]) == 3
    options: dict[str, Any] = {"bias": bias, "batch_first": batch_first, "bidirectional": bidirectional}
    if bidirectional:
        options["merge"] = _MERGES[merge_mode]
    if cell == "SimpleRNN":
        options["nonlinearity"] = activation
    elif activation != "tanh":
        raise ValueError(f"an {cell} here has Keras' default activation; expected 'tanh', found {activation!r}")
    if cell == "GRU":
        if reset_after is None and not bias:
            raise ValueError("without a bias the weights do not tell where the reset gate stands; give reset_after")
        options["reset_after"] = np.ndim(directions[0][2]) == 2 if reset_after is None else reset_after
    dtype = torch.from_numpy(np.empty(0, kernel.dtype)).dtype
    layer = _LAYERS[cell](kernel.shape[0], units, dtype=dtype, **options)
    load_keras_(layer, weights)
    return layer


def load_keras_(layer: RecurrentLayer, weights: Sequence[Any], index: int = 0) -> None:
    """Copy the weights of a layer of Keras into one of the stacked layers of a layer of tidegate, in place.

    Args:
        layer: Of the same cell and sizes; bidirectional where the weights are a ``Bidirectional``'s.
        weights: What ``get_weights()`` of the Keras layer gives.
        index: Which of the stacked layers.

    Raises:
        ValueError: The arrays do not fit the layer, or the layer has options that Keras does not.
    """
    refuse_extras(layer, "Keras")
    directions = directions_of(layer, index)
    for parameters, arrays in zip(directions, _split(weights, layer.bidirectional), strict=True):
        fill_(parameters, _from_keras(layer, parameters["weight_ih"].shape[1], arrays))


def to_keras(layer: RecurrentLayer, index: int = 0) -> list[np.ndarray]:
    """The weights of one of the stacked layers as ``set_weights()`` of Keras takes them.

    The Keras layer is a SimpleRNN, LSTM or GRU of the same units, ``use_bias`` as our `bias`, ``reset_after`` as ours,
    within a ``Bidirectional`` where ours is bidirectional.

    Args:
        layer: A :class:`tidegate.RNN`, :class:`tidegate.LSTM` or :class:`tidegate.GRU`.
        index: Which of the stacked layers.

    Raises:
        ValueError: The layer has options that Keras does not.
    """
    refuse_extras(layer, "Keras")
    mode, found = _mode(layer), []
    for parameters in directions_of(layer, index):
        arrays = {
            name: reorder(as_array(value), GATES[mode], _ORDER[mode], axis=0) for name, value in parameters.items()
        }
        found += [arrays["weight_ih"].T.copy(), arrays["weight_hh"].T.copy()]
        if layer.bias:
            of_input, of_state = arrays["bias_ih"], arrays["bias_hh"]
            found.append(np.stack([of_input, of_state]) if _two_biases(layer) else of_input + of_state)
    return found


def _from_keras(layer: RecurrentLayer, features: int, arrays: Sequence[Any]) -> dict[str, np.ndarray]:
    """Our arrays of one direction, by the names of the parameters."""
    mode = _mode(layer)
    kernel = check_array("kernel", arrays[0], (features, None))
    entries = kernel.shape[1]
    units, rest = divmod(entries, len(GATES[mode]))
    if rest:
        raise ValueError(f"expected a kernel of {len(GATES[mode])} gates, as an {mode} has; found {entries} columns")
    recurrent = check_array("recurrent_kernel", arrays[1], (units, entries))
    made = {"weight_ih": kernel.T, "weight_hh": recurrent.T}
    if len(arrays) == 3:
        if _two_biases(layer):
            made["bias_ih"], made["bias_hh"] = check_array("bias (reset_after=True)", arrays[2], (2, entries))
        else:
            made["bias_ih"] = check_array("bias", arrays[2], (entries,))
            made["bias_hh"] = np.zeros_like(made["bias_ih"])
    return {name: reorder(array, _ORDER[mode], GATES[mode], axis=0) for name, array in made.items()}


def _split(weights: Sequence[Any], bidirectional: bool) -> list[Sequence[Any]]:
    parts = 2 if bidirectional else 1
    count, rest = divmod(len(weights), parts)
    if rest or count not in (2, 3):
        raise ValueError(
            f"expected kernel, recurrent_kernel and, with a bias, bias{' of each direction' if bidirectional else ''}: "
            f"{2 * parts} or {3 * parts} arrays; found {len(weights)}"
        )
    return [weights[start : start + count] for start in range(0, len(weights), count)]


def _mode(layer: RecurrentLayer) -> str:
    return layer.mode.split("_")[0]


def _two_biases(layer: RecurrentLayer) -> bool:
    return isinstance(layer, GRU) and layer.reset_after
