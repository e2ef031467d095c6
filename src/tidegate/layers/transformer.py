"""A Transformer encoder over ragged rows, with torch.nn's parameters: what recurrent encoders are compared with."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from tidegate.errors import nearest
from tidegate.kernels.attention import row_places
from tidegate.kernels.ragged import Ragged
from tidegate.layers.dropout import check_rate
from tidegate.layers.dropout import dropout as drop_features
from tidegate.layers.forms import enter
from tidegate.layers.multihead import MultiHeadAttention

__all__ = ["TransformerEncoder", "TransformerLayer", "sinusoidal_positions"]

_ACTIVATIONS = {"relu": functional.relu, "gelu": functional.gelu}
_POSITIONS = ("sinusoidal", "none")


def sinusoidal_positions(steps: Tensor, features: int, dtype: torch.dtype) -> Tensor:
    r"""Where each step is, as features (Vaswani et al. 2017, section 3.5).

    .. math:: p_{2i} = \sin(t / 10000^{2i / E}) \qquad p_{2i+1} = \cos(t / 10000^{2i / E})

    Args:
        steps: ``[N]`` int64, counted from zero.
        features: E.
        dtype: The type of the result.

    Returns:
        ``[N, E]``.
    """
    pairs = torch.arange(0, features, 2, device=steps.device, dtype=torch.float64)
    angles = steps[:, None] * torch.exp(pairs * (-math.log(10000.0) / features))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :features].to(dtype)


class TransformerLayer(nn.Module):
    r"""One layer of a Transformer encoder (Vaswani et al. 2017, arXiv:1706.03762) over rows of any lengths.

    .. math::
        x' = \mathrm{LN}(x + \mathrm{MHA}(x)) \qquad y = \mathrm{LN}(x' + W_2\, \phi(W_1 x' + b_1) + b_2)

    With ``norm_first`` each sum is :math:`x + f(\mathrm{LN}(x))` (Xiong et al. 2020, arXiv:2002.04745). The parameters
    bear the names of :class:`torch.nn.TransformerEncoderLayer`, so state dicts interchange.

    Args:
        d_model: E, features of a step.
        nhead: Heads, which share E evenly.
        dim_feedforward: Units of the inner layer.
        dropout: Probability of dropping an attention weight, an inner unit, or a feature of what is added; in training.
        activation: ``"relu"`` or ``"gelu"``.
        layer_norm_eps: Added to the variances.
        norm_first: Where the norms stand.
        bias: Whether products and norms have biases.
        causal: Whether a step sees itself and those before alone.

    Raises:
        ValueError: The heads do not share E evenly, `dropout` is outside [0, 1), or the activation is unknown.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        layer_norm_eps: float = 1e-5,
        norm_first: bool = False,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        causal: bool = False,
    ) -> None:
        super().__init__()
        if activation not in _ACTIVATIONS:
            raise ValueError(
                f"activation must be one of {', '.join(_ACTIVATIONS)}; found {activation!r}."
                f"{nearest(activation, _ACTIVATIONS)}"
            )
        check_rate("dropout", dropout)
        self.dropout, self.activation, self.norm_first, self.causal = dropout, activation, norm_first, causal
        self.self_attn = MultiHeadAttention(d_model, nhead, dropout, bias, device=device, dtype=dtype)
        self.linear1 = nn.Linear(d_model, dim_feedforward, bias=bias, device=device, dtype=dtype)
        self.linear2 = nn.Linear(dim_feedforward, d_model, bias=bias, device=device, dtype=dtype)
        self.norm1 = nn.LayerNorm(d_model, layer_norm_eps, bias=bias, device=device, dtype=dtype)
        self.norm2 = nn.LayerNorm(d_model, layer_norm_eps, bias=bias, device=device, dtype=dtype)

    def forward(self, rows: Tensor, lengths: Tensor) -> Tensor:
        """Values that stand row after row ``[N, E]``, and the lengths of the rows ``[B]``, to ``[N, E]``."""
        if self.norm_first:
            rows = rows + self._attend(self.norm1(rows), lengths)
            return rows + self._feed_forward(self.norm2(rows))
        rows = self.norm1(rows + self._attend(rows, lengths))
        return self.norm2(rows + self._feed_forward(rows))

    def _attend(self, rows: Tensor, lengths: Tensor) -> Tensor:
        attended = self.self_attn.attend_rows(rows, lengths, rows, lengths, rows, causal=self.causal)
        return drop_features(attended, self.dropout, self.training)

    def _feed_forward(self, rows: Tensor) -> Tensor:
        inner = drop_features(_ACTIVATIONS[self.activation](self.linear1(rows)), self.dropout, self.training)
        return drop_features(self.linear2(inner), self.dropout, self.training)

    def extra_repr(self) -> str:
        """What the layers within do not show."""
        return f"dropout={self.dropout}, activation={self.activation!r}, norm_first={self.norm_first}" + (
            ", causal=True" if self.causal else ""
        )


