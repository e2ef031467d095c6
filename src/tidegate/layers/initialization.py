"""How the weights of recurrent layers start, by name."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tidegate.errors import nearest

__all__ = ["INITIALIZATIONS", "initialize_"]

_GATES = {"RNN_TANH": 1, "RNN_RELU": 1, "LSTM": 4, "GRU": 3}
# Of i f g o, and of r z n: the gate that keeps the state.
_KEEPS = 1


def initialize_(module: nn.Module, init: str | Sequence[str]) -> None:
    r"""Draw the weights of recurrent layers by the names of the rules, in place.

    ``"torch"``
        Weights, biases and peepholes from :math:`U(-1/\sqrt{H}, 1/\sqrt{H})`, one seed giving what torch.nn draws; the
        matrices of `residual` from :math:`U(-1/\sqrt{I}, 1/\sqrt{I})`, gains one, the bias of ``norm_c`` and learned
        initial states zero.
    ``"xavier_uniform"``, ``"xavier_normal"`` (also ``"glorot_..."``)
        The matrices of each gate from :math:`U(-a, a)`, :math:`a = \sqrt{6 / (\text{in} + \text{out})}`, or from the
        normal distribution of standard deviation :math:`\sqrt{2 / (\text{in} + \text{out})}` (Glorot & Bengio 2010,
        AISTATS); biases zero.
    ``"he_uniform"``, ``"he_normal"``
        The same with :math:`a = \sqrt{6 / \text{in}}` and :math:`\sqrt{2 / \text{in}}` (He et al. 2015,
        arXiv:1502.01852), for an RNN of rectified units.
    ``"keras"``
        What Keras 3 starts with: input weights from :math:`U(-a, a)`, the outputs of all gates counted together; the
        recurrent weights of all gates as one orthogonal matrix; biases zero, an LSTM's forget bias one.
    ``"orthogonal"``
        The recurrent matrix of each gate orthogonal (Saxe et al. 2014, arXiv:1312.6120), nothing else.
    ``"forget_bias"``, ``"forget_bias:2"``
        The forget gate's bias one, or the number, as the sum of its two; of a GRU the update gate's, which keeps its
        state in the same way (Gers et al. 2000; Jozefowicz et al. 2015, ICML). Nothing else.
    ``"chrono:600"``
        For dependencies of up to T = 600 steps: :math:`b_f = \log u, u \sim U(1, T - 1)` for each unit, and
        :math:`b_i = -b_f`; of a GRU the update gate's bias :math:`\log u`, its sign being that of
        :math:`h_t = (1 - z_t) n_t + z_t h_{t-1}` (Tallec & Ollivier 2018, arXiv:1804.11188). Nothing else.

    Args:
        module: A recurrent layer of tidegate or of torch.nn, or any module with some within.
        init: A name, or names in the order in which they are applied: ``["orthogonal", "forget_bias"]``.

    Raises:
        ValueError: A name is unknown, a number is missing or out of range, the layer has no gate or bias that a rule is
            for or has them parametrized, or the module has no recurrent layer.
    """
    rules = [_parse(name) for name in ([init] if isinstance(init, str) else init)]
    layers = [m for m in module.modules() if hasattr(m, "all_weights") and getattr(m, "mode", None) in _GATES]
    if not layers:
        raise ValueError(f"expected a recurrent layer or a module with some within; found {type(module).__name__}")
    with torch.no_grad():
        for layer in layers:
            for rule, number in rules:
                rule(layer, number)


def _parse(name: str) -> tuple[Callable[[Any, float | None], None], float | None]:
    base, _, number = name.partition(":")
    if base not in INITIALIZATIONS:
        raise ValueError(
            f"unknown initialisation {name!r}; expected {', '.join(INITIALIZATIONS)}.{nearest(base, INITIALIZATIONS)}"
        )
    if not number:
        if base == "chrono":
            raise ValueError("chrono needs the longest dependency in steps; expected as in 'chrono:600'")
        return INITIALIZATIONS[base], None
    if base not in ("chrono", "forget_bias"):
        raise ValueError(f"{base} takes no number; found {name!r}")
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)", number):
        raise ValueError(f"expected a number after {base}, as in '{base}:2'; found {name!r}")
    value = float(number)
    if base == "chrono" and value < 3:
        raise ValueError(f"chrono is for dependencies of three steps or more; found {name!r}")
    return INITIALIZATIONS[base], value


def _directions(layer: Any) -> list[dict[str, Tensor]]:
    """The parameters of each layer and direction by kind: ``weight_ih`` and so on."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, parameter in layer.named_parameters(recurse=False):
        if match := re.fullmatch(r"(.+?)_(l\d+(?:_reverse)?)", name):
            kind, suffix = match.groups()
            found.setdefault(suffix, {})[kind] = parameter
    for suffix, parameters in found.items():
        if not {"weight_ih", "weight_hh"} <= set(parameters):
            raise ValueError(
                f"expected weight_ih_{suffix} and weight_hh_{suffix} among the layer's parameters; "
                "remove their parametrization before they are drawn anew"
            )
    return list(found.values())


