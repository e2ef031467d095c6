"""The readers and the classifier on whole real data sets: `make test-data`."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from real_data import real_data
from tidegate.data.sources import TextExamples, duplicated_texts, read_records, read_text_examples

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def imdb() -> dict[str, TextExamples]:
    folder = real_data("imdb")
    return {part: read_text_examples(folder / f"{part}.jsonl.gz") for part in ("train", "test")}


def test_imdb_counts_and_the_test_reviews_that_stand_in_train(imdb: dict[str, TextExamples]):
    for examples in imdb.values():
        assert Counter(examples.labels) == {0: 12_500, 1: 12_500}
    assert len(set(imdb["train"].texts)) == 24_904
    assert len(set(imdb["test"].texts)) == 24_801
    words = [np.mean([len(text.split()) for text in imdb[part].texts]) for part in ("train", "test")]
    assert words == pytest.approx([233.8, 228.5], abs=0.05)
    twins = duplicated_texts(imdb["train"].texts, imdb["test"].texts)
    assert len(twins) == 123
    assert {imdb["test"].texts[row] for row in twins} <= set(imdb["train"].texts)
    assert imdb["test"].origins[-1] == "test.jsonl.gz:25000"


COLUMNS: dict[str, dict[str, Any]] = {
    "sst2": {"text": "sentence"},
    "trec": {"text": "question", "label": "coarse"},
}
COUNTS: list[tuple[str, dict[str | int, int]]] = [
    ("chnsenticorp_htl/train.jsonl.gz", {1: 4_258, 0: 1_954}),
    ("chnsenticorp_htl/valid.jsonl.gz", {1: 532, 0: 245}),
    ("chnsenticorp_htl/test.jsonl.gz", {1: 532, 0: 244}),
    ("online_shopping_10_cats/train.jsonl.xz", {1: 25_366, 0: 24_814}),
    ("online_shopping_10_cats/valid.jsonl.xz", {1: 3_171, 0: 3_101}),
    ("online_shopping_10_cats/test.jsonl.xz", {1: 3_170, 0: 3_102}),
    ("sst2/train.tsv.gz", {1: 3_610, 0: 3_310}),
    ("sst2/dev.tsv.gz", {1: 444, 0: 428}),
    ("sst2/test.tsv.gz", {1: 909, 0: 912}),
    ("sst2/train_phrases.tsv.gz", {1: 37_569, 0: 29_780}),
    ("trec/train.tsv.gz", {"ABBR": 86, "DESC": 1_162, "ENTY": 1_250, "HUM": 1_223, "LOC": 835, "NUM": 896}),
    ("trec/test.tsv", {"ABBR": 9, "DESC": 138, "ENTY": 94, "HUM": 65, "LOC": 81, "NUM": 113}),
    ("ag_news/train_8k.jsonl.gz", dict.fromkeys(range(4), 2_000)),
    ("ag_news/test.jsonl.gz", dict.fromkeys(range(4), 1_900)),
]


@pytest.mark.parametrize(("file", "counts"), COUNTS, ids=[file for file, _ in COUNTS])
def test_every_row_is_read_with_its_label(file: str, counts: dict[str | int, int]):
    name = file.split("/")[0]
    examples = read_text_examples(real_data(name) / file.split("/")[1], **COLUMNS.get(name, {}))
    assert Counter(examples.labels) == counts
    assert all(text.strip() for text in examples.texts)


@pytest.mark.parametrize(
    ("part", "mean"), [("train", 128.9), ("valid", 126.0), ("test", 128.3)], ids=["train", "valid", "test"]
)
def test_chinese_characters_come_through(part: str, mean: float):
    examples = read_text_examples(real_data("chnsenticorp_htl") / f"{part}.jsonl.gz")
    assert np.mean([len(text) for text in examples.texts]) == pytest.approx(mean, abs=0.05)
    assert not any("\ufffd" in text for text in examples.texts)


def test_a_second_column_of_labels():
    folder = real_data("online_shopping_10_cats")
    found = Counter(
        record.fields["cat"]
        for part in ("train", "valid", "test")
        for record in read_records(folder / f"{part}.jsonl.xz", columns=["cat"])
    )
    assert sorted(found.values(), reverse=True) == [10_000, 9_998, 9_992, 9_986, 9_985, 3_983, 3_851, 2_323, 2_033, 573]
    assert found["酒店"] == 9_998


def test_a_classifier_learns_from_two_thousand_reviews(imdb: dict[str, TextExamples]):
    from tidegate import TextClassifier

    train, test = imdb["train"].select(range(2_000)), imdb["test"].select(range(1_000))
    model = TextClassifier(
        max_tokens=200,
        truncation="ends",
        hidden_size=64,
        learning_rate=3e-3,
        batch_size=16,
        max_epochs=2,
        random_state=0,
        device="cpu",
        verbose=False,
    )
    model.fit(train.texts, train.labels)
    assert model.n_truncated_ > 500
    assert len(model.history_) == 2
    # Seeds 0 and 1 reach 0.75 and 0.79; chance is 0.5, with a standard error of 0.016.
    assert model.score(test.texts, test.labels) > 0.70
