"""Recurrences through PyTorch's own operators on packed rows, which are cuDNN's on a GPU."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from tidegate.kernels.ragged import Ragged
from tidegate.kernels.reference import Options, Weights

__all__ = ["recurrence", "refusal"]

_VF = torch._VF  # pyright: ignore[reportAttributeAccessIssue]
_OPERATORS = {"rnn_tanh": _VF.rnn_tanh, "rnn_relu": _VF.rnn_relu, "lstm": _VF.lstm, "gru": _VF.gru}


def refusal(cell: str, extras: Sequence[str] = (), device: str = "cuda") -> str | None:
    """Why PyTorch's operator cannot serve, or None; `extras` are the options in use that torch.nn does not have."""
    if device == "meta":
        return "PyTorch's operator reads the rows alive at each step, which tensors on meta do not have"
    if cell not in _OPERATORS:
        return "PyTorch's GRU has the reset gate after the product only (reset_after=True)"
    if extras:
        return f"PyTorch's operator does not have {', '.join(extras)}"
    return None


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
    """:func:`tidegate.kernels.reference.recurrence` by ``torch.ops.aten.gru`` and its like on packed data.

    PyTorch packs no sequence of length zero: those rows, which sort last, keep their states outside it. What
    :func:`refusal` names is refused before this is called.
    """
    # cuDNN keeps what its backward pass needs in what it calls training; there is no dropout here that it would start.
    training = torch.is_grad_enabled() and any(
        t.requires_grad for t in (x, h_0, c_0, *(p for w in weights for p in w)) if t is not None
    )
    batch_sizes = ragged.batch_sizes[ragged.batch_sizes > 0].cpu()
    if batch_sizes.numel() == 0:
        return x.new_empty(0, h_0.shape[-1] * len(weights)), h_0, c_0, None
    alive = int(batch_sizes[0])
    states = [h_0] if c_0 is None else [h_0, c_0]
    hx = [state[:, :alive].contiguous() for state in states]
    parameters = [tensor for direction in weights for tensor in direction[:5] if tensor is not None]
    has_biases, bidirectional = weights[0].bias_ih is not None, len(weights) == 2
    arguments = (x, batch_sizes, hx[0] if c_0 is None else hx, parameters, has_biases, 1, 0.0, training, bidirectional)
    if x.is_cuda and not torch.compiler.is_compiling():
        with warnings.catch_warnings():
            # The copy of the weights is meant: parameters stay apart, and dropped weights are new in every call.
            warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous chunk")
            output, *last = _OPERATORS[cell](*arguments)
    else:
        output, *last = _OPERATORS[cell](*arguments)
    h_n, *c_n = (torch.cat([new, state[:, alive:]], dim=1) for new, state in zip(last, states, strict=True))
    return output, h_n, c_n[0] if c_n else None, None
