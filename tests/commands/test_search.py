from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tidegate import LinearTextClassifier, load
from tidegate.cli import app
from tidegate.data.retrieval import Document
from tidegate.features.bm25 import open_index
from tidegate.jobs.search import judged_pairs
from tidegate.training.selection import Selection

pytest.importorskip("bm25s")
RUNNER = CliRunner()
ROWS = [
    {"_id": "w1", "title": "Wings", "text": "Lift of a wing in a slipstream, and the drag of it."},
    {"_id": "h1", "title": "Heat", "text": "Conduction of heat in composite slabs."},
    {"_id": "h2", "title": "Heat", "text": "Heat transfer to a wing at high speed. " + "More of it. " * 30},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    (tmp_path / "q.jsonl").write_text('{"_id": "9", "text": "slabs"}\n{"_id": "8", "text": "lift"}\n', encoding="utf-8")
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n9\th1\t1\n8\tw1\t1\n", encoding="utf-8")
    return tmp_path


def run(*arguments: object, code: int = 0) -> str:
    result = RUNNER.invoke(app, ["search", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output


def test_build_query_and_evaluate(folder: Path) -> None:
    said = run("build", folder / "d.jsonl", "--out", folder / "i", "--stop-words", "english")
    assert "3 documents" in said and "tidegate search query" in said
    found = json.loads(run("query", folder / "i", "heat in slabs", "--explain", "--json"))
    assert [item["id"] for item in found] == ["h1", "h2"]
    assert set(found[0]["terms"]) == {"heat", "slabs"}
    assert sum(found[0]["terms"].values()) == pytest.approx(found[0]["score"], rel=1e-5)
    assert found[1]["beginning"].endswith("…") and len(found[1]["beginning"]) == 160
    plain = run("query", folder / "i", "heat in slabs", "--explain", "--count", "1")
    assert "h1  Heat Conduction of heat" in plain and "from slabs" in plain and "h2" not in plain
    assert "no document has a word" in run("query", folder / "i", "zebra")
    judged = json.loads(run("evaluate", folder / "i", folder / "q.jsonl", folder / "qrels.tsv", "--json"))
    assert (judged["queries"], judged["ndcg_at_10"], judged["map"]) == (2, 1.0, 1.0)
    assert "nDCG@10" in run("evaluate", folder / "i", folder / "q.jsonl", folder / "qrels.tsv")


def test_options_reach_the_index(folder: Path) -> None:
    (folder / "stop.txt").write_text("heat\n\nslabs\n", encoding="utf-8")
    scores = []
    for number, options in enumerate(
        (
            [],
            ["--method", "bm25l"],
            ["--k1", "2"],
            ["--b", "0.1"],
            ["--method", "bm25+", "--delta", "2"],
            ["--title", "x"],
        )
    ):
        run("build", folder / "d.jsonl", "--out", folder / str(number), *options)
        scores.append(json.loads(run("query", folder / str(number), "heat slabs", "--json"))[0]["score"])
    assert len({round(score, 5) for score in scores}) == len(scores)
    run("build", folder / "d.jsonl", "--out", folder / "s", "--stop-words", folder / "stop.txt")
    assert "all stop words: heat" in run("query", folder / "s", "Heat", code=1)
    run("build", folder / "d.jsonl", "--out", folder / "c", "--tokenizer", "characters")
    assert len(json.loads(run("query", folder / "c", "z", "--json"))) == 0


def test_errors_are_one_line_each(folder: Path) -> None:
    assert "there is no such file" in run("build", folder / "e.jsonl", "--out", folder / "i", code=1)
    assert "found no index.json" in run("query", folder, "heat", code=1)
    run("build", folder / "d.jsonl", "--out", folder / "i")
    assert "it has no word" in run("query", folder / "i", " ", code=1)
    (folder / "qrels.tsv").write_text("1\th1\t1\n", encoding="utf-8")
    assert "say so with --by-place" in run("evaluate", folder / "i", folder / "q.jsonl", folder / "qrels.tsv", code=1)
    said = run("evaluate", folder / "i", folder / "q.jsonl", folder / "qrels.tsv", "--by-place", "--json")
    assert json.loads(said)["queries"] == 1


def test_a_ranker_is_trained_on_an_index_and_ranks_for_it(folder: Path) -> None:
    run("build", folder / "d.jsonl", "--out", folder / "i")
    words = ("wing", "heat", "slabs", "lift", "speed", "slipstream")
    queries = [{"_id": str(row), "text": f"{word} {row}"} for row, word in enumerate(words)]
    answers = ("w1", "h2", "h1", "w1", "h2", "w1")
    (folder / "t.jsonl").write_text("\n".join(map(json.dumps, queries)), encoding="utf-8")
    (folder / "t.tsv").write_text("".join(f"{row}\t{id}\t1\n" for row, id in enumerate(answers)), encoding="utf-8")
    options = ("--hidden-size", "4", "--max-epochs", "2", "--seed", "0", "--quiet", "--json")
    said = json.loads(
        run("train", folder / "i", folder / "t.jsonl", folder / "t.tsv", "--out", folder / "r.tg", *options)
    )
    assert len(said["history"]) == 2
    ranked = ("--ranker", folder / "r.tg")
    found = json.loads(run("query", folder / "i", "heat in a wing", *ranked, "--json"))
    ranker = load(folder / "r.tg")
    index = open_index(folder / "i")
    scores = ranker.scores("heat in a wing", [index.text(row) for row in range(3)])
    assert [item["id"] for item in found] == [index.id(int(row)) for row in np.argsort(-scores)]
    np.testing.assert_allclose([item["score"] for item in found], np.sort(scores)[::-1], rtol=1e-5)
    only = json.loads(run("query", folder / "i", "heat in a wing", *ranked, "--candidates", "1", "--json"))
    assert len(only) == 1
    judged = json.loads(run("evaluate", folder / "i", folder / "q.jsonl", folder / "qrels.tsv", *ranked, "--json"))
    assert judged["recall_at_100"] == 1.0
    assert "no query has a judged answer" in run(
        "train", folder / "i", folder / "t.jsonl", folder / "qrels.tsv", "--out", folder / "r.tg", "--quiet", code=1
    )
    assert "there is no folder" in run(
        "train", folder / "i", folder / "t.jsonl", folder / "t.tsv", "--out", folder / "no" / "r.tg", code=1
    )
    assert "expected a model of the kind ranker" in run(
        "query", folder / "i", "heat", "--ranker", _other_model(folder), code=1
    )


def test_ctrl_c_keeps_the_best_ranker_and_resuming_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("build", folder / "d.jsonl", "--out", folder / "i")
    words = ("wing", "heat", "slabs", "lift", "speed", "slipstream")
    queries = [{"_id": str(row), "text": f"{word} {row}"} for row, word in enumerate(words)]
    answers = ("w1", "h2", "h1", "w1", "h2", "w1")
    (folder / "t.jsonl").write_text("\n".join(map(json.dumps, queries)), encoding="utf-8")
    (folder / "t.tsv").write_text("".join(f"{row}\t{id}\t1\n" for row, id in enumerate(answers)), encoding="utf-8")
    given = ("train", folder / "i", folder / "t.jsonl", folder / "t.tsv", "--out", folder / "r.tg", "--quiet")
    given += ("--hidden-size", "4", "--max-epochs", "3", "--dropout", "0")
    finish = Selection.on_train_epoch_end

    def finish_and_press(self: Selection, trainer: Any, module: Any) -> None:
        finish(self, trainer, module)
        if len(self.history) == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(Selection, "on_train_epoch_end", finish_and_press)
        said = run(*given, code=130)
    assert "interrupted after 1 epochs. The best so far (epoch 1) is in" in " ".join(said.split())
    assert len(load(folder / "r.tg").history_) == 1
    assert "--overwrite" in run(*given, code=1)
    # The seed that was drawn is that of the training which goes on.
    assert len(json.loads(run(*given, "--resume", "--json"))["history"]) == 3
    assert not (folder / "r.tg.run").exists()


def test_a_ranker_cuts_texts_as_its_index_does(folder: Path) -> None:
    pytest.importorskip("jieba")
    rows = ["酒店离火车站很近", "手机电池太差", "酒店的房间很干净"]
    (folder / "z.jsonl").write_text("\n".join(json.dumps({"id": n, "text": t}) for n, t in enumerate(rows)), "utf-8")
    run("build", folder / "z.jsonl", "--out", folder / "z", "--tokenizer", "jieba")
    (folder / "zq.txt").write_text("酒店 房间\n酒店 火车站\n酒店 干净\n", encoding="utf-8")
    (folder / "z.tsv").write_text("1\t2\t1\n2\t0\t1\n3\t2\t1\n", encoding="utf-8")
    given = ("--hidden-size", "4", "--max-epochs", "1", "--seed", "0")
    said = run("train", folder / "z", folder / "zq.txt", folder / "z.tsv", "--out", folder / "z.tg", *given)
    ranker = load(folder / "z.tg")
    assert ranker.tokenizer == "jieba" and "酒店" in ranker.encoder_.vocabulary.index
    assert "Use it" in said


def test_documents_in_another_encoding(folder: Path) -> None:
    rows = '{"id": "1", "text": "传热"}\n{"id": "2", "text": "机翼"}\n'
    (folder / "g.jsonl").write_bytes(rows.encode("gb18030"))
    assert "expected UTF-8 text" in run("build", folder / "g.jsonl", "--out", folder / "g", code=1)
    run("build", folder / "g.jsonl", "--out", folder / "g", "--encoding", "gb18030")
    assert json.loads(run("query", folder / "g", "机翼的", "--json"))[0]["id"] == "2"
    (folder / "gq.txt").write_bytes("传热\n机翼\n".encode("utf-16"))
    (folder / "g.tsv").write_text("1\t1\t1\n2\t2\t1\n", encoding="utf-8")
    judged = ("evaluate", folder / "g", folder / "gq.txt", folder / "g.tsv", "--encoding", "utf-16", "--json")
    assert json.loads(run(*judged))["mrr"] == 1.0
    (folder / "q.txt").write_bytes(b"he\0at\n")
    assert "q.txt:1: found a NUL byte" in run("evaluate", folder / "g", folder / "q.txt", folder / "g.tsv", code=1)


def _other_model(folder: Path) -> Path:
    model = LinearTextClassifier(validation_fraction=0).fit(["a good one", "a bad one"], ["x", "y"])
    return model.save(folder / "other.tg")


def test_a_ranker_learns_from_what_bm25_finds(folder: Path) -> None:
    run("build", folder / "d.jsonl", "--out", folder / "i")
    index = open_index(folder / "i")
    queries, documents, relevance = judged_pairs(index, [Document("1", "heat")], {"1": {"w1", "h2"}}, 10)
    found = [hit.row for hit in index.search("heat", 10)]
    assert queries == ["heat", "heat"]
    assert documents == [index.text(row) for row in found]
    assert relevance == [index.id(row) == "h2" for row in found]
