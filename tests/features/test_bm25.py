from __future__ import annotations

import json
import logging
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tidegate.data.retrieval import Document
from tidegate.errors import BundleError, DataError, MissingExtraError
from tidegate.features.bm25 import METHODS, build_index, open_index

pytest.importorskip("bm25s")

TEXTS = {
    "a": "the cat sat on the mat, the cat!",
    "b": "a dog sat on a log by the lake",
    "c": "cats and dogs",
    "d": "the the the",
    "e": "the lake was cold and the dog swam in the cold, cold lake all of that very long day",
    "f": "",
}
DOCUMENTS = [Document(name, text) for name, text in TEXTS.items()]
WORDS = {name: text.replace(",", "").replace("!", "").split() for name, text in TEXTS.items()}
QUERIES = ("the cat", "cold lake dog", "dog dog lake", "zebra cat", "the")


def expected(method: str, query: str, name: str, k1: float, b: float, delta: float) -> float:
    """The formulas of Kamphuis et al. 2020, table 1, term by term."""
    count, mean = len(TEXTS), np.mean([len(words) for words in WORDS.values()])
    length, total = len(WORDS[name]), 0.0
    for term in query.split():
        holding = sum(term in words for words in WORDS.values())
        if not holding:
            continue
        tf = Counter(WORDS[name])[term]
        norm = 1 - b + b * length / mean
        if method == "lucene":
            total += math.log(1 + (count - holding + 0.5) / (holding + 0.5)) * tf / (tf + k1 * norm)
        elif method == "okapi":
            total += max(0.0, math.log((count - holding + 0.5) / (holding + 0.5))) * tf / (tf + k1 * norm)
        elif method == "bm25+":
            total += math.log((count + 1) / holding) * ((k1 + 1) * tf / (k1 * norm + tf) + delta)
        else:
            weight = (k1 + 1) * (tf / norm + delta) / (k1 + tf / norm + delta)
            total += math.log((count + 1) / (holding + 0.5)) * weight
    return total


@pytest.mark.parametrize(("k1", "b", "delta"), [(1.2, 0.75, 0.5), (0.9, 0.4, 1.0)])
@pytest.mark.parametrize("method", METHODS)
def test_scores_are_those_of_the_formulas(method: str, k1: float, b: float, delta: float, tmp_path: Path) -> None:
    built = build_index(DOCUMENTS, method=method, k1=k1, b=b, delta=delta)
    for index in (built, open_index(built.save(tmp_path / "index"))):
        for query in QUERIES:
            scores = index.scores(query)
            wanted = [expected(method, query, name, k1, b, delta) for name in TEXTS]
            np.testing.assert_allclose(scores, wanted, rtol=2e-6, atol=1e-7, err_msg=query)
            hits = index.search(query, 10)
            matching = [name for name in TEXTS if set(query.split()) & set(WORDS[name])]
            assert sorted(hit.id for hit in hits) == sorted(matching)
            order = sorted(matching, key=lambda name: -scores[list(TEXTS).index(name)])
            assert [hit.id for hit in hits] == order
            for hit in hits:
                parts = index.explain(query, hit.row)
                assert list(parts) == list(dict.fromkeys(query.split()))
                assert sum(parts.values()) == pytest.approx(hit.score, rel=1e-5)
                assert hit.score == pytest.approx(float(scores[hit.row]))


def test_a_saved_index_is_mapped_and_has_its_texts(tmp_path: Path) -> None:
    documents = [*DOCUMENTS, Document("中文", "很好的电影\n第二行 \ud800")]
    built = build_index(documents, stop_words=["the"])
    index = open_index(built.save(tmp_path / "index"))
    assert isinstance(index._scorer.scores["data"], np.memmap)
    assert [index.text(row) for row in range(7)] == [document.text for document in documents]
    assert index.search("电影", 1)[0].id == "中文"
    assert (index.num_documents, index.num_terms) == (7, built.num_terms)
    assert index.settings == built.settings
    assert build_index(DOCUMENTS).save(tmp_path / "index") == tmp_path / "index"
    assert open_index(tmp_path / "index").num_documents == 6


