from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from tidegate.errors import DataError
from tidegate.features.vector_files import read_vectors
from tidegate.features.vector_writing import check_form, write_vectors
from tidegate.features.vectors import Subwords, WordVectors

NUMBERS = np.random.default_rng(0).normal(size=(2500, 3)).astype(np.float32)
VECTORS = WordVectors(tuple(f"词{row}" for row in range(2500)), NUMBERS)


@pytest.mark.parametrize("ending", [".txt", ".vec", ".bin"])
def test_writing_says_how_far_it_is(ending: str, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    path = write_vectors(tmp_path / f"v{ending}", VECTORS, progress=lambda done, of: told.append((done, of)))
    assert told == [(1000, 2500), (2000, 2500)]
    np.testing.assert_array_equal(read_vectors(path).vectors, NUMBERS)
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_a_file_may_be_rewritten_from_its_own_map(tmp_path: Path) -> None:
    path = write_vectors(tmp_path / "v.npz", VECTORS)
    mapped = read_vectors(path)
    write_vectors(path, WordVectors(mapped.words[:2], mapped.vectors[:2]))
    np.testing.assert_array_equal(mapped.vectors, NUMBERS)
    np.testing.assert_array_equal(read_vectors(path).vectors, NUMBERS[:2])


def test_what_breaks_off_leaves_what_was_there(tmp_path: Path) -> None:
    path = write_vectors(tmp_path / "v.txt", WordVectors(("a",), NUMBERS[:1]))
    before = path.read_bytes()

    def fail(done: int, of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_vectors(path, VECTORS, progress=fail)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["v.txt"]


def test_subwords_that_are_lost_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    vectors = WordVectors(("a",), NUMBERS[:1], Subwords(NUMBERS[:5], 3, 6))
    with caplog.at_level(logging.WARNING, "tidegate"):
        write_vectors(tmp_path / "v.npz", vectors)
        assert not caplog.text
        write_vectors(tmp_path / "v.vec", vectors)
    assert "the form word2vec keeps no subwords" in caplog.text


def test_forms_and_their_endings() -> None:
    endings = {"v.npz": "npz", "v.bin": "binary", "v.vec": "word2vec", "v.txt": "glove", "v": "glove"}
    assert {name: check_form(name, None) for name in endings} == endings
    assert check_form("v.txt", "binary") == "binary"
    with pytest.raises(DataError, match=r"compress the file afterwards"):
        check_form("v.txt.gz", None)
    with pytest.raises(DataError, match=r"format 'golve': expected one of npz.* Did you mean 'glove'"):
        check_form("v.txt", "golve")


def test_what_cannot_be_written(tmp_path: Path) -> None:
    spaced = WordVectors(("New York", "c"), NUMBERS[:2])
    for form in ("glove", "word2vec", "binary"):
        with pytest.raises(DataError, match=f"'New York' cannot stand in a file of the form {form}; write npz"):
            write_vectors(tmp_path / "v.x", spaced, form)
    assert read_vectors(write_vectors(tmp_path / "v.npz", spaced)).words == ("New York", "c")
    with pytest.raises(DataError, match="could not be written: No such file"):
        write_vectors(tmp_path / "no" / "v.npz", VECTORS)
    with pytest.raises(DataError, match="could not be written: Is a directory"):
        write_vectors(tmp_path, VECTORS, "npz")
