"""Products over the rows of ragged batches, in shapes that come again from batch to batch.

oneDNN compiles a bfloat16 product for each shape it meets, which takes about ten times as long as the product itself
(measured: 5 to 7 ms beside 0.5 ms for 1,000 rows of 128 features), and nearly every ragged batch has a number of rows
that no other has. So the rows go in whole blocks and a last block that is filled up. Products in float32 are MKL's,
which compiles nothing, and go as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["linear", "rows_times", "sum_over_rows"]

_FEW, _BLOCK, _LARGE_BLOCK = 32, 256, 1024
_MANY_ROWS = 8192  # from here on blocks are large, so that oneDNN's cache holds the products of all shapes


def rows_times(x: Tensor, weight: Tensor, *, added: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """``x @ weight`` of ``[N, K]`` and ``[K, M]``, plus `added` ``[N, M]``; or into `out`, where nothing is added."""
    rows, block = x.shape[0], _block(x)
    if not block or rows % block == 0:
        return torch.mm(x, weight, out=out) if added is None else torch.addmm(added, x, weight)
    whole = rows - rows % block
    if out is not None and whole:
        torch.mm(x[:whole], weight, out=out[:whole])
        # The last block begins among rows that are done, which it computes again.
        torch.mm(x[rows - block :], weight, out=out[rows - block :])
        return out
    rest = torch.mm(_filled(x[whole:], block), weight)[: rows - whole]
    parts = [torch.mm(x[:whole], weight), rest] if whole else [rest]
    if added is not None:
        parts = [part + of for part, of in zip(parts, added.split([len(part) for part in parts]), strict=True)]
    made = torch.cat(parts) if whole else parts[0]
    return made if out is None else out.copy_(made)


def sum_over_rows(a: Tensor, b: Tensor) -> Tensor:
    """``a.T @ b`` of ``[N, K]`` and ``[N, M]``."""
    rows, block = a.shape[0], _block(a)
    if not block or rows % block == 0:
        return a.t() @ b
    whole = rows - rows % block
    rest = _filled(a[whole:], block).t() @ _filled(b[whole:], block)
    return torch.addmm(rest, a[:whole].t(), b[:whole]) if whole else rest


def linear(values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """:func:`torch.nn.functional.linear` of ``[N, F]``, differentiable; under autocast in its type."""
    kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else values.dtype
    rows, block = values.shape[0], _block(values, kind)
    if not block or rows % block == 0:
        return functional.linear(values, weight, bias)
    whole = rows - rows % block
    rest = functional.linear(_filled(values[whole:], block), weight, bias)[: rows - whole]
    return torch.cat([functional.linear(values[:whole], weight, bias), rest]) if whole else rest


def _block(x: Tensor, kind: torch.dtype | None = None) -> int:
    """The number of rows that products of `x`, in the type `kind`, come in: no more than there are, but for the few.

    It is 0 where products are not compiled for each shape, or where all is compiled anyhow.
    """
    if (kind or x.dtype) is not torch.bfloat16 or x.device.type != "cpu" or torch.compiler.is_compiling():
        return 0
    rows = x.shape[0]
    if rows >= _MANY_ROWS:
        return _LARGE_BLOCK
    return _BLOCK if rows >= _BLOCK else -(-max(rows, 1) // _FEW) * _FEW


def _filled(rows: Tensor, block: int) -> Tensor:
    """Rows of zeros behind, up to a whole block."""
    return functional.pad(rows, (0, 0, 0, block - rows.shape[0]))
