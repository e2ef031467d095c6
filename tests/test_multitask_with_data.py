"""The shopping reviews' two tasks on the whole data: `make test-data`."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from tidegate.config import load_recipe
from tidegate.jobs import validate
from tidegate.jobs.multitask_data import read_target_splits, target_notes

ROOT = Path(os.environ.get("TIDEGATE_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
pytestmark = pytest.mark.data


def test_sentiment_and_category_of_the_shopping_reviews() -> None:
    folder = ROOT / "online_shopping_10_cats"
    if not folder.is_dir():
        pytest.skip("needs the data set 'online_shopping_10_cats'; name the folder that holds it in TIDEGATE_DATA")
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
