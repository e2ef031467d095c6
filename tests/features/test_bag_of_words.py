from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from tidegate.errors import DataError
from tidegate.features.bag_of_words import BagOfWords, SparseRows, TermSplitter

TEXTS = ["The film was <b>not</b> bad, not bad at all!", "A dull film; the cast was bad.", "Great cast...", "bad"]
OTHERS = ["The cast was great, and nothing was dull", "", "unheard of"]


def splitter(**changes: Any) -> TermSplitter:
    settings = {
        "tokenizer": "words",
        "lowercase": True,
        "strip_html": True,
        "normalization": "NFKC",
        "ngram_range": (1, 1),
        "character_ngram_range": None,
        "keep_marks": False,
    }
    return TermSplitter(**{**settings, **changes})


def dense(rows: SparseRows) -> np.ndarray:
    matrix = sparse.csr_matrix((rows.values, rows.columns, rows.starts), shape=(len(rows), rows.num_columns))
    return matrix.toarray()


@pytest.mark.parametrize(
    ("changes", "terms"),
    [
        ({}, ["not", "bad", "at", "all"]),
        ({"ngram_range": (2, 3)}, ["not bad", "bad at", "at all", "not bad at", "bad at all"]),
        ({"keep_marks": True}, ["not", "bad", "at", "all", "!"]),
        ({"lowercase": False}, ["Not", "bad", "at", "all"]),
        ({"strip_html": False, "ngram_range": (2, 2)}, ["i not", "not i", "i bad", "bad at", "at all"]),
    ],
)
def test_terms(changes: dict[str, Any], terms: list[str]) -> None:
    assert splitter(**changes)("<i>Not</i> bad at all!") == terms


def test_chinese_terms() -> None:
    assert splitter(ngram_range=(1, 2))("好电影。") == ["好", "电", "影", "好 电", "电 影"]
    pytest.importorskip("jieba")
    assert splitter(tokenizer="jieba")("好电影。") == ["好", "电影"]


@pytest.mark.parametrize("ranges", [(1, 1), (2, 4), (1, 5)])
def test_pieces_of_words_are_those_of_scikit_learn(ranges: tuple[int, int]) -> None:
    theirs = CountVectorizer(analyzer="char_wb", ngram_range=ranges).build_analyzer()("a dull film was")
    ours = splitter(character_ngram_range=ranges)("a dull film was")
    assert ours[:4] == ["a", "dull", "film", "was"]
    # Of a word that is shorter than the longest piece, theirs stops at the first size that holds the whole of it.
    assert set(theirs) == {term[1:] for term in ours[4:]}
    assert all(term[0] == "\x01" for term in ours[4:])


@pytest.mark.parametrize("ngrams", [(1, 1), (1, 2)])
def test_tfidf_is_that_of_scikit_learn(ngrams: tuple[int, int]) -> None:
    cut = splitter(ngram_range=ngrams)
    theirs = TfidfVectorizer(analyzer=cut, sublinear_tf=True)
    expected = theirs.fit_transform(TEXTS).toarray()
    bag, matrix = BagOfWords.fit(TEXTS, cut)
    assert list(bag.terms) == theirs.get_feature_names_out().tolist()
    np.testing.assert_allclose(matrix.toarray(), expected, rtol=1e-6)
    np.testing.assert_array_equal(dense(bag.rows(TEXTS)), matrix.toarray())
    np.testing.assert_allclose(dense(bag.rows(OTHERS)), theirs.transform(OTHERS).toarray(), rtol=1e-6)


@pytest.mark.parametrize("weighting", ["counts", "binary"])
def test_counts_and_presence(weighting: str) -> None:
    bag, matrix = BagOfWords.fit(TEXTS, splitter(), weighting=weighting)
    theirs = CountVectorizer(analyzer=splitter(), binary=weighting == "binary").fit(TEXTS)
    np.testing.assert_array_equal(matrix.toarray(), theirs.transform(TEXTS).toarray())
    np.testing.assert_array_equal(dense(bag.rows(OTHERS)), theirs.transform(OTHERS).toarray())


def test_which_terms_are_kept() -> None:
    frequent, _ = BagOfWords.fit(TEXTS, splitter(), max_vocabulary=2)
    assert set(frequent.terms) == {"bad", "film"} or set(frequent.terms) <= {"bad", "film", "was", "the", "not", "cast"}
    assert "bad" in frequent.terms and len(frequent.terms) == 2
    shared, _ = BagOfWords.fit(TEXTS, splitter(), min_documents=2)
    assert set(shared.terms) == {"the", "film", "was", "bad", "cast"}
    with pytest.raises(DataError, match="leave no term"):
        BagOfWords.fit(["...", "!?"], splitter())
    with pytest.raises(DataError, match="min_documents=5 is more than the 4 training texts"):
        BagOfWords.fit(TEXTS, splitter(), min_documents=5)


def test_products_are_those_of_the_dense_rows() -> None:
    bag, matrix = BagOfWords.fit(TEXTS, splitter(ngram_range=(1, 2)))
    weights = np.random.default_rng(0).normal(size=(len(bag.terms), 3)).astype(np.float32)
    np.testing.assert_allclose(bag.rows(TEXTS).times(weights), matrix.toarray() @ weights, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(bag.rows(["", "xyz"]).times(weights), np.zeros((2, 3)))
    assert bag.rows([]).times(weights).shape == (0, 3)


def test_the_state_comes_back_and_a_damaged_one_is_refused() -> None:
    bag, _ = BagOfWords.fit(TEXTS, splitter(character_ngram_range=(2, 3)))
    again = BagOfWords.from_dict(bag.to_dict(), bag.idf)
    np.testing.assert_array_equal(dense(again.rows(OTHERS)), dense(bag.rows(OTHERS)))
    state = bag.to_dict()
    for broken, idf, message in (
        ({**state, "extra": 1}, bag.idf, "expected the keys"),
        (state, bag.idf[1:], "weights of shape"),
        ({**state, "weighting": "bm25"}, bag.idf, "none of those"),
        ({**state, "tokenizer": "bpe"}, bag.idf, "none of those"),
    ):
        with pytest.raises(DataError, match=message):
            BagOfWords.from_dict(broken, idf)
