"""What exchanging weights with other frameworks needs: gates in another order, and what their layers do not have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tidegate.layers.recurrent import GRU, LSTM, RNN

__all__ = ["GATES", "RecurrentLayer", "as_array", "check_array", "directions_of", "fill_", "refuse_extras", "reorder"]

RecurrentLayer = RNN | LSTM | GRU

# torch.nn's and tidegate's order of the gates, by one letter each.
GATES: dict[str, str] = {"RNN": "h", "LSTM": "ifgo", "GRU": "rzn"}

# Options of a layer that neither Keras nor ONNX has, with the value that each has where it is off.
_EXTRAS: dict[str, Any] = {
    "proj_size": 0,
    "peephole": False,
    "layer_norm": False,
    "residual": False,
    "learn_initial_state": False,
    "zoneout": 0.0,
}


def reorder(array: np.ndarray, before: str, after: str, axis: int) -> np.ndarray:
    """The blocks along `axis`, one for each letter of `before`, in the order of the letters of `after`."""
    blocks = dict(zip(before, np.split(array, len(before), axis=axis), strict=True))
    return np.concatenate([blocks[letter] for letter in after], axis=axis)


def as_array(tensor: Tensor) -> np.ndarray:
    """A copy of a parameter as an array."""
    return tensor.detach().cpu().numpy().copy()


def check_array(name: str, value: Any, shape: Sequence[int | None]) -> np.ndarray:
    """`value` as an array of the shape, None standing for any size.

    Raises:
        ValueError: It has another shape.
    """
    array = np.asarray(value)
    fits = array.ndim == len(shape) and all(b is None or a == b for a, b in zip(array.shape, shape, strict=True))
    if not fits:
        expected = ", ".join("?" if size is None else str(size) for size in shape)
        raise ValueError(f"expected {name} of shape [{expected}]; found {list(array.shape)}")
    return array


def directions_of(layer: RecurrentLayer, index: int) -> list[dict[str, Tensor]]:
    """The parameters of one of the stacked layers, name without suffix -> tensor, a dictionary for each direction.

    Raises:
        ValueError: There is no such layer in the stack.
    """
    if not 0 <= index < layer.num_layers:
        raise ValueError(f"expected index from 0 to {layer.num_layers - 1}, one of the stacked layers; found {index}")
    suffixes = [f"_l{index}", f"_l{index}_reverse"][: layer.num_directions]
    return [
        {name.removesuffix(suffix): tensor for name, tensor in layer.named_parameters() if name.endswith(suffix)}
        for suffix in suffixes
    ]


def refuse_extras(layer: RecurrentLayer, framework: str, known: Sequence[str] = ()) -> None:
    """Raise where a layer computes what the other framework's does not.

    Raises:
        ValueError: It does, by an option that is not among those `known` there.
    """
    found = [
        f"{name}={getattr(layer, name)!r}"
        for name, off in _EXTRAS.items()
        if name not in known and getattr(layer, name, off) != off
    ]
    if found:
        raise ValueError(
            f"{framework}'s {layer.mode.split('_')[0]} has nothing for {', '.join(found)}; expected a layer without"
        )


def fill_(parameters: dict[str, Tensor], arrays: dict[str, np.ndarray]) -> None:
    """Copy arrays over the parameters of the same names; one that is not among them must be all zeros.

    Raises:
        ValueError: An array has another shape than its parameter, or is for a parameter that the layer lacks.
    """
    for name, array in arrays.items():
        if name not in parameters:
            if np.any(array):
                raise ValueError(f"the weights have a {name}; expected a layer with one (bias=True, peephole=True)")
            continue
        check_array(name, array, parameters[name].shape)
    with torch.no_grad():
        for name, parameter in parameters.items():
            if name in arrays:
                parameter.copy_(torch.from_numpy(np.ascontiguousarray(arrays[name])))
            elif name.startswith(("bias", "peephole")):
                parameter.zero_()
