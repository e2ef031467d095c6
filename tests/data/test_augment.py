from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tidegate.data.augment import Augmentation, Augmenter, mistype, read_synonyms
from tidegate.errors import DataError

IDS = [np.arange(1, 41), np.arange(1, 3), np.array([], dtype=np.int64), np.array([7])]
NEAR = {number: [number + 100, number + 200] for number in range(1, 41)}


def augmenter(share: float = 1.0, **rates: float) -> Augmenter:
    options: dict[str, Any] = {"neighbours": NEAR, "texts": ["a b"] * 4, "encode": lambda text: np.array([len(text)])}
    return Augmenter(Augmentation(**rates, share=share), IDS, random_state=3, **options)


def many(rows: int = 200, **rates: float) -> list[np.ndarray]:
    change = augmenter(**rates)
    return [change(0, epoch) for epoch in range(rows)]


def test_an_epoch_can_be_had_again_and_differs_from_the_next() -> None:
    change = augmenter(delete=0.2, swap=0.2, insert=0.2, replace=0.2)
    np.testing.assert_array_equal(change(0, 4), change(0, 4))
    assert change(0, 4).tolist() != change(0, 5).tolist()
    other = Augmenter(change.augmentation, IDS, random_state=4, neighbours=NEAR)
    assert change(0, 4).tolist() != other(0, 4).tolist()
    np.testing.assert_array_equal(IDS[0], np.arange(1, 41))


def test_deletion_leaves_a_share_out_in_order_and_one_at_least() -> None:
    found = many(delete=0.3)
    assert np.mean([len(ids) for ids in found]) == pytest.approx(28, abs=1)
    assert all(ids.tolist() == sorted(set(ids.tolist())) for ids in found)
    assert all(len(augmenter(delete=0.99)(3, epoch)) == 1 for epoch in range(20))
    assert augmenter(delete=0.5)(2, 0).tolist() == []


def test_swapping_keeps_the_tokens_and_moves_a_share() -> None:
    found = many(swap=0.1)
    assert all(sorted(ids.tolist()) == IDS[0].tolist() for ids in found)
    moved = np.mean([(ids != IDS[0]).sum() for ids in found])
    assert 5 < moved < 8  # four swaps of two tokens, of which some meet again


def test_replacement_takes_neighbours_of_a_share() -> None:
    found = many(replace=0.25)
    changed = [(ids != IDS[0]) for ids in found]
    assert np.mean([mask.sum() for mask in changed]) == pytest.approx(10, abs=1)
    for ids, mask in zip(found, changed, strict=True):
        assert all(int(new) in NEAR[int(old)] for new, old in zip(ids[mask], IDS[0][mask], strict=True))
    few = Augmenter(Augmentation(replace=0.9), IDS, random_state=0, neighbours={7: [9]})
    assert {tuple(few(3, epoch)) for epoch in range(20)} == {(7,), (9,)}


def test_insertion_adds_neighbours_and_keeps_the_rest_in_order() -> None:
    found = many(insert=0.25)
    assert np.mean([len(ids) for ids in found]) == pytest.approx(50, abs=1)
    for ids in found:
        assert [number for number in ids.tolist() if number <= 40] == IDS[0].tolist()
    first = Counter(int(np.flatnonzero(ids > 40)[0]) for ids in found if (ids > 40).any())
    assert len(first) > 5


def test_a_share_of_the_texts_stays_as_it_is() -> None:
    same = [ids.tolist() == IDS[0].tolist() for ids in many(share=0.4, delete=0.5)]
    assert np.mean(same) == pytest.approx(0.6, abs=0.12)


def test_noise_mistypes_and_encodes_again() -> None:
    change = augmenter(noise=0.5)
    lengths = Counter(int(change(0, epoch)[0]) for epoch in range(100))
    assert set(lengths) <= {1, 2, 3, 4, 5} and len(lengths) > 2


def test_mistyped_characters() -> None:
    generator = np.random.default_rng(0)
    text = "a lovely film, 好电影 " * 20
    found = [mistype(text, 0.1, generator) for _ in range(50)]
    assert all(set(one) <= set(text) for one in found)
    assert all(one.count(" ") == text.count(" ") for one in found)
    assert np.mean([len(one) for one in found]) == pytest.approx(len(text), abs=8)
    same = np.mean([mistype("abcdefghij", 0.05, generator) == "abcdefghij" for _ in range(400)])
    assert same == pytest.approx(0.95**10, abs=0.1)
    assert mistype("", 0.5, generator) == ""
    assert mistype("abc", 0.0, generator) == "abc"


def test_synonyms_are_read_by_groups(tmp_path: Path) -> None:
    path = tmp_path / "synonyms.txt"
    path.write_text("# good words\ngood\tfine\tgreat\n\nfine, nice\n好,棒\n", encoding="utf-8")
    assert read_synonyms(path) == {
        "good": ["fine", "great"],
        "fine": ["good", "great", "nice"],
        "great": ["good", "fine"],
        "nice": ["fine"],
        "好": ["棒"],
        "棒": ["好"],
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"good\tfine\nalone\n",
            r"synonyms.txt:2: expected two synonyms or more between tabs or commas, found 'alone'",
        ),
        (b"\n# nothing\n", "expected a line of synonyms, found none"),
        (b"caf\xe9,bar\n", "expected UTF-8 text"),
        (None, "cannot be read: No such file"),
    ],
)
def test_synonyms_that_cannot_be_read(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "synonyms.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_synonyms(path)


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"delete": 1.0}, r"augment_delete must be in \[0, 1\); found 1.0"),
        ({"noise": -0.1}, r"augment_noise must be in \[0, 1\)"),
        ({"delete": 0.1, "share": 0.0}, "augment_share must be above 0 and at most 1"),
        ({"share": 0.5}, "augment_share=0.5 has no effect"),
    ],
)
def test_shares_out_of_range(rates: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augmentation(**rates)


def test_what_is_needed_and_missing() -> None:
    with pytest.raises(ValueError, match="need neighbours"):
        Augmenter(Augmentation(replace=0.1), IDS, random_state=0)
    with pytest.raises(ValueError, match="noise needs the texts"):
        Augmenter(Augmentation(noise=0.1), IDS, random_state=0)
