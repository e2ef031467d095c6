"""Writing files of word vectors: npz, GloVe's and word2vec's text, word2vec's binary form; whole or not at all."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tidegate.atomic_files import replacing
from tidegate.data.files import COMPRESSIONS
from tidegate.errors import DataError, nearest
from tidegate.features.vectors import WordVectors

__all__ = ["FORMATS", "check_form", "write_vectors"]

FORMATS = ("npz", "glove", "word2vec", "binary")
_ENDINGS = {".npz": "npz", ".bin": "binary", ".vec": "word2vec"}
_REPORT_EVERY = 1000
Progress = Callable[[int, int], None]
_log = logging.getLogger(__name__)


def write_vectors(
    path: str | os.PathLike[str], vectors: WordVectors, form: str | None = None, *, progress: Progress | None = None
) -> Path:
    """Write vectors as ``"npz"``, ``"glove"``, ``"word2vec"`` (text) or ``"binary"``; None goes by the ending.

    Only npz keeps subwords; the log says so where they are lost. The endings are .npz, .bin (binary) and .vec
    (word2vec); others are GloVe's text. What was there is replaced once the new file is whole.

    Args:
        path: The file.
        vectors: What to write.
        form: One of `FORMATS`, or None.
        progress: Called now and then with how many words are written, and of how many.

    Raises:
        DataError: There is no such form, a word has a blank where the form ends words with one, or the file cannot be
            written.
    """
    path = Path(path)
    form = check_form(path, form)
    separators = ("\n",) if form == "npz" else (" ", "\n")
    for word in vectors.words:
        if not word or any(separator in word for separator in separators):
            raise DataError(f"{path}: the word {word!r} cannot stand in a file of the form {form}; write npz")
    if vectors.subwords is not None and form != "npz":
        _log.warning(
            "%s: the form %s keeps no subwords, from which other words than these get their vectors; npz does",
            path,
            form,
        )
    try:
        with replacing(path) as file:
            _WRITERS[form](file, vectors, progress)
    except OSError as error:
        raise DataError(f"{path}: the vectors could not be written: {error.strerror or error}") from None
    return path


def check_form(path: str | os.PathLike[str], form: str | None) -> str:
    """The form in which `write_vectors` would write a file.

    Raises:
        DataError: There is no such form, or the file's ending says that it is compressed.
    """
    path = Path(path)
    form = _ENDINGS.get(path.suffix.lower(), "glove") if form is None else form
    if form not in FORMATS:
        raise DataError(f"format {form!r}: expected one of {', '.join(FORMATS)}.{nearest(form, FORMATS)}")
    if path.suffix.lower() in COMPRESSIONS:
        raise DataError(f"{path}: vectors are written plain; compress the file afterwards")
    return form


def _write_npz(file: BinaryIO, vectors: WordVectors, progress: Progress | None) -> None:
    del progress  # quick
    arrays: dict[str, np.ndarray] = {
        "vectors": np.asarray(vectors.vectors),
        "words": np.frombuffer("\n".join(vectors.words).encode("utf-8"), dtype=np.uint8),
    }
    if vectors.subwords is not None:
        arrays["subwords"] = np.asarray(vectors.subwords.vectors)
        arrays["subword_lengths"] = np.array([vectors.subwords.min_n, vectors.subwords.max_n])
    np.savez(file, allow_pickle=False, **arrays)


def _write_glove(file: BinaryIO, vectors: WordVectors, progress: Progress | None) -> None:
    for word, row in _rows(vectors, progress):
        file.write(f"{word} {' '.join(map(str, np.asarray(row, dtype=np.float32)))}\n".encode())


def _write_word2vec(file: BinaryIO, vectors: WordVectors, progress: Progress | None) -> None:
    file.write(f"{len(vectors)} {vectors.size}\n".encode())
    _write_glove(file, vectors, progress)


def _write_binary(file: BinaryIO, vectors: WordVectors, progress: Progress | None) -> None:
    file.write(f"{len(vectors)} {vectors.size}\n".encode())
    for word, row in _rows(vectors, progress):
        file.write(word.encode("utf-8") + b" " + np.asarray(row, dtype="<f4").tobytes() + b"\n")


def _rows(vectors: WordVectors, progress: Progress | None) -> Iterator[tuple[str, np.ndarray]]:
    for done, (word, row) in enumerate(zip(vectors.words, vectors.vectors, strict=True), 1):
        yield word, row
        if progress is not None and done % _REPORT_EVERY == 0:
            progress(done, len(vectors))


_WRITERS = {"npz": _write_npz, "glove": _write_glove, "word2vec": _write_word2vec, "binary": _write_binary}
