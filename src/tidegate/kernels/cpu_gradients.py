"""The gradients of weights and biases from those of the gates, as products of PyTorch's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tidegate.kernels.products import sum_over_rows
from tidegate.kernels.reference import GATES

__all__ = ["Gradients", "of_weight"]


def of_weight(grads: Tensor, inputs: Tensor) -> Tensor:
    """The gradient ``grads.T @ inputs`` of a weight, by the product whose order takes a tenth to a fifth less time."""
    return sum_over_rows(inputs, grads).t()


class Gradients:
    """The gradients of the gates of one direction, ``[N, S*H]``, as inputs, recurrent product and biases see them.

    The GRU with the reset gate after the product has four: n (recurrent), r, z, n (input), so that both views are
    stretches of it; all others have the gates as they are.
    """

    def __init__(self, cell: str, grads: Tensor, width: int) -> None:
        self._cell = cell
        self._grads = grads
        self._units = width // GATES[cell]
        self._width = width
        self.of_input = grads[:, grads.shape[1] - width :]

    def of_weight_hh(self, of_state: Tensor | None, previous: Tensor, saved: Any, direction: int) -> Tensor:
        """``[G*H, P]``; `of_state` is the gradient before the layer norm, where there is one.

        Of `saved` is read the reset gate, which multiplies the states of W_hn where it stands before the product.
        """
        units = self._units
        if self._cell == "gru_reset_before":
            of_state = self._grads if of_state is None else of_state
            reset = saved[:, direction, :units]
            return torch.cat(
                [of_weight(of_state[:, : 2 * units], previous), of_weight(of_state[:, 2 * units :], reset * previous)]
            )
        if self._cell == "gru" and of_state is None:
            return of_weight(self._grads[:, : self._width], previous).roll(-units, 0)
        return of_weight(self._grads if of_state is None else of_state, previous)

    def of_biases(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Those of bias_ih and bias_hh, ``[G*H]`` each, of the type `dtype`."""
        if dtype == self._grads.dtype:
            sums = self._grads.t() @ self._grads.new_ones(self._grads.shape[0])
        else:
            sums = self._grads.sum(0, dtype=dtype)
        if self._cell != "gru":
            return sums, sums.clone()
        units = self._units
        return sums[units:], torch.cat([sums[units : self._width], sums[:units]])
