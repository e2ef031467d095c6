from __future__ import annotations

import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from estimators.contract import CHECKS, Case
from estimators.training_arguments import ARGUMENTS_OF_TRAINING
from tidegate.data.seeds import derive_seed
from tidegate.deploy.bundle import Bundle, load_bundle, save_bundle
from tidegate.errors import BundleError, DataError, TidegateError
from tidegate.estimators.base import stratified_split
from tidegate.estimators.loading import load
from tidegate.estimators.text_classifier import TextClassifier
from tidegate.features.cooccurrence import cooccurrence_vectors
from tidegate.features.vector_writing import write_vectors
from tidegate.features.vectors import WordVectors
from tiny_network import TINY

GOOD = ["great", "lovely", "moving", "clever", "funny", "warm", "bright", "superb"]
BAD = ["dull", "awful", "boring", "stale", "weak", "cold", "empty", "dreadful"]
NEUTRAL = ["the", "film", "was", "a", "story", "of", "people", "in", "some", "town", "and", "it", "ran", "long"]


def make(**changes: Any) -> TextClassifier:
    return TextClassifier(**{**TINY, **changes})


def reviews(rows: int = 80, seed: int = 0) -> tuple[list[str], list[str]]:
    generator = np.random.default_rng(seed)
    texts, labels = [], []
    for _ in range(rows):
        good = bool(generator.integers(2))
        words = [*generator.choice(NEUTRAL, generator.integers(1, 9)), *generator.choice(GOOD if good else BAD, 3)]
        texts.append(" ".join(generator.permutation(words)))
        labels.append("positive" if good else "negative")
    return texts, labels


X, Y = reviews()
CASE = Case(make, X, Y, ("pooling", ["mean", "last"]))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_contract(check: Any, tmp_path: Path) -> None:
    extra = {"folder": tmp_path} if "folder" in inspect.signature(check).parameters else {}
    check(CASE, **extra)


@pytest.fixture(scope="module")
def fitted() -> TextClassifier:
    return make().fit(X, Y)


@pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention"])
@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
def test_every_cell_with_every_pooling_learns(cell: str, pooling: str) -> None:
    model = make(cell=cell, pooling=pooling, max_epochs=12, num_layers=2, patience=12).fit(X, Y)
    texts, labels = reviews(60, seed=1)
    assert model.score(texts, labels) > 0.9


def test_every_argument_is_used(tmp_path: Path) -> None:
    """An argument that changed nothing would leave the fitted probabilities as they are."""
    texts = [*X, "GREAT lovely<br/>film", "dull  naïve ﬁlm"]
    labels = [*Y, "positive", "negative"]
    long = " ".join([*BAD, *GOOD] * 2)
    words = (*GOOD, *BAD)
    numbers = np.random.default_rng(0).normal(size=(len(words), 12)).astype(np.float32)
    vectors = write_vectors(tmp_path / "v.txt", WordVectors(words, numbers))

    def outcome(**changes: Any) -> np.ndarray:
        model = make(**{"max_epochs": 2, "max_tokens": 8, **changes}).fit(texts, labels)
        return model.predict_proba([*texts, long, "Great <b>moving</b> ﬁlm, dull!"])

    reference = outcome()
    np.testing.assert_array_equal(reference, outcome())
    changes: dict[str, Any] = {
        "tokenizer": "characters",
        "lowercase": False,
        "strip_html": False,
        "normalization": None,
        "max_tokens": 4,
        "truncation": "tail",
        "max_vocabulary": 5,
        "min_count": 5,
        "cell": "lstm",
        "embedding_size": 13,
        "embedding_init": "cooccurrence",
        "vectors": str(vectors),
        "hidden_size": 9,
        "num_layers": 2,
        "bidirectional": False,
        "pooling": "max",
        "dropout": 0.3,
        "embedding_dropout": 0.3,
        "word_dropout": 0.3,
        "learning_rate": 0.03,
        "weight_decay": 0.3,
        "label_smoothing": 0.3,
        "batch_size": 9,
        "max_epochs": 1,
        "validation_fraction": 0.3,
        "gradient_clip": 0.01,
        "ema_decay": 0.9,
        "random_state": 1,
    }
    # These do not act on two epochs of this data; test_fit and the tests below hold them.
    elsewhere = ARGUMENTS_OF_TRAINING | {"patience", "monitor", "device", "verbose", "tune_vectors_after"}
    elsewhere |= {"char_encoder", "char_embedding_size", "char_hidden_size", "language_model"}  # tests of their own
    elsewhere |= {"warm_start"}  # test_warm_start
    assert set(changes) | elsewhere == set(make().get_params())
    for name, value in changes.items():
        assert not np.array_equal(reference, outcome(**{name: value})), name


