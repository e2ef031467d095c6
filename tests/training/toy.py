"""A small task that a network can learn: does token 1 occur before token 2?"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tidegate.heads.classify import SequenceClassifier
from tidegate.training.batches import EncodedBatches
from tidegate.training.fit import FitSettings


def toy_batches(rows: int = 60, seed: int = 0, *, shuffle: bool = True, weights: Any = None) -> EncodedBatches:
    generator = np.random.default_rng(seed)
    ids = [generator.integers(3, 9, size=generator.integers(0, 9)) for _ in range(rows)]
    targets = generator.integers(0, 2, size=rows)
    ids = [np.concatenate([row, [1, 2] if target else [2, 1]]) for row, target in zip(ids, targets, strict=True)]
    return EncodedBatches(ids, targets, weights, batch_size=16, random_state=seed, shuffle=shuffle)


def toy_network(seed: int = 0, **changes: Any) -> SequenceClassifier:
    arguments: dict[str, Any] = {
        "cell": "gru",
        "embedding_size": 8,
        "hidden_size": 8,
        "num_layers": 1,
        "bidirectional": False,
        "pooling": "last",
        "dropout": 0.2,
        "embedding_dropout": 0.1,
        "word_dropout": 0.05,
        "label_smoothing": 0.0,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SequenceClassifier(9, 2, **{**arguments, **changes})


def toy_settings(**changes: Any) -> FitSettings:
    arguments: dict[str, Any] = {
        "learning_rate": 0.02,
        "weight_decay": 0.0,
        "max_epochs": 5,
        "patience": 10,
        "monitor": "accuracy",
        "gradient_clip": 1.0,
        "ema_decay": None,
        "random_state": 7,
        "device": "cpu",
        "verbose": False,
    }
    return FitSettings(**{**arguments, **changes})
