"""The recurrent encoder of a ragged batch, by the name of its cell."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from tidegate.errors import nearest
from tidegate.kernels.ragged import Ragged, unsort_rows
from tidegate.layers.recurrent import GRU

__all__ = ["CELLS", "RecurrentStack"]


class _TorchRecurrent(nn.Module):
    """torch.nn's LSTM or RNN on ragged values, until tidegate's own kernels serve these cells."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward_ragged(self, values: Tensor, ragged: Ragged) -> tuple[Tensor, Tensor]:
        layer = self.layer
        directions = 2 if layer.bidirectional else 1
        batch_sizes = ragged.batch_sizes[ragged.batch_sizes > 0].cpu()
        final = values.new_zeros(layer.num_layers * directions, ragged.num_rows, layer.hidden_size)
        if ragged.num_values == 0:
            return values.new_zeros(0, directions * layer.hidden_size), final
        output, state = layer(PackedSequence(values, batch_sizes))
        state = state[0] if isinstance(layer, nn.LSTM) else state
        # torch's layers know no row of length zero; such rows sort last and keep their initial state, zeros.
        final = torch.cat([state, final[:, state.shape[1] :]], dim=1)
        return output.data, unsort_rows(final, ragged, dim=1)


CELLS = ("gru", "lstm", "rnn")


class RecurrentStack(nn.Module):
    """Stacked recurrent layers of one cell over ragged values.

    Args:
        cell: ``"gru"`` (Cho et al. 2014), ``"lstm"`` (Hochreiter & Schmidhuber 1997) or ``"rnn"`` (Elman 1990, tanh).
        input_size: I, features of a step.
        hidden_size: H, units of a layer and direction.
        num_layers: L.
        bidirectional: Whether each layer also reads from the last step to the first.
        dropout: Probability of dropping a feature between the layers.

    Raises:
        ValueError: The cell is not one of those named.
    """

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if cell not in CELLS:
            raise ValueError(f"cell must be one of {', '.join(CELLS)}; found {cell!r}.{nearest(cell, CELLS)}")
        # torch's layers warn when there is no second layer for the dropout to stand before.
        between = dropout if num_layers > 1 else 0.0
        self.directions = 2 if bidirectional else 1
        self.output_size = self.directions * hidden_size
        if cell == "gru":
            self.layers = GRU(input_size, hidden_size, num_layers, bidirectional=bidirectional, dropout=between)
        elif cell == "lstm":
            self.layers = _TorchRecurrent(
                nn.LSTM(input_size, hidden_size, num_layers, bidirectional=bidirectional, dropout=between)
            )
        else:
            self.layers = _TorchRecurrent(
                nn.RNN(input_size, hidden_size, num_layers, bidirectional=bidirectional, dropout=between)
            )

    def forward(self, values: Tensor, ragged: Ragged) -> tuple[Tensor, Tensor]:
        """Encode a ragged batch.

        Args:
            values: ``[N, I]`` in ragged order.
            ragged: The layout of `values`.

        Returns:
            The last layer's output at every step, ``[N, D*H]`` in ragged order, and its final state ``[B, D*H]`` in the
            caller's order, forward then backward; zeros where a row has no step.
        """
        output, final = self.layers.forward_ragged(values, ragged)
        last = final[-self.directions :]  # [D, B, H]
        return output, last.transpose(0, 1).flatten(1)
