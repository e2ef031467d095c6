"""The small real data that ships in the package: English and Chinese reviews with their sentiment."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from tidegate.data.sources import TextExamples, read_records, read_text_examples
from tidegate.errors import DataError, nearest

PREFIX = "bundled:"
_FILES = {"reviews_en": "reviews_en.tsv.gz", "reviews_zh": "reviews_zh.tsv.gz"}
_TAGGED = {"people_daily": "people_daily.{}.txt.gz"}
_SPLITS = {"train": "train", "validation": "valid", "valid": "valid", "test": "test"}


def bundled_path(name: str) -> Path:
    """The file of a bundled data set: a TSV file with the columns split (train, valid, test), label and text.

    Args:
        name: ``"reviews_en"`` or ``"reviews_zh"``, with or without the ``bundled:`` that recipes write before it.

    Raises:
        DataError: There is no bundled data set of this name.
    """
    key = name.removeprefix(PREFIX)
    if key not in _FILES:
        raise DataError(f"there is no bundled data set {key!r}; there are {', '.join(_FILES)}.{nearest(key, _FILES)}")
    return Path(str(resources.files("tidegate.data") / "reviews" / _FILES[key]))


def tagged_path(name: str, split: str) -> Path:
    """The file of a part of a bundled data set of tagged sentences, in the format ``"word/tag"``.

    Args:
        name: ``"people_daily"``, with or without the ``bundled:`` that recipes write before it.
        split: ``"train"``, ``"validation"`` (or ``"valid"``) or ``"test"``.

    Raises:
        DataError: There is no bundled data set of this name, or no such part.
    """
    key = name.removeprefix(PREFIX)
    if key not in _TAGGED:
        raise DataError(
            f"there are no bundled tagged sentences {key!r}; there are {', '.join(_TAGGED)}.{nearest(key, _TAGGED)}"
        )
    return Path(str(resources.files("tidegate.data") / "tagging" / _TAGGED[key].format(_split_name(split))))


def load_reviews(language: str, split: str) -> TextExamples:
    """Reviews with the labels ``"positive"`` and ``"negative"``.

    Args:
        language: ``"en"``, snippets of film reviews (8,056 / 1,007 / 1,007), or ``"zh"``, reviews of goods and hotels
            (9,600 / 1,200 / 1,200).
        split: ``"train"``, ``"validation"`` (or ``"valid"``) or ``"test"``.

    Raises:
        DataError: The language or the split does not exist.
    """
    if f"reviews_{language}" not in _FILES:
        raise DataError(f"language={language!r}: expected 'en' or 'zh'")
    path = bundled_path(f"reviews_{language}")
    return read_text_examples(path, split="split", split_value=_split_name(split))


def load_review_ratings(split: str) -> list[float]:
    """The human ratings of the English reviews, -4 to 4, in the order of `load_reviews`.

    Raises:
        DataError: The split does not exist.
    """
    part = _split_name(split)
    rows = read_records(bundled_path("reviews_en"), columns=["split", "rating"])
    return [float(row.fields["rating"]) for row in rows if row.fields["split"] == part]


def _split_name(split: str) -> str:
    if split not in _SPLITS:
        raise DataError(f"split={split!r}: expected one of train, validation, test.{nearest(split, _SPLITS)}")
    return _SPLITS[split]
