"""The states of a language model that has learned already, as features of tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tidegate.kernels.ragged import Ragged
from tidegate.layers.two_way import TwoWayStack

__all__ = ["LanguageStates"]


class LanguageStates(nn.Module):
    """Ids of tokens to a mixture of a frozen language model's layers (Peters et al. 2018, equation 1).

    ``scale * sum_j softmax(mix)_j h_j``: h_0 the token's own vector, once for each direction, h_j the output of layer j
    in both directions. The mixture is learned; the language model is not, and its weights are no parameters.

    Args:
        num_tokens: V, the language model's vocabulary.
        cell: Its cell.
        size: H, units of a layer and direction, and features of a token's vector.
        num_layers: L.
        bidirectional: Whether it reads in both directions.
    """

    def __init__(self, num_tokens: int, *, cell: str, size: int, num_layers: int, bidirectional: bool) -> None:
        super().__init__()
        self.register_buffer("table", torch.zeros(num_tokens, size))
        self.encoder = TwoWayStack(cell, size, size, num_layers, bidirectional)
        for module in self.encoder.modules():
            for name, weight in list(module.named_parameters(recurse=False)):
                delattr(module, name)
                module.register_buffer(name, weight.detach())
        self.mix = nn.Parameter(torch.zeros(num_layers + 1))
        self.scale = nn.Parameter(torch.ones(()))

    @property
    def output_size(self) -> int:
        """D*H, features of a token."""
        return self.encoder.output_size

    def forward(self, ids: Tensor, ragged: Ragged) -> Tensor:
        """``[N]`` ids of the language model in ragged order to ``[N, D*H]``."""
        with torch.no_grad():
            embedded = self.get_buffer("table").index_select(0, ids)
            layers = [embedded.repeat(1, self.encoder.output_size // embedded.shape[1])]
            layers += self.encoder.layer_outputs(embedded, ragged)
            stacked = torch.stack(layers)
        return self.scale * torch.tensordot(self.mix.softmax(0).to(stacked.dtype), stacked, 1)
