"""Search and word vectors on whole real data sets, held to the figures that come with the data: `make test-data`."""

from __future__ import annotations

import pytest

from real_data import real_data
from tidegate.data.retrieval import read_documents, read_judgments, read_queries
from tidegate.features.bm25 import build_index
from tidegate.features.vector_evaluation import read_analogies, read_similarities, score_analogies, score_similarities
from tidegate.features.vector_files import read_vectors
from tidegate.reporting.ranking_metrics import ranking_metrics

pytestmark = pytest.mark.data


def test_bm25_on_cranfield() -> None:
    pytest.importorskip("bm25s")
    folder = real_data("cranfield")
    documents = read_documents(folder / "cran.all.1400.gz")
    assert len(documents) == 1_400
    assert [document.id for document in documents if not document.text.strip()] == ["471", "995"]
    queries = read_queries(folder / "cran.qry", by_place=True)
    judged = read_judgments(folder / "cranqrel", least=-1)
    assert (len(queries), sum(map(len, judged.values()))) == (225, 1_837)
    index = build_index(documents)
    found = ranking_metrics(
        {query.id: [hit.id for hit in index.search(query.text, 1_400)] for query in queries}, judged
    )
    assert found["map"] == pytest.approx(0.3953, abs=0.01)
    assert found["ndcg_at_10"] == pytest.approx(0.4944, abs=0.01)


def test_bm25_on_scifact() -> None:
    pytest.importorskip("bm25s")
    folder = real_data("scifact")
    index = build_index(read_documents(folder / "corpus.jsonl.xz"))
    assert index.num_documents == 5_183
    judged = read_judgments(folder / "qrels.test.tsv")
    queries = read_queries(folder / "queries.test.jsonl")
    found = ranking_metrics({query.id: [hit.id for hit in index.search(query.text, 100)] for query in queries}, judged)
    assert found["queries"] == 300
    assert found["ndcg_at_10"] == pytest.approx(0.6634, abs=0.01)


def test_glove_knows_what_its_figures_say() -> None:
    vectors = read_vectors(real_data("glove") / "glove.6B.50d.subset.npz")
    assert (len(vectors), vectors.size) == (83_555, 50)
    folder = real_data("wordvec_eval")
    for name, expected in (("wordsim353", 0.503), ("simlex999", 0.265)):
        score = score_similarities(vectors, read_similarities(folder / f"{name}.tsv"))
        assert score.spearman == pytest.approx(expected, abs=0.001)
        assert score.covered == score.pairs
    scores = score_analogies(vectors, read_analogies(folder / "questions-words.txt.gz"))
    assert (scores["semantic"].right, scores["semantic"].covered) == (3_053, 6_002)
    assert (scores["syntactic"].right, scores["syntactic"].covered) == (4_340, 8_875)
