from __future__ import annotations

import gzip
import logging
import lzma
import re
import struct
from pathlib import Path

import numpy as np
import pytest

from tidegate.errors import DataError
from tidegate.features.vector_files import read_vectors
from tidegate.features.vector_writing import FORMATS, write_vectors
from tidegate.features.vectors import Subwords, WordVectors

WORDS = ("the", "naïve", "电影", "don't", "😀")
NUMBERS = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
VECTORS = WordVectors(WORDS, NUMBERS)
ENDINGS = {"npz": ".npz", "glove": ".txt", "word2vec": ".vec", "binary": ".bin"}


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_written_is_read(form: str, tmp_path: Path) -> None:
    path = write_vectors(tmp_path / f"v{ENDINGS[form]}", VECTORS)
    found = read_vectors(path)
    assert found.words == WORDS
    np.testing.assert_array_equal(found.vectors, NUMBERS)
    some = read_vectors(path, only=["电影", "absent", "the"])
    assert some.words == ("the", "电影")
    np.testing.assert_array_equal(some.vectors, NUMBERS[[0, 2]])
    named = write_vectors(tmp_path / f"named{ENDINGS[form]}", VECTORS, form)
    assert named.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("opener", [gzip.open, lzma.open])
@pytest.mark.parametrize("form", ["glove", "word2vec", "binary"])
def test_compressed_files(form: str, opener, tmp_path: Path) -> None:
    plain = write_vectors(tmp_path / f"v{ENDINGS[form]}", VECTORS)
    packed = tmp_path / (plain.name + (".gz" if opener is gzip.open else ".xz"))
    with opener(packed, "wb") as file:
        file.write(plain.read_bytes())
    found = read_vectors(packed)
    assert found.words == WORDS
    np.testing.assert_array_equal(found.vectors, NUMBERS)
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(DataError, match="damaged or cut short"):
        read_vectors(packed)


def test_gensim_reads_ours_and_we_read_gensims(tmp_path: Path) -> None:
    models = pytest.importorskip("gensim.models")
    for form, ending, binary in (("word2vec", ".vec", False), ("binary", ".bin", True)):
        path = write_vectors(tmp_path / f"ours{ending}", VECTORS, form)
        theirs = models.KeyedVectors.load_word2vec_format(str(path), binary=binary)
        assert tuple(theirs.index_to_key) == WORDS
        np.testing.assert_array_equal(theirs.vectors, NUMBERS)
        theirs.save_word2vec_format(str(tmp_path / f"theirs{ending}"), binary=binary)
        found = read_vectors(tmp_path / f"theirs{ending}")
        assert found.words == WORDS
        np.testing.assert_allclose(found.vectors, NUMBERS, rtol=1e-6)


def test_a_model_of_fasttext_brings_its_subwords(tmp_path: Path) -> None:
    fasttext = pytest.importorskip("gensim.models.fasttext")
    sentences = [["movie", "film", "great"], ["film", "dull", "movie"]] * 20
    model = fasttext.FastText(sentences, vector_size=8, min_count=1, bucket=500, epochs=1, seed=1, workers=1)
    fasttext.save_facebook_model(model, str(tmp_path / "model.bin"))
    found = read_vectors(tmp_path / "model.bin", only=["film"])
    assert found.words == ("film",)
    np.testing.assert_allclose(found.vector("film"), model.wv["film"], rtol=1e-5)
    np.testing.assert_allclose(found.vector("films"), model.wv["films"], rtol=1e-5)
    again = read_vectors(write_vectors(tmp_path / "kept.npz", found))
    np.testing.assert_array_equal(again.vector("films"), found.vector("films"))


def test_npz_is_mapped_unless_compressed(tmp_path: Path) -> None:
    path = write_vectors(tmp_path / "v.npz", VECTORS)
    base = read_vectors(path).vectors
    while not isinstance(base, np.memmap) and base.base is not None:
        base = base.base
    assert isinstance(base, np.memmap)
    np.savez_compressed(tmp_path / "small.npz", vectors=NUMBERS.astype(np.float16), words=np.array(WORDS))
    found = read_vectors(tmp_path / "small.npz", only={"电影"})
    np.testing.assert_array_equal(found.vectors, NUMBERS[[2]].astype(np.float16).astype(np.float32))
    assert found.vectors.dtype == np.float32


