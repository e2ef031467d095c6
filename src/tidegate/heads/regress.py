"""One number a sequence: a linear map, squared or absolute error, in units of the targets."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tidegate.errors import nearest
from tidegate.heads.sequence import SequenceNetwork
from tidegate.layers.dropout import check_rate
from tidegate.layers.dropout import dropout as drop_features

__all__ = ["REGRESSION_LOSSES", "RegressionHead", "SequenceRegressor", "error_rows"]

REGRESSION_LOSSES = ("squared", "absolute", "huber")


class RegressionHead(nn.Module):
    """A linear map from a row's vector to a number, which is learned in units of the targets' spread.

    Args:
        input_size: F, features of the pooled vector.
        loss: ``"squared"`` error, ``"absolute"`` error, or ``"huber"``, squared up to one standard deviation and
            absolute beyond (Huber 1964).
        dropout: Probability of dropping a feature before the map.
        mean: Of the training targets.
        scale: Their standard deviation.

    Raises:
        ValueError: The loss is none of those named, or a rate is out of range.
    """

    centre: Tensor
    scale: Tensor

    def __init__(
        self, input_size: int, loss: str = "squared", dropout: float = 0.0, mean: float = 0.0, scale: float = 1.0
    ) -> None:
        super().__init__()
        check_rate("dropout", dropout)
        if loss not in REGRESSION_LOSSES:
            raise ValueError(
                f"loss must be one of {', '.join(REGRESSION_LOSSES)}; found {loss!r}."
                f"{nearest(str(loss), REGRESSION_LOSSES)}"
            )
        self.kind, self.dropout = loss, dropout
        self.projection = nn.Linear(input_size, 1)
        self.register_buffer("centre", torch.tensor(float(mean)))
        self.register_buffer("scale", torch.tensor(float(scale) or 1.0))

    def forward(self, pooled: Tensor) -> Tensor:
        """``[B, F]`` to standardised predictions ``[B]``."""
        return self.projection(drop_features(pooled, self.dropout, self.training)).squeeze(-1).float()

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Each row's loss in standard deviations of the training targets, ``[B]``; `targets` in their own units."""
        wanted = (targets.float() - self.centre) / self.scale
        if self.kind == "squared":
            return functional.mse_loss(outputs, wanted, reduction="none")
        if self.kind == "absolute":
            return functional.l1_loss(outputs, wanted, reduction="none")
        return functional.huber_loss(outputs, wanted, reduction="none")

    def measure(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """``mae``, the absolute error of each row, and ``mse``, the squared one, in the targets' units."""
        return error_rows(self.decode(outputs), targets)

    def decode(self, outputs: Tensor) -> Tensor:
        """Standardised predictions ``[B]`` to numbers in the targets' units."""
        return outputs * self.scale + self.centre


def error_rows(predictions: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """The absolute and the squared error of each row, ``[B]``, as ``mae`` and ``mse``."""
    errors = predictions - targets.float()
    return {"mae": errors.abs(), "mse": errors.square()}


class SequenceRegressor(SequenceNetwork):
    """Token ids to a number: a :class:`SequenceNetwork` with a head for numbers.

    Args:
        num_tokens: V, size of the vocabulary.
        dropout: Between the layers and before the number.
        loss: One of :data:`REGRESSION_LOSSES`.
        mean: Of the training targets.
        scale: Their standard deviation.
        network: The further arguments of :class:`SequenceNetwork`.
    """

    def __init__(
        self, num_tokens: int, *, dropout: float, loss: str, mean: float = 0.0, scale: float = 1.0, **network: Any
    ) -> None:
        super().__init__(
            num_tokens, lambda size: RegressionHead(size, loss, dropout, mean, scale), dropout=dropout, **network
        )
