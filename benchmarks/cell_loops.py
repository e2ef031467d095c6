"""What a user writes where torch.nn has no such option: torch.nn's cell stepped in Python, the option in plain PyTorch.

Where the option fits around the cell (zoneout; dropout of a state that only enters a product), the cell itself is
called; where it changes the cell's insides, the equations are written out on the cell's parameters.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear

_CELLS = {"rnn": nn.RNNCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}
_EXTRAS = ("norm_ih", "norm_hh", "norm_c", "peephole", "weight_hr")


class CellLoop(nn.Module):
    """A layer of tidegate's as a loop over a cell of torch.nn, with the layer's weights.

    Args:
        cell: rnn, lstm or gru.
        layer: The layer, of one direction, whose options are taken.
    """

    def __init__(self, cell: str, layer: Any) -> None:
        super().__init__()
        self.kind = cell
        self.reset_after: bool = getattr(layer, "reset_after", True)
        self.dropout: float = layer.recurrent_dropout
        self.zoneout: float = layer.zoneout
        self.units: int = layer.hidden_size
        self.states: int = layer.proj_size or layer.hidden_size
        self.cell: Any = _CELLS[cell](layer.input_size, layer.hidden_size)
        with torch.no_grad():
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                setattr(self.cell, name, nn.Parameter(getattr(layer, f"{name}_l0").clone()))
        extras = {name: getattr(layer, f"{name}_l0", None) for name in _EXTRAS}
        self.extras = nn.ParameterDict(
            {name: nn.Parameter(extra.detach().clone()) for name, extra in extras.items() if extra is not None}
        )

    def draw(self, steps: int, rows: int) -> dict[str, Tensor]:
        """Masks for one call: of dropout, ``[B, P]``; of zoneout for h and c, ``[T, B, P]`` and ``[T, B, H]``."""
        masks = {}
        if self.dropout:
            masks["dropout"] = (torch.rand(rows, self.states) >= self.dropout).float() / (1 - self.dropout)
        if self.zoneout:
            masks["zoneout_h"] = torch.rand(steps, rows, self.states) < self.zoneout
        if self.zoneout and self.kind == "lstm":
            masks["zoneout_c"] = torch.rand(steps, rows, self.units) < self.zoneout
        return masks

    def forward(self, x: Tensor, masks: dict[str, Tensor]) -> Tensor:
        """``[T, B, I] -> [T, B, P]``."""
        h = x.new_zeros(x.shape[1], self.states)
        c = x.new_zeros(x.shape[1], self.units)
        outputs = []
        for t, x_t in enumerate(x):
            h_in = h * masks["dropout"] if "dropout" in masks else h
            new_h, new_c = self._step(x_t, h, h_in, c)
            h = torch.where(masks["zoneout_h"][t], h, new_h) if "zoneout_h" in masks else new_h
            c = torch.where(masks["zoneout_c"][t], c, new_c) if "zoneout_c" in masks else new_c
            outputs.append(h)
        return torch.stack(outputs)

    def _step(self, x: Tensor, h: Tensor, h_in: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        if self.kind == "lstm":
            return self._lstm(x, h_in, c) if self.extras else self.cell(x, (h_in, c))
        if self.kind == "gru":
            # The GRU's z * h takes the state as it is.
            is_plain = self.reset_after and not self.extras and not self.dropout
            return (self.cell(x, h) if is_plain else self._gru(x, h, h_in)), c
        if not self.extras:
            return self.cell(x, h_in), c
        return torch.tanh(self._of_input(x) + self._of_state(h_in)), c

    def _of_input(self, x: Tensor) -> Tensor:
        return self._product(x, self.cell.weight_ih, "norm_ih") + self.cell.bias_ih

    def _of_state(self, h: Tensor) -> Tensor:
        return self._product(h, self.cell.weight_hh, "norm_hh") + self.cell.bias_hh

    def _product(self, x: Tensor, weight: Tensor, norm: str) -> Tensor:
        product = linear(x, weight)
        return layer_norm(product, product.shape[-1:], self.extras[norm]) if norm in self.extras else product

    def _gru(self, x: Tensor, h: Tensor, h_in: Tensor) -> Tensor:
        x_r, x_z, x_n = self._of_input(x).chunk(3, -1)
        if self.reset_after:
            h_r, h_z, h_n = self._of_state(h_in).chunk(3, -1)
            r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
            n = torch.tanh(x_n + r * h_n)
        else:
            split = 2 * self.units
            weight, bias = self.cell.weight_hh, self.cell.bias_hh
            h_r, h_z = linear(h_in, weight[:split], bias[:split]).chunk(2, -1)
            r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
            n = torch.tanh(x_n + linear(r * h_in, weight[split:], bias[split:]))
        return (1 - z) * n + z * h

    def _lstm(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, g, o = (self._of_input(x) + self._of_state(h)).chunk(4, -1)
        if "peephole" in self.extras:
            to_i, to_f, to_o = self.extras["peephole"]
            i, f = i + to_i * c, f + to_f * c
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            o = o + to_o * c
        else:
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        inner = layer_norm(c, c.shape[-1:], *self.extras["norm_c"]) if "norm_c" in self.extras else c
        h = torch.sigmoid(o) * torch.tanh(inner)
        return (linear(h, self.extras["weight_hr"]) if "weight_hr" in self.extras else h), c