def test_what_a_query_may_be(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "tidegate"):
        index = build_index(DOCUMENTS, stop_words="english")
    assert "2 of 6 documents hold no term (the first: 'd') and will not be found" in caplog.text
    for query, message in (
        ("", "it has no word"),
        (" ?! ", "it has no word"),
        ("The of THE", "all stop words: the, of"),
    ):
        for call in (index.search, index.scores, lambda query: index.explain(query, 0)):
            with pytest.raises(DataError, match=message):
                call(query)
    assert index.search("zebra") == []
    assert index.explain("zebra cat", 0)["zebra"] == 0.0
    assert not index.scores("zebra").any()
    assert [hit.id for hit in index.search("CAT")] == ["a"]
    with pytest.raises(DataError, match="no document number 6"):
        index.explain("cat", 6)
    assert index.row("c") == 2
    with pytest.raises(DataError, match="there is no document 'z'"):
        index.row("z")


def test_equal_scores_keep_the_order_of_the_documents() -> None:
    index = build_index([Document(str(number), "same text") for number in range(30)])
    assert [hit.row for hit in index.search("text", 5)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("documents", "options", "message"),
    [
        ([], {}, "expected documents to index, found none"),
        ([Document("1", "...")], {}, "hold nothing to search for"),
        ([Document("1", "the of")], {"stop_words": "english"}, "hold nothing to search for"),
        (DOCUMENTS, {"method": "okapy"}, r"method 'okapy': expected one of lucene.* Did you mean 'okapi'"),
        (DOCUMENTS, {"tokenizer": "bpe"}, "tokenizer 'bpe': expected one of"),
        (DOCUMENTS, {"k1": 0}, "k1=0"),
        (DOCUMENTS, {"b": 1.5}, "b=1.5"),
        (DOCUMENTS, {"stop_words": "englisch"}, "Did you mean 'english'"),
    ],
)
def test_what_cannot_be_indexed(documents: list[Document], options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        build_index(documents, **options)


def test_folders_that_hold_no_index_or_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"found no index\.json in it"):
        open_index(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(DataError, match="expected a new or an empty folder"):
        build_index(DOCUMENTS).save(tmp_path / "other")
    folder = build_index(DOCUMENTS).save(tmp_path / "index")
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        path.unlink()
        with pytest.raises(BundleError, match=rf"found no index\.json|the index is damaged \({path.name} is missing\)"):
            open_index(folder)
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(BundleError, match="the index is damaged"):
            open_index(folder)
        path.write_bytes(whole)
    assert open_index(folder).num_documents == 6
    state = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    (folder / "index.json").write_text(json.dumps({**state, "format": 2}), encoding="utf-8")
    with pytest.raises(BundleError, match="written by a newer tidegate"):
        open_index(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": None}, "index.json says no format"),
        ({"tokenizer": "klingon"}, "names the tokenizer 'klingon', which does not exist"),
        ({"ids": ["a"]}, "its parts are of different sizes"),
    ],
)
def test_settings_that_are_not_those_of_an_index(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = build_index(DOCUMENTS).save(tmp_path / "index")
    state = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    (folder / "index.json").write_text(json.dumps({**state, **change}), encoding="utf-8")
    with pytest.raises(BundleError, match=message):
        open_index(folder)
    (folder / "index.json").write_text("[]", encoding="utf-8")
    with pytest.raises(BundleError, match=r"index\.json says no format"):
        open_index(folder)


def test_what_is_damaged_within_is_seen_by_the_query_that_reads_it(tmp_path: Path) -> None:
    folder = build_index(DOCUMENTS).save(tmp_path / "index")
    place = folder / "indices.csc.index.npy"
    rows = np.load(place)
    np.save(place, np.where(rows == 0, 99, rows))
    index = open_index(folder)
    assert [hit.id for hit in index.search("cold")] == ["e"]
    for call in (index.search, index.scores, lambda query: index.explain(query, 0)):
        with pytest.raises(BundleError, match=r"a term stands in documents that are not there.*build it again"):
            call("cat")
    np.save(place, rows)
    starts = folder / "indptr.csc.index.npy"
    ends = np.load(starts)
    np.save(starts, np.concatenate([ends[:1], ends[2:3] + 5, ends[2:]]))
    with pytest.raises(BundleError, match="its terms are out of order"):
        open_index(folder)
    np.save(starts, ends)
    documents = (folder / "documents.jsonl").read_bytes()
    (folder / "documents.jsonl").write_bytes(documents.replace(b'{"id": "b"', b'["id": "b"'))
    index = open_index(folder)
    assert index.text(0) == TEXTS["a"]
    with pytest.raises(BundleError, match=r"documents\.jsonl:2 cannot be read.*build it again"):
        index.text(1)


def test_without_bm25s_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "bm25s", None)
    with pytest.raises(MissingExtraError, match=r'pip install "tidegate\[words\]"'):
        build_index(DOCUMENTS)
