from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone

import tidegate
from tidegate import MultiTaskTextModel, TextClassifier, TextRegressor
from tidegate.config import load_recipe
from tidegate.errors import DataError, RecipeError, TidegateError
from tiny_reviews import rows, write_tiny

SMALL: dict[str, Any] = {
    "min_count": 1,
    "embedding_size": 8,
    "hidden_size": 8,
    "learning_rate": 0.02,
    "batch_size": 16,
    "max_epochs": 1,
    "random_state": 3,
    "device": "cpu",
    "verbose": False,
}


def texts(count: int = 80, seed: int = 1) -> tuple[list[str], list[str]]:
    examples = rows(count, seed)
    return [text for _, text in examples], [label for label, _ in examples]


def fitted(**arguments: Any) -> TextClassifier:
    return TextClassifier(**{**SMALL, **arguments}).fit(*texts())


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.network_.state_dict().items()}


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_fit_again_goes_on_from_the_weights_with_the_vocabulary() -> None:
    model = fitted(warm_start=True)
    first, encoder, loss = weights(model), model.encoder_, model.history_[-1]["validation_loss"]
    X, y = texts(60, 7)
    model.set_params(max_epochs=4).fit([f"{text} unheardof" for text in X], y)
    assert model.encoder_ is encoder and "unheardof" not in encoder.vocabulary.index
    assert not equal(first, weights(model))
    assert model.history_[0]["validation_loss"] < loss  # which a new network would not reach in its first epoch
    cold = fitted()
    cold.fit(X, y)
    assert cold.history_[0]["validation_loss"] > model.history_[0]["validation_loss"]


def test_a_step_of_nothing_leaves_the_weights_as_they_were() -> None:
    model = fitted(warm_start=True)
    first = weights(model)
    model.set_params(learning_rate=1e-30).fit(*texts(60, 7))
    assert equal(first, weights(model))
    model.set_params(warm_start=False).fit(*texts(60, 7))
    assert not equal(first, weights(model))


def test_a_saved_a_pickled_and_a_character_model_go_on(tmp_path: Path) -> None:
    model = fitted(char_encoder="cnn", char_embedding_size=4, char_hidden_size=4)
    first = weights(model)
    saved = tidegate.load(model.save(tmp_path / "model.tg"))
    for again in (saved, pickle.loads(pickle.dumps(model))):
        again.set_params(warm_start=True, learning_rate=1e-30).fit(*texts(40, 7))
        assert equal(first, weights(again))
        with pytest.raises(ValueError, match="hidden_size was 8 and is 9"):
            again.set_params(hidden_size=9).fit(*texts())


def test_frozen_vectors_stay_frozen(tmp_path: Path) -> None:
    words = sorted({word for text in texts()[0] for word in text.split()})
    lines = [f"{word} {number / 10} {-number / 10}" for number, word in enumerate(words)]
    (tmp_path / "vectors.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    vectors = {"vectors": str(tmp_path / "vectors.txt"), "embedding_size": None, "tune_vectors_after": None}
    model = fitted(warm_start=True, **vectors)
    table = weights(model)["embedding.weight"]
    model.fit(*texts(60, 7))
    assert torch.equal(table, weights(model)["embedding.weight"])


def test_clones_are_new_and_keep_the_argument() -> None:
    model = clone(fitted(warm_start=True))
    assert model.get_params()["warm_start"] is True
    assert not hasattr(model, "network_")
    assert equal(weights(model.fit(*texts())), weights(fitted()))


def test_fewer_classes_are_known_and_new_ones_refused() -> None:
    model = fitted(warm_start=True)
    X, _ = texts(20, 5)
    model.fit(X, ["pos"] * 20)
    assert model.classes_.tolist() == ["neg", "pos"]
    assert model.predict_proba(X).shape == (20, 2)
    with pytest.raises(
        DataError, match=r"the classes of the last fit \('neg', 'pos'\), and y has new ones: \['mild'\]"
    ):
        model.fit(X, ["pos", "mild"] * 10)
    with pytest.raises(DataError, match="y has new ones"):
        model.fit(X, [0, 1] * 10)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cell": "lstm"}, "cell was 'gru' and is 'lstm'"),
        ({"pooling": "max", "hidden_size": 9}, "hidden_size was 8 and is 9; pooling was 'attention' and is 'max'"),
        ({"max_tokens": 9}, "max_tokens was 512 and is 9"),
        ({"init_from": "other.tg"}, "init_from was None and is 'other.tg'"),
        ({"pretrain_epochs": 2}, "pretrain_epochs was 0 and is 2"),
    ],
)
def test_what_the_weights_are_made_of_stays(change: dict[str, Any], words: str) -> None:
    model = fitted(warm_start=True)
    first = weights(model)
    with pytest.raises(ValueError, match=words):
        model.set_params(**change).fit(*texts())
    assert equal(first, weights(model))


