"""Recurrent layers: the signature, parameters and results of torch.nn, over ragged rows inside."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from tidegate import kernels
from tidegate.kernels.ragged import Ragged, pack, pad, ragged_from_lengths, ragged_full, sort_rows, unsort_rows
from tidegate.kernels.reference import Weights

__all__ = ["GRU"]


class GRU(nn.Module):
    r"""Gated recurrent units (Cho et al. 2014, arXiv:1406.1078), a drop-in replacement of :class:`torch.nn.GRU`.

    .. math::
        r_t &= \sigma(W_{ir} x_t + b_{ir} + W_{hr} h_{t-1} + b_{hr}) \\
        z_t &= \sigma(W_{iz} x_t + b_{iz} + W_{hz} h_{t-1} + b_{hz}) \\
        n_t &= \tanh(W_{in} x_t + b_{in} + r_t \odot (W_{hn} h_{t-1} + b_{hn})) \\
        h_t &= (1 - z_t) \odot n_t + z_t \odot h_{t-1}

    Parameters have torch's names, shapes, gate order (r z n) and initialisation, so that state dicts interchange.

    Args:
        input_size: I, features of a step.
        hidden_size: H, units of a direction.
        num_layers: stacked layers.
        bias: whether the products have biases.
        batch_first: padded inputs and outputs are ``[B, T, ...]`` instead of ``[T, B, ...]``.
        dropout: probability of dropout on the outputs of each layer but the last.
        bidirectional: a second set of weights walks each sequence from its own last step down; outputs are joined.
        reset_after: the reset gate stands after the product, as above and in cuDNN and Keras 3; False puts it before,
            as Cho et al. 2014 have it: :math:`n_t = \tanh(W_{in} x_t + b_{in} + W_{hn} (r_t \odot h_{t-1}) + b_{hn})`.

    Raises:
        ValueError: A size is not positive, or `dropout` is not a probability.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        reset_after: bool = True,
    ) -> None:
        super().__init__()
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            if not isinstance(size, int):
                raise TypeError(f"{name} should be of type int, got: {type(size).__name__}")
            if size <= 0:
                raise ValueError(f"{name} must be greater than zero; found {size}")
        if isinstance(dropout, bool) or not 0 <= dropout <= 1:
            raise ValueError(f"dropout should be a number in range [0, 1], the probability of zeroing; found {dropout}")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.reset_after = reset_after
        for layer in range(num_layers):
            features = input_size if layer == 0 else hidden_size * self.num_directions
            shapes = {"weight_ih": (3 * hidden_size, features), "weight_hh": (3 * hidden_size, hidden_size)}
            if bias:
                shapes |= {"bias_ih": (3 * hidden_size,), "bias_hh": (3 * hidden_size,)}
            for suffix in self._suffixes(layer):
                for name, shape in shapes.items():
                    self.register_parameter(
                        f"{name}_{suffix}", nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
                    )
        self.reset_parameters()

    @property
    def num_directions(self) -> int:
        """D, 2 if bidirectional, else 1."""
        return 2 if self.bidirectional else 1

    def reset_parameters(self) -> None:
        """Draw all parameters from U(-1/sqrt(H), 1/sqrt(H)), in torch's order: one seed gives both the same weights."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def flatten_parameters(self) -> None:
        """Nothing: the weights need no special place. For code that was written for torch.nn.GRU."""

    def extra_repr(self) -> str:
        """The arguments that differ from their defaults, as torch.nn.GRU shows them."""
        parts = [f"{self.input_size}, {self.hidden_size}"]
        if self.num_layers != 1:
            parts.append(f"num_layers={self.num_layers}")
        if self.bias is not True:
            parts.append(f"bias={self.bias}")
        if self.batch_first is not False:
            parts.append(f"batch_first={self.batch_first}")
        if self.dropout != 0:
            parts.append(f"dropout={self.dropout}")
        if self.bidirectional is not False:
            parts.append(f"bidirectional={self.bidirectional}")
        if self.reset_after is not True:
            parts.append(f"reset_after={self.reset_after}")
        return ", ".join(parts)

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Tensor | None = None,
        *,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor | PackedSequence, Tensor]:
        """Run the layers over padded, packed or unbatched sequences.

        Args:
            input: ``[T, B, I]``, ``[B, T, I]`` with `batch_first`, ``[T, I]`` unbatched, or a PackedSequence.
            hx: ``[L*D, B, H]`` (``[L*D, H]`` unbatched), initial states; zeros where None.
            lengths: ``[B]``, the steps of each sequence, of any integer type, on any device, zero allowed. What lies
                beyond is never read; outputs there are zeros, and a sequence of length zero returns its initial state.

        Returns:
            ``output``, the last layer's states at each step, of the kind and form of the input, ``D*H`` features; and
            ``h_n [L*D, B, H]``, the last state of each layer and direction.

        Raises:
            ValueError, RuntimeError: The shapes do not fit the layer (the conditions of torch.nn.GRU).
        """
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise ValueError("a PackedSequence knows its lengths; expected lengths=None with it")
            return self._forward_packed(input, hx)
        if input.dim() not in (2, 3):
            raise ValueError(f"GRU: Expected input to be 2D or 3D, got {input.dim()}D tensor instead")
        batched = input.dim() == 3
        if hx is not None and hx.dim() != input.dim():
            kind = "batched 3-D" if batched else "unbatched 2-D"
            raise RuntimeError(f"For {kind} input, hx should also be {input.dim()}-D but got {hx.dim()}-D tensor")
        if not batched:
            if lengths is not None:
                raise ValueError("an unbatched 2-D input is one whole sequence; expected lengths=None with it")
            output, h_n = self._forward_full(input.unsqueeze(1), None if hx is None else hx.unsqueeze(1))
            return output.squeeze(1), h_n.squeeze(1)
        if lengths is not None:
            rows = input if self.batch_first else input.transpose(0, 1)
            output, h_n = self._forward_lengths(rows, hx, lengths)
            return output if self.batch_first else output.transpose(0, 1), h_n
        steps = input.transpose(0, 1) if self.batch_first else input
        output, h_n = self._forward_full(steps, hx)
        return output.transpose(0, 1) if self.batch_first else output, h_n

    def forward_ragged(self, values: Tensor, ragged: Ragged, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The same over values in the ragged layout: ``[N, I] -> [N, D*H]``; hx and h_n in the caller's row order."""
        sorted_hx = None if hx is None else sort_rows(hx, ragged, dim=1)
        output, h_n = self._run(values, ragged, sorted_hx)
        return output, unsort_rows(h_n, ragged, dim=1)

    def _forward_full(self, steps: Tensor, hx: Tensor | None) -> tuple[Tensor, Tensor]:
        num_steps, num_rows, _ = steps.shape
        output, h_n = self._run(steps.flatten(0, 1), ragged_full(num_rows, num_steps, steps.device), hx)
        return output.unflatten(0, (num_steps, num_rows)), h_n

    def _forward_lengths(self, rows: Tensor, hx: Tensor | None, lengths: Tensor) -> tuple[Tensor, Tensor]:
        num_rows, num_steps, _ = rows.shape
        lengths = torch.as_tensor(lengths)
        if lengths.shape != (num_rows,):
            raise ValueError(f"expected one length for each of the {num_rows} rows; found shape {tuple(lengths.shape)}")
        ragged = ragged_from_lengths(lengths.to(rows.device), num_steps)
        output, h_n = self.forward_ragged(pack(rows, ragged), ragged, hx)
        return pad(output, ragged), h_n

    def _forward_packed(self, packed: PackedSequence, hx: Tensor | None) -> tuple[PackedSequence, Tensor]:
        places = torch.arange(int(packed.batch_sizes[0]))
        sorted_lengths = (packed.batch_sizes[:, None] > places).sum(0).to(packed.data.device)
        # Already sorted, so that the layout is the packed one whatever order ties were packed in.
        ragged = ragged_from_lengths(sorted_lengths)
        if hx is not None and packed.sorted_indices is not None:
            hx = hx.index_select(1, packed.sorted_indices)
        output, h_n = self._run(packed.data, ragged, hx)
        if packed.unsorted_indices is not None:
            h_n = h_n.index_select(1, packed.unsorted_indices)
        return packed._replace(data=output), h_n

    def _run(self, values: Tensor, ragged: Ragged, hx: Tensor | None) -> tuple[Tensor, Tensor]:
        """All layers over ragged values, states in sorted order."""
        if values.shape[-1] != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {values.shape[-1]}"
            )
        directions = self.num_directions
        expected = (self.num_layers * directions, ragged.num_rows, self.hidden_size)
        if hx is None:
            hx = values.new_zeros(expected)
        elif hx.shape != expected:
            raise RuntimeError(f"Expected hidden size {expected}, got {list(hx.shape)}")
        last_states = []
        for layer, h_0 in enumerate(hx.split(directions)):
            if layer > 0 and self.dropout > 0:
                values = nn.functional.dropout(values, self.dropout, self.training)
            values, h_n = kernels.gru(values, self._weights(layer), h_0, ragged, reset_after=self.reset_after)
            last_states.append(h_n)
        return values, torch.cat(last_states)

    def _suffixes(self, layer: int) -> list[str]:
        return [f"l{layer}", f"l{layer}_reverse"][: self.num_directions]

    def _weights(self, layer: int) -> list[Weights]:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return [
            Weights(*(getattr(self, f"{name}_{suffix}", None) for name in names))  # pyright: ignore[reportArgumentType]
            for suffix in self._suffixes(layer)
        ]
