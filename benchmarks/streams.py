"""Weights of one layer for steps on NumPy arrays: _native.Step of each weight type, and torch.nn's layer of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tidegate.kernels.quantized import quantize_rows
from tidegate.native import extension

GATES = {"rnn_tanh": 1, "lstm": 4, "gru": 3}
_LAYERS = {"rnn_tanh": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class StepWeights:
    """The weights of a fresh layer of torch.nn, and what stands on them.

    Args:
        cell: rnn_tanh, lstm or gru.
        inputs: Features of a step.
        hidden: Units.
    """

    def __init__(self, cell: str, inputs: int, hidden: int) -> None:
        self.cell, self.hidden = cell, hidden
        self.layer: Any = _LAYERS[cell](inputs, hidden)
        self.weight_ih: Tensor = self.layer.weight_ih_l0.detach()
        self.weight_hh: Tensor = self.layer.weight_hh_l0.detach()

    def states(self, batch: int = 1) -> list[np.ndarray]:
        """Zeros: h, and for the LSTM c."""
        return [np.zeros((batch, self.hidden), np.float32) for _ in range(2 if self.cell == "lstm" else 1)]

    def step(self, kind: str) -> Any:
        """A _native.Step with weights of float32, bfloat16 or int8."""
        bias_ih, bias_hh = self.layer.bias_ih_l0.detach(), self.layer.bias_hh_l0.detach()
        more: dict[str, np.ndarray] = {}
        if self.cell == "gru":
            # The reset gate multiplies the recurrent bias of n, so it stands by itself.
            more["bias_n"] = bias_hh[2 * self.hidden :].numpy()
            bias_hh = torch.cat([bias_hh[: 2 * self.hidden], torch.zeros(self.hidden)])
        matrices: list[np.ndarray] = []
        for name, weight in (("scale_ih", self.weight_ih), ("scale_hh", self.weight_hh)):
            if kind == "int8":
                weight, scale = quantize_rows(weight)
                more[name] = scale.numpy()
            elif kind == "bfloat16":
                weight = weight.bfloat16().view(torch.uint16)
            matrices.append(weight.contiguous().numpy())
        return extension().Step(self.cell, kind, *matrices, bias=(bias_ih + bias_hh).numpy(), **more)
