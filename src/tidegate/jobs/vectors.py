"""What the commands of ``tidegate vectors`` do: train, judge and convert files of word vectors."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tidegate.data.encoder import TOKENIZER_NAMES
from tidegate.data.files import open_text
from tidegate.data.text import TOKENIZERS, prepare
from tidegate.errors import DataError, nearest
from tidegate.features.vector_evaluation import (
    read_analogies,
    read_similarities,
    score_analogies,
    score_similarities,
)
from tidegate.features.vector_files import read_vectors
from tidegate.features.vector_training import train_vectors
from tidegate.features.vector_writing import check_form, write_vectors
from tidegate.features.vectors import WordVectors
from tidegate.jobs.interrupts import stopping
from tidegate.jobs.out_file import check_out_file
from tidegate.jobs.texts import read_texts
from tidegate.reporting.progress_bar import Report, no_report

__all__ = ["Learned", "convert", "evaluate", "read", "train"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Learned:
    """Vectors that were learned, the epochs that were finished, and whether Ctrl-C ended the training early."""

    vectors: WordVectors
    epochs: int
    interrupted: bool


def train(
    source: str | Path,
    out: str | Path,
    *,
    text: str = "text",
    encoding: str = "utf-8",
    errors: str = "strict",
    tokenizer: str = "words",
    lowercase: bool = True,
    keep_marks: bool = False,
    form: str | None = None,
    report: Report = no_report,
    **options: Any,
) -> Learned:
    """Learn vectors from a text and write them into a file.

    Args:
        source, text, encoding, errors: As `read_texts` has them.
        out: The file.
        tokenizer: ``"words"``, ``"characters"`` or ``"jieba"``.
        lowercase: Whether case is ignored.
        keep_marks: Whether marks of punctuation have vectors.
        form: As of `write_vectors`; None goes by the ending of `out`.
        report: Told how far each step is.
        options: Those of `train_vectors`.

    Raises:
        DataError: The text cannot be read, holds too little, an option is out of range, or the file cannot be written.
        MissingExtraError: gensim is not installed.
        KeyboardInterrupt: Ctrl-C came before the first epoch was finished; later it ends the training, and the vectors
            are written as they are then.
    """
    if tokenizer not in TOKENIZERS:
        legal = [name for name in TOKENIZER_NAMES if name in TOKENIZERS]
        raise DataError(f"tokenizer {tokenizer!r}: expected one of {', '.join(legal)}.{nearest(tokenizer, legal)}")
    form = check_form(out, form)
    check_out_file(out)
    tokenize = TOKENIZERS[tokenizer]
    finished = 0

    def sentences() -> Iterator[list[str]]:
        reading = partial(report, "texts read", of=None)
        for line in read_texts(source, text, encoding=encoding, errors=errors, progress=reading):
            if stop.is_set():
                raise KeyboardInterrupt
            tokens = tokenize(prepare(line, lowercase=lowercase, html=True, normalization="NFKC"))
            if not keep_marks:
                yield [token for token in tokens if any(map(str.isalnum, token))]
            elif form == "npz":
                yield tokens
            else:  # a blank ends a word in these files
                yield [token for token in tokens if not token.isspace()]

    def note(epoch: int, epochs: int, seconds: float) -> None:
        nonlocal finished
        finished = epoch
        report("learning", 1, 1)  # a bar gives way to the line
        _log.info("epoch %d of %d: %.1f s", epoch, epochs, seconds)

    with stopping() as stop:
        advance = partial(report, "learning")
        vectors = train_vectors(sentences(), progress=note, advance=advance, stop=stop.is_set, **options)
    if stop.is_set() and not finished:
        raise KeyboardInterrupt
    write_vectors(out, vectors, form, progress=partial(report, "words written"))
    return Learned(vectors, finished, stop.is_set())


def evaluate(
    file: str | Path,
    *,
    similarity: list[Path],
    analogies: list[Path],
    most: int | None = 30_000,
    report: Report = no_report,
) -> dict[str, dict[str, Any]]:
    """Judge vectors by what people say of words.

    Args:
        file: A file of vectors.
        similarity: Files of pairs and their likeness.
        analogies: Files of analogies.
        most: The most frequent words that count for analogies; None takes all.
        report: Told how far each step is.

    Returns:
        Under each file's name: ``spearman``, ``covered`` and ``pairs``; or a dict a section with ``accuracy``,
        ``right``, ``covered`` and ``total``.

    Raises:
        DataError: There is nothing to judge by, or a file cannot be read.
    """
    if not similarity and not analogies:
        raise DataError("expected files to judge by; give --similarity or --analogies")
    vectors = read(file, report)
    found: dict[str, dict[str, Any]] = {}
    for path in similarity:
        score = score_similarities(vectors, read_similarities(path))
        found[path.name] = {"spearman": score.spearman, "covered": score.covered, "pairs": score.pairs}
    for path in analogies:
        questions = read_analogies(path)
        scores = score_analogies(vectors, questions, most=most, progress=partial(report, "analogies"))
        found[path.name] = {
            name: {"accuracy": score.accuracy if score.covered else None, **vars(score)}
            for name, score in scores.items()
        }
    return found


def convert(
    file: str | Path,
    out: str | Path,
    *,
    form: str | None = None,
    words: Path | None = None,
    most: int | None = None,
    report: Report = no_report,
) -> WordVectors:
    """Write vectors in another form, all of them or some.

    Args:
        file: A file of vectors.
        out: The new file.
        form: ``"npz"``, ``"glove"``, ``"word2vec"`` or ``"binary"``; None goes by the ending of `out`.
        words: A file of the words to keep, one a line.
        most: The first words to keep.
        report: Told how far each step is.

    Raises:
        DataError: A file cannot be read or written, or none of the words has a vector.
    """
    form = check_form(out, form)
    check_out_file(out)
    only: set[str] | None = None
    if words is not None:
        with open_text(words) as stream:
            only = {word for line in stream if (word := line.rstrip("\r\n"))}
    vectors = read_vectors(file, only=only, progress=partial(report, "bytes read"))
    if most is not None:
        vectors = WordVectors(vectors.words[:most], vectors.vectors[:most], vectors.subwords)
    if not len(vectors):
        raise DataError(f"{file}: none of the words of {words} has a vector")
    write_vectors(out, vectors, form, progress=partial(report, "words written"))
    return vectors


def read(file: str | Path, report: Report = no_report) -> WordVectors:
    """The vectors of a file, as `read_vectors` gives them."""
    return read_vectors(file, progress=partial(report, "bytes read"))
