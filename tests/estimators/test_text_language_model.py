from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tidegate
from tidegate import TextLanguageModel
from tidegate.data.batch import make_batch
from tidegate.errors import DataError


def counting(rows: int, seed: int = 0, kinds: int = 7) -> list[str]:
    """Texts in which each word follows from the one before it."""
    generator = np.random.default_rng(seed)
    starts, lengths = generator.integers(kinds, size=rows), generator.integers(3, 25, size=rows)
    return [
        " ".join(f"w{(start + step) % kinds}" for step in range(n)) for start, n in zip(starts, lengths, strict=True)
    ]


def make(**changes: Any) -> TextLanguageModel:
    settings: dict[str, Any] = {
        "hidden_size": 12,
        "max_epochs": 4,
        "learning_rate": 0.02,
        "max_tokens": 16,
        "min_count": 1,
        "random_state": 0,
        "verbose": False,
        "device": "cpu",
    }
    return TextLanguageModel(**{**settings, **changes})


@pytest.mark.parametrize("num_layers", [1, 2])
def test_it_learns_what_follows_and_not_what_cannot_be_known(num_layers: int) -> None:
    model = make(num_layers=num_layers, max_epochs=8).fit(counting(150))
    assert model.perplexity(counting(40, 1)) < 1.2
    # Words that are drawn have nothing to foretell them: two directions that saw each other would cheat.
    generator = np.random.default_rng(2)
    drawn = [" ".join(f"w{kind}" for kind in generator.integers(7, size=14)) for _ in range(150)]
    blind = make(num_layers=num_layers).fit(drawn[:100])
    assert 6.0 < blind.perplexity(drawn[100:]) < 8.5
    assert blind.score(drawn) == pytest.approx(-math.log(blind.perplexity(drawn)))


def test_the_perplexity_is_that_of_the_probabilities_of_each_token(tmp_path: Path) -> None:
    model = make(max_tokens=4).fit(counting(60))
    texts = ["w1 w2 w3 w4 w5 w6", "w0", "w2 w5"]
    losses = []
    for piece in ("w1 w2 w3 w4", "w5 w6", "w2 w5"):
        batch = make_batch([model.encoder_.encode([piece]).ids[0]])
        with torch.inference_mode():
            output, _ = model.network_(batch.values, batch.ragged)
            ahead, back = (model.network_.head.log_probabilities(half) for half in output.chunk(2, 1))
        ids = batch.values.tolist()
        losses += [-ahead[place, ids[place + 1]].item() for place in range(len(ids) - 1)]
        losses += [-back[place, ids[place - 1]].item() for place in range(1, len(ids))]
    assert model.perplexity(texts) == pytest.approx(math.exp(np.mean(losses)), rel=1e-5)
    copy = tidegate.load(model.save(tmp_path / "lm.tg"))
    assert type(copy) is TextLanguageModel
    assert copy.perplexity(texts) == model.perplexity(texts)


def test_every_argument_is_used() -> None:
    texts = [*counting(30), "W1 w2 <b>w3</b> rare", *["ﬁlm film ﬁlm film w1"] * 4]

    def outcome(**changes: Any) -> float:
        model = make(**{"max_epochs": 1, **changes}).fit(texts)
        return float(model.network_.embedding.weight.detach().double().sum()) + model.perplexity(texts)

    reference = outcome()
    assert outcome() == reference
    for change in (
        {"tokenizer": "characters"},
        {"lowercase": False},
        {"strip_html": False},
        {"normalization": None},
        {"max_tokens": 5},
        {"max_vocabulary": 5},
        {"min_count": 2},
        {"cell": "lstm"},
        {"hidden_size": 10},
        {"num_layers": 2},
        {"bidirectional": False},
        {"dropout": 0.4},
        {"learning_rate": 0.01},
        {"weight_decay": 0.5},
        {"batch_size": 7},
        {"max_epochs": 2},
        {"validation_fraction": 0.3},
        {"gradient_clip": 0.01},
        {"ema_decay": 0.5},
        {"random_state": 1},
    ):
        assert outcome(**change) != reference, change


def test_a_large_vocabulary_has_an_adaptive_softmax_and_given_texts_choose_the_epoch() -> None:
    texts = [" ".join(f"n{number}" for number in range(start, start + 8)) for start in range(0, 5600, 8)]
    model = make(max_epochs=1, bidirectional=False).fit(texts, validation_data=texts[:5])
    assert model.encoder_.num_tokens == 5601
    assert model.network_.head.adaptive is not None
    assert model.history_[0]["validation_loss"] == pytest.approx(math.log(model.perplexity(texts[:5])), rel=1e-4)


def test_what_cannot_be() -> None:
    with pytest.raises(DataError, match="no text of two tokens"):
        make().fit(["one", "two", "three"])
    with pytest.raises(ValueError, match="max_tokens must be a whole number of at least 2"):
        make(max_tokens=1).fit(counting(5))
    with pytest.raises(DataError, match="of which the second could be foretold"):
        make(max_epochs=1).fit(counting(20)).perplexity(["w1"])
