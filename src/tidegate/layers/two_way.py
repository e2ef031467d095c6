"""Two stacks over one text, one from its beginning and one from its end, that never see each other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tidegate.kernels.ragged import Ragged, flip
from tidegate.layers.stack import RecurrentStack

__all__ = ["TwoWayStack"]


class TwoWayStack(nn.Module):
    """Recurrent layers that read forward, and others that read backward; each layer reads the one below its own.

    A deep bidirectional stack mixes the directions between its layers; here they stay apart, so that each is a language
    model of its own at any depth (Peters et al. 2018, arXiv:1802.05365, section 3.1).

    Args:
        cell: ``"gru"``, ``"lstm"`` or ``"rnn"``.
        input_size: I, features of a step.
        hidden_size: H, units of a layer and direction.
        num_layers: L, of each direction.
        bidirectional: Whether there are layers that read backward.
        locked_dropout: Rate between the layers, one mask a sequence.
    """

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bidirectional: bool,
        locked_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.bidirectional = bidirectional
        self.ahead = RecurrentStack(cell, input_size, hidden_size, num_layers, locked_dropout=locked_dropout)
        self.back: RecurrentStack | None = None
        if bidirectional:
            self.back = RecurrentStack(cell, input_size, hidden_size, num_layers, locked_dropout=locked_dropout)

    @property
    def output_size(self) -> int:
        """D*H, features of the output at a step."""
        return self.ahead.output_size * (2 if self.bidirectional else 1)

    def forward_ragged(self, values: Tensor, ragged: Ragged, states: Any = None) -> tuple[Tensor, Any]:
        """``[N, I] -> [N, D*H]``, what was read forward before what was read backward; states of the forward layers.

        Raises:
            ValueError: There are states to go on from, and layers that read backward, which have none.
        """
        if self.back is not None and states is not None:
            raise ValueError("layers that read backward have no states to go on from; expected none")
        output, last = self.ahead.forward_ragged(values, ragged, states)
        if self.back is None:
            return output, last
        mirrored = self.back.forward_ragged(flip(values, ragged), ragged)[0]
        return torch.cat([output, flip(mirrored, ragged)], 1), last

    def layer_outputs(self, values: Tensor, ragged: Ragged) -> list[Tensor]:
        """The output of each layer, the lowest first, ``[N, D*H]`` each, without dropout."""
        outputs = _climb(self.ahead, values, ragged)
        if self.back is None:
            return outputs
        mirrored = _climb(self.back, flip(values, ragged), ragged)
        return [torch.cat([one, flip(other, ragged)], 1) for one, other in zip(outputs, mirrored, strict=True)]


def _climb(stack: RecurrentStack, values: Tensor, ragged: Ragged) -> list[Tensor]:
    outputs = []
    layers: Any = stack.layers
    for layer in layers:
        values = layer.forward_ragged(values, ragged)[0]
        outputs.append(values)
    return outputs