def test_monitor_and_patience_reach_training() -> None:
    model = make(max_epochs=40, patience=2, learning_rate=1e-9).fit(X, Y)
    assert len(model.history_) == model.best_epoch_ + 2 == 3
    model = make(max_epochs=8, patience=8, monitor="loss", learning_rate=0.3).fit(X, Y)
    losses = [entry["validation_loss"] for entry in model.history_]
    assert model.best_epoch_ == 1 + losses.index(min(losses))


def test_verbose_shows_an_epoch_a_line_and_none_is_quiet_without_a_terminal(
    capfd: pytest.CaptureFixture[str],
) -> None:
    make(max_epochs=2, verbose=None).fit(X, Y)
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
    make(max_epochs=2, verbose=True).fit(X, Y)
    assert capfd.readouterr().err.count("tokens/s") == 2


def test_validation_data_is_what_the_history_measures() -> None:
    texts, labels = reviews(30, seed=2)
    model = make().fit(X, Y, validation_data=(texts, labels))
    best = model.history_[model.best_epoch_ - 1]
    assert best["validation_accuracy"] == pytest.approx(model.score(texts, labels))
    own = model.predict_proba(texts)[np.arange(30), np.searchsorted(model.classes_, labels)]
    assert best["validation_loss"] == pytest.approx(-np.log(own).mean(), rel=1e-4)

    weights = np.linspace(0, 3, 30)
    model = make().fit(X, Y, validation_data=(texts, labels, weights))
    best = model.history_[model.best_epoch_ - 1]
    assert best["validation_accuracy"] == pytest.approx(model.score(texts, labels, sample_weight=weights))


def test_no_validation_keeps_the_last_epoch() -> None:
    model = make(validation_fraction=0, max_epochs=3).fit(X, Y)
    assert model.best_epoch_ == len(model.history_) == 3
    assert model.history_[0]["validation_accuracy"] is None


def test_fewer_rows_than_a_batch() -> None:
    model = make(batch_size=64, max_epochs=30, patience=30).fit(["good film", "bad film"] * 2, ["p", "n"] * 2)
    assert model.predict(["good film", "bad film"]).tolist() == ["p", "n"]


def test_two_rows_leave_nothing_for_validation_and_say_so() -> None:
    with pytest.warns(UserWarning, match="too few rows to set any aside"):
        model = make(max_epochs=2).fit(["good film", "bad film"], ["p", "n"])
    assert model.best_epoch_ == 2


def test_empty_text_learns_and_predicts(fitted: TextClassifier) -> None:
    probabilities = fitted.predict_proba(["", "   ", "superb", "§§ unheard-of ☃"])
    assert np.isfinite(probabilities).all()
    np.testing.assert_array_equal(probabilities[0], probabilities[1])
    model = make().fit([*X, "", ""], [*Y, "positive", "negative"])
    assert np.isfinite(model.predict_proba([""])).all()
    assert model.score(X, Y) > 0.9


def test_a_text_of_100_000_tokens(fitted: TextClassifier) -> None:
    long = "superb " * 100_000
    np.testing.assert_allclose(fitted.predict_proba([long]), fitted.predict_proba(["superb " * 512]), atol=1e-6)
    unlimited = make(max_tokens=None, max_epochs=1).fit([*X, long], [*Y, "positive"])
    assert unlimited.n_truncated_ == 0
    assert np.isfinite(unlimited.predict_proba([long, "dull"])).all()


