from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from tidegate.data.tag_schemes import SCHEMES, Span, convert_tags
from tidegate.errors import DataError
from tidegate.reporting.tagging import ERROR_KINDS, segment_errors, tagging_metrics, tagging_mistakes


def conlleval(truth: list[str], said: list[str]) -> tuple[int, int, int, dict[str, tuple[int, int, int]]]:
    """Right, found and present segments, over all and by type: the loop of conlleval.pl, line by line.

    Its $inCorrect, $correctChunk, $foundCorrect and $foundGuessed, with its endOfChunk and startOfChunk.
    """

    def parts(tag: str) -> tuple[str, str]:
        return (tag, "") if tag == "O" else (tag[0], tag[2:])

    def end_of_chunk(before: str, tag: str, old: str, new: str) -> bool:
        ended = (before == "B" and tag == "B") or (before == "B" and tag == "O")
        ended = ended or (before == "I" and tag == "B") or (before == "I" and tag == "O")
        ended = ended or (before == "E" and tag in "EIO") or (before == "S" and tag in "ESIBO")
        ended = ended or (before in "BI" and tag == "S") or (before == "E" and tag in "BS")
        return ended or (before != "O" and before != "." and old != new)

    def start_of_chunk(before: str, tag: str, old: str, new: str) -> bool:
        started = tag in "BS" or (before == "O" and tag in "IE")
        started = started or (before in "ES" and tag in "IE")
        return started or (tag != "O" and tag != "." and old != new)

    counts: dict[str, Counter[str]] = {"right": Counter(), "found": Counter(), "there": Counter()}
    in_correct, last = False, (("O", ""), ("O", ""))
    for one, other in [*zip(truth, said, strict=True), ("O", "O")]:
        (gold, gold_type), (guess, guess_type) = parts(one), parts(other)
        (old_gold, old_gold_type), (old_guess, old_guess_type) = last
        if in_correct:
            gold_ends = end_of_chunk(old_gold, gold, old_gold_type, gold_type)
            guess_ends = end_of_chunk(old_guess, guess, old_guess_type, guess_type)
            if gold_ends and guess_ends and old_gold_type == old_guess_type:
                in_correct = False
                counts["right"][old_gold_type] += 1
            elif gold_ends != guess_ends or gold_type != guess_type:
                in_correct = False
        gold_starts = start_of_chunk(old_gold, gold, old_gold_type, gold_type)
        guess_starts = start_of_chunk(old_guess, guess, old_guess_type, guess_type)
        if gold_starts and guess_starts and gold_type == guess_type:
            in_correct = True
        if gold_starts:
            counts["there"][gold_type] += 1
        if guess_starts:
            counts["found"][guess_type] += 1
        last = (gold, gold_type), (guess, guess_type)
    kinds = set(counts["there"]) | set(counts["found"])
    table = {kind: tuple(counts[name][kind] for name in ("right", "found", "there")) for kind in kinds}
    right, found, there = (sum(counts[name].values()) for name in ("right", "found", "there"))
    return right, found, there, table  # pyright: ignore


AWKWARD = [
    ("B-PER I-PER O", "B-PER I-PER O"),
    ("B-PER I-PER O", "I-PER I-PER O"),  # a segment may begin with I
    ("B-PER I-PER O", "B-PER B-PER O"),
    ("B-PER I-PER I-PER", "B-PER I-LOC I-PER"),  # the type changes inside
    ("I-PER B-PER I-PER", "I-PER I-PER I-PER"),  # IOB1
    ("B-A I-B I-B O", "B-A B-B I-B O"),
    ("O O O", "O I-X O"),
    ("B-X", "B-X"),
    ("B-X O", "B-X I-X"),  # the sentence's last token
    ("O", "O"),
    ("B-X I-X O B-X", "B-X I-X I-X B-X"),
    ("S-X B-X E-X O", "S-X S-X E-X O"),
    ("B-a-b I-a-b O", "B-a-b I-a I-a"),  # a type with a hyphen
    ("E-X E-X S-X I-X", "B-X E-X B-X E-X"),
]


@pytest.mark.parametrize(("truth", "said"), AWKWARD)
def test_scores_are_those_of_conlleval(truth: str, said: str):
    right, found, there, table = conlleval(truth.split(), said.split())
    metrics = tagging_metrics([truth.split()], [said.split()], "bio")
    precision, recall = right / max(found, 1), right / max(there, 1)
    assert metrics["precision"] == pytest.approx(precision)
    assert metrics["recall"] == pytest.approx(recall)
    assert metrics["f1"] == pytest.approx(2 * right / max(there + found, 1))
    assert metrics["segments"] == there
    rows = {row["label"]: row for row in metrics["per_type"]}
    assert set(rows) == set(table)
    for kind, (kind_right, kind_found, kind_there) in table.items():
        assert rows[kind]["support"] == kind_there
        assert rows[kind]["found"] == kind_found
        assert rows[kind]["f1"] == pytest.approx(2 * kind_right / (kind_there + kind_found))


