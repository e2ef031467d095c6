"""The shopping reviews' two tasks on the whole data: `make test-data`."""

from __future__ import annotations

from collections import Counter

import pytest

from real_data import real_data
from tidegate.config import load_recipe
from tidegate.jobs import validate
from tidegate.jobs.multitask_data import read_target_splits, target_notes

pytestmark = pytest.mark.data


def test_sentiment_and_category_of_the_shopping_reviews() -> None:
    folder = real_data("online_shopping_10_cats")
    splits = read_target_splits(load_recipe("multitask_shopping", data_dir=folder))
    assert {name: examples.counts() for name, examples in splits.parts().items()} == {
        "train": {"sentiment": 50_180, "category": 50_180},
        "validation": {"sentiment": 6_272, "category": 6_272},
        "test": {"sentiment": 6_272, "category": 6_272},
    }
    assert Counter(splits.train.targets["sentiment"]) == {1: 25_366, 0: 24_814}
    categories = Counter(splits.test.targets["category"])
    assert len(categories) == 10 and categories["酒店"] == 1_000
    assert target_notes(splits) == []
    assert set(validate("multitask_shopping", data_dir=folder).data) == {"train", "validation", "test"}
