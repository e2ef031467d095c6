"""Recurrences as functions: tensors in, tensors out, over ragged rows. Checks, then one visible choice of backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tidegate.kernels import cpu, cuda, reference
from tidegate.kernels.checks import check_recurrence, extras_in_use
from tidegate.kernels.cpu_inference import plain_recurrence
from tidegate.kernels.ragged import Ragged
from tidegate.kernels.reference import CELLS, PLAIN, Options, Weights

__all__ = [
    "CELLS",
    "Options",
    "Weights",
    "choose_backend",
    "describe_backends",
    "gru",
    "lstm",
    "native_info",
    "recurrence",
    "rnn",
]

_BACKENDS = {"native": cpu.recurrence, "torch": cuda.recurrence, "reference": reference.recurrence}

native_info = cpu.native_info


def rnn(
    x: Tensor,
    weights: Sequence[Weights],
    h_0: Tensor,
    ragged: Ragged,
    *,
    nonlinearity: str = "tanh",
    options: Options = PLAIN,
    backend: str | None = None,
    return_gates: bool = False,
) -> tuple[Tensor, ...]:
    r"""A layer of plain recurrent units (Elman 1990), in one or two directions, over ragged rows.

    .. math:: h_t = \phi(W_{ih} x_t + b_{ih} + W_{hh} h_{t-1} + b_{hh})

    With layer normalisation (``norm_ih`` and ``norm_hh`` in the weights; Ba et al. 2016, arXiv:1607.06450) each product
    is normalised over its entries and multiplied by its gain before the biases are added. :class:`Options` tells of
    recurrent dropout and zoneout.

    Args:
        x: ``[N, I]``, the ragged values.
        weights: One :class:`Weights` a direction, G = 1.
        h_0: ``[D, B, H]``, initial states, rows in the layout's sorted order.
        ragged: The layout of the N values.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        options: What is done beside the equation.
        backend: ``"native"``, ``"torch"`` or ``"reference"``; None chooses by :func:`choose_backend`.
        return_gates: Whether to return the new states before zoneout as well, ``[N, D, 1, H]``.

    Returns:
        ``output [N, D*H]``, the state after each step; ``h_n [D, B, H]``, the last state of each row; and the gates
        where wanted.

    Raises:
        ValueError: Shapes, types or devices do not fit together, or the named backend cannot serve them.
    """
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"expected the nonlinearity tanh or relu; found {nonlinearity!r}")
    cell = f"rnn_{nonlinearity}"
    output, h_n, _, gates = recurrence(cell, x, weights, h_0, None, ragged, options, backend, return_gates)
    return (output, h_n) if gates is None else (output, h_n, gates)


def lstm(
    x: Tensor,
    weights: Sequence[Weights],
    hx: tuple[Tensor, Tensor],
    ragged: Ragged,
    *,
    options: Options = PLAIN,
    backend: str | None = None,
    return_gates: bool = False,
) -> tuple[Any, ...]:
    r"""A layer of long short-term memory (Hochreiter & Schmidhuber 1997), in one or two directions, over ragged rows.

    .. math::
        i_t &= \sigma(W_{ii} x_t + b_{ii} + W_{hi} h_{t-1} + b_{hi} + p_i \odot c_{t-1}) \\
        f_t &= \sigma(W_{if} x_t + b_{if} + W_{hf} h_{t-1} + b_{hf} + p_f \odot c_{t-1}) \\
        g_t &= \tanh(W_{ig} x_t + b_{ig} + W_{hg} h_{t-1} + b_{hg}) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot g_t \\
        o_t &= \sigma(W_{io} x_t + b_{io} + W_{ho} h_{t-1} + b_{ho} + p_o \odot c_t) \\
        h_t &= W_{hr} (o_t \odot \tanh(c_t))

    The terms in p are there with ``peephole`` in the weights (Gers & Schmidhuber 2000), the product with W_hr with
    ``weight_hr``. With layer normalisation (``norm_ih``, ``norm_hh``, ``norm_c``; Ba et al. 2016, arXiv:1607.06450)
    each product is normalised over its 4H entries jointly and multiplied by its gain before biases and peepholes are
    added, and c_t is normalised, with gain and bias, inside the last tanh alone: the cell state itself is carried as
    it is. With zoneout o_t and h_t see c_t as above, before any unit keeps its previous value.

    Args:
        x: ``[N, I]``, the ragged values.
        weights: One :class:`Weights` a direction, gates in the order i f g o.
        hx: ``h_0 [D, B, P]`` and ``c_0 [D, B, H]``, initial states, rows in the layout's sorted order.
        ragged: The layout of the N values.
        options: What is done beside the equations.
        backend: ``"native"``, ``"torch"`` or ``"reference"``; None chooses by :func:`choose_backend`.
        return_gates: Whether to return i, f, g, o and the cell state of each step as well, ``[N, D, 5, H]``.

    Returns:
        ``output [N, D*P]``, the state h after each step; ``(h_n [D, B, P], c_n [D, B, H])``, the last states of each
        row; and the gates where wanted.

    Raises:
        ValueError: Shapes, types or devices do not fit together, or the named backend cannot serve them.
    """
    h_0, c_0 = hx
    output, h_n, c_n, gates = recurrence("lstm", x, weights, h_0, c_0, ragged, options, backend, return_gates)
    return (output, (h_n, c_n)) if gates is None else (output, (h_n, c_n), gates)


def gru(
    x: Tensor,
    weights: Sequence[Weights],
    h_0: Tensor,
    ragged: Ragged,
    *,
    reset_after: bool = True,
    options: Options = PLAIN,
    backend: str | None = None,
    return_gates: bool = False,
) -> tuple[Tensor, ...]:
    r"""A layer of gated recurrent units, in one or two directions, over ragged rows.

    .. math::
        r_t &= \sigma(W_{ir} x_t + b_{ir} + W_{hr} h_{t-1} + b_{hr}) \\
        z_t &= \sigma(W_{iz} x_t + b_{iz} + W_{hz} h_{t-1} + b_{hz}) \\
        n_t &= \tanh(W_{in} x_t + b_{in} + r_t \odot (W_{hn} h_{t-1} + b_{hn})) \\
        h_t &= (1 - z_t) \odot n_t + z_t \odot h_{t-1}

    With ``reset_after=False`` the reset gate is applied before the product, as Cho et al. 2014 (arXiv:1406.1078) have
    it: :math:`n_t = \tanh(W_{in} x_t + b_{in} + W_{hn} (r_t \odot h_{t-1}) + b_{hn})`. Papers that write
    :math:`h_t = (1 - z_t) h_{t-1} + z_t n_t` differ by the sign of the update gate's weights.

    With layer normalisation (``norm_ih`` and ``norm_hh`` in the weights; Ba et al. 2016, arXiv:1607.06450) each product
    is normalised over its 3H entries jointly and multiplied by its gain before biases are added; with
    ``reset_after=False`` the 2H entries of r and z jointly and the H entries of ``W_hn (r * h)`` by themselves.

    Args:
        x: ``[N, I]``, the ragged values.
        weights: One :class:`Weights` a direction, gates in the order r z n: ``weight_ih [3H, I]``,
            ``weight_hh [3H, H]``, ``bias_ih [3H]``, ``bias_hh [3H]``; both biases may be None.
        h_0: ``[D, B, H]``, initial states, rows in the layout's sorted order.
        ragged: The layout of the N values.
        reset_after: Where the reset gate stands.
        options: What is done beside the equations.
        backend: ``"native"``, ``"torch"`` or ``"reference"``; None chooses by :func:`choose_backend`.
        return_gates: Whether to return r, z and n of each step as well, ``[N, D, 3, H]``.

    Returns:
        ``output [N, D*H]``, the state after each step; ``h_n [D, B, H]``, the last state of each row; and the gates
        where wanted.

    Raises:
        ValueError: Shapes, types or devices do not fit together, or the named backend cannot serve them.
    """
    cell = "gru" if reset_after else "gru_reset_before"
    output, h_n, _, gates = recurrence(cell, x, weights, h_0, None, ragged, options, backend, return_gates)
    return (output, h_n) if gates is None else (output, h_n, gates)


def recurrence(
    cell: str,
    x: Tensor,
    weights: Sequence[Weights],
    h_0: Tensor,
    c_0: Tensor | None,
    ragged: Ragged,
    options: Options = PLAIN,
    backend: str | None = None,
    return_gates: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Any cell by its name, checked: ``output, h_n, c_n, gates``, the last two None where there are none.

    Args:
        cell: One of :data:`CELLS`. For this and the rest see :func:`rnn`, :func:`lstm` and :func:`gru`.
        x: ``[N, I]``.
        weights: One :class:`Weights` a direction.
        h_0: ``[D, B, P]``, rows in sorted order.
        c_0: ``[D, B, H]`` for the LSTM, else None.
        ragged: The layout of the N values.
        options: What is done beside the cell's equations.
        backend: The backend's name, or None for the automatic choice.
        return_gates: Whether the gates are wanted.

    Returns:
        ``output [N, D*P]``, ``h_n [D, B, P]``, ``c_n [D, B, H]`` and ``gates [N, D, G, H]``, without a gradient.

    Raises:
        ValueError: Shapes, types or devices do not fit together, or the named backend cannot serve them.
    """
    if options is PLAIN and backend is None and not return_gates:
        found = plain_recurrence(cell, x, weights, h_0, c_0, ragged)
        if found is not None:
            return found
    check_recurrence(cell, x, weights, h_0, c_0, ragged, options)
    device, dtype = x.device.type, _computed_type(x)
    extras = extras_in_use(weights, options, return_gates)
    if backend is None:
        backend = choose_backend(cell, device, dtype, extras)
    elif backend not in _BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; expected one of {', '.join(_BACKENDS)}")
    elif (refusal := _refusal(backend, cell, device, dtype, extras)) is not None:
        raise ValueError(f"the backend {backend!r} cannot serve this call: {refusal}")
    return _BACKENDS[backend](cell, x, weights, h_0, c_0, ragged, options, return_gates)