def test_other_arguments_may_change() -> None:
    model = fitted(warm_start=True)
    model.set_params(dropout=0.1, optimizer="sgd", batch_size=8, schedule="cosine", max_epochs=2).fit(*texts())
    assert len(model.history_) == 2


def test_two_beginnings_are_refused(tmp_path: Path) -> None:
    model = fitted(warm_start=True)
    with pytest.raises(ValueError, match="resume=True goes on from the checkpoints of a run, and warm_start=True"):
        model.fit(*texts(), run_folder=tmp_path, resume=True)
    with pytest.raises(ValueError, match="unlabelled texts have no effect when warm_start=True goes on"):
        model.fit(*texts(), unlabelled=["a film"])


def test_a_run_that_went_on_is_not_resumed_by_one_that_did_not(tmp_path: Path) -> None:
    model = fitted(warm_start=True)
    model.fit(*texts(), run_folder=tmp_path)
    with pytest.raises(TidegateError, match=r"cannot resume from .*data was '.* from "):
        TextClassifier(**{**SMALL, "max_epochs": 2, "warm_start": True}).fit(*texts(), run_folder=tmp_path, resume=True)


def test_several_tasks_go_on_as_they_were() -> None:
    X, labels = texts()
    small = {name: value for name, value in SMALL.items() if name != "learning_rate"}
    model = MultiTaskTextModel(**small, learning_rate=0.02, warm_start=True)
    model.fit(X, {"label": labels, "long": [float(len(text)) for text in X]})
    first = weights(model)
    model.set_params(learning_rate=1e-30).fit(X, {"label": labels, "long": [float(len(text)) for text in X]})
    assert equal(first, weights(model))
    with pytest.raises(DataError, match="NEG"):
        model.fit(X, {"label": [label.upper() for label in labels], "long": [float(len(text)) for text in X]})


def test_numbers_and_ratings_go_on() -> None:
    X, labels = texts()
    numbers = [1.0 if label == "pos" else -1.0 for label in labels]
    small = {name: value for name, value in SMALL.items() if name != "max_epochs"}
    model = TextRegressor(**small, max_epochs=1, warm_start=True).fit(X, numbers)
    first = weights(model)
    model.set_params(learning_rate=1e-30).fit(X, np.array(numbers) * 3)
    assert equal(first, weights(model))  # mean and spread of the targets among them
    ratings = [5 if label == "pos" else 1 for label in labels]
    model = TextRegressor(**small, max_epochs=1, warm_start=True, loss="ordinal").fit(X, ratings)
    with pytest.raises(DataError, match=r"the ratings of the last fit .* and y has new ones"):
        model.fit(X, [rating + 1 for rating in ratings])


def test_a_recipe_says_what_to_do_instead(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"training\.warm_start has no effect: a run trains a new model\..*init_from"):
        load_recipe(write_tiny(tmp_path), overrides=["training.warm_start=true"])
