from __future__ import annotations

import pytest

from tidegate.data.bundled import load_reviews
from tidegate.data.sources import TextExamples
from tidegate.errors import DataError, RecipeError
from tidegate.reporting.compare import tfidf_baseline


def examples(texts, labels) -> TextExamples:
    return TextExamples(texts=list(texts), labels=labels, origins=[f"row {i}" for i in range(len(texts))])


@pytest.mark.parametrize(
    ("language", "tokenizer", "accuracy"),
    [("en", "words", 801 / 1007), ("zh", "characters", 1017 / 1200)],
)
def test_bundled_reviews_reach_the_measured_accuracy(language, tokenizer, accuracy):
    result = tfidf_baseline(load_reviews(language, "train"), load_reviews(language, "test"), tokenizer=tokenizer)
    assert result["accuracy"] == pytest.approx(accuracy, abs=0.0021)  # two texts, for other versions of the solver
    assert result["macro_f1"] == pytest.approx(accuracy, abs=0.005)
    assert result["vocabulary"] > 20_000
    assert result["seconds"] > 0


def test_bigrams_are_seen_and_marks_and_case_are_not():
    # Every word stands equally often in both classes; only the pairs tell.
    train = examples(["good not bad", "not good bad", "bad good not", "bad not good"] * 5, ["a", "b", "a", "b"] * 5)
    test = examples(["<b>GOOD</b>, not... BAD!", "Bad; not-good"], ["a", "b"])
    result = tfidf_baseline(train, test)
    assert result["accuracy"] == 1.0
    assert result["macro_f1"] == 1.0
    assert result["vocabulary"] == 3 + 6
    assert result["name"] == "TF-IDF of words and bigrams + logistic regression"


def test_characters_cut_chinese_without_spaces():
    train = examples(["很好。", "不好！", "真好", "太差"] * 3, [1, 0, 1, 0] * 3)
    result = tfidf_baseline(train, examples(["真很好", "不太好"], [1, 0]), tokenizer="characters")
    assert result["accuracy"] == 1.0
    assert result["vocabulary"] == 6 + 4


def test_the_same_data_gives_the_same_figures():
    train, test = load_reviews("en", "validation"), load_reviews("en", "test")
    first, second = tfidf_baseline(train, test), tfidf_baseline(train, test)
    assert {**first, "seconds": 0} == {**second, "seconds": 0}


def test_labels_that_training_never_saw_count_as_mistakes():
    train = examples(["good", "bad"] * 3, ["a", "b"] * 3)
    result = tfidf_baseline(train, examples(["good", "bad", "odd", ""], ["a", "b", "c", "c"]))
    assert result["accuracy"] == 0.5


@pytest.mark.parametrize(
    ("train", "test", "words"),
    [
        (examples(["x"], None), examples(["x"], ["a"]), "training texts, found 1 texts without labels"),
        (examples(["x", "y"], ["a", "b"]), examples([], []), "test texts, found 0 texts with labels"),
        (examples(["x", "y"], ["a", "a"]), examples(["x"], ["a"]), "two classes"),
        (examples(["...", ""], ["a", "b"]), examples(["x"], ["a"]), "hold no term"),
    ],
)
def test_data_that_cannot_be_compared_is_refused_in_words(train, test, words):
    with pytest.raises(DataError, match=words):
        tfidf_baseline(train, test)


def test_an_unknown_tokenizer_is_refused_with_the_nearest():
    train = examples(["x", "y"], ["a", "b"])
    with pytest.raises(RecipeError, match="Did you mean 'words'"):
        tfidf_baseline(train, train, tokenizer="word")
