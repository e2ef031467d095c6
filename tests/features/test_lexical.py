from __future__ import annotations

import numpy as np
import pytest

from tidegate.data.retrieval import Document
from tidegate.features.bm25 import build_index
from tidegate.features.lexical import LexicalScorer

TEXTS = ["the cat sat on the mat the cat", "a dog sat on a log by the lake", "cats and dogs", "the the the", ""]


def test_scores_are_those_of_the_index() -> None:
    pytest.importorskip("bm25s")
    for k1, b in ((1.2, 0.75), (0.9, 0.4)):
        index = build_index([Document(str(row), text) for row, text in enumerate(TEXTS)], k1=k1, b=b)
        scorer = LexicalScorer.fit([text.split() for text in TEXTS], k1=k1, b=b)
        scorer = LexicalScorer.from_dict(scorer.to_dict())
        for query in ("the cat", "dog dog lake", "zebra cats"):
            found = scorer.scores(query.split(), [text.split() for text in TEXTS])
            np.testing.assert_allclose(found, index.scores(query), rtol=2e-6, atol=1e-7)
    assert not scorer.scores(["zebra"], [["zebra", "cat"]]).any()
