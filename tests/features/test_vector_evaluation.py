from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from tidegate.errors import DataError
from tidegate.features.vector_evaluation import (
    AnalogyScore,
    read_analogies,
    read_similarities,
    score_analogies,
    score_similarities,
)
from tidegate.features.vectors import Subwords, WordVectors

WORDS = ("king", "queen", "man", "woman", "apple", "run", "ran", "go", "went")
VECTORS = WordVectors(WORDS, np.random.default_rng(3).normal(size=(9, 4)).astype(np.float32))
PLANE = WordVectors(
    WORDS[:5], np.array([[2.0, 2.0], [2.0, -2.0], [1.0, 3.0], [1.0, -3.0], [-1.0, 0.1]], dtype=np.float32)
)


def test_likeness_is_the_rank_correlation_of_cosines(tmp_path: Path) -> None:
    (tmp_path / "s.tsv").write_text("# head\nKing\tqueen\t9\nman\twoman\t8.5\nking\tapple\t1\nzebra\tman\t3\n", "utf-8")
    pairs = read_similarities(tmp_path / "s.tsv")
    assert pairs[0] == ("King", "queen", 9.0)
    score = score_similarities(VECTORS, pairs)
    unit = VECTORS.unit
    cosines = [unit[0] @ unit[1], unit[2] @ unit[3], unit[0] @ unit[4]]
    assert score.spearman == pytest.approx(spearmanr(cosines, [9, 8.5, 1]).statistic)
    assert (score.covered, score.pairs) == (3, 4)
    buckets = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    assert score_similarities(WordVectors(WORDS, VECTORS.vectors, Subwords(buckets, 3, 4)), pairs).covered == 4
    with pytest.raises(DataError, match="1 of the 1 pairs have vectors"):
        score_similarities(VECTORS, pairs[:1])


def test_analogies_by_section(tmp_path: Path) -> None:
    text = ": family\nMAN king woman queen\nking queen man woman\nman king woman zebra\n: gram1\nman woman king apple\n"
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    sections = read_analogies(tmp_path / "a.txt")
    assert list(sections) == ["family", "gram1"]
    scores = score_analogies(PLANE, sections)
    for name, fours in sections.items():
        known = [four for four in fours if all(word.lower() in PLANE for word in four)]
        right = sum(PLANE.analogy(*(w.lower() for w in four[:3]))[0][0] == four[3] for four in known)
        assert scores[name] == AnalogyScore(right, len(known), len(fours))
    assert scores["family"] == AnalogyScore(2, 2, 3)
    assert scores["semantic"] == scores["family"] and scores["syntactic"] == scores["gram1"]
    assert scores["total"] == AnalogyScore(2, 3, 4)
    assert scores["total"].accuracy == pytest.approx(2 / 3)
    assert score_analogies(PLANE, sections, most=3)["total"].covered == 0


def test_lines_of_another_form(tmp_path: Path) -> None:
    path = tmp_path / "f"
    for text, reader, message in (
        ("a b 1\na b\n", read_similarities, "f:2: expected two words and a number, found 'a b'"),
        ("a b c\n", read_similarities, "f:1: expected two words and a number"),
        ("# only\n", read_similarities, "expected pairs of words, found none"),
        (": s\na b c\n", read_analogies, "f:2: expected four words"),
        (": s\n", read_analogies, "expected analogies, found none"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=message):
            reader(path)
