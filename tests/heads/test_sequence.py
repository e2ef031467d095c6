"""What all networks over texts share; the heads themselves are held in test_classify and test_regress."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tidegate.data.batch import make_batch
from tidegate.heads.classify import SequenceClassifier
from tidegate.layers.activity import activity, temporal_activity

ARGUMENTS: dict[str, Any] = {
    "cell": "lstm",
    "embedding_size": 5,
    "hidden_size": 4,
    "num_layers": 2,
    "bidirectional": True,
    "pooling": "mean",
    "dropout": 0.0,
    "embedding_dropout": 0.0,
    "word_dropout": 0.0,
    "label_smoothing": 0.0,
}
IDS = [np.array([1, 2, 3, 4]), np.array([5]), np.array([], dtype=np.int64), np.array([6, 7, 1])]


def network(seed: int = 0, **changes: Any) -> SequenceClassifier:
    torch.manual_seed(seed)
    return SequenceClassifier(8, 3, **{**ARGUMENTS, **changes})


def batch(weights: Any = None) -> Any:
    return make_batch(IDS, np.array([0, 1, 2, 1]), weights)


def test_penalties_are_added_for_each_row_in_training_alone() -> None:
    weights = np.array([1.0, 2.0, 1.0, 0.5])
    plain, penalised = network(), network(activity_penalty=2.0, temporal_penalty=3.0)
    data = batch(weights)
    output, _ = plain.encoder.encode(plain.embedding(data.values), data.ragged)
    rows = 2.0 * activity(output, data.ragged) + 3.0 * temporal_activity(output, data.ragged)
    expected = plain.loss(data)[0] + (rows * torch.tensor(weights)).sum()
    assert penalised.loss(data)[0].item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(penalised.eval().loss(data), plain.eval().loss(data))


def test_locked_dropout_drops_features_of_whole_texts() -> None:
    model = network(locked_dropout=0.5, pooling="last", num_layers=1)
    model.head = torch.nn.Identity()
    seen: list[torch.Tensor] = []
    encode = model.encoder.encode

    def watched(values: torch.Tensor, ragged: Any) -> Any:
        seen.append(values)
        return encode(values, ragged)

    model.encoder.encode = watched  # pyright: ignore[reportAttributeAccessIssue]
    data = batch()
    torch.manual_seed(3)
    model(data.values, data.ragged)
    embedded = model.embedding(data.values)
    kept = seen[0] / embedded
    for row in range(4):
        of_row = kept[data.ragged.row_of == row]
        assert ((of_row - of_row[:1]).abs() < 1e-5).all()
    assert set(kept.round().int().unique().tolist()) == {0, 2}
    model.eval()
    model(data.values, data.ragged)
    torch.testing.assert_close(seen[1], embedded)


@pytest.mark.parametrize("name", ["locked_dropout", "recurrent_dropout", "weight_dropout"])
def test_each_dropout_acts_in_training_alone(name: str) -> None:
    plain, dropping = network(), network(**{name: 0.5})
    data = batch()
    assert not torch.allclose(plain.loss(data)[0], dropping.loss(data)[0])
    torch.testing.assert_close(plain.eval().loss(data), dropping.eval().loss(data))


def test_judging_gives_the_metrics_and_the_predictions_of_one_pass() -> None:
    model, data = network().eval(), batch(np.array([1.0, 2.0, 0.0, 1.0]))
    sums, predictions = model.judge(data)
    torch.testing.assert_close(predictions, model.decode(data.values, data.ragged))
    right = (predictions.argmax(1) == data.targets).float()
    assert sums["accuracy"][0].item() == (right * data.weights).sum().item()
    assert sums["accuracy"][1].item() == 4.0
    torch.testing.assert_close(sums["loss"], model.loss(data))
    torch.testing.assert_close(model.measure(data), sums)
