from __future__ import annotations

import numpy as np
import pytest

from tidegate.errors import DataError
from tidegate.features.vector_writing import write_vectors
from tidegate.features.vectors import Subwords, WordVectors, subword_hashes, token_vectors

WORDS = ("king", "queen", "man", "woman", "apple")
PLANE = np.array([[2.0, 2.0], [2.0, -2.0], [1.0, 3.0], [1.0, -3.0], [-1.0, 0.0]], dtype=np.float32)


@pytest.fixture
def vectors() -> WordVectors:
    return WordVectors(WORDS, PLANE)


def test_neighbours_are_in_the_order_of_their_cosines(vectors: WordVectors) -> None:
    found = vectors.neighbours("king", 9)
    unit = PLANE / np.linalg.norm(PLANE, axis=1, keepdims=True)
    cosines = unit @ unit[0]
    expected = sorted(((WORDS[row], cosines[row]) for row in range(1, 5)), key=lambda item: -item[1])
    assert [word for word, _ in found] == [word for word, _ in expected]
    np.testing.assert_allclose([cosine for _, cosine in found], [cosine for _, cosine in expected], rtol=1e-6)
    assert vectors.neighbours("king", 1) == found[:1]


def test_an_analogy_leaves_the_given_words_out(vectors: WordVectors) -> None:
    assert vectors.analogy("man", "king", "woman")[0][0] == "queen"
    assert [word for word, _ in vectors.analogy("man", "king", "woman", 5)] == ["queen", "apple"]


def test_a_word_without_a_vector_says_the_nearest_one(vectors: WordVectors) -> None:
    with pytest.raises(DataError, match=r"'quen' has no vector among the 5 that are here. Did you mean 'queen'\?"):
        vectors.vector("quen")


def test_words_that_repeat_and_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="'a' has two vectors"):
        WordVectors(("a", "b", "a"), np.zeros((3, 2)))
    with pytest.raises(DataError, match=r"shape \(2, D\); found \(3, 2\)"):
        WordVectors(("a", "b"), np.zeros((3, 2)))


def test_subwords_are_those_of_fasttext() -> None:
    fasttext = pytest.importorskip("gensim.models.fasttext_inner")
    del fasttext
    from gensim.models.fasttext import ft_ngram_hashes  # pyright: ignore

    for word in ("where", "ü", "电影票", "a", "naïve-ish", "😀"):
        for least, most in ((3, 6), (1, 3), (2, 2)):
            theirs = ft_ngram_hashes(word, least, most, 1000)
            assert sorted(subword_hashes(word, least, most, 1000)) == sorted(theirs), (word, least)


def test_a_word_without_a_row_is_the_mean_of_its_subwords() -> None:
    buckets = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    vectors = WordVectors(WORDS, PLANE, Subwords(buckets, 3, 4))
    rows = subword_hashes("kings", 3, 4, 50)
    assert len(rows) == 9  # <ki kin ing ngs gs> and <kin king ings ngs>
    np.testing.assert_allclose(vectors.vector("kings"), buckets[rows].mean(0), rtol=1e-6)
    np.testing.assert_array_equal(vectors.vector("king"), PLANE[0])


def test_the_table_of_a_vocabulary(tmp_path) -> None:
    first = write_vectors(tmp_path / "first.vec", WordVectors(WORDS, PLANE))
    buckets = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    second = write_vectors(
        tmp_path / "second.npz", WordVectors(("man",), np.ones((1, 3), np.float32), Subwords(buckets, 3, 4))
    )
    tokens = ["<unk>", "King", "queen", "?", "man"]
    found = token_vectors(tokens, [first, second], random_state=1)
    np.testing.assert_array_equal(found.vectors[[1, 2, 4], :2], PLANE[[0, 1, 2]])
    np.testing.assert_array_equal(found.vectors[4, 2:], np.ones(3))
    np.testing.assert_allclose(found.vectors[2, 2:], buckets[subword_hashes("queen", 3, 4, 50)].mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.vectors[0, :2], PLANE[:3].mean(0), rtol=1e-6)
    assert found.origin.tolist() == [[0, 2, 1, 0, 1], [0, 3, 3, 3, 1]]
    assert found.num_drawn == 0
    assert found.describe() == (
        "first.vec: 3 of 4 tokens have a vector (1 in lower case), 1 begin at random; "
        "second.npz: 4 of 4 tokens have a vector (3 from subwords), 0 begin at random"
    )
    again, other = (token_vectors(tokens, [first, second], random_state=seed).vectors for seed in (1, 2))
    np.testing.assert_array_equal(found.vectors, again)
    assert not np.array_equal(found.vectors[3, :2], other[3, :2])
    np.testing.assert_array_equal(found.vectors[[0, 1, 2, 4]], other[[0, 1, 2, 4]])


def test_drawn_vectors_are_distributed_as_those_of_the_file(tmp_path) -> None:
    generator = np.random.default_rng(0)
    known = [f"w{number}" for number in range(500)]
    vectors = generator.normal([1.0, -3.0], [0.5, 2.0], size=(500, 2)).astype(np.float32)
    path = write_vectors(tmp_path / "v.npz", WordVectors(tuple(known), vectors))
    drawn = token_vectors(["<unk>", *known, *(f"x{number}" for number in range(4000))], path).vectors[501:]
    np.testing.assert_allclose(drawn.mean(0), vectors.mean(0), atol=0.1)
    np.testing.assert_allclose(drawn.std(0), vectors.std(0), rtol=0.05)


def test_dimensions_and_languages_that_do_not_fit_are_refused(tmp_path) -> None:
    path = write_vectors(tmp_path / "v.txt", WordVectors(WORDS, PLANE))
    with pytest.raises(DataError, match=r"embedding_size=100 numbers, found 2 \+ 2 = 4; leave embedding_size out"):
        token_vectors(["<unk>", "king"], [path, path], size=100)
    with pytest.raises(DataError, match=r"none of the 2 tokens has a vector in it \(the first are '电影', '好'\)"):
        token_vectors(["<unk>", "电影", "好"], path)
    with pytest.raises(DataError, match="found an empty list"):
        token_vectors(["<unk>", "king"], [])
