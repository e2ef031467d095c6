from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tidegate.errors import DataError, MissingExtraError
from tidegate.features.vector_training import METHODS, train_vectors

gensim = pytest.importorskip("gensim")
GROUPS = (("cat", "dog", "cow"), ("red", "blue", "green"))
FRAMES = (("the", "eats", "food", "today"), ("paint", "it", "very", "please"))


def sentences(count: int = 600) -> list[list[str]]:
    """Words of one group stand in one frame, so that they are alike."""
    generator = np.random.default_rng(0)
    made = []
    for _ in range(count):
        kind = int(generator.integers(2))
        frame = list(FRAMES[kind])
        frame.insert(int(generator.integers(5)), str(generator.choice(GROUPS[kind])))
        made.append(frame)
    return made


def train(method: str, **changes: Any) -> Any:
    arguments = {"size": 10, "window": 4, "epochs": 12, "min_count": 5, "subsample": 0.0, "buckets": 1000}
    return train_vectors(sentences(), method=method, **{**arguments, **changes})


@pytest.mark.parametrize("method", METHODS)
def test_words_of_like_company_become_alike(method: str) -> None:
    reported: list[tuple[int, int]] = []
    vectors = train(method, progress=lambda epoch, epochs, seconds: reported.append((epoch, epochs)))
    assert reported == [(epoch, 12) for epoch in range(1, 13)]
    assert vectors.vectors.shape == (len(vectors.words), 10)
    unit = {word: vectors.unit[vectors.index[word]] for group in GROUPS for word in group}
    within = np.mean([unit[a] @ unit[b] for group in GROUPS for a in group for b in group if a < b])
    across = np.mean([unit[a] @ unit[b] for a in GROUPS[0] for b in GROUPS[1]])
    assert within > across + 0.3
    assert set(vectors.words[:8]) == {word for frame in FRAMES for word in frame}
    assert (vectors.subwords is not None) == (method == "fasttext")


@pytest.mark.parametrize("method", METHODS)
def test_a_seed_repeats_and_options_matter(method: str) -> None:
    first = train(method, epochs=2)
    np.testing.assert_array_equal(train(method, epochs=2).vectors, first.vectors)
    changes: list[dict[str, Any]] = [{"random_state": 1}, {"window": 1}, {"epochs": 3}]
    if method != "glove":
        changes += [{"negative": 2}, {"subsample": 1e-3}]
    if method == "fasttext":
        changes += [{"min_n": 2}, {"max_n": 4}, {"buckets": 50}]
    for change in changes:
        assert not np.array_equal(train(method, **{"epochs": 2, **change}).vectors, first.vectors), change
    assert train(method, size=4, epochs=1).size == 4


def test_rare_words_have_no_vector_and_fasttext_makes_one() -> None:
    text = [*sentences(), ["rare", "the", "cat"]]
    vectors = train_vectors(text, method="fasttext", size=5, epochs=1, buckets=500)
    assert "rare" not in vectors
    assert vectors.vector("rare").shape == (5,)
    assert "rare" not in train_vectors(text, method="glove", size=5, epochs=1)
    assert "rare" in train_vectors(text, method="cbow", size=5, epochs=1, min_count=1)


def test_a_long_text_is_read_to_its_end() -> None:
    late = ["filler"] * 12_000 + ["late"] * 6
    assert "late" in train_vectors([late], method="cbow", size=4, epochs=1)
    first, second = (train_vectors([["a", "b"] * count], size=4, epochs=1, subsample=0.0) for count in (5000, 9000))
    assert not np.array_equal(first.vectors, second.vectors)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "word2vec"}, "method 'word2vec': expected one of cbow"),
        ({"size": 0}, "size must be at least 1; found 0"),
        ({"min_count": 10_000}, "no word occurs 10000 times"),
        ({"min_n": 5, "max_n": 4}, "min_n=5, max_n=4"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        train(**{"method": "cbow", **changes})
    with pytest.raises(DataError, match="the text holds no word"):
        train_vectors([])
    with pytest.raises(DataError, match="no two words of the text stand together"):
        train_vectors([["a"]] * 9, method="glove")


@pytest.mark.parametrize("method", METHODS)
def test_a_training_that_is_stopped_keeps_what_it_learned(method: str) -> None:
    ended: list[int] = []
    moved: list[tuple[int, int]] = []
    vectors = train(
        method,
        progress=lambda epoch, epochs, seconds: ended.append(epoch),
        advance=lambda done, of: moved.append((done, of)),
        stop=lambda: len(ended) == 2,
    )
    assert ended == [1, 2]
    assert moved == sorted(moved) and moved[-1][0] < moved[-1][1] and len({of for _, of in moved}) == 1
    assert len(vectors) == 14 and np.isfinite(vectors.vectors).all()
    assert not np.array_equal(vectors.vectors, train(method, epochs=1).vectors)
    train(method, epochs=2, advance=lambda done, of: moved.append((done, of)))
    assert moved[-1][0] > 0.4 * moved[-1][1]


@pytest.mark.parametrize(("method", "package"), [("glove", "scipy"), ("glove", "torch"), ("cbow", "gensim")])
def test_a_missing_package_is_named_before_the_text_is_read(
    method: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)

    def text() -> Iterator[list[str]]:
        raise AssertionError("the text was read")
        yield

    with pytest.raises(MissingExtraError, match=f"needs the package '{package}'"):
        train_vectors(text(), method=method)
