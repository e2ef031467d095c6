from __future__ import annotations

import os
import pickle
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import tidegate
from tidegate import Ranker
from tidegate.errors import DataError
from tidegate.features.vector_writing import write_vectors
from tidegate.features.vectors import WordVectors
from tidegate.reporting.ranking_metrics import ndcg
from tidegate.training.selection import Selection

# What answers a query has no word of it, so that only what was learned finds it; a trap has one.
PAIRS = {"car": "engine wheels", "sea": "waves fish", "sun": "light warmth", "book": "pages words", "cow": "milk grass"}
FILLERS = ("the", "of", "and", "with", "some", "old")


def judged(count: int, seed: int) -> tuple[list[str], list[str], list[int]]:
    generator = np.random.default_rng(seed)
    rows: list[tuple[str, str, int]] = []
    names = list(PAIRS)
    for number in range(count):
        name, other = generator.choice(names, 2, replace=False)
        filler = " ".join(generator.choice(FILLERS, 2))
        query = f"{filler} {name} {number}"
        rows.append((query, f"{generator.choice(FILLERS)} {PAIRS[name]}", 1))
        rows.append((query, f"{name} {PAIRS[other]}", 0))
        rows.append((query, f"{generator.choice(FILLERS)} {PAIRS[other]}", 0))
    queries, documents, relevance = zip(*rows, strict=True)
    return list(queries), list(documents), list(relevance)


def make(**changes: Any) -> Ranker:
    settings: dict[str, Any] = {
        "embedding_size": 12,
        "embedding_init": "normal",  # here names stand beside what does not answer them
        "hidden_size": 8,
        "match_size": 12,
        "dropout": 0.0,
        "embedding_dropout": 0.0,
        "learning_rate": 0.02,
        "min_count": 1,
        "max_vocabulary": 40,
        "negatives": 2,
        "max_epochs": 6,
        "patience": 6,
        "random_state": 0,
        "device": "cpu",
        "verbose": False,
    }
    return Ranker(**{**settings, **changes})


TRAIN = judged(120, 0)


@pytest.fixture(scope="module")
def fitted() -> Ranker:
    return make().fit(*TRAIN)


def test_it_learns_what_words_alone_do_not_tell(fitted: Ranker) -> None:
    queries, documents, _ = judged(40, 1)
    first = lexical = 0
    for start in range(0, len(queries), 3):  # an answer and two that are none
        candidates = documents[start : start + 3]
        first += fitted.rank(queries[start], candidates)[0][0] == 0
        scores = fitted.lexical_.scores(queries[start].split(), [text.split() for text in candidates])
        lexical += int(scores.argmax()) == 0
    assert lexical < 10
    assert first > 32
    assert fitted.history_[-1]["train_loss"] < 0.5 * fitted.history_[0]["train_loss"]
    assert {"validation_ndcg", "validation_mrr"} <= set(fitted.history_[0])


def test_ranks_do_not_depend_on_the_other_documents(fitted: Ranker) -> None:
    documents = [*PAIRS.values(), "", "milk"] * 12  # more than one batch
    scores = fitted.scores("old cow", documents)
    np.testing.assert_allclose(scores[:7], fitted.scores("old cow", documents[:7]), atol=1e-5)
    np.testing.assert_allclose(scores[6], fitted.scores("old cow", ["milk"])[0], atol=1e-5)
    assert [place for place, _ in fitted.rank("old cow", ["sea", "sea"])] == [0, 1]
    assert fitted.rank("old cow", []) == []


def test_a_bundle_and_a_pickle_rank_the_same(fitted: Ranker, tmp_path: Path) -> None:
    documents = list(PAIRS.values())
    expected = fitted.scores("the sun", documents)
    loaded = tidegate.load(fitted.save(tmp_path / "r.tg"))
    assert type(loaded) is Ranker
    for copy in (loaded, pickle.loads(pickle.dumps(fitted))):
        np.testing.assert_array_equal(copy.scores("the sun", documents), expected)
        assert copy.lexical_ == fitted.lexical_
    assert clone(fitted).get_params() == fitted.get_params()


def test_a_seed_repeats_and_a_resumed_run_ends_the_same(tmp_path: Path) -> None:
    documents = list(PAIRS.values())
    whole = make(max_epochs=3).fit(*TRAIN).scores("the sun", documents)
    make(max_epochs=1).fit(*TRAIN, run_folder=tmp_path)
    resumed = make(max_epochs=3).fit(*TRAIN, run_folder=tmp_path, resume=True)
    np.testing.assert_array_equal(resumed.scores("the sun", documents), whole)
    assert np.abs(make(max_epochs=3, random_state=1).fit(*TRAIN).scores("the sun", documents) - whole).max() > 1e-3


