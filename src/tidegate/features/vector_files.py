"""Reading files of word vectors: GloVe and word2vec text, word2vec binary, FastText, and npz; by memory map."""

from __future__ import annotations

import codecs
import io
import logging
import mmap
import os
import struct
import warnings
import zipfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tidegate.data.files import COMPRESSIONS, open_bytes, open_text, plain_suffix, signature_hint
from tidegate.errors import DataError, require
from tidegate.features.vectors import Subwords, WordVectors

__all__ = ["from_gensim", "read_vectors"]

_FASTTEXT_MODEL = struct.pack("<i", 793712314)
_PARSED_AT_ONCE = 4096
_LONGEST_WORD = 1 << 16
_REPORT_EVERY = 4096
Progress = Callable[[int, int], None]
_log = logging.getLogger(__name__)


def read_vectors(
    path: str | os.PathLike[str], only: Collection[str] | None = None, *, progress: Progress | None = None
) -> WordVectors:
    """The vectors of a file, whose kind shows from its ending and its beginning.

    - ``.npz``: arrays ``vectors`` [V, D] and ``words`` (texts, or their UTF-8 bytes with a line break between two). The
      words may also stand one a line beside it, in ``NAME.vocab.txt`` or ``vocab.txt``, plain or compressed.
    - ``.bin``: word2vec's binary form, or a model of FastText, which brings its subwords (through gensim).
    - anything else: text, a word and its numbers a line, with word2vec's and FastText's first line ``V D`` or, as
      GloVe, without.

    Text and binary files may be compressed (.gz, .xz, .bz2). What is not compressed is mapped, not read as a whole. Of
    a word that is there twice the first vector counts, and the log says how many there were.

    Args:
        path: The file.
        only: Words to keep; None keeps all.
        progress: Called now and then with how many bytes of a text or binary file are read, and of how many.

    Raises:
        DataError: The file is missing, damaged or cut short, or a line has another dimension or no number where one is
            due; the message names the line.
        MissingExtraError: A model of FastText, and gensim is not installed.
    """
    path = Path(path)
    if plain_suffix(path) == ".npz":
        return _read_npz(path, only)
    with _content(path) as data:
        if not len(data):
            raise DataError(f"{path}: expected word vectors, found an empty file")
        if data[:4] == _FASTTEXT_MODEL:
            return _read_fasttext_model(path, only)
        if plain_suffix(path) == ".bin":
            return _read_binary(path, data, only, progress)
        return _read_text(path, data, only, progress)


# --- text


def _read_text(
    path: Path, data: mmap.mmap | bytes, only: Collection[str] | None, progress: Progress | None
) -> WordVectors:
    _check_is_text(path, data)
    stream = io.BytesIO(data) if isinstance(data, bytes) else data
    lines = iter(stream.readline, b"")
    first = next(lines).split()
    promised: int | None = None
    if len(first) == 2 and first[0].isdigit() and first[1].isdigit():
        promised, size, start = int(first[0]), int(first[1]), 2
    else:
        stream.seek(0)
        size, start = len(first) - 1, 1
        # GloVe's words may have blanks, also the first one.
        while size > 1 and not _is_number(first[len(first) - size]):
            size -= 1
    if size < 1:
        found = _shown(b" ".join(first)) if first else "an empty line"
        raise DataError(f"{path}:1: expected a word and its numbers, found {found}")
    rows = _Rows(path, size, only)
    number = start - 1
    for number, line in enumerate(lines, start):
        if progress is not None and number % _REPORT_EVERY == 0:
            progress(stream.tell(), len(data))
        word, _, numbers = line.rstrip().partition(b" ")
        if numbers.count(b" ") != size - 1 or not word:
            word, numbers = _split_odd_line(path, number, line, size)
        rows.add_text(number, word, numbers)
    if promised is not None and number - start + 1 != promised:
        raise DataError(
            f"{path}: the first line promises {promised:,} words, found {number - start + 1:,}: the file is cut short, "
            "or not whole; copy or download it again"
        )
    return rows.finish()