def choose_backend(cell: str, device: str, dtype: torch.dtype, extras: Sequence[str] = ()) -> str:
    """The automatic choice: ``native`` on a CPU, ``torch`` elsewhere, and ``reference`` where that one does not serve.

    So the native kernels compute on a CPU; PyTorch's operators, which are cuDNN's, on a GPU wherever they have what is
    asked for; and the step-by-step reference the rest.

    Args:
        cell: One of :data:`CELLS`.
        device: The type of the tensors' device, ``"cpu"`` or ``"cuda"``.
        dtype: The type that is computed in: under autocast, autocast's.
        extras: What is asked for that torch.nn does not have, in words: ``"zoneout"``, ``"peepholes"``.
    """
    preferred = "native" if device in ("cpu", "meta") else "torch"
    return preferred if _refusal(preferred, cell, device, dtype, extras) is None else "reference"


def _refusal(backend: str, cell: str, device: str, dtype: torch.dtype, extras: Sequence[str]) -> str | None:
    """Why a backend cannot serve, or None."""
    if backend == "native":
        return cpu.refusal(cell, device, dtype)
    if backend == "torch":
        return cuda.refusal(cell, extras, device)
    return None


def _computed_type(x: Tensor) -> torch.dtype:
    device = x.device.type
    # Autocast leaves float64 alone.
    if device in ("cpu", "cuda") and torch.is_autocast_enabled(device) and x.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return x.dtype


def describe_backends() -> list[dict[str, str]]:
    """The automatic choice for each cell, device and type: the rows of ``tidegate info``."""
    notes = {
        "native": "fused kernel, forward and backward",
        "torch": "PyTorch's operator: cuDNN on a GPU",
        "reference": "plain PyTorch, step by step: correct and slow",
    }
    labels = {"gru": "gru", "gru_reset_before": "gru, reset_after=False", "lstm": "lstm", "rnn_tanh": "rnn"}
    rows = []
    for device in ("cpu", "cuda"):
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            for cell, label in labels.items():
                plain = choose_backend(cell, device, dtype)
                other = choose_backend(cell, device, dtype, ["an option outside torch.nn"])
                rows += [
                    {
                        "cell": name,
                        "device": device,
                        "dtype": str(dtype).removeprefix("torch."),
                        "backend": backend,
                        "note": notes[backend],
                    }
                    for name, backend in ((label, plain), (f"{label}, with options", other))
                    if name == label or other != plain
                ]
    return rows
