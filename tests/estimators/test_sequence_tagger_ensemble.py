"""Several taggers as one: mean probabilities of tags and segments, and the legal tags that they speak for most."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tidegate
from tidegate import SequenceTagger, SequenceTaggerEnsemble
from tidegate.data.tag_schemes import transition_masks
from tidegate.deploy.bundle import load_bundle, save_bundle
from tidegate.errors import BundleError
from tiny_tags import tiny_sentences

X, Y, INTENTS = tiny_sentences(60, 0)
NEW, TRUTH, SAID = tiny_sentences(30, 5)
TINY: dict[str, Any] = {
    "embedding_size": 8,
    "char_embedding_size": 4,
    "char_hidden_size": 4,
    "hidden_size": 8,
    "learning_rate": 0.02,
    "max_epochs": 2,
    "random_state": 3,
    "device": "cpu",
    "verbose": False,
}


def make(**changes: Any) -> SequenceTagger:
    return SequenceTagger(**{**TINY, **changes})


@pytest.fixture(scope="module")
def fitted() -> SequenceTaggerEnsemble:
    return SequenceTaggerEnsemble(make(), members=3).fit(X, Y, intents=INTENTS)


def test_probabilities_of_tags_segments_and_intents_are_the_means_of_the_members(
    fitted: SequenceTaggerEnsemble,
) -> None:
    alone = [model.predict_marginals(NEW) for model in fitted.members_]
    assert max(np.abs(a - b).max() for a, b in zip(alone[0], alone[1], strict=True)) > 1e-3
    for said, *each in zip(fitted.predict_marginals(NEW), *alone, strict=True):
        np.testing.assert_allclose(said, np.mean(each, axis=0), atol=1e-6)
    intents = [model.predict_intent_proba(NEW) for model in fitted.members_]
    np.testing.assert_allclose(fitted.predict_intent_proba(NEW), np.mean(intents, axis=0), atol=1e-6)
    assert fitted.intents_ == ["go", "meet"] and set(fitted.predict_intents(NEW)) <= {"go", "meet"}
    # A segment is there as far as every one of its tags is, so that no tag of it is less probable.
    marginals = fitted.predict_marginals(NEW)
    for spans, row, tags in zip(fitted.predict_spans(NEW), marginals, fitted._decoder().best(NEW), strict=True):
        for span in spans:
            least = min(row[place, tags[place]] for place in range(span.start, span.end))
            assert 0 < span.confidence <= least + 1e-5


def test_the_tags_are_the_legal_ones_of_the_greatest_product_of_mean_probabilities(
    fitted: SequenceTaggerEnsemble,
) -> None:
    follow, first, last = transition_masks(fitted.tags_, "bioes")
    short = [sentence[:4] for sentence in NEW[:6]]
    numbers = {tag: number for number, tag in enumerate(fitted.tags_)}
    for sentence, row, found in zip(short, fitted.predict_marginals(short), fitted._decoder().best(short), strict=True):
        legal = [
            path
            for path in itertools.product(range(len(numbers)), repeat=len(sentence))
            if first[path[0]] and last[path[-1]] and all(follow[a, b] for a, b in itertools.pairwise(path))
        ]
        best = max(legal, key=lambda path: float(np.log(row[np.arange(len(path)), path]).sum()))
        assert found.tolist() == list(best), sentence
    assert fitted.predict([[], NEW[0]])[0] == []
    assert [len(tags) for tags in fitted.predict(NEW)] == [len(sentence) for sentence in NEW]


def test_one_bundle_gives_all_back(fitted: SequenceTaggerEnsemble, tmp_path: Path) -> None:
    loaded = tidegate.load(fitted.save(tmp_path / "all.tg"))
    assert type(loaded) is SequenceTaggerEnsemble
    assert loaded.predict(NEW) == fitted.predict(NEW)
    assert (loaded.tags_, loaded.tag_scheme_, loaded.intents_) == (fitted.tags_, fitted.tag_scheme_, fitted.intents_)
    assert loaded.notes == fitted.notes and "validation F1 of segments" in fitted.notes[0]
    text = "Ada went to New York."
    assert loaded.extract([text]) == fitted.extract([text])
    assert all(text[item.start : item.end] == item.text for item in loaded.extract([text])[0])
    rows = fitted.inspect(NEW[0])
    assert [row["transition"] for row in rows] == [0.0] * len(NEW[0])
    assert [row["emission"] for row in rows] == pytest.approx([np.log(row["probability"]) for row in rows])
    with pytest.raises(ValueError, match="ask one of members_"):
        fitted.predict_k_best(NEW, 2)
    bundle = load_bundle(tmp_path / "all.tg")
    foreign = dataclasses.replace(bundle.members[0], labels=[*bundle.members[0].labels[1:], "S-X"])
    bad = save_bundle(tmp_path / "bad.tg", dataclasses.replace(bundle, members=(*bundle.members[1:], foreign)))
    with pytest.raises(BundleError, match=r"bad\.tg"):
        tidegate.load(bad)


def test_members_learn_from_the_same_sentences_and_are_judged_on_the_same(tmp_path: Path) -> None:
    model = SequenceTaggerEnsemble(make(), members=2).fit(X, Y, run_folder=tmp_path)
    alone = [member.history_[member.best_epoch_ - 1]["validation_f1"] for member in model.members_]
    assert model.member_scores_ == pytest.approx(alone, abs=1e-6)
    assert {path.name for path in tmp_path.iterdir()} == {"member-1", "member-2"}
    given = SequenceTaggerEnsemble(make(max_epochs=1), members=2).fit(X, Y, validation_data=(NEW, TRUTH))
    assert given.validation_score_ == pytest.approx(given.score(NEW, TRUTH))
    snapshots = SequenceTaggerEnsemble(make(), members=2, by="snapshots").fit(X, Y, intents=INTENTS)
    assert [member.best_epoch_ for member in snapshots.members_] == [1, 2]
    said = [member.predict_marginals(NEW)[0] for member in snapshots.members_]
    np.testing.assert_allclose(snapshots.predict_marginals(NEW)[0], np.mean(said, axis=0), atol=1e-6)


def test_tags_without_a_crf_are_the_most_probable_ones() -> None:
    plain = [[tag.partition("-")[2] or "none" for tag in row] for row in Y]
    model = SequenceTaggerEnsemble(make(output_layer="softmax", max_epochs=1), members=2).fit(X, plain)
    expected = [[model.tags_[number] for number in row.argmax(1)] for row in model.predict_marginals(NEW)]
    assert model.predict(NEW) == expected and model.figure == "accuracy of tags"