def _check_is_text(path: Path, data: mmap.mmap | bytes) -> None:
    """Refuse what is compressed without saying so, UTF-16, or has NUL bytes, before its bytes are taken for words."""
    what = f"{path}: expected lines of a word and its numbers in UTF-8"
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise DataError(f"{what}, found UTF-16; save the file as UTF-8")
    if hint := signature_hint(data[:8]):
        raise DataError(f"{what}; {hint}")
    if (place := data.find(b"\0")) >= 0:
        line = data[:place].count(b"\n") + 1
        raise DataError(
            f"{path}:{line}: found a NUL byte, which no text file holds; give word2vec's binary form the ending .bin, "
            "save UTF-16 as UTF-8, or copy or download the file again"
        )


def _shown(line: bytes) -> str:
    """The beginning of a line as a message shows it."""
    return repr(line.decode("utf-8", "replace").strip()[:60])


def _split_odd_line(path: Path, number: int, line: bytes, size: int) -> tuple[bytes, bytes]:
    """Word and numbers of a line with more blanks than numbers: a word that has blanks, or numbers too many."""
    fields = line.split()
    extra = fields[1 : max(len(fields) - size, 1)]
    if not extra and len(fields) == size + 1:
        return fields[0], b" ".join(fields[1:])
    if len(fields) <= size or any(_is_number(field) for field in extra):
        count = sum(_is_number(field) for field in fields[1:])
        found = f"{count} numbers: {_shown(line)}" if fields else "an empty line; remove it"
        raise DataError(f"{path}:{number}: expected a word and {size} numbers, found {found}")
    return b" ".join(fields[:-size]), b" ".join(fields[-size:])


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


class _Rows:
    """Words and numbers as they come, parsed many at a time; of a repeated word the first counts."""

    def __init__(self, path: Path, size: int, only: Collection[str] | None) -> None:
        self.path, self.size = path, size
        self.wanted = None if only is None else {word.encode("utf-8", "surrogatepass") for word in only}
        self.places: dict[bytes, int] = {}
        self.repeats: list[tuple[int, bytes]] = []
        self.pending: list[bytes] = []
        self.blocks: list[np.ndarray] = []

    def take(self, number: int, word: bytes) -> bool:
        if self.wanted is not None and word not in self.wanted:
            return False
        if word in self.places:
            self.repeats.append((number, word))
            return False
        self.places[word] = number
        return True

    def add_text(self, number: int, word: bytes, numbers: bytes) -> None:
        if self.take(number, word):
            self.pending.append(numbers)
            if len(self.pending) == _PARSED_AT_ONCE:
                self._parse()

    def _parse(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)
            try:
                block = np.fromstring(b" ".join(self.pending).decode("ascii"), dtype=np.float32, sep=" ")
            except (DeprecationWarning, ValueError):  # something that is no number
                block = np.empty(0, dtype=np.float32)
        if block.size != self.size * len(self.pending) or not np.isfinite(block).all():
            self._blame()
        self.blocks.append(block.reshape(-1, self.size))
        self.pending = []

    def _blame(self) -> None:
        done = sum(map(len, self.blocks))
        for number, numbers in zip(list(self.places.values())[done:], self.pending, strict=True):
            for field in numbers.split():
                if not _is_number(field) or not np.isfinite(float(field)) or abs(float(field)) > 3.4e38:
                    raise DataError(
                        f"{self.path}:{number}: expected finite numbers after the word, found {_shown(field)}"
                    )
        raise DataError(f"{self.path}: the numbers cannot be read")

    def finish(self) -> WordVectors:
        if self.pending:
            self._parse()
        vectors = np.concatenate(self.blocks) if self.blocks else np.empty((0, self.size), dtype=np.float32)
        words = []
        for word, number in self.places.items():
            try:
                words.append(word.decode("utf-8"))
            except UnicodeDecodeError:
                raise DataError(f"{self.path}:{number}: expected a word in UTF-8, found {word[:40]!r}") from None
        if self.repeats:
            number, word = self.repeats[0]
            _log.warning(
                "%s:%d: the word %r is there a second time (%s repeats in all); the first vector of a word counts",
                self.path,
                number,
                word.decode("utf-8", "replace"),
                f"{len(self.repeats):,}",
            )
        return WordVectors(tuple(words), vectors)


