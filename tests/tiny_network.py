"""The arguments of a network over texts that learns what is tiny in a second."""

from __future__ import annotations

from typing import Any

TINY: dict[str, Any] = {
    "embedding_size": 12,
    "hidden_size": 8,
    "max_epochs": 6,
    "batch_size": 8,
    "learning_rate": 0.02,
    "dropout": 0.1,
    "embedding_dropout": 0.1,
    "min_count": 1,
    "random_state": 0,
    "verbose": False,
    "device": "cpu",
}
