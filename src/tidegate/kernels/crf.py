r"""The linear-chain conditional random field as functions over ragged rows (Lafferty et al. 2001).

A row of T steps with emissions :math:`e_t` gives the tags :math:`y_1 \dots y_T` the score

.. math::
    s(y) = a_{y_1} + \sum_{t=1}^{T} e_{t, y_t} + \sum_{t=2}^{T} A_{y_{t-1} y_t} + b_{y_T}
    \qquad p(y) = \exp(s(y) - \log Z) \qquad Z = \sum_y \exp s(y)

with ``start`` a, ``transitions`` A (from the row's tag to the column's) and ``end`` b. A score of minus infinity
forbids. A row of length zero has one path, the empty one, of score 0: its log-partition and log-likelihood are 0.

Every function takes ``emissions [N, K]`` in ragged order, ``transitions [K, K]``, ``start [K]``, ``end [K]``, and
returns what it has of rows in the layout's sorted order. Where no path of a row is allowed, its log-partition is minus
infinity, its marginals are zero and its tags -1.

On a CPU the native kernels serve, in float32 and float64; elsewhere the reference, plain PyTorch, step by step.
"""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from tidegate.kernels import crf_cpu, crf_reference
from tidegate.kernels.ragged import Ragged

__all__ = ["best_paths", "choose_backend", "k_best_paths", "log_likelihood", "log_partition", "marginals"]

_BACKENDS: dict[str, ModuleType] = {"native": crf_cpu, "reference": crf_reference}


def choose_backend(device: str, dtype: torch.dtype) -> str:
    """The automatic choice: ``native`` on a CPU in float32 and float64, ``reference`` elsewhere."""
    return "native" if crf_cpu.refusal(device, dtype) is None else "reference"


def log_partition(
    emissions: Tensor, transitions: Tensor, start: Tensor, end: Tensor, ragged: Ragged, *, backend: str | None = None
) -> Tensor:
    """log Z of each row by the forward algorithm, ``[B]`` in nats, differentiable.

    Args:
        emissions: ``[N, K]``.
        transitions: ``[K, K]``.
        start: ``[K]``.
        end: ``[K]``.
        ragged: The layout of the N values.
        backend: ``"native"`` or ``"reference"``; None chooses by :func:`choose_backend`.

    Raises:
        ValueError: Shapes, types or devices do not fit together, or the named backend cannot serve them.
    """
    emissions, kernels = _prepare(emissions, transitions, start, end, ragged, backend)
    return kernels.likelihood_steps(emissions, transitions, start, end, None, ragged.batch_sizes, ragged.num_rows)


def log_likelihood(
    emissions: Tensor,
    tags: Tensor,
    transitions: Tensor,
    start: Tensor,
    end: Tensor,
    ragged: Ragged,
    *,
    backend: str | None = None,
) -> Tensor:
    """log p(tags) of each row, ``[B]`` in nats, differentiable.

    Minus infinity, with a gradient of zero, where the row's own path is forbidden.

    Args:
        emissions: ``[N, K]``.
        tags: ``[N]`` int64 in ragged order, from 0 to K - 1.
        transitions: ``[K, K]``.
        start: ``[K]``.
        end: ``[K]``.
        ragged: The layout of the N values.
        backend: ``"native"`` or ``"reference"``; None chooses by :func:`choose_backend`.

    Raises:
        ValueError: Shapes, types or devices do not fit together, a tag is none of the K, or the named backend cannot
            serve them.
    """
    emissions, kernels = _prepare(emissions, transitions, start, end, ragged, backend)
    _check_tags(tags, emissions, look=kernels is crf_reference)
    return kernels.likelihood_steps(emissions, transitions, start, end, tags, ragged.batch_sizes, ragged.num_rows)


def marginals(
    emissions: Tensor, transitions: Tensor, start: Tensor, end: Tensor, ragged: Ragged, *, backend: str | None = None
) -> Tensor:
    """The probability of each tag at each step, ``[N, K]``, differentiable; arguments as :func:`log_partition`'s."""
    emissions, kernels = _prepare(emissions, transitions, start, end, ragged, backend)
    return kernels.marginal_steps(emissions, transitions, start, end, ragged.batch_sizes, ragged.num_rows)


