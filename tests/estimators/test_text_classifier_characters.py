"""Words read letter by letter beside their vectors, in TextClassifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tidegate
from estimators.test_text_classifier import X, Y, make
from tidegate.data.batch import make_batch
from tidegate.data.word_forms import WordForms

KINDS = ["cnn", "gru", "lstm"]
SIZES: dict[str, Any] = {"char_embedding_size": 6, "char_hidden_size": 8}


def endings(rows: int, seed: int) -> tuple[list[str], list[str]]:
    """Texts of words that no two share, whose endings alone tell the label."""
    generator = np.random.default_rng(seed)
    texts, labels = [], []
    for _ in range(rows):
        good = bool(generator.integers(2))
        stems = ["".join(generator.choice(list("abcdefgh"), 6)) for _ in range(4)]
        stems[int(generator.integers(4))] += "zo" if good else "ky"
        texts.append(" ".join(stems))
        labels.append("positive" if good else "negative")
    return texts, labels


@pytest.mark.parametrize("kind", KINDS)
def test_words_that_training_has_not_seen_are_told_by_their_letters(kind: str, tmp_path: Path) -> None:
    settings = {"max_epochs": 12, "patience": 12, "min_count": 2, **SIZES}
    model = make(char_encoder=kind, **settings).fit(*endings(240, 0))
    texts, labels = endings(100, 1)
    assert model.score(texts, labels) > 0.9
    copy = tidegate.load(model.save(tmp_path / "m.tg"))
    np.testing.assert_array_equal(copy.predict_proba(texts), model.predict_proba(texts))
    single = np.concatenate([model.predict_proba([text]) for text in texts[:5]])
    np.testing.assert_allclose(single, model.predict_proba(texts)[:5], atol=1e-5)


def test_a_words_features_are_its_own_whatever_stands_beside_it() -> None:
    model = make(char_encoder="gru", max_epochs=1, **SIZES).fit(X, Y)
    forms = WordForms(model._fields)
    texts = ["a lovely zzyzx", "zzyzx", "the film zzyzx a lovely people", ""]
    batch = make_batch([forms.rows(row) for row in model.encoder_.encode(texts, unknown=forms.number).ids])
    with torch.inference_mode():
        features = model.network_.embed(batch.values, batch.ragged)
    assert features.shape[1] == 12 + 8
    rows = batch.ragged.row_of.numpy()
    steps = batch.ragged.step_of.numpy()

    def at(row: int, step: int) -> np.ndarray:
        return features[int(np.flatnonzero((rows == row) & (steps == step))[0])].numpy()

    for row, step in ((1, 0), (2, 2)):
        np.testing.assert_allclose(at(row, step), at(0, 2), atol=1e-6)
    np.testing.assert_allclose(at(2, 4), at(0, 1), atol=1e-6)
    # The vector is that of the unknown word, the letters' part that of these letters alone.
    vectors = model.network_.embedding.weight.detach().numpy()
    np.testing.assert_array_equal(at(1, 0)[:12], vectors[0])
    letters = torch.tensor(model._fields.characters.encode("zzyzx"))
    with torch.inference_mode():
        alone = model.network_.characters(letters, torch.tensor([5]))[0].numpy()
    np.testing.assert_allclose(at(1, 0)[12:], alone, atol=1e-6)
    assert np.isfinite(model.predict_proba(["", "", "zzyzx"])).all()
    assert np.isfinite(model.predict_proba([""])).all()


def test_every_size_is_used_and_letters_change_what_is_learned() -> None:
    def outcome(**changes: Any) -> np.ndarray:
        return make(max_epochs=1, **changes).fit(X, Y).predict_proba(X)

    plain = outcome()
    found = [outcome(char_encoder="cnn", **{**SIZES, **changes}) for changes in ({}, {"char_embedding_size": 7})]
    found += [outcome(char_encoder="cnn", **{**SIZES, "char_hidden_size": 10})]
    found += [outcome(char_encoder=kind, **SIZES) for kind in ("gru", "lstm")]
    found += [outcome(char_encoder="cnn", embedding_dropout=0.4, **SIZES)]
    for place, one in enumerate(found):
        assert not any(np.array_equal(one, other) for other in [plain, *found[:place]])
    np.testing.assert_array_equal(outcome(char_encoder="cnn", **SIZES), found[0])


def test_mistyped_texts_are_learned_from_and_pickled_models_predict_alike() -> None:
    import pickle

    model = make(char_encoder="cnn", augment_noise=0.2, max_epochs=2, **SIZES).fit(X, Y)
    plain = make(char_encoder="cnn", max_epochs=2, **SIZES).fit(X, Y)
    texts = ["a lvely flm", "dul and awfull"]
    assert not np.array_equal(model.predict_proba(texts), plain.predict_proba(texts))
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.predict_proba(texts), model.predict_proba(texts))


def test_more_words_than_have_numbers_are_learned_from_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.data.word_forms._MOST_FORMS", 3)
    model = make(char_encoder="cnn", max_epochs=1, min_count=2, **SIZES).fit(*endings(120, 0))
    assert np.isfinite(model.predict_proba(endings(10, 1)[0])).all()


def test_chinese_words_are_read_by_their_characters() -> None:
    pytest.importorskip("jieba")
    generator = np.random.default_rng(0)
    good, bad, other = list("好佳优美"), list("坏差劣丑"), list("店房床水电门")
    texts, labels = [], []
    for _ in range(160):
        right = bool(generator.integers(2))
        words = ["".join(generator.choice(other, 2)) for _ in range(3)]
        words.append("很" + str(generator.choice(good if right else bad)))
        texts.append("，".join(words))
        labels.append("好评" if right else "差评")
    model = make(tokenizer="jieba", char_encoder="cnn", max_epochs=10, patience=10, **SIZES).fit(texts, labels)
    assert set("好坏很店") <= set(model._fields.characters)
    assert model.score(texts, labels) > 0.9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"char_encoder": "cn"}, "Did you mean 'cnn'"),
        ({"char_encoder": "gru", "char_hidden_size": 7}, "char_hidden_size must be even for a recurrent net; found 7"),
        ({"char_encoder": "cnn", "char_hidden_size": 0}, "char_hidden_size must be a whole number of at least 1"),
        ({"char_embedding_size": 7}, "char_embedding_size=7 has no effect without char_encoder"),
        ({"char_encoder": "cnn", "tokenizer": "characters"}, "each of its tokens is one character"),
        ({"char_encoder": "cnn", "tokenizer": "bpe"}, "its tokens are pieces of words"),
        ({"char_encoder": "cnn", "pretrain_epochs": 1}, "pretrain_epochs trains an encoder that reads"),
    ],
)
def test_what_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**changes).fit(X, Y)


def test_ids_alone_are_refused() -> None:
    model = make(char_encoder="cnn", max_epochs=1, **SIZES).fit(X, Y)
    assert not model.reads_ids_alone
    with pytest.raises(ValueError, match="reads more of a word than its id; use predict_proba"):
        model.predict_encoded(model.encoder_.encode(X).ids)


def test_a_recipe_trains_evaluates_and_predicts_with_them(tmp_path: Path) -> None:
    from tidegate import jobs
    from tidegate.config import load_recipe
    from tiny_reviews import write_tiny

    keys = ["model.char_encoder=cnn", "model.char_hidden_size=8", "training.max_epochs=1"]
    run = jobs.train(load_recipe(write_tiny(tmp_path), overrides=keys), out=tmp_path / "run", verbose=False)
    assert tidegate.load(run.model).char_hidden_size == 8
    assert run.test is not None
    assert jobs.evaluate(run.model, str(tmp_path / "test.csv")).metrics["accuracy"] == run.test["accuracy"]
