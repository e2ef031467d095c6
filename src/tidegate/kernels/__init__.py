"""Recurrences as functions: tensors in, tensors out, over ragged rows. Checks, then one visible choice of backend."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tidegate.kernels import cpu, cuda, reference
from tidegate.kernels.ragged import Ragged
from tidegate.kernels.reference import Weights

__all__ = ["Weights", "choose_backend", "describe_backends", "gru", "native_info"]

_GRU = {"native": cpu.gru, "torch": cuda.gru, "reference": reference.gru}

native_info = cpu.native_info


def gru(
    x: Tensor,
    weights: Sequence[Weights],
    h_0: Tensor,
    ragged: Ragged,
    *,
    reset_after: bool = True,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    r"""A layer of gated recurrent units, in one or two directions, over ragged rows.

    .. math::
        r_t &= \sigma(W_{ir} x_t + b_{ir} + W_{hr} h_{t-1} + b_{hr}) \\
        z_t &= \sigma(W_{iz} x_t + b_{iz} + W_{hz} h_{t-1} + b_{hz}) \\
        n_t &= \tanh(W_{in} x_t + b_{in} + r_t \odot (W_{hn} h_{t-1} + b_{hn})) \\
        h_t &= (1 - z_t) \odot n_t + z_t \odot h_{t-1}

    With ``reset_after=False`` the reset gate is applied before the product, as Cho et al. 2014 (arXiv:1406.1078) have
    it: :math:`n_t = \tanh(W_{in} x_t + b_{in} + W_{hn} (r_t \odot h_{t-1}) + b_{hn})`. Papers that write
    :math:`h_t = (1 - z_t) h_{t-1} + z_t n_t` differ by the sign of the update gate's weights.

    Args:
        x: ``[N, I]``, the ragged values.
        weights: one :class:`Weights` a direction, gates in the order r z n: ``weight_ih [3H, I]``,
            ``weight_hh [3H, H]``, ``bias_ih [3H]``, ``bias_hh [3H]``; both biases may be None.
        h_0: ``[D, B, H]``, initial states, rows in the layout's sorted order.
        ragged: the layout of the N values.
        reset_after: where the reset gate stands.
        backend: ``"native"``, ``"torch"`` or ``"reference"``; None chooses by :func:`choose_backend`.

    Returns:
        ``output [N, D*H]``, the state after each step, and ``h_n [D, B, H]``, the last state of each row.

    Raises:
        ValueError: Shapes, types or devices do not fit together, or the named backend cannot serve them.
    """
    _check(x, weights, h_0, ragged, gates=3)
    if backend is None:
        dtype = weights[0].weight_hh.dtype if _autocasts(x) else x.dtype
        backend = choose_backend(x.device.type, dtype, reset_after=reset_after)
    elif backend not in _GRU:
        raise ValueError(f"unknown backend {backend!r}; expected one of {', '.join(_GRU)}")
    elif (refusal := _refusal(backend, x.device.type, x.dtype, reset_after)) is not None:
        raise ValueError(f"the backend {backend!r} cannot serve this call: {refusal}")
    return _GRU[backend](x, weights, h_0, ragged, reset_after=reset_after)


def choose_backend(device: str, dtype: torch.dtype, *, reset_after: bool = True) -> str:
    """The automatic choice: ``native`` on a CPU, ``torch`` (cuDNN) on a GPU, ``reference`` where neither serves."""
    preferred = "torch" if device == "cuda" else "native"
    return preferred if _refusal(preferred, device, dtype, reset_after) is None else "reference"


def _refusal(backend: str, device: str, dtype: torch.dtype, reset_after: bool) -> str | None:
    """Why a backend cannot serve, or None."""
    if backend == "native":
        return cpu.refusal(device, dtype)
    if backend == "torch":
        return cuda.refusal(reset_after)
    return None


def describe_backends() -> list[dict[str, str]]:
    """The automatic choice for each cell, device and type: the rows of ``tidegate info``."""
    notes = {
        "native": "fused kernel, forward and backward",
        "torch": "PyTorch's operator: cuDNN on a GPU",
        "reference": "plain PyTorch, step by step: correct and slow",
    }
    rows = []
    for device in ("cpu", "cuda"):
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            for reset_after in (True, False):
                backend = choose_backend(device, dtype, reset_after=reset_after)
                rows.append(
                    {
                        "cell": "gru" if reset_after else "gru, reset_after=False",
                        "device": device,
                        "dtype": str(dtype).removeprefix("torch."),
                        "backend": backend,
                        "note": notes[backend],
                    }
                )
    return rows


def _autocasts(x: Tensor) -> bool:
    return x.device.type in ("cpu", "cuda") and torch.is_autocast_enabled(x.device.type)


def _check(x: Tensor, weights: Sequence[Weights], h_0: Tensor, ragged: Ragged, gates: int) -> None:
    if x.dim() != 2 or x.shape[0] != ragged.num_values:
        raise ValueError(f"expected x of shape [{ragged.num_values}, I], as the layout; found {tuple(x.shape)}")
    if len(weights) not in (1, 2):
        raise ValueError(f"expected the weights of one or two directions; found {len(weights)}")
    hidden = weights[0].weight_hh.shape[-1]
    _check_tensor("h_0", h_0, (len(weights), ragged.num_rows, hidden), x)
    for parameters in weights:
        if (parameters.bias_ih is None) != (parameters.bias_hh is None):
            raise ValueError("bias_ih and bias_hh are given together or not at all")
        _check_tensor("weight_ih", parameters.weight_ih, (gates * hidden, x.shape[1]), x)
        _check_tensor("weight_hh", parameters.weight_hh, (gates * hidden, hidden), x)
        if parameters.bias_ih is not None and parameters.bias_hh is not None:
            _check_tensor("bias_ih", parameters.bias_ih, (gates * hidden,), x)
            _check_tensor("bias_hh", parameters.bias_hh, (gates * hidden,), x)


def _check_tensor(name: str, tensor: Tensor, shape: tuple[int, ...], x: Tensor) -> None:
    if tensor.shape != shape:
        raise ValueError(f"expected {name} of shape {tuple(shape)}; found {tuple(tensor.shape)}")
    # Under autocast types are mixed on purpose, and the backend casts.
    mixed = tensor.dtype != x.dtype and not _autocasts(x)
    if mixed or tensor.device != x.device:
        raise ValueError(f"expected {name} of {x.dtype} on {x.device}, as x; found {tensor.dtype} on {tensor.device}")