@pytest.mark.parametrize("name", ["v.vocab.txt", "v.vocab.txt.gz", "vocab.txt", "vocab.txt.xz"])
def test_the_words_of_npz_may_stand_beside_it(name: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", vectors=NUMBERS)
    with pytest.raises(DataError, match=r"no file v\.vocab\.txt or vocab\.txt stands beside it"):
        read_vectors(tmp_path / "v.npz")
    opener = gzip.open if name.endswith(".gz") else lzma.open if name.endswith(".xz") else open
    with opener(tmp_path / name, "wb") as file:
        file.write("\n".join(WORDS).encode() + b"\n")
    assert read_vectors(tmp_path / "v.npz").words == WORDS


def test_words_with_blanks_as_those_of_glove_840b(tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    path.write_text("the 1 2\n. . . 3 4\nat name@domain.com 5 6\n", encoding="utf-8")
    found = read_vectors(path)
    assert found.words == ("the", ". . .", "at name@domain.com")
    np.testing.assert_array_equal(found.vectors, [[1, 2], [3, 4], [5, 6]])
    path.write_text(". . . 3 4\nthe 1 2 \r\n", encoding="utf-8")
    assert read_vectors(path).words == (". . .", "the")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 1 2\nb 3\n", r":2: expected a word and 2 numbers, found 1 numbers: 'b 3'"),
        ("a 1 2\nb 3 4\nc 5 6 7\n", r":3: expected a word and 2 numbers, found 3 numbers"),
        ("2 2\na 1 2\nb 3 4 5\n", r":3: expected a word and 2 numbers"),
        ("a 1 2\n\nb 3 4\n", r":2: expected a word and 2 numbers, found an empty line; remove it"),
        ("电影 1 2\n国王 3\n", r":2: expected a word and 2 numbers, found 1 numbers: '国王 3'"),
        ("\n\n", r":1: expected a word and its numbers, found an empty line"),
        ("a 1 2\nb\0c 3 4\n", r":2: found a NUL byte, which no text file holds"),
        ("a 1 2\nb 3 x\n", r":2: expected finite numbers after the word, found 'x'"),
        ("a 1 2\nb 3 4\nc nan 1\n", r":3: expected finite numbers after the word, found 'nan'"),
        ("3 2\na 1 2\nb 3 4\n", r"promises 3 words, found 2: the file is cut short"),
        ("1 2\na 1 2\nb 3 4\n", r"promises 1 words, found 2"),
        ("word\n", r":1: expected a word and its numbers, found 'word'"),
        ("", "found an empty file"),
    ],
)
def test_broken_text_names_the_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(str(path)) + ".*" + message):
        read_vectors(path)


def test_what_is_no_text_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    path.write_bytes("a 1 2\nb 3 4\n".encode("utf-16"))
    with pytest.raises(DataError, match=r"found UTF-16; save the file as UTF-8"):
        read_vectors(path)
    path.write_bytes(gzip.compress(b"a 1 2\nb 3 4\n"))
    with pytest.raises(DataError, match=r"it is gzip data: give the file a name that ends in \.gz"):
        read_vectors(path)


def test_the_line_is_right_after_many(tmp_path: Path) -> None:
    lines = [f"w{number} {number} 1" for number in range(10_000)]
    lines[9_000] = "w9000 1 1,5"
    (tmp_path / "v.txt").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(DataError, match=r"v\.txt:9001: expected finite numbers after the word, found '1,5'"):
        read_vectors(tmp_path / "v.txt")
    assert len(read_vectors(tmp_path / "v.txt", only=["w3", "w9999"])) == 2


