"""The encoder of a network as a language model first: ULMFiT's first two steps, within a fit."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tidegate.data.seeds import derive_seed
from tidegate.estimators.neural import FitPlan, seeded
from tidegate.heads.language import LanguageModel
from tidegate.heads.sequence import SequenceNetwork

__all__ = ["pretrain_encoder"]

# A table of more tokens would take most of the time.
_LARGE = 5000
_log = logging.getLogger("tidegate.estimators.text_network")


def pretrain_encoder(
    network: SequenceNetwork,
    plan: FitPlan,
    steps: Sequence[tuple[str, int, Sequence[np.ndarray]]],
    *,
    dropout: float,
    batch_size: int,
    fingerprint: Mapping[str, Any],
) -> None:
    """Train embedding and encoder as a language model, step after step.

    Args:
        network: Whose they are.
        plan: Of the fit.
        steps: Name (``"pretrain"`` or ``"adapt"``), epochs, and the tokens of each text.
        dropout: Of the language model's output.
        batch_size: Texts of a step of the optimiser.
        fingerprint: What a resumed run must share.

    Raises:
        TidegateError: A checkpoint cannot be written or read, or belongs to another run.
        KeyboardInterrupt: Ctrl-C.
    """
    if not steps:
        return
    from tidegate.training.language import pretrain

    def build() -> LanguageModel:
        large = network.embedding.weight.shape[0] > _LARGE
        return LanguageModel(network.embedding, network.encoder, tied=not large, adaptive=large, dropout=dropout)

    model = seeded(derive_seed(plan.random_state, "language"), build).to(plan.device)
    for name, epochs, ids in steps:
        _log.info("language model (%s): %d epochs on %s texts", name, epochs, f"{len(ids):,}")
        settings = dataclasses.replace(
            plan.settings,
            max_epochs=epochs,
            patience=epochs,
            warmup_epochs=0.0,
            unfreeze_every=None,
            frozen=None,
            # What begins from drawn weights learns in all its layers alike; what was learned is kept by lower ones.
            layer_rate_decay=1.0 if name == "pretrain" else plan.settings.layer_rate_decay,
            random_state=derive_seed(plan.random_state, name) % 2**31,
        )
        result = pretrain(
            model,
            ids,
            settings,
            batch_size=batch_size,
            run_folder=None if plan.folder is None else plan.folder / name,
            resume=plan.resume,
            fingerprint=dict(fingerprint),
        )
        if result.interrupted:
            raise KeyboardInterrupt
