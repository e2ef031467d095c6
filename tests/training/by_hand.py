"""Training as a plain loop, to hold the library's to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tidegate.training.batches import EncodedBatches
from training.toy import toy_network


def still_network(**changes: Any) -> Any:
    """A toy network that draws nothing while it trains."""
    return toy_network(**{"dropout": 0.0, "embedding_dropout": 0.0, "word_dropout": 0.0, **changes})


def train_by_hand(
    network: nn.Module,
    source: EncodedBatches,
    optimizer: torch.optim.Optimizer,
    epochs: int,
    *,
    accumulate: int = 1,
    before_step: Callable[[], None] = lambda: None,
    after_step: Callable[[], None] = lambda: None,
) -> None:
    """Each step minimises sum / count over `accumulate` batches; the last of an epoch may have fewer."""
    network.train()
    for epoch in range(epochs):
        batches = list(source.epoch(epoch))
        for start in range(0, len(batches), accumulate):
            sums = [network.loss(batch) for batch in batches[start : start + accumulate]]  # pyright: ignore
            optimizer.zero_grad()
            loss: Tensor = sum(total for total, _ in sums) / sum(count for _, count in sums)
            loss.backward()
            before_step()
            optimizer.step()
            after_step()


def assert_close(found: nn.Module, expected: nn.Module, tolerance: float = 1e-5) -> None:
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], tensor, atol=tolerance, rtol=tolerance, msg=name)
