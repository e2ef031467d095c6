from __future__ import annotations

import inspect
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tidegate
from estimators.contract import CHECKS, Case
from features.tiny_bert import write_tiny_bert
from tidegate import ContextualTextClassifier
from tidegate.errors import DataError

pytest.importorskip("transformers")
FILLERS = ["the", "film", "was", "a", "story", "of", "people"]


def reviews(count: int, seed: int) -> tuple[list[str], list[str]]:
    generator = np.random.default_rng(seed)
    texts, labels = [], []
    for _ in range(count):
        good = bool(generator.integers(2))
        words = [*generator.choice(FILLERS, 3), *generator.choice(["good", "great"] if good else ["bad", "dull"], 2)]
        texts.append(" ".join(generator.permutation(words)))
        labels.append("positive" if good else "negative")
    return texts, labels


X, Y = reviews(64, 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("bert"))


def make(encoder: Any, **changes: Any) -> ContextualTextClassifier:
    settings: dict[str, Any] = {
        "max_tokens": 16,
        "hidden_size": 8,
        "max_epochs": 8,
        "patience": 8,
        "batch_size": 16,
        "learning_rate": 0.02,
        "dropout": 0.0,
        "embedding_dropout": 0.0,
        "random_state": 0,
        "device": "cpu",
        "verbose": False,
    }
    return ContextualTextClassifier(encoder, **{**settings, **changes})


@pytest.mark.parametrize("fine_tune", [False, True])
def test_it_learns_and_a_bundle_needs_no_folder(fine_tune: bool, tmp_path: Path) -> None:
    encoder = write_tiny_bert(tmp_path / "bert")
    changes = {"learning_rate": 0.005} if fine_tune else {"layer": 0}
    model = make(encoder, fine_tune=fine_tune, **changes).fit(*reviews(160, 0))
    texts, labels = reviews(40, 1)
    assert model.score(texts, labels) > 0.9
    expected = model.predict_proba(texts)
    path = model.save(tmp_path / "m.tg")
    shutil.rmtree(encoder)
    for copy in (tidegate.load(path), pickle.loads(pickle.dumps(model))):
        np.testing.assert_allclose(copy.predict_proba(texts), expected, atol=2e-3)
        assert type(copy) is ContextualTextClassifier
    assert model.predict_proba([]).shape == (0, 2)
    single = np.concatenate([model.predict_proba([text]) for text in texts[:3]])
    np.testing.assert_allclose(single, expected[:3], atol=2e-3)


def test_the_encoder_learns_only_where_it_should(folder: Path) -> None:
    from tidegate.features.contextual import ContextualEncoder

    plain = ContextualEncoder.load(folder).model.state_dict()
    for fine_tune in (False, True):
        model = make(folder, fine_tune=fine_tune, max_epochs=1).fit(X, Y)
        found = model.contextual_.model.state_dict()
        # What no file holds is drawn at random, and plays no part.
        names = [name for name in plain if not name.startswith("pooler.")]
        changed = [name for name in names if not torch.equal(plain[name], found[name])]
        assert bool(changed) is fine_tune


def test_given_states_and_computed_ones_are_the_same_features(folder: Path) -> None:
    given = make(folder, max_epochs=2).fit(X, Y)
    computed = make(folder, fine_tune=True, max_epochs=1).fit(X, Y)
    computed.network_.load_state_dict(given.network_.state_dict(), strict=False)
    computed.network_.transformer.load_state_dict(given.contextual_.model.state_dict())
    np.testing.assert_allclose(computed.predict_proba(X), given.predict_proba(X), atol=2e-3)


def test_kept_states_give_the_same_model(folder: Path, tmp_path: Path) -> None:
    models = [make(folder, cache=cache, max_epochs=2).fit(X, Y) for cache in (None, tmp_path, tmp_path)]
    assert len(list(tmp_path.iterdir())) == 1
    for model in models[1:]:
        np.testing.assert_array_equal(model.predict_proba(X), models[0].predict_proba(X))
    assert models[1].to_bundle().config["cache"] is None


def test_every_argument_of_the_model_is_used(folder: Path) -> None:
    def outcome(**changes: Any) -> np.ndarray:
        return make(folder, **{"max_epochs": 1, **changes}).fit(X, Y).predict_proba(X)

    reference = outcome()
    np.testing.assert_array_equal(outcome(), reference)
    for change in (
        {"layer": 1},
        {"max_tokens": 4},
        {"cell": "lstm"},
        {"hidden_size": 9},
        {"num_layers": 2},
        {"bidirectional": False},
        {"pooling": "max"},
        {"dropout": 0.3},
        {"embedding_dropout": 0.3},
        {"label_smoothing": 0.3},
        {"weight_decay": 0.5},
        {"random_state": 1},
    ):
        assert not np.array_equal(outcome(**change), reference), change


def test_misuse(folder: Path) -> None:
    with pytest.raises(DataError, match="no such folder, and no such package"):
        make("no-such-encoder").fit(X, Y)
    with pytest.raises(ValueError, match="max_tokens must be a whole number of at least 3"):
        make(folder, max_tokens=2).fit(X, Y)
    with pytest.raises(DataError, match="reads at most 40"):
        make(folder, max_tokens=64).fit(X, Y)


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_contract(check: Any, folder: Path, tmp_path: Path) -> None:
    # The embeddings of an encoder that has learned nothing say more of a word than its last layer does.
    case = Case(lambda **changes: make(str(folder), **{"layer": 0, **changes}), X, Y, ("pooling", ["mean", "last"]))
    extra = {"folder": tmp_path} if "folder" in inspect.signature(check).parameters else {}
    check(case, **extra)