def test_every_argument_of_the_model_is_used(tmp_path: Path) -> None:
    words = tuple(" ".join(PAIRS.values()).split())
    vectors = WordVectors(words, np.random.default_rng(0).normal(size=(len(words), 12)).astype(np.float32))
    file = str(write_vectors(tmp_path / "v.txt", vectors))

    def outcome(**changes: Any) -> np.ndarray:
        return make(**{"max_epochs": 1, **changes}).fit(*TRAIN).scores("The cow of sea", ["The milk grass", *PAIRS])

    reference = outcome()
    for change in (
        {"cell": "lstm"},
        {"embedding_size": 13},
        {"vectors": file},
        {"hidden_size": 9},
        {"num_layers": 2},
        {"bidirectional": False},
        {"match_size": 5},
        {"dropout": 0.3},
        {"embedding_dropout": 0.3},
        {"negatives": 1},
        {"max_tokens": 1},
        {"lowercase": False},
        {"max_vocabulary": 5},
        {"validation_fraction": 0.4},
    ):
        assert not np.array_equal(outcome(**change), reference), change
    frozen = make(vectors=file, tune_vectors_after=None, max_epochs=1).fit(*TRAIN)
    row = frozen.encoder_.vocabulary.index["milk"]
    found = frozen.network_.embedding.weight[row].detach().numpy()
    np.testing.assert_array_equal(found, vectors.vector("milk"))


def test_it_starts_from_what_stands_together_in_the_collection() -> None:
    queries = ["kitten", "hammer"]
    collection = ["the kitten and cat purr", "a cat may purr", "hammer and nail to wood", "wood takes a nail"] * 5
    documents, relevance = ["a cat may purr", "wood takes a nail"] * 2, [1, 0, 0, 1]
    pairs = [query for query in queries for _ in range(2)], documents, relevance
    changes: dict[str, Any] = {"max_epochs": 1, "learning_rate": 1e-6, "validation_fraction": 0.0, "tokenizer": "words"}
    model = make(embedding_init=None, **changes).fit(*pairs, corpus=collection)
    # No word of an answer stands in its query, so that BM25 finds neither.
    assert model.rank("kitten", documents[:2])[0][0] == 0
    assert model.rank("hammer", documents[:2])[0][0] == 1
    scores = make(**changes).fit(*pairs, corpus=collection).scores("kitten", documents[:2])
    assert abs(scores[0] - scores[1]) < 1e-2


def test_what_the_network_adds_is_chosen_on_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    _, documents, relevance = judged(30, 3)
    # Of these queries BM25 finds every answer, so that nothing need be added; of the others none.
    easy = [query if right else "of the" for query, right in zip(documents, relevance, strict=True)]
    held = ([text for text in easy[::3] for _ in range(3)], documents, relevance)
    assert make(max_epochs=1).fit(*TRAIN, validation_data=held).network_.mixture == 0.0
    assert make(max_epochs=6).fit(*TRAIN, validation_data=judged(30, 4)).network_.mixture > 0.0
    # It is chosen for what Ctrl-C leaves, too.
    finish = Selection.on_train_epoch_end

    def finish_and_press(self: Selection, trainer: Any, module: Any) -> None:
        finish(self, trainer, module)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Selection, "on_train_epoch_end", finish_and_press)
    broken = make(max_epochs=6)
    with pytest.raises(KeyboardInterrupt):
        broken.fit(*TRAIN, validation_data=held)
    assert len(broken.history_) == 1 and broken.network_.mixture == 0.0


@pytest.mark.parametrize("seed", range(3))
def test_the_share_that_is_chosen_is_the_best_of_the_scores_in_use(seed: int) -> None:
    queries, documents, relevance = held = judged(20, 10 + seed)
    # From the collection's co-occurrences, likeness of whole texts has a say beside BM25 and the network.
    model = make(embedding_init=None, max_epochs=3, random_state=seed)
    model.fit(*TRAIN, validation_data=held)
    chosen = float(model.network_.mixture)
    found = []
    for share in np.linspace(0, 1, 11):
        model.network_.mixture.fill_(share)
        gains = []
        for start in range(0, len(queries), 3):
            ranked = [str(place) for place, _ in model.rank(queries[start], documents[start : start + 3])]
            answers = {str(place) for place in np.flatnonzero(relevance[start : start + 3])}
            gains.append(ndcg(ranked, answers, 10))
        found.append(float(np.mean(gains)))
    assert len(set(found)) > 1
    assert chosen == pytest.approx(float(np.linspace(0, 1, 11)[int(np.argmax(found))]))


def test_statistics_come_from_the_collection() -> None:
    corpus = [*TRAIN[1], *["zebra stripes"] * 30]
    ranker = make(max_epochs=1).fit(*TRAIN, corpus=corpus)
    assert ranker.lexical_.num_documents == len(corpus)
    assert ranker.lexical_.frequencies["zebra"] == 30


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((["a b"], ["c", "d"], [1]), "found 1 queries, 2 documents and judgments of shape"),
        ((["a b"], ["c"], [2]), "the judgment of row 0 must be 0 or 1; found"),
        ((["a b", "a b"], ["c", "d"], [1, 1]), "no query has both"),
        ((["a b", 3], ["c", "d"], [1, 0]), "row 1 of X is not text"),
    ],
)
def test_rows_that_cannot_teach(rows: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make().fit(*rows)


def test_misuse(fitted: Ranker) -> None:
    with pytest.raises(NotFittedError):
        make().rank("a", ["b"])
    with pytest.raises(DataError, match="the query '  ' has no word"):
        fitted.rank("  ", ["b"])
    with pytest.raises(ValueError, match="negatives must be a whole number of at least 1; found 0"):
        make(negatives=0).fit(*TRAIN)
    with pytest.raises(ValueError, match="monitor must be ndcg or mrr"):
        make(monitor="f1").fit(*TRAIN)
