"""A language model's states as features of TextClassifier and SequenceTagger."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tidegate
from estimators.test_text_classifier import X, Y, make
from tidegate import TextLanguageModel, jobs
from tidegate.config import load_recipe
from tidegate.data.batch import make_batch
from tidegate.data.tagging_batch import make_tagging_batch
from tidegate.data.word_forms import WordForms
from tidegate.errors import BundleError, RecipeError
from tiny_reviews import write_tiny


def train_language_model(path: Path, texts: list[str], **changes: Any) -> str:
    settings = {"hidden_size": 6, "max_epochs": 2, "learning_rate": 0.02, "min_count": 1, "random_state": 0}
    model = TextLanguageModel(**{**settings, "verbose": False, **changes}).fit(texts)
    return str(model.save(path))


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("language")
    return train_language_model(folder / "lm.tg", [*X, "zzyzx is a town zzyzx"] * 2, num_layers=2)


def test_the_features_are_the_language_models_states_and_it_does_not_learn(language: str) -> None:
    model = make(language_model=language, max_epochs=2, learning_rate=0.05).fit(X, Y)
    source = TextLanguageModel.load(language)
    forms = WordForms(model._fields)
    # One word is the language model's alone, one nobody's.
    ids = model.encoder_.encode(["a lovely zzyzx film", "unheardof film"], unknown=forms.number).ids
    batch = make_batch([forms.rows(row) for row in ids])
    with torch.inference_mode():
        found = model.network_.embed(batch.values, batch.ragged)[:, 12:]
        theirs = make_batch(source.encoder_.encode(["a lovely zzyzx film", "unheardof film"]).ids)
        vectors = source.network_.embedding(theirs.values)
        layers = [torch.cat([vectors, vectors], 1), *source.network_.encoder.layer_outputs(vectors, theirs.ragged)]
        shares = model.network_.language.mix.softmax(0)
        expected = model.network_.language.scale * sum(share * h for share, h in zip(shares, layers, strict=True))
    torch.testing.assert_close(found, expected)
    assert found.shape[1] == 12 and len(layers) == 3
    # What was learned is the mixture.
    assert model.network_.language.mix.detach().abs().max() > 0.01
    assert float(model.network_.language.scale.detach()) != 1.0


def test_a_saved_model_brings_it_along(language: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy.tg"
    copy.write_bytes(Path(language).read_bytes())
    model = make(language_model=str(copy), char_encoder="cnn", char_hidden_size=8, max_epochs=2).fit(X, Y)
    path = model.save(tmp_path / "m.tg")
    copy.unlink()
    texts = [*X[:10], "zzyzx lovelyy", ""]
    loaded = tidegate.load(path)
    for again in (loaded, pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(again.predict_proba(texts), model.predict_proba(texts))
    single = np.concatenate([loaded.predict_proba([text]) for text in texts])
    np.testing.assert_allclose(single, loaded.predict_proba(texts), atol=1e-5)
    with pytest.raises(ValueError, match="use predict_proba"):
        loaded.predict_encoded(loaded.encoder_.encode(X).ids)


def test_words_that_training_has_not_seen_are_told_by_the_language_model(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    good, bad = [f"g{number}" for number in range(30)], [f"b{number}" for number in range(30)]
    told = [" ".join(generator.choice(words, 8)) for _ in range(400) for words in (good, bad)]
    language = train_language_model(tmp_path / "lm.tg", told, hidden_size=16, max_epochs=6)
    # The labelled texts have half of the words, the judged ones the other half.
    texts = [" ".join(generator.choice(words[:15], 4)) for _ in range(60) for words in (good, bad)]
    others = [" ".join(generator.choice(words[15:], 4)) for _ in range(40) for words in (good, bad)]
    settings = {"max_epochs": 8, "patience": 8}
    without = make(**settings).fit(texts, ["good", "bad"] * 60)
    assert without.score(others, ["good", "bad"] * 40) < 0.7
    model = make(language_model=language, **settings).fit(texts, ["good", "bad"] * 60)
    assert model.score(others, ["good", "bad"] * 40) > 0.9


def test_chinese_characters_have_states_too(tmp_path: Path) -> None:
    texts = ["房间很好", "房间很坏", "服务好", "服务坏", "水很好", "水很坏"] * 10
    language = train_language_model(tmp_path / "lm.tg", texts, tokenizer="characters")
    model = make(tokenizer="characters", language_model=language, max_epochs=8, patience=8)
    model.fit(texts, [text[-1] for text in texts])
    assert model.predict(["服务很好", "房间坏"]).tolist() == ["好", "坏"]


def test_a_tagger_reads_the_same_states(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    people, places = [f"p{number}" for number in range(30)], [f"c{number}" for number in range(30)]
    told = [
        f"{one} lives in {other} now"
        for one, other in zip(generator.choice(people, 400), generator.choice(places, 400), strict=True)
    ]
    language = train_language_model(tmp_path / "lm.tg", told, hidden_size=16, max_epochs=6)

    def sentences(first: int) -> tuple[list[list[str]], list[list[str]]]:
        """Of known people and places, or others, in an order that does not tell them apart."""
        pairs = [(people[first + n % 15], places[first + (n * 7) % 15]) for n in range(60)]
        return (
            [[*pair] if n % 2 else [*pair[::-1]] for n, pair in enumerate(pairs)],
            [["S-P", "S-C"] if n % 2 else ["S-C", "S-P"] for n in range(60)],
        )

    settings: dict[str, Any] = {"hidden_size": 12, "max_epochs": 12, "patience": 12, "char_encoder": None}
    settings |= {"verbose": False, "random_state": 0, "learning_rate": 0.02, "case_features": False}
    model = tidegate.SequenceTagger(language_model=language, **settings).fit(*sentences(0))
    assert model.score(*sentences(15)) > 0.85
    assert tidegate.SequenceTagger(**settings).fit(*sentences(0)).score(*sentences(15)) < 0.75
    # The states are the language model's own, token by token.
    source = TextLanguageModel.load(language)
    batch = make_tagging_batch(model.encoder_.encode([["p20", "in", "c20"], ["nobody"]]), np.array([0, 1]))
    theirs = make_batch(source.encoder_.encode(["p20 in c20", "nobody"]).ids)
    with torch.inference_mode():
        found = model.network_.features(batch)[:, -32:]
        vectors = source.network_.embedding(theirs.values)
        layers = [torch.cat([vectors, vectors], 1), *source.network_.encoder.layer_outputs(vectors, theirs.ragged)]
        shares = model.network_.language.mix.softmax(0)
        expected = model.network_.language.scale * sum(share * h for share, h in zip(shares, layers, strict=True))
    torch.testing.assert_close(found, expected)
    path = model.save(tmp_path / "m.tg")
    Path(language).unlink()
    assert tidegate.load(path).predict(sentences(15)[0]) == model.predict(sentences(15)[0])


def test_what_cannot_be(language: str, tmp_path: Path) -> None:
    plain = str(make(max_epochs=1).fit(X, Y).save(tmp_path / "m.tg"))
    other = train_language_model(tmp_path / "zh.tg", ["房间很好", "服务坏"] * 10)
    pieces = train_language_model(tmp_path / "bpe.tg", X, tokenizer="bpe")
    for changes, error, message in (
        ({"language_model": plain}, BundleError, "expected a language model, which .* found 'text-classifier'"),
        ({"language_model": other}, ValueError, "knows none of the .* words"),
        ({"language_model": pieces, "tokenizer": "bpe"}, ValueError, "reads byte pairs"),
        (
            {"language_model": language, "tokenizer": "characters"},
            ValueError,
            "reads words, and tokenizer='characters'",
        ),
        (
            {"language_model": language, "pretrain_epochs": 1},
            ValueError,
            "pretrain_epochs trains .* language_model puts",
        ),
        ({"language_model": str(tmp_path / "none.tg")}, BundleError, "none.tg"),
    ):
        with pytest.raises(error, match=message):
            make(**changes).fit(X, Y)


def test_a_recipe_reads_it_beside_itself(tmp_path: Path) -> None:
    recipe = write_tiny(tmp_path)
    keys = ["model.language_model=lm.tg", "training.max_epochs=1", "output.report=false"]
    with pytest.raises(RecipeError, match=r"model\.language_model: expected a file or folder, found none at"):
        load_recipe(recipe, overrides=keys)
    train_language_model(tmp_path / "lm.tg", ["the film was good and great", "the plot was bad and dull"] * 10)
    run = jobs.train(load_recipe(recipe, overrides=keys), out=tmp_path / "run", verbose=False)
    assert tidegate.load(run.model).network_.language.output_size == 12
    assert run.test is not None
    assert jobs.evaluate(run.model, str(tmp_path / "test.csv")).metrics["accuracy"] == run.test["accuracy"]
