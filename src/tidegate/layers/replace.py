"""Put tidegate's recurrent layers where a model has torch.nn's."""

from __future__ import annotations

from typing import Any

from torch import nn

from tidegate.layers.recurrent import GRU, LSTM, RNN
from tidegate.layers.recurrent_base import RecurrentBase

__all__ = ["replace_"]

# By exact type: a subclass may compute something else.
_TWINS: dict[type[nn.RNNBase], type[RecurrentBase]] = {nn.RNN: RNN, nn.LSTM: LSTM, nn.GRU: GRU}


def replace_(model: nn.Module) -> list[str]:
    """Swap every :class:`torch.nn.RNN`, ``LSTM`` and ``GRU`` within a model for tidegate's, in place.

    The parameters stay the very same objects, so that an optimizer that holds them goes on; so do hooks, the training
    mode, and a layer that stands in two places. Subclasses of torch's layers are left as they are.

    Args:
        model: Any module that contains such layers.

    Returns:
        The names of the layers that were swapped, as ``model.get_submodule`` takes them; empty where there were none.

    Raises:
        TypeError: The model is itself one of those layers, which nothing holds: put it into another module, or make the
            layer of tidegate and load the state dict.
    """
    if type(model) in _TWINS:
        raise TypeError(
            f"replace_ swaps the layers within a model; found a torch.nn.{type(model).__name__} itself: "
            f"make a tidegate.{type(model).__name__} and load its state_dict"
        )
    made: dict[nn.Module, nn.Module] = {}
    swapped = []
    for path, parent in list(model.named_modules()):
        # Not named_children, which tells of a layer in two places once.
        for name, child in list(parent._modules.items()):
            if child is not None and type(child) in _TWINS:
                if child not in made:
                    made[child] = _twin(child)
                setattr(parent, name, made[child])
                swapped.append(f"{path}.{name}" if path else name)
    return swapped


def _twin(layer: Any) -> nn.Module:
    """The layer of tidegate with the parameters of one of torch.nn's."""
    arguments: dict[str, Any] = {
        name: getattr(layer, name)
        for name in ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "bidirectional")
    }
    if isinstance(layer, nn.RNN):
        arguments["nonlinearity"] = layer.nonlinearity
    if isinstance(layer, nn.LSTM):
        arguments["proj_size"] = layer.proj_size
    # On `meta` nothing is drawn, so that the random numbers after a swap are those without it.
    twin = _TWINS[type(layer)](**arguments, device="meta")
    twin.dropout = layer.dropout
    for name, parameter in layer.named_parameters():
        setattr(twin, name, parameter)
    twin.train(layer.training)
    for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"):
        getattr(twin, kind).update(getattr(layer, kind))
    return twin
