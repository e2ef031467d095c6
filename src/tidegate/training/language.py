"""Training of language models: running text in pieces with carried states, and the pre-training of an encoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tidegate.data.batch import Batch
from tidegate.data.seeds import derive_seed
from tidegate.heads.language import LanguageModel
from tidegate.kernels.ragged import ragged_full
from tidegate.training.batches import EncodedBatches
from tidegate.training.fit import fit
from tidegate.training.settings import FitResult, FitSettings

__all__ = ["CarriedLanguageModel", "StreamBatches", "pretrain"]

_HELD_OUT = 0.05


class StreamBatches:
    """Running text cut into rows that are read side by side, piece after piece.

    Args:
        ids: The whole text, int64.
        rows: B, how many rows it is cut into; what is left over at the end is dropped.
        steps: T, tokens of a piece.

    Raises:
        ValueError: The text has not two tokens a row.
    """

    def __init__(self, ids: np.ndarray, *, rows: int, steps: int) -> None:
        length = (len(ids) - 1) // rows
        if length < 1:
            raise ValueError(f"{len(ids)} tokens are too few for {rows} rows; expected more than {rows}")
        used = torch.from_numpy(np.ascontiguousarray(ids[: rows * length + 1]))
        # Time-major, so that a piece is a run of memory.
        self.inputs = used[:-1].view(rows, length).t().contiguous()
        self.targets = used[1:].view(rows, length).t().contiguous()
        self.rows, self.steps = rows, steps

    def __len__(self) -> int:
        return -(-len(self.inputs) // self.steps)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The pieces, the same in every epoch; ``origin`` starts at 0 in the first one."""
        for start in range(0, len(self.inputs), self.steps):
            inputs, targets = self.inputs[start:][: self.steps], self.targets[start:][: self.steps]
            ragged = ragged_full(self.rows, len(inputs))
            origin = torch.arange(self.rows) + start * self.rows
            yield Batch(inputs.flatten(), ragged, targets.flatten(), None, origin)


class CarriedLanguageModel(nn.Module):
    """A language model that goes on, in each piece of running text, from where the one before ended."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model
        self._states: dict[bool, Any] = {}

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Sum and count of the losses of a piece; the first piece of an epoch starts anew."""
        states = None if int(batch.origin[0]) == 0 else self._states.get(self.training)
        sums, self._states[self.training] = self.model.stream_loss(batch, states)
        return sums

    def measure(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """``loss`` in nats a token."""
        return {"loss": self.loss(batch)}


def pretrain(
    model: LanguageModel,
    ids: Sequence[np.ndarray],
    settings: FitSettings,
    *,
    batch_size: int,
    run_folder: Path | None,
    resume: bool,
    fingerprint: dict[str, Any],
) -> FitResult:
    """Train a language model on texts, each by itself; a twentieth of them is held out and chooses the epoch.

    Args:
        model: Its embedding and encoder are what is wanted.
        ids: The tokens of each text.
        settings: How to train; the loss is what is monitored.
        batch_size: Texts of a step.
        run_folder: Where checkpoints go, or None.
        resume: Whether to go on from them.
        fingerprint: What must be equal between a run and its resumption.
    """
    told = [row for row in ids if len(row) > 1]
    generator = np.random.default_rng(derive_seed(settings.random_state, "held-out"))
    order = generator.permutation(len(told))
    held = order[: round(_HELD_OUT * len(told))]
    batching: dict[str, Any] = {"batch_size": batch_size, "random_state": settings.random_state}

    def batches(rows: np.ndarray, shuffle: bool) -> EncodedBatches:
        chosen = [told[row] for row in rows]
        return EncodedBatches(chosen, np.zeros(len(chosen), dtype=np.int64), None, shuffle=shuffle, **batching)

    return fit(
        model,
        batches(order[len(held) :], True),
        batches(held, False) if len(held) else None,
        dataclasses.replace(settings, monitor="loss", score=None),
        run_folder=run_folder,
        resume=resume,
        fingerprint=fingerprint,
    )
