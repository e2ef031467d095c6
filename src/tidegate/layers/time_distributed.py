"""A module at every step of sequences, and at no padded one."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from tidegate.layers.forms import enter

__all__ = ["TimeDistributed"]


class TimeDistributed(nn.Module):
    """Apply a module to each step of padded, packed or unbatched sequences: a head over a recurrent layer's output.

    The steps come to the module as one batch ``[N, ...]``, N the sum of the lengths; it never sees padding, whose
    outputs are zeros, so that neither time is spent on it nor a statistic (batch normalisation) taken of it.

    Args:
        module: Takes ``[N, ...]`` and returns a tensor ``[N, ...]``: ``nn.Linear(256, 9)``.
        batch_first: Padded inputs and outputs are ``[B, T, ...]`` instead of ``[T, B, ...]``.
    """

    def __init__(self, module: nn.Module, batch_first: bool = False) -> None:
        super().__init__()
        self.module = module
        self.batch_first = batch_first

    def forward(
        self, input: Tensor | PackedSequence, *, lengths: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor | PackedSequence:
        """The module at each step.

        Args:
            input: ``[T, B, ...]``, ``[B, T, ...]`` with `batch_first`, ``[T, I]`` unbatched, or a PackedSequence.
            lengths: ``[B]``, the steps of each sequence, of any integer type, on any device, zero allowed.
            mask: Bool of the input's first two dimensions; True where there is a step.

        Returns:
            What the module makes, of the kind and form of the input; zeros where there is no step.

        Raises:
            ValueError: Lengths or mask do not fit the input, or the module returns other rows than it is given.
        """
        form = enter(input, lengths, mask, self.batch_first, type(self).__name__, more_dimensions=True)
        made = self.module(form.values)
        if not isinstance(made, Tensor) or made.shape[:1] != form.values.shape[:1]:
            found = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
            raise ValueError(f"expected the module to return a tensor of {form.values.shape[0]} rows; found {found}")
        return form.leave(made)

    def extra_repr(self) -> str:
        """Which of the padded forms it takes, where it is not the first."""
        return "batch_first=True" if self.batch_first else ""
