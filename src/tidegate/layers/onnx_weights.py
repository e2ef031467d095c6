"""The weights of ONNX's recurrent nodes (operators RNN, LSTM and GRU, opset 7 and later), and back.

A node keeps ``W [D, G*H, I]``, ``R [D, G*H, H]``, ``B [D, 2*G*H]`` (the biases of the input and then of the state) and,
in an LSTM with peepholes, ``P [D, 3*H]``; gates in the order i o f c (LSTM, and i o f of P) and z r h (GRU). Its
``linear_before_reset=1`` is our ``reset_after=True``. A stack of layers is as many nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

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

__all__ = ["OnnxNode", "from_onnx", "load_onnx_", "to_onnx"]

_ORDER = {"RNN": "h", "LSTM": "iofg", "GRU": "zrn"}
_PEEPHOLES = ("ifo", "iof")  # ours, ONNX'
_LAYERS: dict[str, type[RecurrentLayer]] = {"RNN": RNN, "LSTM": LSTM, "GRU": GRU}
_ACTIVATIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"]}


class OnnxNode(NamedTuple):
    """A recurrent node of ONNX: its operator, its attributes and its weights.

    Attributes:
        op_type: ``"RNN"``, ``"LSTM"`` or ``"GRU"``.
        attributes: As ``onnx.helper.make_node`` takes them: ``hidden_size``, ``direction`` and what else differs from
            the operator's defaults.
        W: ``[D, G*H, I]``.
        R: ``[D, G*H, H]``.
        B: ``[D, 2*G*H]``, or None.
        P: ``[D, 3*H]``, or None.
    """

    op_type: str
    attributes: dict[str, Any]
    W: np.ndarray
    R: np.ndarray
    B: np.ndarray | None = None
    P: np.ndarray | None = None


def to_onnx(layer: RecurrentLayer, index: int = 0) -> OnnxNode:
    """The node that computes one of the stacked layers.

    Its inputs X ``[T, B, I]``, sequence_lens and initial_h ``[D, B, H]`` are ours; its output Y ``[T, D, B, H]`` has
    the directions apart.

    Args:
        layer: A :class:`tidegate.RNN`, :class:`tidegate.LSTM` or :class:`tidegate.GRU`.
        index: Which of the stacked layers.

    Raises:
        ValueError: The layer has options that ONNX does not.
    """
    refuse_extras(layer, "ONNX", known=("peephole",))
    op_type = layer.mode.split("_")[0]
    directions = [
        {name: as_array(value) for name, value in parameters.items()} for parameters in directions_of(layer, index)
    ]

    def stacked(name: str) -> np.ndarray:
        return np.stack([reorder(one[name], GATES[op_type], _ORDER[op_type], axis=0) for one in directions])

    weights = {"W": stacked("weight_ih"), "R": stacked("weight_hh")}
    if layer.bias:
        weights["B"] = np.concatenate([stacked("bias_ih"), stacked("bias_hh")], axis=1)
    if "peephole" in directions[0]:
        weights["P"] = np.stack([reorder(one["peephole"], *_PEEPHOLES, axis=0).reshape(-1) for one in directions])
    attributes: dict[str, Any] = {
        "hidden_size": weights["R"].shape[2],
        "direction": "bidirectional" if layer.bidirectional else "forward",
    }
    if isinstance(layer, GRU):
        attributes["linear_before_reset"] = int(layer.reset_after)
    if isinstance(layer, RNN) and layer.nonlinearity == "relu":
        attributes["activations"] = ["Relu"] * layer.num_directions
    return OnnxNode(op_type, attributes, **weights)


def from_onnx(node: OnnxNode, *, batch_first: bool = False) -> RecurrentLayer:
    """A layer of tidegate that computes what a node of ONNX does; sizes and type are those of its arrays.

    Args:
        node: The node; of its attributes every one is looked at, and those that are absent have ONNX' defaults.
        batch_first: Whether padded inputs of the new layer are ``[B, T, I]``.

    Raises:
        ValueError: The operator is none of the three, the arrays do not fit together, or an attribute asks for what no
            layer here does: another activation, a clip, a coupled input and forget gate, the reverse direction alone.
    """
    if node.op_type not in _LAYERS:
        raise ValueError(
            f"expected a node of {', '.join(_LAYERS)}; found {node.op_type!r}.{nearest(node.op_type, _LAYERS)}"
        )
    options = _options(node)
    gates = len(GATES[node.op_type])
    directions = 2 if options["bidirectional"] else 1
    W = check_array("W", node.W, (directions, None, None))
    units, rest = divmod(W.shape[1], gates)
    if rest:
        raise ValueError(f"expected a W of {gates} gates, as an {node.op_type} has; found {W.shape[1]} rows")
    dtype = torch.from_numpy(np.empty(0, W.dtype)).dtype
    layer = _LAYERS[node.op_type](W.shape[2], units, batch_first=batch_first, dtype=dtype, **options)
    load_onnx_(layer, node)
    return layer


def load_onnx_(layer: RecurrentLayer, node: OnnxNode, index: int = 0) -> None:
    """Copy a node's weights into one of the stacked layers of a layer of tidegate, in place.

    Args:
        layer: Of the same cell, sizes and directions. That its options fit the node's attributes is the caller's to
            know.
        node: The node.
        index: Which of the stacked layers.

    Raises:
        ValueError: The arrays do not fit the layer, or the layer has options that ONNX does not.
    """
    refuse_extras(layer, "ONNX", known=("peephole",))
    mode, parameters = layer.mode.split("_")[0], directions_of(layer, index)
    if node.op_type != mode:
        raise ValueError(f"expected a node of {mode}, as the layer; found {node.op_type}")
    directions, (entries, features) = len(parameters), parameters[0]["weight_ih"].shape
    units = entries // len(GATES[mode])
    W = check_array("W", node.W, (directions, entries, features))
    R = check_array("R", node.R, (directions, entries, units))
    B = None if node.B is None else check_array("B", node.B, (directions, 2 * entries))
    P = None if node.P is None else check_array("P", node.P, (directions, 3 * units))
    for place, of_direction in enumerate(parameters):
        arrays = {"weight_ih": W[place], "weight_hh": R[place]}
        if B is not None:
            arrays["bias_ih"], arrays["bias_hh"] = np.split(B[place], 2)
        made = {name: reorder(array, _ORDER[mode], GATES[mode], axis=0) for name, array in arrays.items()}
        if P is not None:
            made["peephole"] = reorder(P[place].reshape(3, units), *reversed(_PEEPHOLES), axis=0)
        fill_(of_direction, made)


def _options(node: OnnxNode) -> dict[str, Any]:
    """The arguments of our layer that a node's attributes are."""
    attributes = dict(node.attributes)
    attributes.pop("hidden_size", None)
    direction = _text(attributes.pop("direction", "forward"))
    if direction not in ("forward", "bidirectional"):
        raise ValueError(
            f"expected the direction forward or bidirectional; found {direction!r}: flip the sequences by their "
            "lengths and give the node the direction forward"
        )
    options: dict[str, Any] = {"bidirectional": direction == "bidirectional", "bias": node.B is not None}
    if node.op_type == "GRU":
        options["reset_after"] = bool(attributes.pop("linear_before_reset", 0))
    if node.op_type == "LSTM":
        options["peephole"] = node.P is not None
        if attributes.pop("input_forget", 0):
            raise ValueError("input_forget=1 couples the input gate with the forget gate, which no layer here does")
    if attributes.pop("layout", 0):
        raise ValueError("layout=1 has the rows first; expected a node with layout=0, and batch_first=True instead")
    _read_activations(node.op_type, attributes.pop("activations", None), options)
    if attributes:
        raise ValueError(f"no layer here does what these attributes ask for: {', '.join(attributes)}")
    return options


def _read_activations(op_type: str, given: Sequence[Any] | None, options: dict[str, Any]) -> None:
    directions = 2 if options["bidirectional"] else 1
    names = None if given is None else [_text(name) for name in given]
    if op_type == "RNN":
        names = ["Tanh"] * directions if names is None else names
        if len(set(names)) != 1 or names[0].lower() not in ("tanh", "relu"):
            raise ValueError(f"expected the activation Tanh or Relu, in both directions the same; found {names}")
        options["nonlinearity"] = names[0].lower()
    elif names is not None and [name.lower() for name in names] != [
        name.lower() for name in _ACTIVATIONS[op_type] * directions
    ]:
        raise ValueError(f"expected the activations {', '.join(_ACTIVATIONS[op_type])}; found {', '.join(names)}")


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
