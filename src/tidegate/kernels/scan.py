r"""Linear recurrences over ragged rows: what trains in parallel over time.

.. math:: h_t = a_t \odot h_{t-1} + b_t

with coefficients that do not depend on the state, so that any two neighbouring steps are one step of the same form,
:math:`(a_2 a_1, a_2 b_1 + b_2)`, and a long row is halved again and again (Blelloch 1990; Martin & Cundy 2018,
arXiv:1709.04057). Nothing is divided, so no logarithms are needed for stability as with cumulative products: where a
product of coefficients underflows, what it multiplies is forgotten.

With ``is_complex`` a row of F numbers is F / 2 complex ones, the real parts first and the imaginary ones behind them;
so what goes in and comes out is what real matrix products make and take.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tidegate.kernels import scan_ops, scan_reference
from tidegate.kernels.ragged import Ragged

__all__ = ["at_least_float32", "choose_backend", "linear_scan"]

_BACKENDS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "native": scan_ops.native_steps,
    "parallel": scan_ops.parallel_steps,
    "reference": scan_reference.steps,
}


def choose_backend(device: str) -> str:
    """The automatic choice: ``native`` on a CPU, whose kernel walks the steps, ``parallel`` over time elsewhere."""
    return "native" if device in ("cpu", "meta") else "parallel"


def linear_scan(
    a: Tensor, b: Tensor, h_0: Tensor, ragged: Ragged, *, is_complex: bool = False, backend: str | None = None
) -> tuple[Tensor, Tensor]:
    """All states of a linear recurrence, differentiable twice.

    Half types are computed in float32 and rounded at the end.

    Args:
        a: ``[N, F]`` in ragged order, or ``[F]``, the same at every step. Meant to be at most 1 in magnitude.
        b: ``[N, F]`` in ragged order.
        h_0: ``[B, F]``, initial states, rows in the layout's sorted order.
        ragged: The layout of the N values.
        is_complex: Whether the F numbers are F / 2 real parts and then as many imaginary ones.
        backend: ``"native"``, ``"parallel"`` or ``"reference"``; None chooses by :func:`choose_backend`.

    Returns:
        ``[N, F]``, the state after each step, and ``[B, F]``, the last state of each row, in sorted order.

    Raises:
        ValueError: Shapes, types or devices do not fit together, or the named backend is unknown or cannot serve.
    """
    _check(a, b, h_0, ragged, is_complex)
    device = b.device.type
    if backend is None:
        backend = choose_backend(device)
    elif backend not in _BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; expected one of {', '.join(_BACKENDS)}")
    elif backend == "native" and device not in ("cpu", "meta"):
        raise ValueError(
            f"the backend 'native' cannot serve this call: it runs on the CPU; the tensors are on {device}"
        )
    wide = (at_least_float32(tensor) for tensor in (a, b, h_0))
    output, h_n = _BACKENDS[backend](*wide, ragged.batch_sizes, is_complex)
    return output.to(b.dtype), h_n.to(b.dtype)


def at_least_float32(x: Tensor) -> Tensor:
    """`x`, in float32 where it is of a half type: coefficients near one have no digits to lose."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _check(a: Tensor, b: Tensor, h_0: Tensor, ragged: Ragged, is_complex: bool) -> None:
    if b.dim() != 2 or b.shape[0] != ragged.num_values:
        raise ValueError(f"expected b of shape [{ragged.num_values}, F], as the layout; found {tuple(b.shape)}")
    features = b.shape[1]
    if is_complex and features % 2:
        raise ValueError(f"expected an even number of features, real parts and imaginary ones; found {features}")
    if not b.is_floating_point():
        raise ValueError(f"expected b of a floating type; found {b.dtype}")
    for name, tensor, shape in (
        ("a", a, (features,) if a.dim() == 1 else b.shape),
        ("h_0", h_0, (ragged.num_rows, features)),
    ):
        if tensor.shape != shape:
            raise ValueError(f"expected {name} of shape {tuple(shape)}; found {tuple(tensor.shape)}")
        if tensor.dtype != b.dtype or tensor.device != b.device:
            raise ValueError(
                f"expected {name} of {b.dtype} on {b.device}, as b; found {tensor.dtype} on {tensor.device}"
            )
