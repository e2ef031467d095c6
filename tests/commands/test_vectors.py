from __future__ import annotations

import gzip
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tidegate.cli import app
from tidegate.commands import vectors as commands
from tidegate.features.vector_files import read_vectors
from tidegate.features.vector_writing import write_vectors
from tidegate.features.vectors import WordVectors
from tidegate.reporting.progress_bar import Report

RUNNER = CliRunner()
PLANE = np.array([[2.0, 2.0], [2.0, -2.0], [1.0, 3.0], [1.0, -3.0], [-1.0, 0.1]], dtype=np.float32)
VECTORS = WordVectors(("king", "queen", "man", "woman", "apple"), PLANE)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_vectors(tmp_path / "v.txt", VECTORS)


def run(*arguments: object, code: int = 0) -> str:
    result = RUNNER.invoke(app, ["vectors", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.output


def test_neighbours_and_analogies(file: Path) -> None:
    found = json.loads(run("neighbours", file, "king", "--count", "2", "--json"))
    assert [item["word"] for item in found] == [word for word, _ in VECTORS.neighbours("king", 2)]
    assert run("analogy", file, "man", "king", "woman", "--count", "1").split()[1] == "queen"
    assert "'kong' has no vector" in run("neighbours", file, "kong", code=1)


def test_judgement(file: Path, tmp_path: Path) -> None:
    (tmp_path / "s.tsv").write_text("king\tqueen\t9\nking\tman\t8\nking\tapple\t1\n", encoding="utf-8")
    (tmp_path / "a.txt").write_text(": family\nman king woman queen\nman king apple zebra\n", encoding="utf-8")
    given = ("--similarity", tmp_path / "s.tsv", "--analogies", tmp_path / "a.txt")
    found = json.loads(run("evaluate", file, *given, "--json"))
    assert found["s.tsv"] == {"spearman": pytest.approx(0.5), "covered": 3, "pairs": 3}
    assert found["a.txt"]["total"] == {"accuracy": 1.0, "right": 1, "covered": 1, "total": 2}
    assert found["a.txt"]["syntactic"]["accuracy"] is None
    plain = run("evaluate", file, *given)
    assert "s.tsv: Spearman 0.500 (3 of 3 pairs)" in plain and "family" in plain
    assert json.loads(run("evaluate", file, *given, "--most", "2", "--json"))["a.txt"]["total"]["covered"] == 0
    assert "give --similarity or --analogies" in run("evaluate", file, code=1)


def test_conversion(file: Path, tmp_path: Path) -> None:
    run("convert", file, tmp_path / "v.bin")
    np.testing.assert_array_equal(read_vectors(tmp_path / "v.bin").vectors, PLANE)
    run("convert", tmp_path / "v.bin", tmp_path / "w", "--format", "word2vec", "--most", "2")
    assert (tmp_path / "w").read_text(encoding="utf-8") == "2 2\nking 2.0 2.0\nqueen 2.0 -2.0\n"
    (tmp_path / "words").write_text("man\nzebra\n", encoding="utf-8")
    said = run("convert", file, tmp_path / "some.npz", "--words", tmp_path / "words", "--json")
    assert json.loads(said)["words"] == 1
    (tmp_path / "words").write_text("zebra\n", encoding="utf-8")
    assert "none of the words" in run("convert", file, tmp_path / "x.npz", "--words", tmp_path / "words", code=1)


def test_training(tmp_path: Path) -> None:
    pytest.importorskip("gensim")
    lines = ["The cat, the <b>dog</b> and the cow!", "A cat sees a dog; a cow sees a cat."] * 20
    with gzip.open(tmp_path / "t.txt.gz", "wt", encoding="utf-8") as stream:
        stream.write("\n".join(lines))
    options = ("--size", "4", "--epochs", "1", "--min-count", "2", "--buckets", "50")
    for method in ("cbow", "fasttext", "glove"):
        said = run("train", tmp_path / "t.txt.gz", "--out", tmp_path / "v.npz", "--method", method, *options, "--json")
        assert json.loads(said) == {"vectors": str(tmp_path / "v.npz"), "words": 7, "size": 4}
        assert set(read_vectors(tmp_path / "v.npz").words) == {"the", "cat", "dog", "and", "cow", "a", "sees"}
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps({"body": line}) for line in lines), encoding="utf-8")
    run(
        "train",
        tmp_path / "t.jsonl",
        "--out",
        tmp_path / "v.vec",
        "--text",
        "body",
        "--keep-case",
        "--keep-marks",
        *options,
    )
    assert {"The", "the", ",", "A"} <= set(read_vectors(tmp_path / "v.vec").words)
    (tmp_path / "g.txt").write_bytes("电影 好 电影\n".encode("gb18030") * 5)
    run("train", tmp_path / "g.txt", "--out", tmp_path / "g.vec", "--encoding", "gb18030", *options)
    assert set(read_vectors(tmp_path / "g.vec").words) == {"电", "影", "好"}
    for option in (("--keep-marks", "--tokenizer", "characters"), ("--keep-marks", "--tokenizer", "jieba")):
        run("train", tmp_path / "t.txt.gz", "--out", tmp_path / "c.txt", *option, *options)
        assert {"!", "a"} < set(read_vectors(tmp_path / "c.txt").words)
    for out in ("v.txt.gz", "."):
        said = run("train", tmp_path / "t.txt.gz", "--out", tmp_path / out, *options, code=1)
        assert "epoch" not in said
    refused = run("train", tmp_path / "t.jsonl", "--out", tmp_path / "no" / "v.vec", "--text", "body", code=1)
    assert "there is no folder" in refused
    assert "Did you mean 'jieba'" in run(
        "train", tmp_path / "t.txt.gz", "--out", tmp_path / "v.npz", "--tokenizer", "jiebe", code=1
    )


def test_ctrl_c_keeps_what_was_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gensim")
    (tmp_path / "t.txt").write_text("the cat sat\nthe dog sat\n" * 300, encoding="utf-8")
    press = {"after": 0}

    @contextmanager
    def pressing(quiet: bool = False) -> Iterator[Report]:
        epochs = 0

        def report(what: str, done: int, of: int | None) -> None:
            nonlocal epochs
            epochs += what == "learning" and done == of == 1
            if what == "learning" and epochs == press["after"] and done != of:
                press["after"] = -1
                os.kill(os.getpid(), signal.SIGINT)

        yield report

    monkeypatch.setattr(commands, "progress_bar", pressing)
    out = tmp_path / "v.npz"
    given = ("train", tmp_path / "t.txt", "--out", out, "--method", "cbow", "--size", "4", "--epochs", "9")
    assert "interrupted" in run(*given, code=130)
    assert not out.exists()
    press["after"] = 2
    said = run(*given, "--json", code=130)
    assert "interrupted after 2 of 9 epochs" in " ".join(said.split())
    assert set(read_vectors(out).words) == {"the", "cat", "dog", "sat"}
