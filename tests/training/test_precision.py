from __future__ import annotations

import math
import statistics
from typing import Any

import numpy as np
import pytest
import torch

from tidegate.data.bundled import load_reviews
from tidegate.estimators.text_classifier import TextClassifier
from tidegate.training import precision
from tidegate.training.precision import describe_precision
from training.test_fit import train
from training.toy import toy_network


def test_bfloat16_trains_float32_weights_by_bfloat16_products() -> None:
    seen: set[torch.dtype] = set()
    network = toy_network()
    encode = network.encoder.encode

    def watched(*arguments: Any) -> Any:
        output, final = encode(*arguments)
        seen.add(output.dtype)
        return output, final

    network.encoder.encode = watched
    _, result = train(network, precision="bfloat16", max_epochs=8)
    assert seen == {torch.bfloat16}
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}
    _, plain = train(max_epochs=8)
    for found, expected in zip(result.history[:3], plain.history[:3], strict=True):
        assert found["train_loss"] == pytest.approx(expected["train_loss"], abs=0.02)
    assert result.history[-1]["train_loss"] < 0.6 * result.history[0]["train_loss"]


@pytest.mark.parametrize(
    ("isa", "told"),
    [("amx", "by the CPU's amx instructions"), ("avx2", "in float32 instructions (avx2): smaller, but not faster")],
)
def test_how_a_cpu_computes_bfloat16_is_told(isa: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "native_info", lambda: {"isa": isa})
    assert told in describe_precision("bfloat16", "cpu")
    assert describe_precision("float32", "cpu") == "float32 throughout"


def test_float16_needs_a_gpu_and_unknown_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="precision='float16' needs a GPU"):
        describe_precision("float16", "cpu")
    with pytest.raises(ValueError, match="Did you mean 'float16'"):
        describe_precision("float_16", "cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_a_gpu_learns_in_every_precision(name: str) -> None:
    _, result = train(toy_network().cuda(), precision=name, device="cuda", max_epochs=12)
    assert result.history[-1]["train_loss"] < 0.6 * result.history[0]["train_loss"]


@pytest.mark.slow
def test_bfloat16_reaches_the_accuracy_of_float32_on_the_bundled_reviews() -> None:
    train_part, held = load_reviews("en", "train"), load_reviews("en", "validation")
    reached: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    for seed in range(5):
        said = {}
        for name, found in reached.items():
            model = TextClassifier(
                hidden_size=64, batch_size=64, learning_rate=2e-3, max_epochs=4, precision=name, random_state=seed
            )
            model.fit(train_part.texts, train_part.labels, validation_data=(held.texts, held.labels))
            said[name] = model.predict_proba(held.texts)
            found.append(float(model.score(held.texts, held.labels)))
        assert np.abs(said["float32"] - said["bfloat16"]).max() > 1e-4  # they were two trainings
    means = {name: statistics.mean(found) for name, found in reached.items()}
    # The standard error of the difference of the two means, by the seeds' spread; of the 1,007 texts it is 1.3 points.
    noise = math.hypot(*(statistics.stdev(found) for found in reached.values())) / math.sqrt(5)
    assert means["float32"] > 0.74
    assert abs(means["bfloat16"] - means["float32"]) < max(3 * noise, 0.013), reached
