"""The data that a tagging recipe names: its parts, and what one must know of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tidegate.config import Recipe
from tidegate.data.bundled import PREFIX, tagged_path
from tidegate.data.tag_schemes import illegal_places, recognise_scheme
from tidegate.data.tagged import TaggedExamples, read_tagged
from tidegate.errors import DataError
from tidegate.jobs.splits import Splits, repeated_note
from tidegate.schema.tagging import TAGGED_READING

__all__ = ["check_first_sentences", "read_bundled", "read_tagged_splits", "tagged_notes"]

_TEST_SHARE = 0.1
_BUNDLED_FORMATS = {"people_daily": "word/tag"}


def read_tagged_splits(recipe: Recipe) -> Splits[TaggedExamples]:
    """The data of a tagging recipe.

    Raises:
        DataError: A file cannot be read as the recipe says, has no tags, or no intents where they are to be learned.
    """
    data: Any = recipe.sections.data
    reading: dict[str, Any] = {key: value for key, value in data.items() if key in TAGGED_READING}
    found: dict[str, TaggedExamples | None] = {}
    if recipe.bundled is not None:
        for part in ("train", "validation", "test"):
            found[part] = read_bundled(recipe.bundled, part, unit=data.get("unit"))
    elif "source" in data:
        path = recipe.data_path("source")
        whole = read_tagged(str(path), **reading)
        share = data.get("test_share", _TEST_SHARE)
        cut = len(whole) - max(1, round(share * len(whole)))
        if cut < 1:
            raise DataError(f"{path}: {len(whole)} sentences leave none to learn from beside the part that tests")
        found = {"train": whole.select(range(cut)), "test": whole.select(range(cut, len(whole)))}
    else:
        for part in ("train", "validation", "test"):
            path = recipe.data_path(part)
            found[part] = None if path is None else read_tagged(str(path), **reading)
    for part, examples in found.items():
        if examples is not None and examples.tags is None:
            raise DataError(
                f"{recipe.document.place(('data',))}: the {part} sentences have no tags; training needs them"
            )
        if examples is not None and data.get("intents") and examples.intents is None:
            raise DataError(
                f"{recipe.document.place(('data', 'intents'))}: data.intents: the {part} sentences have no intents; "
                "they are read from JSON Lines with a field 'intent'"
            )
    if data.get("intents") is False:
        found = {part: None if one is None else replace(one, intents=None) for part, one in found.items()}
    train = found["train"]
    assert train is not None  # a recipe without one is not valid
    return Splits(train, found.get("validation"), found.get("test"))


def read_bundled(name: str, part: str, unit: str | None = None) -> TaggedExamples:
    """A part of a bundled data set of tagged sentences.

    Raises:
        DataError: There is none of this name, or no such part.
    """
    path = tagged_path(name, part)
    return read_tagged(path, format=_BUNDLED_FORMATS[name.removeprefix(PREFIX)], unit=unit)


def tagged_notes(splits: Splits[TaggedExamples]) -> list[str]:
    """Statements on tags that break their scheme, on sentences in two parts, and on tags that training has not."""
    notes = []
    scheme = recognise_scheme(splits.train.tags or ())
    for name, examples in splits.parts().items():
        same = scheme != "plain" and recognise_scheme(examples.tags or ()) == scheme
        broken = [row for row, tags in enumerate(examples.tags or ()) if same and illegal_places(tags, scheme)]
        if broken:
            notes.append(
                f"{len(broken):,} of {len(examples):,} {name} sentences have tags that {scheme.upper()} does not allow "
                f"(the first: {examples.origins[broken[0]]})"
            )
    known = {tag for row in splits.train.tags or () for tag in row}
    train = [" ".join(tokens) for tokens in splits.train.sentences]
    for name, examples in splits.parts().items():
        if name == "train":
            continue
        own = [" ".join(tokens) for tokens in examples.sentences]
        notes += repeated_note(name, train, own, examples.origins, "sentences")
        rows = [row for row, tags in enumerate(examples.tags or ()) if not known.issuperset(tags)]
        if rows:
            unseen = sorted({tag for row in rows for tag in (examples.tags or [])[row]} - known)
            notes.append(
                f"{len(unseen):,} tags of the {name} sentences are not in the training data and count as errors, in "
                f"{len(rows):,} sentences (the first: {examples.origins[rows[0]]}): {', '.join(unseen[:8])}"
                f"{', ...' if len(unseen) > 8 else ''}"
            )
    return notes


def check_first_sentences(recipe: Recipe) -> dict[str, str]:
    """Read the data of a recipe, which shows whether they can be read as it says.

    Returns:
        Key of the section data -> what was read.

    Raises:
        DataError: A file cannot be read as the recipe says.
    """
    splits = read_tagged_splits(recipe)
    if recipe.bundled is not None:
        return {"source": PREFIX + recipe.bundled}
    if "source" in recipe.sections.data:
        return {"source": str(recipe.data_path("source"))}
    return {part: str(recipe.data_path(part)) for part in splits.parts()}
