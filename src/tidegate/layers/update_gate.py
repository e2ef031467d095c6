r"""The sign of the GRU's update gate: papers have it either way.

Cho et al. 2014 (arXiv:1406.1078, equation 7) write :math:`h_t = z_t h_{t-1} + (1 - z_t) \tilde h_t`, and so do
torch.nn, cuDNN, Keras, ONNX and this package. Chung et al. 2014 (arXiv:1412.3555), Bahdanau et al. 2015
(arXiv:1409.0473, in the appendix) and many after them write :math:`h_t = (1 - z_t) h_{t-1} + z_t \tilde h_t`. As
:math:`1 - \sigma(x) = \sigma(-x)`, one is the other with the update gate's weights negated.
"""

from __future__ import annotations

import torch
from torch import nn

from tidegate.layers.recurrent import GRU

__all__ = ["negate_update_gate_"]


@torch.no_grad()
def negate_update_gate_(layer: GRU | nn.GRU) -> None:
    """Turn the sign of the update gate of all layers and directions, in place.

    After weights of a model that keeps :math:`1 - z_t` of its state were loaded, this makes the layer compute what that
    model does; before weights are handed to such a model, it makes them what that one expects. Twice is nothing.

    With layer normalisation the gains are negated instead of the products, whose mean and variance are those of all
    gates jointly.

    Args:
        layer: A :class:`tidegate.GRU`, or :class:`torch.nn.GRU`.
    """
    normalised = bool(getattr(layer, "layer_norm", False))
    kinds = ("norm_ih", "norm_hh", "bias_ih", "bias_hh") if normalised else ("weight_ih", "weight_hh", "bias_")
    for name, parameter in layer.named_parameters():
        if name.startswith(kinds):
            parameter.chunk(3)[1].neg_()