@contextmanager
def _content(path: Path) -> Iterator[mmap.mmap | bytes]:
    with open_bytes(path) as stream:
        if path.suffix.lower() in COMPRESSIONS:
            yield stream.read()
        elif os.fstat(stream.fileno()).st_size == 0:
            yield b""
        else:
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                yield mapped


# --- word2vec's binary form, FastText's model


def _read_binary(
    path: Path, data: mmap.mmap | bytes, only: Collection[str] | None, progress: Progress | None
) -> WordVectors:
    end = data.find(b"\n", 0, 100)
    header = data[: max(end, 0)].split()
    if len(header) != 2 or not all(field.isdigit() for field in header):
        raise DataError(
            f"{path}: expected word2vec's binary form, which begins with a line of two numbers (words and dimension), "
            f"found {data[:30]!r}; text files want another ending than .bin"
        )
    count, size = int(header[0]), int(header[1])
    rows, kept, position = _Rows(path, size, only), [], end + 1
    for number in range(1, count + 1):
        space = data.find(b" ", position, position + _LONGEST_WORD)
        stop = space + 1 + 4 * size
        if space < 0 or stop > len(data):
            raise DataError(
                f"{path}: cut short: the first line promises {count:,} words of {size} numbers, and the file ends in "
                f"word {number:,} (byte {len(data):,}); copy or download it again"
            )
        if progress is not None and number % _REPORT_EVERY == 0:
            progress(position, len(data))
        if rows.take(number, data[position:space].lstrip(b"\n")):
            kept.append(data[space + 1 : stop])
        position = stop
    if data[position : position + 2].strip():
        raise DataError(f"{path}: the first line promises {count:,} words, and the file goes on after them")
    vectors = np.frombuffer(b"".join(kept), dtype="<f4").reshape(-1, size)
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if bad.size:
        word = list(rows.places)[bad[0]]
        raise DataError(f"{path}: the vector of {word.decode('utf-8', 'replace')!r} holds a number that is not finite")
    rows.blocks = [vectors]
    return rows.finish()


def _read_fasttext_model(path: Path, only: Collection[str] | None) -> WordVectors:
    fasttext = require("gensim.models.fasttext", "words")
    try:
        model = fasttext.load_facebook_vectors(str(path))
    except Exception as error:  # what gensim raises on a damaged file is of many kinds
        raise DataError(f"{path}: gensim cannot read this model of FastText: {error}") from None
    return _restricted(from_gensim(model), only)


def from_gensim(keyed: Any) -> WordVectors:
    """The vectors of gensim's ``KeyedVectors``, with the subwords of ``FastTextKeyedVectors``."""
    subwords = None
    if hasattr(keyed, "vectors_ngrams"):
        subwords = Subwords(np.asarray(keyed.vectors_ngrams, dtype=np.float32), int(keyed.min_n), int(keyed.max_n))
    return WordVectors(tuple(keyed.index_to_key), np.asarray(keyed.vectors, dtype=np.float32), subwords)


def _restricted(vectors: WordVectors, only: Collection[str] | None) -> WordVectors:
    if only is None:
        return vectors
    wanted = only if isinstance(only, set | frozenset | dict) else set(only)
    rows = [row for row, word in enumerate(vectors.words) if word in wanted]
    kept = np.asarray(vectors.vectors[rows], dtype=np.float32)
    return WordVectors(tuple(vectors.words[row] for row in rows), kept, vectors.subwords)


