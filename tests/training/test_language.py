from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from tidegate.heads.language import LanguageModel
from tidegate.layers.embedding import TokenEmbedding
from tidegate.layers.stack import RecurrentStack
from tidegate.training.fit import fit
from tidegate.training.language import CarriedLanguageModel, StreamBatches, pretrain
from training.test_fit import figures
from training.toy import toy_settings


def language(bidirectional: bool, seed: int = 0) -> LanguageModel:
    torch.manual_seed(seed)
    return LanguageModel(TokenEmbedding(12, 8), RecurrentStack("gru", 8, 16, 1, bidirectional), tied=True)


def counting(rows: int) -> list[np.ndarray]:
    """Texts that count from somewhere, which either direction can foretell."""
    starts = np.random.default_rng(0).integers(1, 11, size=(rows, 2))
    return [np.arange(start, start + 6 + length % 4) % 11 + 1 for start, length in starts]


def test_pretraining_learns_what_follows_and_what_goes_before() -> None:
    for bidirectional in (False, True):
        model = language(bidirectional)
        settings = toy_settings(max_epochs=12, learning_rate=0.03, patience=99)
        options = {"batch_size": 16, "run_folder": None, "resume": False, "fingerprint": {}}
        result = pretrain(model, [*counting(200), np.array([3])], settings, **options)
        assert result.history[-1]["validation_loss"] < 0.1 * math.log(11)  # a tenth of what knowing nothing costs


def test_pretraining_resumes_as_it_was(tmp_path: Path) -> None:
    settings = toy_settings(max_epochs=3, learning_rate=0.03)
    options = {"batch_size": 16, "fingerprint": {}}
    whole = pretrain(language(True), counting(60), settings, run_folder=None, resume=False, **options)
    short = toy_settings(max_epochs=1, learning_rate=0.03)
    pretrain(language(True), counting(60), short, run_folder=tmp_path, resume=False, **options)
    resumed = pretrain(language(True, 5), counting(60), settings, run_folder=tmp_path, resume=True, **options)
    assert figures(resumed) == figures(whole)


def test_running_text_is_learned_by_carried_states() -> None:
    # The token after a run of zeros depends on the one before it, further back than a piece reaches.
    generator = np.random.default_rng(1)
    marks = generator.integers(1, 3, size=300)
    ids = np.concatenate([[mark, 3, 3, 3, mark] for mark in marks]).astype(np.int64)
    losses = {}
    for carried in (True, False):
        model = CarriedLanguageModel(language(False))
        if not carried:
            stream_loss = model.model.stream_loss
            model.model.stream_loss = lambda batch, states, inner=stream_loss: inner(batch, None)
        source = StreamBatches(ids, rows=4, steps=2)
        result = fit(model, source, None, toy_settings(max_epochs=6, learning_rate=0.02))
        losses[carried] = result.history[-1]["train_loss"]
    assert losses[True] < 0.8 * losses[False]
