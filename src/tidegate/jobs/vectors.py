"""What the commands of ``tidegate vectors`` do: train, judge and convert files of word vectors."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tidegate.data.encoder import TOKENIZER_NAMES
from tidegate.data.files import existing, open_text, plain_suffix
from tidegate.data.sources import read_text_examples
from tidegate.data.text import TOKENIZERS, prepare
from tidegate.errors import DataError, nearest
from tidegate.features.vector_evaluation import (
    read_analogies,
    read_similarities,
    score_analogies,
    score_similarities,
)
from tidegate.features.vector_files import read_vectors, write_vectors
from tidegate.features.vector_training import train_vectors
from tidegate.features.vectors import WordVectors

_TABLES = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".json")
_log = logging.getLogger(__name__)


def train(
    text_file: str | Path,
    out: str | Path,
    *,
    text: str = "text",
    tokenizer: str = "words",
    lowercase: bool = True,
    keep_marks: bool = False,
    **options: Any,
) -> WordVectors:
    """Learn vectors from a text and write them into a file, whose ending says its form.

    Args:
        text_file: A text a line (.txt), or CSV, TSV, JSON Lines or a folder with the texts under the field `text`;
            plain or compressed.
        out: The file.
        text: The field of the texts.
        tokenizer: ``"words"``, ``"characters"`` or ``"jieba"``.
        lowercase: Whether case is ignored.
        keep_marks: Whether marks of punctuation have vectors.
        options: Those of `train_vectors`.

    Raises:
        DataError: The text cannot be read, holds too little, or an option is out of range.
        MissingExtraError: gensim is not installed.
    """
    if tokenizer not in TOKENIZERS:
        legal = [name for name in TOKENIZER_NAMES if name in TOKENIZERS]
        raise DataError(f"tokenizer {tokenizer!r}: expected one of {', '.join(legal)}.{nearest(tokenizer, legal)}")
    if not Path(out).parent.is_dir():
        raise DataError(f"{out}: there is no folder {Path(out).parent}")
    tokenize = TOKENIZERS[tokenizer]

    def sentences() -> Iterator[list[str]]:
        for line in read_texts(Path(text_file), text):
            tokens = tokenize(prepare(line, lowercase=lowercase, html=True, normalization="NFKC"))
            yield tokens if keep_marks else [token for token in tokens if any(map(str.isalnum, token))]

    def report(epoch: int, epochs: int, seconds: float) -> None:
        _log.info("epoch %d of %d: %.1f s", epoch, epochs, seconds)

    vectors = train_vectors(sentences(), progress=report, **options)
    write_vectors(out, vectors)
    return vectors


def read_texts(path: Path, text: str) -> Iterator[str]:
    """The texts of a file, a line each, or of a table or folder under the field `text`."""
    if existing(path).is_dir() or plain_suffix(path) in _TABLES:
        yield from read_text_examples(path, text=text, label=None).texts
        return
    with open_text(path) as stream:
        yield from stream


def evaluate(
    file: str | Path, *, similarity: list[Path], analogies: list[Path], most: int | None = 30_000
) -> dict[str, dict[str, Any]]:
    """Judge vectors by what people say of words.

    Args:
        file: A file of vectors.
        similarity: Files of pairs and their likeness.
        analogies: Files of analogies.
        most: The most frequent words that count for analogies; None takes all.

    Returns:
        Under each file's name: ``spearman``, ``covered`` and ``pairs``; or a dict a section with ``accuracy``,
        ``right``, ``covered`` and ``total``.

    Raises:
        DataError: There is nothing to judge by, or a file cannot be read.
    """
    if not similarity and not analogies:
        raise DataError("expected files to judge by; give --similarity or --analogies")
    vectors = read_vectors(file)
    found: dict[str, dict[str, Any]] = {}
    for path in similarity:
        score = score_similarities(vectors, read_similarities(path))
        found[path.name] = {"spearman": score.spearman, "covered": score.covered, "pairs": score.pairs}
    for path in analogies:
        scores = score_analogies(vectors, read_analogies(path), most=most)
        found[path.name] = {
            name: {"accuracy": score.accuracy if score.covered else None, **vars(score)}
            for name, score in scores.items()
        }
    return found


def convert(
    file: str | Path, out: str | Path, *, form: str | None = None, words: Path | None = None, most: int | None = None
) -> WordVectors:
    """Write vectors in another form, all of them or some.

    Args:
        file: A file of vectors.
        out: The new file.
        form: ``"npz"``, ``"glove"``, ``"word2vec"`` or ``"binary"``; None goes by the ending of `out`.
        words: A file of the words to keep, one a line.
        most: The first words to keep.

    Raises:
        DataError: A file cannot be read or written, or none of the words has a vector.
    """
    only: set[str] | None = None
    if words is not None:
        with open_text(words) as stream:
            only = {word for line in stream if (word := line.rstrip("\r\n"))}
    vectors = read_vectors(file, only=only)
    if most is not None:
        vectors = WordVectors(vectors.words[:most], vectors.vectors[:most], vectors.subwords)
    if not len(vectors):
        raise DataError(f"{file}: none of the words of {words} has a vector")
    write_vectors(out, vectors, form)
    return vectors