def test_bytes_that_are_no_utf8_name_the_line(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_bytes(b"a 1 2\n\xff\xfe 1 2\n")
    with pytest.raises(DataError, match=r"v\.txt:2: expected a word in UTF-8"):
        read_vectors(tmp_path / "v.txt")


def test_of_a_repeated_word_the_first_counts_and_the_log_says_so(tmp_path: Path, caplog) -> None:
    (tmp_path / "v.txt").write_text("a 1 2\nb 3 4\na 5 6\nb 7 8\n", encoding="utf-8")
    with caplog.at_level(logging.WARNING, "tidegate"):
        found = read_vectors(tmp_path / "v.txt")
    np.testing.assert_array_equal(found.vectors, [[1, 2], [3, 4]])
    assert "v.txt:3: the word 'a' is there a second time (2 repeats in all)" in caplog.text
    caplog.clear()
    np.savez(tmp_path / "v.npz", vectors=np.eye(3), words=np.array(["a", "b", "a"]))
    with caplog.at_level(logging.WARNING, "tidegate"):
        np.testing.assert_array_equal(read_vectors(tmp_path / "v.npz").vectors, np.eye(3)[:2])
    assert "1 words are there a second time" in caplog.text


def test_a_binary_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = write_vectors(tmp_path / "v.bin", VECTORS).read_bytes()
    for cut in range(len(whole) - 1):  # without the last line break it is whole
        (tmp_path / "cut.bin").write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"cut\.bin"):
            read_vectors(tmp_path / "cut.bin")
    (tmp_path / "cut.bin").write_bytes(whole[:-1])
    assert read_vectors(tmp_path / "cut.bin").words == WORDS
    (tmp_path / "cut.bin").write_bytes(whole[:90])
    with pytest.raises(DataError, match=r"promises 5 words of 7 numbers, and the file ends in word 3 \(byte 90\)"):
        read_vectors(tmp_path / "cut.bin")
    (tmp_path / "cut.bin").write_bytes(whole + whole)
    with pytest.raises(DataError, match="the file goes on after them"):
        read_vectors(tmp_path / "cut.bin")
    (tmp_path / "cut.bin").write_bytes(b"1 1\na " + struct.pack("<f", float("inf")))
    with pytest.raises(DataError, match="the vector of 'a' holds a number that is not finite"):
        read_vectors(tmp_path / "cut.bin")


def test_npz_that_is_damaged_or_of_another_shape(tmp_path: Path) -> None:
    whole = write_vectors(tmp_path / "v.npz", VECTORS).read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.npz: the file is damaged or cut short"):
        read_vectors(tmp_path / "cut.npz")
    for arrays, message in (
        ({"weights": NUMBERS}, "expected the array 'vectors', found weights"),
        ({"vectors": NUMBERS[0], "words": np.array(WORDS)}, r"floats \[words, D\], found float32 \(7,\)"),
        ({"vectors": NUMBERS, "words": np.array(WORDS[:4])}, "found 4 words, 5 vectors"),
        ({"vectors": NUMBERS, "words": np.arange(5)}, "expected 'words' to be texts or UTF-8 bytes, found int64"),
        ({"vectors": np.full((5, 2), np.nan), "words": np.array(WORDS)}, "'the' holds a number that is not finite"),
        ({"vectors": np.array([[None]] * 5), "words": np.array(WORDS)}, "damaged"),
    ):
        np.savez(tmp_path / "bad.npz", **arrays)
        with pytest.raises(DataError, match=message):
            read_vectors(tmp_path / "bad.npz")


def test_a_file_that_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    write_vectors(tmp_path / "glove.txt", VECTORS)
    with pytest.raises(DataError, match=r"Did you mean 'glove.txt'\?"):
        read_vectors(tmp_path / "glowe.txt")
    with pytest.raises(DataError, match="expected a file, found a folder"):
        read_vectors(tmp_path)


def test_subwords_stay_in_npz(tmp_path: Path) -> None:
    vectors = WordVectors(WORDS, NUMBERS, Subwords(NUMBERS[::-1].copy(), 2, 5))
    found = read_vectors(write_vectors(tmp_path / "v.npz", vectors), only=["the"])
    assert found.subwords is not None
    assert (found.subwords.min_n, found.subwords.max_n) == (2, 5)
    np.testing.assert_array_equal(found.vector("there"), vectors.vector("there"))
