"""The definition of truth: recurrences in plain PyTorch, slow, obvious, differentiable twice, on any device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, linear

from tidegate.kernels.ragged import Ragged

__all__ = ["CELLS", "GATES", "PLAIN", "TRACED", "Options", "Weights", "recurrence", "steps"]

GATES = {"rnn_tanh": 1, "rnn_relu": 1, "lstm": 4, "gru": 3, "gru_reset_before": 3}
CELLS = tuple(GATES)
# What is handed out of each step where the gates are asked for: those, and the LSTM's cell state.
TRACED = GATES | {"lstm": 5}


class Weights(NamedTuple):
    """The parameters of one direction of one layer, with torch's names, shapes and gate order (r z n; i f g o).

    Attributes:
        weight_ih: ``[G*H, I]``, G the number of gates.
        weight_hh: ``[G*H, P]``, P the size of the state h: H, or fewer with a projection.
        bias_ih: ``[G*H]`` or None.
        bias_hh: ``[G*H]`` or None.
        weight_hr: ``[P, H]`` or None; the projection of an LSTM's state h (Sak et al. 2014, arXiv:1402.1128).
        peephole: ``[3, H]`` or None; an LSTM's weights from the cell state to the gates i, f, o (Gers & Schmidhuber
            2000).
        norm_ih: ``[G*H]`` or None; the gain of layer normalisation (Ba et al. 2016, arXiv:1607.06450) over ``W_ih x``.
        norm_hh: ``[G*H]`` or None; the same over ``W_hh h``.
        norm_c: ``[2, H]`` or None; gain and bias of layer normalisation over an LSTM's cell state, before the tanh of
            its output.
    """

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None = None
    bias_hh: Tensor | None = None
    weight_hr: Tensor | None = None
    peephole: Tensor | None = None
    norm_ih: Tensor | None = None
    norm_hh: Tensor | None = None
    norm_c: Tensor | None = None

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing beside torch.nn's weights and biases without a projection."""
        return self.weight_hr is self.peephole is self.norm_ih is self.norm_hh is self.norm_c is None


@dataclass(frozen=True)
class Options:
    """What one call does beside the cell's equations; random masks are drawn by the caller, so all backends agree.

    Attributes:
        recurrent_dropout: ``[D, B, P]`` or None; the mask of each sequence, already divided by the probability of
            keeping, rows in sorted order. It multiplies h where it enters ``W_hh``, the same at every step (Gal &
            Ghahramani 2016, arXiv:1512.05287); the GRU's direct term ``z * h`` takes h unmasked.
        zoneout_h: ``[N, D*P]`` bool, True where a unit keeps its previous h (Krueger et al. 2017, arXiv:1606.01305);
            or the probability of that, whose expectation is taken; or None.
        zoneout_c: ``[N, D*H]`` bool, a float or None: the same for an LSTM's cell state.
        eps: Added to the variance of layer normalisation, inside the root.
    """

    recurrent_dropout: Tensor | None = None
    zoneout_h: Tensor | float | None = None
    zoneout_c: Tensor | float | None = None
    eps: float = 1e-5


PLAIN = Options()


class _Step(NamedTuple):
    """One step of one direction: what the cells take."""

    x: Tensor  # [B, G*H], W_ih x, normalised where the weights say so, with bias_ih
    h: Tensor  # [B, P]
    h_in: Tensor  # [B, P], h as it enters W_hh: with recurrent dropout
    c: Tensor | None  # [B, H]
    weights: Weights
    eps: float


