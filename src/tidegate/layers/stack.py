"""The recurrent encoder of a ragged batch, by the name of its cell."""

from __future__ import annotations

from torch import Tensor, nn

from tidegate.errors import nearest
from tidegate.kernels.ragged import Ragged
from tidegate.layers.recurrent import GRU, LSTM, RNN

__all__ = ["CELLS", "RecurrentStack"]


_LAYERS = {"gru": GRU, "lstm": LSTM, "rnn": RNN}
CELLS = tuple(_LAYERS)


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
        # A layer warns when there is no second one for the dropout to stand before.
        between = dropout if num_layers > 1 else 0.0
        self.directions = 2 if bidirectional else 1
        self.output_size = self.directions * hidden_size
        self.layers = _LAYERS[cell](input_size, hidden_size, num_layers, bidirectional=bidirectional, dropout=between)

    def forward(self, values: Tensor, ragged: Ragged) -> tuple[Tensor, Tensor]:
        """Encode a ragged batch.

        Args:
            values: ``[N, I]`` in ragged order.
            ragged: The layout of `values`.

        Returns:
            The last layer's output at every step, ``[N, D*H]`` in ragged order, and its final state ``[B, D*H]`` in the
            caller's order, forward then backward; zeros where a row has no step.
        """
        output, states = self.layers.forward_ragged(values, ragged)
        final = states[0] if isinstance(states, tuple) else states
        last = final[-self.directions :]  # [D, B, H]
        return output, last.transpose(0, 1).flatten(1)