def test_random_tags_too():
    generator = np.random.default_rng(0)
    names = ["O", "B-X", "I-X", "B-Y", "I-Y", "E-X", "S-Y"]
    rows = [[[names[n] for n in generator.integers(0, 7, 40)] for _ in range(30)] for _ in range(2)]
    metrics = tagging_metrics(*rows, "bio")
    counts = np.array([conlleval(a, b)[:3] for a, b in zip(*rows, strict=True)]).sum(0)
    assert metrics["f1"] == pytest.approx(2 * counts[0] / (counts[1] + counts[2]))
    assert metrics["accuracy"] == pytest.approx(np.mean([a == b for x, y in zip(*rows) for a, b in zip(x, y)]))  # noqa: B905
    low, high = metrics["interval"]
    assert low < metrics["f1"] < high
    # The bootstrap's deviation is near that of a plain one.
    assert 0.005 < high - low < 0.1


@pytest.mark.parametrize("scheme", [name for name in SCHEMES if name != "plain"])
def test_the_scheme_does_not_matter(scheme: str):
    truth = [["B-A", "I-A", "O", "B-B", "B-B"], ["O", "B-A"]]
    said = [["B-A", "I-A", "O", "B-A", "B-B"], ["B-A", "I-A"]]
    expected = tagging_metrics(truth, said, "bio")
    found = tagging_metrics(*([convert_tags(r, "bio", scheme) for r in rows] for rows in (truth, said)), scheme)
    for key in ("precision", "recall", "f1", "per_type", "errors", "confusion"):
        assert found[key] == expected[key]


def test_words_have_one_type_without_a_name():
    metrics = tagging_metrics([list("BESS")], [list("BEBE")], "bioes")
    assert metrics["per_type"] == [
        {"label": "", "precision": 0.5, "recall": pytest.approx(1 / 3), "f1": 0.4, "support": 3, "found": 2}
    ]


def test_parts_of_speech():
    metrics = tagging_metrics([["n", "v", "n"]], [["n", "n", "n"]], "plain", known_tags=["n"])
    assert metrics["accuracy"] == metrics["f1"] == pytest.approx(2 / 3)
    assert metrics["unseen"] == {"v": 1}
    assert metrics["errors"] == {}
    assert metrics["confusion"] == {"labels": ["n", "v"], "matrix": [[2, 0], [1, 0]]}


def test_rare_types_share_a_row_of_the_confusion():
    tags = [[f"t{number:02d}" for number in range(30) for _ in range(30 - number)]]
    confusion = tagging_metrics(tags, tags, "plain")["confusion"]
    assert confusion["labels"][-1] == "others"
    assert len(confusion["labels"]) == 25
    assert np.trace(confusion["matrix"]) == np.sum(confusion["matrix"]) == len(tags[0])


def test_errors_by_kind():
    truth = [Span(0, 2, "A"), Span(3, 5, "A"), Span(6, 8, "A"), Span(9, 10, "A"), Span(12, 13, "B")]
    found = [Span(0, 2, "A"), Span(3, 4, "A"), Span(6, 8, "B"), Span(9, 11, "B"), Span(14, 15, "A")]
    assert segment_errors(truth, found) == [
        ("boundary", truth[1], found[1]),
        ("type", truth[2], found[2]),
        ("boundary and type", truth[3], found[3]),
        ("missed", truth[4], None),
        ("spurious", None, found[4]),
    ]
    assert segment_errors(truth, truth) == []
    # One found segment that covers two is set beside one of them.
    assert [kind for kind, _, _ in segment_errors([Span(0, 1, "A"), Span(1, 3, "A")], [Span(0, 3, "A")])] == [
        "boundary",
        "missed",
    ]


def test_the_surest_mistakes_of_each_kind_are_shown():
    sentences = [["a", "b", "c"]] * 5
    truth = [["O", "B-X", "O"]] * 5
    found = [[(Span(0, 1, "X"), chance), (Span(1, 2, "X"), 0.9)] for chance in (0.2, 0.9, 0.5, 0.7)] + [[]]
    mistakes = tagging_mistakes(sentences, truth, found, "bio", [f"f:{n}" for n in range(5)], most=2)
    assert [(item.kind, item.origin) for item in mistakes] == [
        ("missed", "f:4"),
        ("spurious", "f:1"),
        ("spurious", "f:3"),
    ]
    assert math.isnan(mistakes[0].confidence)
    assert mistakes[1].confidence == 0.9
    assert set(ERROR_KINDS) >= {item.kind for item in mistakes}
    plain = tagging_mistakes([["a"]], [["n"]], [[(Span(0, 1, "v"), 0.6)]], "plain")
    assert [(item.kind, item.truth, item.predicted) for item in plain] == [("tag", Span(0, 1, "n"), Span(0, 1, "v"))]


def test_what_cannot_be_judged():
    with pytest.raises(DataError, match="one predicted tag for every right one"):
        tagging_metrics([["O"]], [["O", "O"]], "bio")
    with pytest.raises(DataError, match="at least one tagged token"):
        tagging_metrics([[]], [[]], "bio")
