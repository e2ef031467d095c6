"""A classifier over the states of a pre-trained encoder, given ones or ones that it computes and changes itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tidegate.heads.classify import SequenceClassifier
from tidegate.kernels.ragged import Ragged, pack, pad
from tidegate.layers.dropout import dropout as drop_features

__all__ = ["ContextualClassifier", "StateTable"]

Read = Callable[[nn.Module, Tensor, Tensor], Tensor]


class StateTable(nn.Module):
    """Rows of states that are kept beside the network: numbers of rows ``[N]`` to states ``[N, D]``, with dropout.

    The rows are no parameters, and go into no checkpoint: `hold` says which ones the next batches mean.
    """

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self._rows: Any = None

    def hold(self, rows: Any) -> None:
        """Take other rows, ``[M, D]`` floats, perhaps mapped from a file; None lets go of them."""
        self._rows = rows

    @property
    def held(self) -> Any:
        """The rows that `hold` took, or None; a copy of this module has none."""
        return self._rows

    def begin_epoch(self, epoch: int) -> None:
        """Nothing here depends on the epoch."""

    def forward(self, numbers: Tensor) -> Tensor:
        """``[N]`` to ``[N, D]`` float32."""
        found = torch.from_numpy(self._rows[numbers.cpu().numpy()]).to(numbers.device, torch.float32)
        return drop_features(found, self.dropout, self.training)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_rows": None}


class _TunedStates(nn.Module):
    """The pieces' ids as they are; the states are computed where the layout is known."""

    def begin_epoch(self, epoch: int) -> None:
        """Nothing here depends on the epoch."""

    def forward(self, ids: Tensor) -> Tensor:
        """The ids themselves."""
        return ids


class ContextualClassifier(SequenceClassifier):
    """States of a pre-trained encoder under a recurrent stack, a pooling and a head.

    Args:
        num_classes: C.
        state_size: D, the numbers of a state.
        transformer: The pre-trained network, where it learns as well; None where the states are given.
        read: ``read(transformer, ids [B, T], mask [B, T])`` gives its states ``[B, T, D]``.
        embedding_dropout: Of single features of the states.
        network: The further arguments of :class:`SequenceClassifier`.
    """

    def __init__(
        self,
        num_classes: int,
        state_size: int,
        transformer: nn.Module | None,
        read: Read,
        *,
        embedding_dropout: float,
        **network: Any,
    ) -> None:
        super().__init__(1, num_classes, embedding_size=state_size, embedding_dropout=0.0, word_dropout=0.0, **network)
        self.state_dropout = embedding_dropout
        self.read = read
        self.transformer = transformer
        self.embedding = StateTable(embedding_dropout) if transformer is None else _TunedStates()  # pyright: ignore

    def hold(self, rows: Any) -> None:
        """Take the given states that the next batches mean, ``[M, D]``; None lets go of them."""
        if isinstance(self.embedding, StateTable):
            self.embedding.hold(rows)

    @property
    def held(self) -> Any:
        """The states that `hold` took, or None."""
        return self.embedding.held if isinstance(self.embedding, StateTable) else None

    def _outputs(self, values: Tensor, ragged: Ragged) -> tuple[Tensor, Tensor, Tensor]:
        if self.transformer is None:
            return super()._outputs(values, ragged)
        ids = pad(values, ragged)
        mask = (torch.arange(ids.shape[1], device=ids.device) < ragged.lengths[:, None]).to(torch.int64)
        states = pack(self.read(self.transformer, ids, mask), ragged)
        return super()._outputs(drop_features(states, self.state_dropout, self.training), ragged)