def _product(x: Tensor, weight: Tensor, gain: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """``LN(W x) * gain + b``; without a gain, ``W x + b``."""
    product = linear(x, weight)
    if gain is not None:
        product = layer_norm(product, product.shape[-1:], gain, None, eps)
    return product if bias is None else product + bias


def _recurrent(step: _Step) -> Tensor:
    w = step.weights
    return _product(step.h_in, w.weight_hh, w.norm_hh, w.bias_hh, step.eps)


def _rnn_tanh(step: _Step) -> tuple[Tensor, None, Tensor]:
    h = torch.tanh(step.x + _recurrent(step))
    return h, None, h


def _rnn_relu(step: _Step) -> tuple[Tensor, None, Tensor]:
    h = torch.relu(step.x + _recurrent(step))
    return h, None, h


def _lstm(step: _Step) -> tuple[Tensor, Tensor, Tensor]:
    c: Any = step.c
    w = step.weights
    i, f, g, o = (step.x + _recurrent(step)).chunk(4, dim=-1)
    if w.peephole is not None:
        i, f = i + w.peephole[0] * c, f + w.peephole[1] * c
    i, f, g = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g)
    c = f * c + i * g
    if w.peephole is not None:
        o = o + w.peephole[2] * c
    o = torch.sigmoid(o)
    inner = c if w.norm_c is None else layer_norm(c, c.shape[-1:], w.norm_c[0], w.norm_c[1], step.eps)
    h = o * torch.tanh(inner)
    return h if w.weight_hr is None else linear(h, w.weight_hr), c, torch.cat([i, f, g, o], dim=-1)


def _gru(step: _Step) -> tuple[Tensor, None, Tensor]:
    x_r, x_z, x_n = step.x.chunk(3, dim=-1)
    h_r, h_z, h_n = _recurrent(step).chunk(3, dim=-1)
    r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
    n = torch.tanh(x_n + r * h_n)
    return (1 - z) * n + z * step.h, None, torch.cat([r, z, n], dim=-1)


def _gru_reset_before(step: _Step) -> tuple[Tensor, None, Tensor]:
    w, units = step.weights, step.h.shape[-1]
    sizes = [2 * units, units]
    w_rz, w_n = w.weight_hh.split(sizes)
    b_rz, b_n = (None, None) if w.bias_hh is None else w.bias_hh.split(sizes)
    # W_hn multiplies another vector than W_hr and W_hz do: its product has statistics of its own.
    gain_rz, gain_n = (None, None) if w.norm_hh is None else w.norm_hh.split(sizes)
    x_rz, x_n = step.x.split(sizes, dim=-1)
    r, z = torch.sigmoid(x_rz + _product(step.h_in, w_rz, gain_rz, b_rz, step.eps)).chunk(2, dim=-1)
    n = torch.tanh(x_n + _product(r * step.h_in, w_n, gain_n, b_n, step.eps))
    return (1 - z) * n + z * step.h, None, torch.cat([r, z, n], dim=-1)


_STEP: dict[str, Any] = {
    "rnn_tanh": _rnn_tanh,
    "rnn_relu": _rnn_relu,
    "lstm": _lstm,
    "gru": _gru,
    "gru_reset_before": _gru_reset_before,
}


def _zone_out(new: Tensor, before: Tensor, keep: Tensor | float | None) -> Tensor:
    if keep is None:
        return new
    if isinstance(keep, Tensor):
        return torch.where(keep, before, new)
    return keep * before + (1 - keep) * new


def _of_steps(
    keep: Tensor | float | None, direction: int, units: int, sizes: list[int]
) -> Sequence[Tensor | float | None]:
    """The zoneout of each step in one direction."""
    if not isinstance(keep, Tensor):
        return [keep] * len(sizes)
    return keep[..., direction * units : (direction + 1) * units].split(sizes)


