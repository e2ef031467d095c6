"""Linear recurrences in a number of steps that is logarithmic in the longest row, in plain PyTorch.

The rows stand one after the other. Where a row begins, its coefficient is zero and its initial state is within its
input, so that one recurrence over all N values is that of every row; neighbours are joined until each joint holds the
beginning of some row. The work is that of some three passes, whatever the lengths.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tidegate.kernels.scan_reference import as_complex, as_real

__all__ = ["backward", "forward"]


class _Rows:
    """Where the values of each row stand, in sorted order of the rows, one row behind the other."""

    def __init__(self, batch_sizes: Tensor, num_rows: int, num_values: int) -> None:
        device = batch_sizes.device
        ends = batch_sizes.cumsum(0)
        values = torch.arange(num_values, device=device)
        step_of = torch.searchsorted(ends, values, right=True)
        row_of = values - (ends - batch_sizes)[step_of]
        self.lengths = (batch_sizes[:, None] > torch.arange(num_rows, device=device)).sum(0)
        last = self.lengths.cumsum(0)
        first = last - self.lengths
        self.place_of = first[row_of] + step_of
        self.filled = self.lengths > 0
        # A row without a value reads some other's, which is then not used.
        self.first, self.last = first.clamp(max=num_values - 1), (last - 1).clamp(min=0)
        self.levels = max(batch_sizes.shape[0] - 1, 0).bit_length()

    def arrange(self, x: Tensor) -> Tensor:
        return torch.empty_like(x).index_copy_(0, self.place_of, x)

    def restore(self, x: Tensor) -> Tensor:
        return x.index_select(0, self.place_of)

    def spread(self, rows: Tensor, at: Tensor, like: Tensor) -> Tensor:
        """Zeros but for one value of each row that has any."""
        kept = torch.where(self.filled[:, None], rows, torch.zeros((), dtype=rows.dtype, device=rows.device))
        return torch.zeros_like(like).index_add_(0, at, kept)


def _scan(a: Tensor, b: Tensor, levels: int) -> Tensor:
    count = b.shape[0]
    if levels == 0 or count == 0:
        return b
    if count % 2:
        none = torch.zeros_like(b[:1])
        a, b = torch.cat([a, none]), torch.cat([b, none])
    a_even, a_odd, b_even, b_odd = a[0::2], a[1::2], b[0::2], b[1::2]
    odd = _scan(_after(a_odd, a_even, 0.0), _after(a_odd, b_even, b_odd), levels - 1)
    even = torch.cat([b_even[:1], _after(a_even[1:], odd[:-1], b_even[1:])])
    return torch.stack([even, odd], dim=1).flatten(0, 1)[:count]


def _after(a: Tensor, x: Tensor, b: Tensor | float) -> Tensor:
    """``a * x + b``, with nothing of `x` where `a` is zero: an infinity or NaN of one row stays out of the next."""
    return torch.where(a == 0, b, a * x + b)


def forward(a: Tensor, b: Tensor, h_0: Tensor, batch_sizes: Tensor, is_complex: bool) -> tuple[Tensor, Tensor]:
    """What :func:`tidegate.kernels.scan_reference.steps` returns."""
    if b.shape[0] == 0:
        return b.clone(), h_0.clone()
    if is_complex:
        h, h_n = forward(as_complex(a), as_complex(b), as_complex(h_0), batch_sizes, False)
        return as_real(h), as_real(h_n)
    rows = _Rows(batch_sizes, h_0.shape[0], b.shape[0])
    decay = rows.arrange(a.expand_as(b))
    entering = rows.arrange(b) + rows.spread(decay[rows.first] * h_0, rows.first, b)
    is_first = rows.spread(torch.ones_like(h_0[:, :1]), rows.first, b[:, :1]) != 0
    h = _scan(decay.masked_fill(is_first, 0), entering, rows.levels)
    return rows.restore(h), torch.where(rows.filled[:, None], h[rows.last], h_0)


def backward(
    grad_h: Tensor, grad_h_n: Tensor, a: Tensor, h: Tensor, h_0: Tensor, batch_sizes: Tensor, is_complex: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of a, b and h_0, given those of both results: the same recurrence from the last step down."""
    if h.shape[0] == 0:
        return torch.zeros_like(a), torch.zeros_like(h), grad_h_n.clone()
    if is_complex:
        tensors = (as_complex(tensor) for tensor in (grad_h, grad_h_n, a, h, h_0))
        grads = backward(*tensors, batch_sizes, False)  # pyright: ignore[reportCallIssue]
        return as_real(grads[0]), as_real(grads[1]), as_real(grads[2])
    rows = _Rows(batch_sizes, h_0.shape[0], h.shape[0])
    decay = rows.arrange(a.expand_as(h)).conj()
    entering = rows.arrange(grad_h) + rows.spread(grad_h_n, rows.last, h)
    is_last = rows.spread(torch.ones_like(h_0[:, :1]), rows.last, h[:, :1]) != 0
    # What comes back into a step is multiplied by the coefficient of the step after it.
    after = torch.cat([decay[1:], decay[:1]]).masked_fill(is_last, 0)
    grad_b = _scan(after.flip(0), entering.flip(0), rows.levels).flip(0)
    states = rows.arrange(h)
    is_first = rows.spread(torch.ones_like(h_0[:, :1]), rows.first, h[:, :1])
    before = torch.where(is_first != 0, rows.spread(h_0, rows.first, h), torch.cat([states[:1], states[:-1]]))
    grad_a = grad_b * before.conj()
    grad_h_0 = torch.where(rows.filled[:, None], (decay * grad_b)[rows.first], grad_h_n)
    return grad_a.sum(0) if a.dim() == 1 else rows.restore(grad_a), rows.restore(grad_b), grad_h_0