def test_embeddings_can_start_from_the_company_that_tokens_keep() -> None:
    options = {"max_epochs": 1, "learning_rate": 1e-12, "weight_decay": 0.0, "min_count": 2}
    for size in (6, 64):
        model = make(embedding_init="cooccurrence", embedding_size=size, **options).fit(X, Y)
        drawn = make(embedding_size=size, **options).fit(X, Y)
        train, _ = stratified_split(np.unique(Y, return_inverse=True)[1], 0.1, derive_seed(0, "split"))
        vectors = cooccurrence_vectors(
            model.encoder_.encode([X[row] for row in train]).ids,
            model.encoder_.num_tokens,
            size,
            random_state=derive_seed(0, "cooccurrence"),
        )
        found = model.network_.embedding.weight.detach().numpy()
        given = vectors.shape[1]
        assert given == min(size, model.encoder_.num_tokens)
        np.testing.assert_allclose(found[:, :given], vectors, atol=1e-6)
        np.testing.assert_array_equal(found[:, given:], drawn.network_.embedding.weight.detach().numpy()[:, given:])


def test_lengths_are_those_of_the_texts_in_their_order() -> None:
    lengths = [len(row.split()) for row in X]
    shared = make(max_epochs=1, max_tokens=6).fit(X, Y)
    assert {name: values.tolist() for name, values in shared.token_lengths.items()} == {"train": lengths}
    apart = make(max_epochs=1).fit(X[10:], Y[10:], validation_data=(X[:10], Y[:10]))
    assert apart.token_lengths["train"].tolist() == lengths[10:]
    assert apart.token_lengths["validation"].tolist() == lengths[:10]
    weights = np.arange(len(X)) % 2
    weighted = make(max_epochs=1, validation_fraction=0).fit(X, Y, sample_weight=weights)
    assert weighted.token_lengths["train"].tolist() == lengths[1::2]


def test_texts_that_are_encoded_already_are_predicted_alike(fitted: TextClassifier) -> None:
    ids = fitted.encoder_.encode(X).ids
    np.testing.assert_array_equal(fitted.predict_encoded(ids), fitted.predict_proba(X))


def test_truncated_texts_are_counted() -> None:
    assert make(max_epochs=1, validation_fraction=0).fit(X, Y).n_truncated_ == 0
    long = [row for row in X if len(row.split()) > 6]
    assert make(max_epochs=1, validation_fraction=0, max_tokens=6).fit(X, Y).n_truncated_ == len(long) > 0


def test_chinese_by_characters() -> None:
    good, bad = "房间很干净,服务也好", "又脏又吵,再也不来"
    texts = [good[start:] for start in range(6)] * 4 + [bad[start:] for start in range(6)] * 4
    labels = [1] * 24 + [0] * 24
    model = make(tokenizer="characters", max_epochs=10).fit(texts, labels)
    assert model.predict(["干净,好", "脏,吵"]).tolist() == [1, 0]