class TransformerEncoder(nn.Module):
    """A stack of :class:`TransformerLayer` over sequences of any form and any lengths: no padded step is computed.

    Between, values stand row after row, rows of one length side by side; the way there and back is gone once.

    Args:
        input_size: I, features of a step. Where it is not E, a linear map goes before.
        hidden_size: E, features within and of the output.
        num_layers: L.
        num_heads: Heads of each layer, which share E evenly.
        feedforward_size: Units of the inner layers; None for 4 E.
        dropout: Probability of dropping what :class:`TransformerLayer` says, and a feature of what enters.
        activation: ``"relu"`` or ``"gelu"``.
        norm_first: Whether norms stand before each part; there is then a last one over the output, ``norm``.
        positions: ``"sinusoidal"`` adds :func:`sinusoidal_positions` to what enters; ``"none"`` leaves the order of the
            steps out of sight.
        batch_first: Padded inputs and outputs are ``[B, T, ...]`` instead of ``[T, B, ...]``.
        causal: Whether a step sees itself and those before alone.
        device: Where the parameters are made.
        dtype: Their type.

    Raises:
        ValueError: A size is not positive, the heads do not share E evenly, or a name is unknown.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        num_heads: int = 4,
        feedforward_size: int | None = None,
        dropout: float = 0.1,
        activation: str = "relu",
        norm_first: bool = False,
        positions: str = "sinusoidal",
        batch_first: bool = False,
        causal: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if min(input_size, num_layers) < 1:
            raise ValueError(f"expected sizes of at least 1; found input_size={input_size}, num_layers={num_layers}")
        if positions not in _POSITIONS:
            raise ValueError(f"positions must be one of {', '.join(_POSITIONS)}; found {positions!r}")
        self.dropout, self.positions, self.batch_first = dropout, positions, batch_first
        self.output_size = hidden_size
        inner = 4 * hidden_size if feedforward_size is None else feedforward_size
        options = {"norm_first": norm_first, "causal": causal, "device": device, "dtype": dtype}
        self.projection = (
            nn.Identity()
            if input_size == hidden_size
            else nn.Linear(input_size, hidden_size, device=device, dtype=dtype)
        )
        self.layers = nn.ModuleList(
            TransformerLayer(hidden_size, num_heads, inner, dropout, activation, **options) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(hidden_size, device=device, dtype=dtype) if norm_first else nn.Identity()

    def forward(
        self, input: Tensor | PackedSequence, *, lengths: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor | PackedSequence:
        """Encode padded, packed or unbatched sequences.

        Args:
            input: ``[T, B, I]``, ``[B, T, I]`` with batch_first, ``[T, I]`` unbatched, or a PackedSequence.
            lengths: ``[B]``, the steps of each sequence, zero allowed; nothing beyond is read.
            mask: Bool, True where there is a step, as for :class:`tidegate.GRU`; a masked step is left out of the
                sequence, as if the others stood side by side.

        Returns:
            ``E`` features of each step in the form of the input; zeros where there is no step.

        Raises:
            ValueError: Lengths or mask do not fit the input.
        """
        form = enter(input, lengths, mask, self.batch_first, type(self).__name__)
        return form.leave(self.forward_ragged(form.values, form.ragged))

    def forward_ragged(self, values: Tensor, ragged: Ragged) -> Tensor:
        """The same over values in the ragged layout: ``[N, I] -> [N, E]``."""
        entering = self.projection(values)
        if self.positions == "sinusoidal":
            entering = entering + sinusoidal_positions(ragged.step_of, entering.shape[-1], entering.dtype)
        entering = drop_features(entering, self.dropout, self.training)
        places, lengths = row_places(ragged, ragged.order)
        rows = torch.empty_like(entering).index_copy(0, places, entering)
        for layer in self.layers:
            rows = layer(rows, lengths)
        return self.norm(rows.index_select(0, places))