def best_paths(
    emissions: Tensor, transitions: Tensor, start: Tensor, end: Tensor, ragged: Ragged, *, backend: str | None = None
) -> tuple[Tensor, Tensor]:
    """The best path of each row (Viterbi 1967): its ``tags [N]`` in ragged order and its score, ``[B]``.

    Among equal scores the lowest tag counts, from the last step backwards. Without gradients; arguments as
    :func:`log_partition`'s.
    """
    emissions, kernels = _prepare(emissions, transitions, start, end, ragged, backend)
    with torch.no_grad():
        return kernels.best_paths(emissions, transitions, start, end, ragged.batch_sizes, ragged.num_rows)


def k_best_paths(
    emissions: Tensor,
    transitions: Tensor,
    start: Tensor,
    end: Tensor,
    ragged: Ragged,
    k: int,
    *,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """The k best paths of each row, best first: ``tags [N, k]`` in ragged order and ``scores [B, k]``.

    A row with fewer than k paths has tags of -1 and scores of minus infinity beyond its last. Without gradients.

    Args:
        emissions: ``[N, K]``.
        transitions: ``[K, K]``.
        start: ``[K]``.
        end: ``[K]``.
        ragged: The layout of the N values.
        k: At least 1.
        backend: ``"native"`` or ``"reference"``; None chooses by :func:`choose_backend`.

    Raises:
        ValueError: `k` is less than 1, or as for :func:`log_partition`.
    """
    if k < 1:
        raise ValueError(f"expected k of at least 1; found {k}")
    emissions, kernels = _prepare(emissions, transitions, start, end, ragged, backend)
    with torch.no_grad():
        return kernels.k_best_paths(emissions, transitions, start, end, ragged.batch_sizes, ragged.num_rows, k)


def _prepare(
    emissions: Tensor, transitions: Tensor, start: Tensor, end: Tensor, ragged: Ragged, backend: str | None
) -> tuple[Tensor, ModuleType]:
    """Check the arguments; the emissions in the parameters' type under autocast, and the backend's module."""
    device = emissions.device.type
    if emissions.dim() != 2 or emissions.shape[0] != ragged.num_values or emissions.shape[1] < 1:
        raise ValueError(
            f"expected emissions of shape [{ragged.num_values}, K], as the layout, with K of at least 1; "
            f"found {tuple(emissions.shape)}"
        )
    if device in ("cpu", "cuda") and torch.is_autocast_enabled(device):
        emissions = emissions.to(transitions.dtype)
    num_tags = emissions.shape[1]
    for name, tensor, shape in (
        ("transitions", transitions, (num_tags, num_tags)),
        ("start", start, (num_tags,)),
        ("end", end, (num_tags,)),
    ):
        if tensor.shape != shape:
            raise ValueError(f"expected {name} of shape {shape}; found {tuple(tensor.shape)}")
        if tensor.dtype != emissions.dtype or tensor.device != emissions.device:
            raise ValueError(
                f"expected {name} of {emissions.dtype} on {emissions.device}, as emissions; "
                f"found {tensor.dtype} on {tensor.device}"
            )
    if backend is None:
        backend = choose_backend(device, emissions.dtype)
    elif backend not in _BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; expected one of {', '.join(_BACKENDS)}")
    elif backend == "native" and (refusal := crf_cpu.refusal(device, emissions.dtype)) is not None:
        raise ValueError(f"the backend 'native' cannot serve this call: {refusal}")
    return emissions, _BACKENDS[backend]


def _check_tags(tags: Tensor, emissions: Tensor, look: bool) -> None:
    """The native kernel looks at the tags itself."""
    values, num_tags = emissions.shape
    if tags.shape != (values,) or tags.dtype != torch.int64 or tags.device != emissions.device:
        raise ValueError(
            f"expected tags of torch.int64, shape ({values},), on {emissions.device}; "
            f"found {tags.dtype}, shape {tuple(tags.shape)}, on {tags.device}"
        )
    if look and not torch.compiler.is_compiling() and bool(((tags < 0) | (tags >= num_tags)).any()):
        place = int(((tags < 0) | (tags >= num_tags)).nonzero()[0])
        raise ValueError(
            f"expected tags from 0 to {num_tags - 1}; found {int(tags[place])} at value {place} of the ragged values"
        )