def test_three_classes_and_nul_bytes() -> None:
    texts = [f"{word} film\x00" for word in ("red", "green", "blue")] * 8
    model = make(max_epochs=15, patience=15).fit(texts, [3, 1, 2] * 8)
    assert model.predict(["red film", "green\x00 film", "blue"]).tolist() == [3, 1, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cell": "gruu"}, r"cell must be one of gru, lstm, rnn, .*found 'gruu'. Did you mean 'gru'\?"),
        ({"pooling": "avg"}, "pooling must be one of last, mean, max, attention"),
        ({"tokenizer": "word"}, r"Did you mean 'words'\?"),
        ({"truncation": "heads"}, r"Did you mean 'head'\?"),
        ({"monitor": "los"}, r"monitor must be accuracy or loss or .*; found 'los'. Did you mean 'loss'\?"),
        ({"monitor": "macrof1"}, r"found 'macrof1'. Did you mean 'macro_f1'\?"),
        ({"hidden_size": 0}, "hidden_size must be a whole number of at least 1; found 0"),
        ({"batch_size": 2.5}, "batch_size must be a whole number"),
        ({"max_epochs": 0}, "max_epochs must be"),
        ({"patience": 0}, "patience must be"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\)"),
        ({"word_dropout": -0.1}, r"word_dropout must be in \[0, 1\)"),
        ({"learning_rate": 0}, "learning_rate must be above 0"),
        ({"weight_decay": -1}, "weight_decay must not be negative"),
        ({"validation_fraction": 1.0}, r"validation_fraction must be in \[0, 1\)"),
        ({"gradient_clip": 0}, "gradient_clip must be above 0, or None"),
        ({"ema_decay": 1.0}, "ema_decay must be between 0 and 1, or None; found 1.0"),
        ({"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\)"),
        ({"embedding_init": "cooccurence"}, r"normal or cooccurrence; found .* Did you mean 'cooccurrence'\?"),
        ({"device": "tpu"}, 'device must be "auto", "cpu" or "cuda"; found \'tpu\''),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_argument_out_of_range_says_what_is_legal(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**changes).fit(X, Y)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a CUDA device, and there is none here"):
        make(device="cuda").fit(X, Y)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_learns_and_pickles_to_the_cpu(tmp_path: Path) -> None:
    model = make(device="cuda").fit(X, Y)
    assert model.score(X, Y) > 0.9
    assert next(model.network_.parameters()).device.type == "cuda"
    model.save(tmp_path / "model.tg")
    loaded = load(tmp_path / "model.tg").set_params(device="cpu")
    np.testing.assert_allclose(loaded.predict_proba(X), model.predict_proba(X), atol=1e-4)
    again = make(device="cuda").fit(X, Y)
    np.testing.assert_allclose(again.predict_proba(X), model.predict_proba(X), atol=1e-3)


def test_resume_gives_the_unbroken_run(tmp_path: Path) -> None:
    unbroken = make(max_epochs=5).fit(X, Y, run_folder=tmp_path / "unbroken")
    make(max_epochs=2).fit(X, Y, run_folder=tmp_path / "broken")
    resumed = make(max_epochs=5).fit(X, Y, run_folder=tmp_path / "broken", resume=True)
    np.testing.assert_array_equal(resumed.predict_proba(X), unbroken.predict_proba(X))
    assert len(resumed.history_) == 5


def test_a_run_killed_in_its_pretraining_keeps_the_seed_that_was_drawn(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"max_epochs": 1, "pretrain_epochs": 1, "random_state": None}
    whole = make(**arguments).fit(X, Y, run_folder=tmp_path)
    shutil.rmtree(tmp_path / "checkpoints")
    resumed = make(**arguments).fit(X, Y, run_folder=tmp_path, resume=True)
    assert resumed.random_state_ == whole.random_state_
    np.testing.assert_array_equal(resumed.predict_proba(X), whole.predict_proba(X))


def test_resume_keeps_the_seed_that_was_drawn(tmp_path: Path) -> None:
    first = make(max_epochs=1, random_state=None).fit(X, Y, run_folder=tmp_path)
    second = make(max_epochs=2, random_state=None).fit(X, Y, run_folder=tmp_path, resume=True)
    assert second.random_state_ == first.random_state_
    assert second.history_[0] == first.history_[0]


def test_resume_refuses_another_run(tmp_path: Path) -> None:
    make(max_epochs=1).fit(X, Y, run_folder=tmp_path)
    with pytest.raises(TidegateError, match="hidden_size was 8 and is 9"):
        make(hidden_size=9).fit(X, Y, run_folder=tmp_path, resume=True)
    with pytest.raises(TidegateError, match="data was"):
        make().fit(X, Y[::-1], run_folder=tmp_path, resume=True)
    with pytest.raises(ValueError, match="resume=True needs run_folder"):
        make().fit(X, Y, resume=True)


def test_ctrl_c_keeps_the_best_epoch_and_the_run_goes_on_from_it(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\n"
        "from estimators.test_text_classifier import X, Y, make\n"
        "from tidegate.training.batches import EncodedBatches\n"
        "inner = EncodedBatches.epoch\n"
        "def epoch(self, number):\n"
        "    for place, batch in enumerate(inner(self, number)):\n"
        "        if number == 2 and place == 1:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "        yield batch\n"
        "EncodedBatches.epoch = epoch\n"
        "model = make(max_epochs=4)\n"
        "try:\n"
        f"    model.fit(X, Y, run_folder={str(tmp_path)!r})\n"
        "except KeyboardInterrupt:\n"
        "    print(model.best_epoch_, len(model.history_), model.predict_proba(X).tolist())\n"
        "    sys.exit(130)\n"
    )
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert ended.returncode == 130, ended.stderr
    assert ended.stderr == ""
    best, epochs, probabilities = ended.stdout.split(maxsplit=2)
    short = make(max_epochs=2).fit(X, Y)
    assert (int(best), int(epochs)) == (short.best_epoch_, 2)
    np.testing.assert_allclose(json.loads(probabilities), short.predict_proba(X), atol=1e-7)
    resumed = make(max_epochs=4).fit(X, Y, run_folder=tmp_path, resume=True)
    np.testing.assert_array_equal(resumed.predict_proba(X), make(max_epochs=4).fit(X, Y).predict_proba(X))


def test_ctrl_c_before_an_epoch_is_done_leaves_it_unfitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "tidegate.heads.classify.SequenceClassifier.loss", lambda *_: os.kill(os.getpid(), signal.SIGINT)
    )
    model = make()
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y)
    assert not hasattr(model, "network_")