def _gates(layer: Any, weight: Tensor) -> tuple[Tensor, ...]:
    """A parameter of all gates by gate."""
    return weight.chunk(_GATES[layer.mode])


def _draw_like_torch(layer: Any, _: float | None) -> None:
    directions = _directions(layer)
    # The kinds that torch.nn has come first, in its order, so that they are the same with options as without.
    for kinds in (("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr"), ("peephole",), ("weight_res",)):
        for parameters in directions:
            units = parameters["weight_hh"].shape[0] // _GATES[layer.mode]
            for kind in kinds:
                if kind in parameters:
                    bound = 1 / math.sqrt(parameters[kind].shape[1] if kind == "weight_res" else units)
                    nn.init.uniform_(parameters[kind], -bound, bound)
    for parameters in directions:
        for kind, parameter in parameters.items():
            if kind == "norm_c":
                nn.init.ones_(parameter[0])
                nn.init.zeros_(parameter[1])
            elif kind.startswith("norm_"):
                nn.init.ones_(parameter)
            elif kind in ("h_0", "c_0"):
                nn.init.zeros_(parameter)


def _draw_matrices(draw: Callable[..., Any], **options: Any) -> Callable[[Any, float | None], None]:
    def rule(layer: Any, _: float | None) -> None:
        for parameters in _directions(layer):
            for kind, parameter in parameters.items():
                if kind in ("weight_ih", "weight_hh"):
                    for matrix in _gates(layer, parameter):
                        draw(matrix, **options)
                elif kind in ("weight_hr", "weight_res"):
                    draw(parameter, **options)
                elif kind.startswith("bias"):
                    nn.init.zeros_(parameter)

    return rule


def _draw_like_keras(layer: Any, _: float | None) -> None:
    for parameters in _directions(layer):
        for kind, parameter in parameters.items():
            if kind in ("weight_ih", "weight_hr", "weight_res"):
                nn.init.xavier_uniform_(parameter)
            elif kind == "weight_hh":
                nn.init.orthogonal_(parameter)
            elif kind.startswith("bias"):
                nn.init.zeros_(parameter)
                if kind == "bias_ih" and layer.mode == "LSTM":
                    nn.init.ones_(_gates(layer, parameter)[_KEEPS])


def _draw_orthogonal(layer: Any, _: float | None) -> None:
    for parameters in _directions(layer):
        for matrix in _gates(layer, parameters["weight_hh"]):
            nn.init.orthogonal_(matrix)


def _bias_of(layer: Any, parameters: dict[str, Tensor], rule: str) -> tuple[Tensor, Tensor]:
    """The two biases of all gates, by gate."""
    if _GATES[layer.mode] == 1:
        raise ValueError(f"{rule} is for the gates of an LSTM or a GRU; an RNN has none")
    if "bias_ih" not in parameters:
        raise ValueError(f"{rule} sets a bias; expected a layer with bias=True")
    count = _GATES[layer.mode]
    return parameters["bias_ih"].unflatten(0, (count, -1)), parameters["bias_hh"].unflatten(0, (count, -1))


def _set_forget_bias(layer: Any, number: float | None) -> None:
    for parameters in _directions(layer):
        bias_ih, bias_hh = _bias_of(layer, parameters, "forget_bias")
        nn.init.constant_(bias_ih[_KEEPS], 1.0 if number is None else number)
        nn.init.zeros_(bias_hh[_KEEPS])


def _set_chrono_biases(layer: Any, number: float | None) -> None:
    for parameters in _directions(layer):
        bias_ih, bias_hh = _bias_of(layer, parameters, "chrono")
        nn.init.uniform_(bias_ih[_KEEPS], 1.0, (number or 0.0) - 1.0).log_()
        nn.init.zeros_(bias_hh[_KEEPS])
        if layer.mode == "LSTM":
            bias_ih[0].copy_(-bias_ih[1])
            nn.init.zeros_(bias_hh[0])


INITIALIZATIONS: dict[str, Callable[[Any, float | None], None]] = {
    "torch": _draw_like_torch,
    "xavier_uniform": _draw_matrices(nn.init.xavier_uniform_),
    "xavier_normal": _draw_matrices(nn.init.xavier_normal_),
    "glorot_uniform": _draw_matrices(nn.init.xavier_uniform_),
    "glorot_normal": _draw_matrices(nn.init.xavier_normal_),
    "he_uniform": _draw_matrices(nn.init.kaiming_uniform_, nonlinearity="relu"),
    "he_normal": _draw_matrices(nn.init.kaiming_normal_, nonlinearity="relu"),
    "keras": _draw_like_keras,
    "orthogonal": _draw_orthogonal,
    "forget_bias": _set_forget_bias,
    "chrono": _set_chrono_biases,
}