def _run_direction(
    cell: str,
    direction: int,
    x: Tensor,
    weights: Weights,
    h: Tensor,
    c: Tensor | None,
    sizes: list[int],
    options: Options,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """All steps of one direction: output, last h, last c, gates; the reverse direction walks from the last step down.

    Rows are sorted by length, so those alive at a step are the first ones; the others keep their states.
    """
    inputs = _product(x, weights.weight_ih, weights.norm_ih, weights.bias_ih, options.eps).split(sizes)
    mask = None if options.recurrent_dropout is None else options.recurrent_dropout[direction]
    keep_h = _of_steps(options.zoneout_h, direction, h.shape[-1], sizes)
    keep_c = _of_steps(options.zoneout_c, direction, 0 if c is None else c.shape[-1], sizes)
    outputs: list[Tensor] = [h[:0]] * len(sizes)
    gates: list[Tensor] = [inputs[0]] * len(sizes) if sizes else []
    for t in reversed(range(len(sizes))) if direction == 1 else range(len(sizes)):
        alive = sizes[t]
        h_t, c_t = h[:alive], None if c is None else c[:alive]
        h_in = h_t if mask is None else h_t * mask[:alive]
        new_h, new_c, gates[t] = _STEP[cell](_Step(inputs[t], h_t, h_in, c_t, weights, options.eps))
        outputs[t] = _zone_out(new_h, h_t, keep_h[t])
        h = torch.cat([outputs[t], h[alive:]])
        if c is not None and c_t is not None:
            new_c = _zone_out(new_c, c_t, keep_c[t])
            gates[t] = torch.cat([gates[t], new_c], dim=-1)
            c = torch.cat([new_c, c[alive:]])
    empty = x.new_empty(0, weights.weight_ih.shape[0] // GATES[cell] * TRACED[cell])
    return torch.cat([h[:0], *outputs]), h, c, torch.cat([empty, *gates])


def steps(
    cell: str,
    x: Tensor,
    weights: Sequence[Weights],
    h_0: Tensor,
    c_0: Tensor | None,
    batch_sizes: Tensor,
    options: Options,
    return_gates: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """:func:`recurrence`, in the type of its arguments, knowing of the layout only the rows alive at each step."""
    sizes = batch_sizes.tolist()
    found = [
        _run_direction(cell, d, x, w, h_0[d], None if c_0 is None else c_0[d], sizes, options)
        for d, w in enumerate(weights)
    ]
    output = torch.cat([direction[0] for direction in found], dim=-1)
    h_n = torch.stack([direction[1] for direction in found])
    last_cs = [direction[2] for direction in found if direction[2] is not None]
    c_n = torch.stack(last_cs) if last_cs else None
    if not return_gates:
        return output, h_n, c_n, None
    gates = torch.stack([direction[3] for direction in found], dim=1).detach()
    return output, h_n, c_n, gates.unflatten(-1, (TRACED[cell], -1))


def recurrence(
    cell: str,
    x: Tensor,
    weights: Sequence[Weights],
    h_0: Tensor,
    c_0: Tensor | None,
    ragged: Ragged,
    options: Options,
    return_gates: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """A recurrent layer in one or two directions over ragged rows, step by step.

    Half types, and autocast to one, round what goes in and what comes out; every step between is float32.

    Args:
        cell: One of :data:`CELLS`; the equations stand at :func:`tidegate.kernels.rnn`, ``lstm`` and ``gru``.
        x: ``[N, I]``, the ragged values.
        weights: One :class:`Weights` a direction.
        h_0: ``[D, B, P]``, initial states, rows in sorted order.
        c_0: ``[D, B, H]`` for the LSTM, None for the others.
        ragged: The layout of the N values.
        options: What is done beside the cell's equations.
        return_gates: Whether the gates are wanted.

    Returns:
        ``output [N, D*P]``; ``h_n [D, B, P]``; ``c_n [D, B, H]`` or None; and where wanted the gates after activation,
        ``[N, D, G, H]`` without a gradient, else None: r z n; i f g o and the cell state c; for the plain RNN its new
        state before zoneout.
    """
    device = x.device.type
    autocast = device in ("cpu", "cuda") and torch.is_autocast_enabled(device)
    # Autocast leaves float64 alone, and so do we.
    low = torch.get_autocast_dtype(device) if autocast and x.dtype != torch.float64 else x.dtype
    if low not in (torch.float16, torch.bfloat16):
        return steps(cell, x, weights, h_0, c_0, ragged.batch_sizes, options, return_gates)

    def rounded(value: Any) -> Any:
        is_float = isinstance(value, Tensor) and value.is_floating_point()
        return value.to(low).float() if is_float else value

    with torch.autocast(device, enabled=False):
        found = steps(
            cell,
            rounded(x),
            [Weights(*map(rounded, w)) for w in weights],
            rounded(h_0),
            rounded(c_0),
            ragged.batch_sizes,
            Options(rounded(options.recurrent_dropout), options.zoneout_h, options.zoneout_c, options.eps),
            return_gates,
        )
        output, h_n, c_n, gates = (None if tensor is None else tensor.to(low) for tensor in found)
    return output, h_n, c_n, gates  # pyright: ignore[reportReturnType]