def test_an_unwritable_run_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TidegateError, match=r"cannot write to the run folder .*file"):
        make().fit(X, Y, run_folder=tmp_path / "file")


def test_numpy_arguments_are_saved_as_plain_values(tmp_path: Path) -> None:
    model = make(hidden_size=np.int64(8), dropout=np.float32(0.25), random_state=np.random.RandomState(1)).fit(X, Y)
    loaded = load(model.save(tmp_path / "model.tg"))
    assert loaded.dropout == 0.25
    assert loaded.random_state == model.random_state_
    assert loaded.device == "auto"


def test_what_a_bundle_holds(fitted: TextClassifier, tmp_path: Path) -> None:
    bundle = load_bundle(fitted.save(tmp_path / "model.tg"))
    assert bundle.kind == "text-classifier"
    assert bundle.labels == ["negative", "positive"]
    assert bundle.config["hidden_size"] == 8
    assert bundle.metrics["best_epoch"] == fitted.best_epoch_
    assert set(bundle.weights) == set(fitted.network_.state_dict())
    assert "tidegate" in bundle.versions


def test_loading_and_predicting_do_without_lightning(fitted: TextClassifier, tmp_path: Path) -> None:
    code = (
        "import sys, tidegate; labels = tidegate.load(sys.argv[1]).predict(sys.argv[2:]).tolist();"
        "print(labels, 'torch' in sys.modules, 'lightning' in sys.modules)"
    )
    path = fitted.save(tmp_path / "model.tg")
    command = [sys.executable, "-c", code, str(path), *X[:4]]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == f"{fitted.predict(X[:4]).tolist()} True False"


def test_bundles_that_do_not_fit_are_refused(fitted: TextClassifier, tmp_path: Path) -> None:
    good = load_bundle(fitted.save(tmp_path / "good.tg"))

    def refused(message: str, **changes: Any) -> None:
        path = save_bundle(tmp_path / "bad.tg", Bundle(**{**vars(good), **changes}))
        with pytest.raises(BundleError, match=message):
            load(path)
        with pytest.raises(BundleError, match=r"bad\.tg"):
            TextClassifier.load(path)

    refused("found 'tagger'", kind="tagger")
    refused("do not fit together", config={**good.config, "hidden_size": 16})
    refused("do not fit together", config={**good.config, "no_such_argument": 1})
    refused("do not fit together", labels=["negative", "positive", "mixed"])
    refused("do not fit together", weights={name: good.weights[name] for name in list(good.weights)[1:]})
    refused("do not fit together", metrics={})


def test_a_frame_of_several_columns_is_refused() -> None:
    frame = pd.DataFrame({"text": X, "more": X, "most": X})
    with pytest.raises(DataError, match=r"one column of texts, or two of pairs; found an array of shape \(80, 3\)"):
        make().fit(frame, Y)


def test_timing_and_history_are_plain_numbers(fitted: TextClassifier) -> None:
    assert fitted.timing_["train"] > 0
    assert fitted.timing_["encode"] > 0
    assert json.loads(json.dumps(fitted.history_)) == fitted.history_
    assert set(fitted.history_[0]) == {
        "epoch",
        "train_loss",
        "validation_loss",
        "validation_accuracy",
        "tokens_per_second",
        "seconds",
    }


def test_the_vocabulary_never_sees_validation_texts() -> None:
    held_out = ["unheardof film", "unseen film"]
    model = make(max_epochs=1).fit(X, Y, validation_data=(held_out, ["positive", "negative"]))
    assert "unheardof" not in model.encoder_.vocabulary.index
    words = {word for row in X for word in row.split()}
    assert set(model.encoder_.vocabulary.index) - {"<unk>"} == words