# --- npz


def _read_npz(path: Path, only: Collection[str] | None) -> WordVectors:
    with open_bytes(path):  # a missing file says so
        pass
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
            if "vectors" not in names:
                raise DataError(
                    f"{path}: expected the array 'vectors', found {', '.join(sorted(names)) or 'no arrays'}"
                )
            arrays = {name: _array(path, archive, name) for name in names & {"vectors", "words", *_SUBWORD_ARRAYS}}
    except (zipfile.BadZipFile, ValueError, EOFError, OSError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: the file is damaged or cut short ({error}); copy or download it again") from None
    vectors = arrays["vectors"]
    if vectors.ndim != 2 or vectors.dtype.kind != "f":
        raise DataError(f"{path}: expected 'vectors' to be floats [words, D], found {vectors.dtype} {vectors.shape}")
    words = _words(path, arrays.get("words"))
    if len(words) != len(vectors):
        raise DataError(f"{path}: expected one word a vector, found {len(words):,} words, {len(vectors):,} vectors")
    subwords = None
    if set(_SUBWORD_ARRAYS) <= set(arrays):
        least, most = arrays["subword_lengths"].tolist()
        subwords = Subwords(arrays["subwords"], least, most)
    first = _first_rows(path, words, only)
    kept = np.asarray(vectors[list(first.values())] if len(first) < len(words) else vectors)
    if only is not None:
        kept = kept.astype(np.float32)
    if not np.isfinite(kept).all():
        row = int(np.flatnonzero(~np.isfinite(kept).all(axis=1))[0])
        raise DataError(f"{path}: the vector of {list(first)[row]!r} holds a number that is not finite")
    return WordVectors(tuple(first), kept, subwords)


_SUBWORD_ARRAYS = ("subwords", "subword_lengths")


def _first_rows(path: Path, words: list[str], only: Collection[str] | None) -> dict[str, int]:
    wanted = only if only is None or isinstance(only, set | frozenset | dict) else set(only)
    first: dict[str, int] = {}
    repeats = 0
    for row, word in enumerate(words):
        if wanted is None or word in wanted:
            repeats += word in first
            first.setdefault(word, row)
    if repeats:
        _log.warning("%s: %s words are there a second time; the first vector of a word counts", path, f"{repeats:,}")
    return first


def _array(path: Path, archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """An array of an npz file: mapped where it is stored as it is, else read."""
    info = archive.getinfo(f"{name}.npy")
    with open(path, "rb") as file:
        if info.compress_type == zipfile.ZIP_STORED:
            file.seek(info.header_offset + 26)
            file.seek(sum(struct.unpack("<HH", file.read(4))), os.SEEK_CUR)
            version = np.lib.format.read_magic(file)
            if version == (1, 0):
                shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
                if not dtype.hasobject and np.prod(shape):
                    return np.memmap(file, dtype, "r", file.tell(), shape, "F" if fortran else "C")
    with archive.open(info) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _words(path: Path, array: np.ndarray | None) -> list[str]:
    if array is not None and array.dtype.kind == "U":
        return array.tolist()
    if array is not None and array.dtype == np.uint8:
        try:
            return array.tobytes().decode("utf-8").split("\n")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: expected 'words' in UTF-8: {error}") from None
    if array is not None:
        raise DataError(f"{path}: expected 'words' to be texts or UTF-8 bytes, found {array.dtype}")
    stems = (f"{path.name.removesuffix('.npz')}.vocab.txt", "vocab.txt")
    for name in (stem + ending for stem in stems for ending in ("", *COMPRESSIONS)):
        if (path.parent / name).is_file():
            with open_text(path.parent / name, newline="\n") as stream:
                return stream.read().removesuffix("\n").split("\n")
    raise DataError(f"{path}: it has no array 'words', and no file {' or '.join(stems)} stands beside it")
