"""Recurrences with 8-bit weights, for inference on a CPU: a quarter of the memory, and of what each step reads.

Weights are whole numbers from -127 to 127 with one scale an output row. Inside the recurrence the states that enter a
product are quantised, too, row by row and step by step, so that the products add up whole numbers, exactly. All else is
float32: biases, gates, states.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tidegate.kernels import cpu
from tidegate.kernels.checks import check_recurrence
from tidegate.kernels.cpu_library import ops_for
from tidegate.kernels.ragged import Ragged
from tidegate.kernels.reference import PLAIN, Options, Weights

__all__ = ["QuantizedWeights", "dequantize", "quantize", "quantize_rows", "quantized_recurrence"]

_MATRICES = ("weight_ih", "weight_hh", "weight_hr")


class QuantizedWeights(NamedTuple):
    """The parameters of one direction of one layer, its matrices of 8 bits.

    Attributes:
        weights: As :class:`tidegate.kernels.Weights`, ``weight_ih``, ``weight_hh`` and ``weight_hr`` of int8, all else
            of float32.
        scale_ih: ``[G*H]``, what the rows of ``weight_ih`` are multiplied by.
        scale_hh: ``[G*H]``, the same of ``weight_hh``.
        scale_hr: ``[P]``, the same of ``weight_hr``; None where there is none.
    """

    weights: Weights
    scale_ih: Tensor
    scale_hh: Tensor
    scale_hr: Tensor | None


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    r"""A matrix as 8-bit whole numbers and one scale an output row: :math:`w_{jk} \approx s_j q_{jk}`.

    .. math:: s_j = \max_k |w_{jk}| / 127, \quad q_{jk} = \mathrm{round}(w_{jk} / s_j)

    Rounded to the nearest, ties to even, so that no weight is further away than half its scale. A row of zeros has the
    scale 1.

    Args:
        weight: ``[J, K]``, of any floating type.

    Returns:
        ``q [J, K]`` of int8, from -127 to 127, and ``s [J]`` of float32.

    Raises:
        ValueError: `weight` is no matrix of finite floating-point numbers.
    """
    if weight.dim() != 2 or not weight.is_floating_point():
        raise ValueError(
            f"expected a matrix of a floating type to quantise; found shape {tuple(weight.shape)} of {weight.dtype}"
        )
    weight = weight.detach().float()
    largest = weight.abs().amax(1) if weight.shape[1] else weight.new_zeros(weight.shape[0])
    if not torch.isfinite(largest).all():
        rows = (~torch.isfinite(largest)).nonzero().flatten().tolist()
        raise ValueError(f"expected finite weights to quantise; found others in the rows {rows[:8]}")
    # The division may round to nought where the largest is hardly more.
    scale = largest / 127
    scale = torch.where(scale > 0, scale, 1.0)
    return (weight / scale[:, None]).round().clamp(-127, 127).to(torch.int8), scale


def quantize(weights: Weights) -> QuantizedWeights:
    """All matrices of one direction by :func:`quantize_rows`, all else in float32."""
    scales: dict[str, Tensor | None] = dict.fromkeys(_MATRICES)
    made: dict[str, Tensor | None] = {}
    for name, tensor in weights._asdict().items():
        if tensor is None or name not in _MATRICES:
            made[name] = None if tensor is None else tensor.detach().float()
        else:
            made[name], scales[name] = quantize_rows(tensor)
    return QuantizedWeights(Weights(**made), *(scales[name] for name in _MATRICES))  # pyright: ignore


def dequantize(quantized: QuantizedWeights) -> Weights:
    """The weights in float32 that the 8-bit ones stand for."""
    weights, *scales = quantized
    whole = {
        name: getattr(weights, name).float() * scale[:, None]
        for name, scale in zip(_MATRICES, scales, strict=True)
        if scale is not None
    }
    return weights._replace(**whole)


@torch.no_grad()
def quantized_recurrence(
    cell: str,
    x: Tensor,
    weights: Sequence[QuantizedWeights],
    h_0: Tensor,
    c_0: Tensor | None,
    ragged: Ragged,
    options: Options = PLAIN,
) -> tuple[Tensor, Tensor, Tensor | None]:
    r"""A recurrent layer in one or two directions with 8-bit weights; nothing has a gradient.

    The equations are those of :func:`tidegate.kernels.rnn`, ``lstm`` and ``gru``. In a product with ``W_hh``, and with
    an LSTM's ``W_hr``, each row of states is quantised as the weights are, :math:`h \approx s' q'`, and
    :math:`(W h)_j = s_j s' \sum_k q_{jk} q'_k`, the sum being exact. So one row's result depends on no other row and on
    no thread count; between instruction sets it differs by the rounding of float32 in the gates, which now and then
    carries a state over the edge between two whole numbers, a hundredth of the row's largest. The projection of the
    inputs is one product of the whole sequence in float32, with the weights that the 8-bit ones stand for.

    Args:
        cell: One of :data:`tidegate.kernels.CELLS`.
        x: ``[N, I]``, the ragged values, float32 on a CPU.
        weights: What :func:`quantize` made, one a direction.
        h_0: ``[D, B, P]``, float32, rows in sorted order.
        c_0: ``[D, B, H]`` for the LSTM, else None.
        ragged: The layout of the N values.
        options: What is done beside the equations.

    Returns:
        ``output [N, D*P]``, ``h_n [D, B, P]`` and ``c_n [D, B, H]``, None but for the LSTM.

    Raises:
        ValueError: Shapes, types or devices do not fit together.
    """
    if x.dtype != torch.float32 or x.device.type != "cpu":
        raise ValueError(f"expected x of float32 on a CPU, where 8-bit weights serve; found {x.dtype} on {x.device}")
    with torch.autocast("cpu", enabled=False):
        floats = [dequantize(direction) for direction in weights]
        check_recurrence(cell, x, floats, h_0, c_0, ragged, options)
        gates = cpu.project_inputs(ops_for(x), x, floats)
        _, weight_hh, bias_ih, bias_hh, weight_hr, *small = cpu.join_directions(
            [direction.weights for direction in weights]
        )
        zone_h, rate_h = cpu.zoneout_parts(options.zoneout_h)
        zone_c, rate_c = cpu.zoneout_parts(options.zoneout_c)
        scales_hr = [direction.scale_hr for direction in weights if direction.scale_hr is not None]
        output, h_n, c_n, *_ = torch.ops.tidegate.recurrent_forward(
            *(cell, gates, weight_hh, torch.stack([w.scale_hh for w in weights])),
            *(weight_hr, torch.stack(scales_hr) if scales_hr else None),
            *(bias_ih, bias_hh, *small),
            *(h_0, c_0, options.recurrent_dropout, zone_h, zone_c, [rate_h, rate_c, options.eps]),
            *(ragged.batch_sizes, False),
        )
    return output, h_n, None if c_0 is None else c_n
