"""Each recurrent layer beside torch.nn's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tidegate
from tidegate.layers import recurrent_base

# Name -> the two classes and what they are made with.
LAYERS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "RNN": (tidegate.RNN, nn.RNN, {}),
    "RNN-relu": (tidegate.RNN, nn.RNN, {"nonlinearity": "relu"}),
    "LSTM": (tidegate.LSTM, nn.LSTM, {}),
    "LSTM-projected": (tidegate.LSTM, nn.LSTM, {"proj_size": 3}),
    "GRU": (tidegate.GRU, nn.GRU, {}),
}
# The options that torch.nn does not have, all at once.
OPTIONS: dict[str, dict[str, Any]] = {
    "RNN": {},
    "RNN-relu": {},
    "LSTM": {"zoneout": (0.2, 0.1), "peephole": True},
    "LSTM-projected": {"zoneout": (0.0, 0.3), "peephole": True},
    "GRU": {"reset_after": False},
}
for _options in OPTIONS.values():
    _options.update({"recurrent_dropout": 0.25, "layer_norm": True, "learn_initial_state": True})
    _options.setdefault("zoneout", 0.2)


def ours(name: str, *args: Any, **kwargs: Any) -> Any:
    """The layer of tidegate."""
    return LAYERS[name][0](*args, **LAYERS[name][2], **kwargs)


def pair(name: str, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    """Both layers with the same weights, in float64."""
    made = ours(name, *args, **kwargs).double()
    theirs = LAYERS[name][1](*args, **LAYERS[name][2], **kwargs).double()
    theirs.load_state_dict(made.state_dict())
    return made, theirs


def with_options(name: str, *args: Any, **kwargs: Any) -> Any:
    """The layer with every option, its gains, biases and initial states away from where they start."""
    torch.manual_seed(0)
    layer = ours(name, *args, **(OPTIONS[name] | kwargs))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return layer


def states(name: str, layer: Any, *shape: int) -> Any:
    """Random states: h, and for the LSTM the pair; `shape` is that of the rows."""
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    dtype = layer.weight_ih_l0.dtype
    h = torch.randn(count, *shape, layer.proj_size or layer.hidden_size).to(dtype)
    return (h, torch.randn(count, *shape, layer.hidden_size).to(dtype)) if name.startswith("LSTM") else h


def flat(result: Any) -> list[Tensor]:
    """Output and last states as a list."""
    output, last = result
    return [output, *(last if isinstance(last, tuple) else (last,))]


def loss_of(result: Any) -> Tensor:
    """A number in which every entry of the results has a weight of its own."""
    weighted = [(t * torch.arange(t.numel()).view(t.shape).cos()).sum() for t in flat(result)]
    return torch.stack(weighted).sum()


def draw_as_compiled_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all calls draw masks as compiled programs do, so that those of one seed are equal."""

    def draw_mask(shape: tuple[int, ...], rate: float, device: torch.device) -> Tensor:
        return torch.rand(shape, device=device) < rate

    monkeypatch.setattr(recurrent_base, "draw_mask", draw_mask)
    monkeypatch.setattr(recurrent_base, "drop_entries", nn.functional.dropout)
