"""Pairs of texts as the input of the estimators of one network over texts."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.model_selection import cross_val_score

import tidegate
from tidegate import LinearTextClassifier, TextClassifier, TextEnsemble, TextRegressor
from tidegate.data.batch import make_batch
from tidegate.errors import DataError
from tidegate.heads.classify import SequenceClassifier
from tidegate.training.batches import EncodedBatches
from tiny_reviews import rows

SMALL: dict[str, Any] = {
    "min_count": 1,
    "embedding_size": 12,
    "hidden_size": 12,
    "dropout": 0.1,
    "embedding_dropout": 0.0,
    "learning_rate": 0.01,
    "batch_size": 16,
    "max_epochs": 6,
    "monitor": "loss",
    "random_state": 3,
    "device": "cpu",
    "verbose": False,
}


def pairs(count: int, seed: int) -> tuple[list[tuple[str, str]], list[str]]:
    """Pairs of which neither text by itself says anything of the label: whether both are good, or both bad."""
    drawn = random.Random(seed)
    groups = {name: [text for label, text in rows(200, seed) if label == name] for name in ("pos", "neg")}
    made, labels = [], []
    for _ in range(count):
        first, second = drawn.choice(["pos", "neg"]), drawn.choice(["pos", "neg"])
        made.append((drawn.choice(groups[first]), drawn.choice(groups[second])))
        labels.append("same" if first == second else "other")
    return made, labels


X, Y = pairs(400, 1)
NEW, TRUTH = pairs(80, 2)


@pytest.fixture(scope="module")
def fitted() -> TextClassifier:
    return TextClassifier(**SMALL).fit(X, Y)


# --- what is learned


def test_what_lies_between_two_texts_is_learned(fitted: TextClassifier) -> None:
    assert fitted.score(NEW, TRUTH) > 0.95
    joined = TextClassifier(**{**SMALL, "max_epochs": 1}).fit([f"{a} {b}" for a, b in X], Y)
    assert not joined.reads_pairs and fitted.reads_pairs


def test_any_two_columns_are_pairs(fitted: TextClassifier) -> None:
    expected = fitted.predict_proba(NEW)
    frame = pd.DataFrame(NEW, columns=["first", "second"])
    for given in (frame, pl.DataFrame(frame.to_dict("list")), np.array(NEW), [list(pair) for pair in NEW], tuple(NEW)):
        assert np.array_equal(fitted.predict_proba(given), expected)


def test_a_pair_alone_equals_the_pair_in_a_batch(fitted: TextClassifier) -> None:
    odd = [("", "good"), ("bad " * 40, "dull"), *NEW[:5]]
    together = fitted.predict_proba(odd)
    alone = np.concatenate([fitted.predict_proba([pair]) for pair in odd])
    assert np.allclose(together, alone, atol=1e-6)
    assert fitted.predict_proba([]).shape == (0, 2)


def test_the_head_sees_both_vectors_their_distance_and_product(fitted: TextClassifier) -> None:
    network = fitted.network_
    first, second = (fitted.encoder_.encode([text]).ids[0] for text in NEW[0])
    with torch.no_grad():
        vectors = []
        for ids in (first, second):
            batch = make_batch([ids])
            output, _ = network.encoder.encode(network.embedding(batch.values), batch.ragged)
            vectors.append(network.attention(output, batch.ragged))
        u, v = vectors
        logits = network.head(torch.cat([u, v, (u - v).abs(), u * v], 1))
    assert np.allclose(logits.softmax(-1).numpy(), fitted.predict_proba(NEW[:1]), atol=1e-6)


def test_a_saved_model_and_an_ensemble_read_pairs(fitted: TextClassifier, tmp_path: Path) -> None:
    again = tidegate.load(fitted.save(tmp_path / "pairs.tg"))
    assert again.reads_pairs
    assert np.array_equal(again.predict_proba(NEW), fitted.predict_proba(NEW))
    short = TextClassifier(**{**SMALL, "max_epochs": 2})
    ensemble = TextEnsemble(short, members=2).fit(X, Y)
    both = np.mean([member.predict_proba(NEW) for member in ensemble.members_], axis=0)
    loaded = tidegate.load(ensemble.save(tmp_path / "ensemble.tg"))
    assert loaded.reads_pairs and np.allclose(loaded.predict_proba(NEW), both, atol=1e-6)


def test_numbers_of_pairs_are_learned() -> None:
    numbers = [1.0 if label == "same" else -1.0 for label in Y]
    model = TextRegressor(**SMALL).fit(X, numbers)
    truth = np.array([1.0 if label == "same" else -1.0 for label in TRUTH])
    assert np.mean(np.sign(model.predict(NEW)) == truth) > 0.95


def test_every_means_of_training_takes_pairs(tmp_path: Path) -> None:
    short = {**SMALL, "max_epochs": 1}
    means: list[dict[str, Any]] = [
        {"augment_delete": 0.2, "augment_noise": 0.1, "augment_replace": 0.1},
        {"pretrain_epochs": 1, "pooling": "last"},
        {"char_encoder": "cnn", "char_embedding_size": 4, "char_hidden_size": 4},
        {"activity_penalty": 0.1, "temporal_penalty": 0.1, "locked_dropout": 0.2, "accumulate": 2},
        {"embedding_init": "cooccurrence", "pooling": "max", "class_weight": "balanced", "validation_fraction": 0.0},
    ]
    for options in means:
        model = TextClassifier(**{**short, **options}).fit(X[:60], Y[:60])
        assert np.isfinite(model.history_[0]["train_loss"])
        assert model.token_lengths["train"].sum() == sum(len(text.split()) for pair in X[:60] for text in pair)
    weights = np.where(np.arange(60) % 2, 0.0, 1.0)
    weighed = TextClassifier(**short).fit(X[:60], Y[:60], weights)
    halved = TextClassifier(**short).fit(X[:60:2], Y[:60:2])
    assert np.array_equal(weighed.predict_proba(NEW), halved.predict_proba(NEW))


def test_an_encoder_of_single_texts_starts_one_of_pairs(tmp_path: Path) -> None:
    short = {**SMALL, "max_epochs": 1, "learning_rate": 1e-30}
    texts, labels = [text for _, text in rows(60, 4)], [label for label, _ in rows(60, 4)]
    single = TextClassifier(**{**SMALL, "max_epochs": 1}).fit(texts, labels)
    started = TextClassifier(**short, init_from=str(single.save(tmp_path / "single.tg"))).fit(X, Y)
    for name, tensor in single.network_.encoder.state_dict().items():
        assert torch.equal(tensor, started.network_.encoder.state_dict()[name])


def test_warm_start_goes_on_with_pairs_alone(fitted: TextClassifier) -> None:
    model = TextClassifier(**{**SMALL, "max_epochs": 1}, warm_start=True).fit(X, Y)
    model.fit(NEW, TRUTH)
    with pytest.raises(DataError, match="goes on with _width=2"):
        model.fit([first for first, _ in X], Y)


def test_runs_repeat_and_resume_bit_for_bit(tmp_path: Path) -> None:
    options = {**SMALL, "augment_swap": 0.2, "max_epochs": 3}
    whole = TextClassifier(**options).fit(X[:80], Y[:80])
    TextClassifier(**{**options, "max_epochs": 1}).fit(X[:80], Y[:80], run_folder=tmp_path)
    resumed = TextClassifier(**options).fit(X[:80], Y[:80], run_folder=tmp_path, resume=True)
    assert np.array_equal(whole.predict_proba(NEW), resumed.predict_proba(NEW))


def test_scikit_learn_selects_rows_of_pairs() -> None:
    model = TextClassifier(**{**SMALL, "max_epochs": 6})
    assert cross_val_score(model, np.array(X), Y, cv=2).mean() > 0.7


# --- what is refused


def test_what_is_no_pair_is_refused(fitted: TextClassifier) -> None:
    with pytest.raises(DataError, match="the model reads pairs of texts, and X has one text a row"):
        fitted.predict(["a film"])
    single = TextClassifier(**{**SMALL, "max_epochs": 1}).fit([first for first, _ in X], Y)
    with pytest.raises(DataError, match="the model reads one text a row, and X has pairs of texts"):
        single.predict(NEW)
    with pytest.raises(DataError, match="row 1 of X is no pair of texts: expected two of type str"):
        TextClassifier(**SMALL).fit([("a", "b"), "c"], [0, 1])
    with pytest.raises(DataError, match="row 1 of X is a pair of texts, and the rows before are single texts"):
        TextClassifier(**SMALL).fit(["a", ("b", "c")], [0, 1])
    with pytest.raises(DataError, match="row 1 of X is no pair of texts"):
        TextClassifier(**SMALL).fit([("a", "b"), ("c", None)], [0, 1])
    with pytest.raises(DataError, match=r"one column of texts, or two of pairs; found an array of shape \(2, 3\)"):
        TextClassifier(**SMALL).fit(np.array([["a", "b", "c"], ["d", "e", "f"]]), [0, 1])
    with pytest.raises(DataError, match="X has pairs of texts and validation_data one text a row"):
        TextClassifier(**SMALL).fit(X, Y, validation_data=([first for first, _ in NEW], TRUTH))
    with pytest.raises(DataError, match="this estimator reads one text a row; TextClassifier and TextRegressor"):
        LinearTextClassifier().fit(X, Y)


# --- the batches and the network


def test_a_batch_holds_the_first_texts_and_then_the_second_ones() -> None:
    first = [np.array(row) for row in ([1, 2, 3], [4], [5, 6])]
    second = [np.array(row) for row in ([7], [8, 9], [])]
    batches = EncodedBatches(
        [*first, *second], np.arange(3), None, batch_size=2, random_state=0, shuffle=False, width=2
    )
    (one, two) = batches.epoch(0)
    assert one.origin.tolist() == [0, 1] and one.num_rows == 2  # by the tokens of both texts: 4, 3 and 2
    assert one.ragged.lengths.tolist() == [3, 1, 1, 2]
    assert two.ragged.lengths.tolist() == [2, 0] and two.targets is not None and two.targets.tolist() == [2]
    with pytest.raises(DataError, match="targets must be one a row: expected 3"):
        make_batch([*first, *second], targets=np.arange(6), width=2)


def test_the_penalties_of_a_pair_are_the_mean_of_its_texts() -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {
        "cell": "gru",
        "embedding_size": 4,
        "hidden_size": 3,
        "num_layers": 1,
        "bidirectional": True,
        "pooling": "mean",
        "dropout": 0.0,
        "embedding_dropout": 0.0,
        "word_dropout": 0.0,
        "label_smoothing": 0.0,
    }
    batch = make_batch([np.array([1, 2, 3]), np.array([4]), np.array([5, 6]), np.array([2])], np.array([0, 1]), width=2)
    network = SequenceClassifier(9, 2, pairs=True, **options)
    plain = network.loss(batch)[0]
    network.activity_penalty = 0.5
    swapped = make_batch(
        [np.array([5, 6]), np.array([2]), np.array([1, 2, 3]), np.array([4])], np.array([0, 1]), width=2
    )
    penalty = network.loss(batch)[0] - plain
    network.activity_penalty = 0.0
    other = network.loss(swapped)[0]
    network.activity_penalty = 0.5
    assert torch.allclose(penalty, network.loss(swapped)[0] - other, atol=1e-6)
    outputs = network._outputs(batch.values, batch.ragged)[2]
    from tidegate.layers.activity import activity

    each = activity(outputs, batch.ragged)
    assert torch.allclose(penalty, 0.5 * (each[:2] + each[2:]).sum() / 2, atol=1e-6)
