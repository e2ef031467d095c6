"""The texts that a recipe names: their parts, with labels that agree, and what one must know of them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tidegate.config import READING, TABLES_ONLY, TAGGED_ONLY, Recipe
from tidegate.data.bundled import PREFIX, bundled_path, load_reviews
from tidegate.data.pairs import texts_of
from tidegate.data.sources import (
    TextExamples,
    align_labels,
    columns_of,
    is_table,
    read_records,
    read_text_examples,
)
from tidegate.errors import DataError
from tidegate.jobs.run_steps import check_idle
from tidegate.jobs.splits import Splits, repeated_note

Label = str | int

_OPTION = re.compile(rf"\b({'|'.join(READING)})=")
VALIDATION_NAMES = ("validation", "valid", "dev")


def read_splits(recipe: Recipe) -> Splits[TextExamples]:
    """The data of a recipe, with labels that agree between its parts.

    Raises:
        DataError: A file cannot be read as the recipe says, there is one class only, or a part has a label that the
            training data lack.
    """
    if recipe.bundled is not None:
        language = recipe.bundled.rpartition("_")[2]
        parts = {part: load_reviews(language, part) for part in ("train", "validation", "test")}
    else:
        parts = read_parts(recipe, read_text_examples)
    train = parts["train"]
    classes = sorted(set(train.labels or []), key=str)
    if len(classes) < 2:
        raise DataError(
            f"{recipe.document.place(('data',))}: expected training texts of two classes at least; all "
            f"{len(train):,} have the label {classes[0]!r}. Check the column data.label."
        )
    held, test = _aligned(parts.get("validation"), classes), _aligned(parts.get("test"), classes)
    return Splits(train, held, test, read_unlabelled(recipe))


@contextmanager
def options_named(place: str, form: str) -> Iterator[None]:
    """Add to the errors of reading what its options are called in another place.

    Args:
        place: Where, as ``"In the recipe"``.
        form: What an option is called there, as ``"data.{}"``.
    """
    try:
        yield
    except DataError as error:
        names = [form.format(name) for name in dict.fromkeys(_OPTION.findall(str(error)))]
        raise DataError(f"{error} ({place}: {', '.join(names)}.)" if names else str(error)) from None


def _reading(recipe: Recipe) -> dict[str, Any]:
    """How the recipe says that files are read, as arguments; the rest is left to the reader's defaults."""
    return {key: value for key, value in recipe.sections.data.items() if key in READING}


def _columns(recipe: Recipe) -> dict[str, Any]:
    """The columns that the recipe names, as arguments; others are left to the reader's defaults."""
    return {key: value for key, value in recipe.sections.data.items() if key in ("text", "label") and value}


def read_parts(recipe: Recipe, read: Callable[..., Any]) -> dict[str, Any]:
    """Name -> what the files of a recipe hold, of the parts train, validation and test that there are.

    Args:
        recipe: Of data that are not bundled.
        read: ``read(path, text=..., label=..., split=..., split_value=..., **reading)``, as `read_text_examples`.

    Raises:
        DataError: As of `read`.
    """
    with options_named("In the recipe", "data.{}"):
        return _read_one_file(recipe, read) if "source" in recipe.sections.data else _read_files(recipe, read)


def _read_files(recipe: Recipe, read: Callable[..., Any]) -> dict[str, Any]:
    paths = {part: recipe.data_path(part) for part in ("train", "validation", "test")}
    options = _columns(recipe) | _reading(recipe)
    return {part: read(path, **options) for part, path in paths.items() if path is not None}


def _read_one_file(recipe: Recipe, read: Callable[..., Any]) -> dict[str, Any]:
    path, split = recipe.data_path("source"), recipe.sections.data.get("split", "split")
    reading = _reading(recipe)
    found = {str(row.fields[split]).strip() for row in read_records(path, columns=[split], **reading)}
    names = {"train": "train"}
    if validation := found.intersection(VALIDATION_NAMES):
        names["validation"] = min(validation, key=VALIDATION_NAMES.index)
    if "test" in found:
        names["test"] = "test"
    options = {"split": split, **_columns(recipe), **reading}
    return {part: read_text_examples(path, split_value=name, **options) for part, name in names.items()}


def read_unlabelled(recipe: Recipe) -> list[str] | None:
    """The texts without labels that a recipe names, or None.

    Raises:
        DataError: The file cannot be read as the recipe says, or has no rows.
    """
    path, columns = recipe.data_path("unlabelled"), columns_of(recipe.sections.data.get("text", "text"))
    if path is None:
        return None
    with options_named("In the recipe", "data.{}"):
        rows = read_records(path, columns=columns, **_reading(recipe))
        texts = [str(row.fields[column]) for row in rows for column in columns]
    if not texts:
        raise DataError(f"{path}: there are no rows.")
    return texts


def _aligned(examples: TextExamples | None, classes: Sequence[Label]) -> TextExamples | None:
    return None if examples is None else dataclasses.replace(examples, labels=align_labels(examples, classes))


def data_notes(splits: Any) -> list[str]:
    """Statements on texts that stand in two parts, and on empty ones."""
    notes = []
    for name, examples in splits.parts().items():
        if name != "train":
            notes += repeated_note(name, splits.train.texts, examples.texts, examples.origins)
        found = zip(examples.texts, examples.origins, strict=True)
        if empty := [origin for text, origin in found if not all(map(str.strip, texts_of(text)))]:
            notes.append(f"{len(empty):,} of {len(examples):,} {name} texts are empty (the first: {empty[0]})")
    return notes


def read_judged(
    data: str,
    columns: dict[str, Any],
    read: Callable[..., Any],
    bundled: Callable[[str, str], Any],
    **reading: Any,
) -> Any:
    """What `evaluate` judges a model on.

    Args:
        data, columns, reading: As of `tidegate.jobs.classification.read_labelled`.
        read: ``read(path, text=..., label=..., split=..., split_value=..., **reading)``.
        bundled: From the name of bundled data and a part to the same.

    Raises:
        DataError: They cannot be read, or something of it has no effect on them.
    """
    check_idle([name for name in reading if name in TAGGED_ONLY], "texts with labels")
    named = {name: value for name, value in columns.items() if value is not None}
    part = named.pop("part", None)
    if data.startswith(PREFIX):
        check_idle([*named, *reading], "bundled data")
        return bundled(data, part or "test")
    if not is_table(Path(data)):
        check_idle([name for name in reading if name in TABLES_ONLY], f"{data}, which is no CSV or TSV file")
    split = named.pop("split", "split")
    parts = {} if part is None else {"split": split, "split_value": part}
    return read(data, **named, **parts, **reading)


def check_first_rows(recipe: Recipe) -> dict[str, str]:
    """Read the first row of each data file, which shows whether it has the columns that the recipe names.

    Returns:
        Key of the section data -> what was read.

    Raises:
        DataError: A file cannot be read as the recipe says, or has no rows.
    """
    data = recipe.sections.data
    columns = [*columns_of(data.get("text", "text")), data.get("label", "label")]
    found = {}
    for part in ("source", "train", "validation", "test"):
        path = bundled_path(recipe.bundled) if recipe.bundled and part == "source" else recipe.data_path(part)
        if path is None:
            continue
        wanted = [*columns, data.get("split", "split")] if part == "source" else columns
        with options_named("In the recipe", "data.{}"):
            first = next(iter(read_records(path, columns=wanted, **_reading(recipe))), None)
        if first is None:
            raise DataError(f"{path}: there are no rows.")
        found[part] = PREFIX + recipe.bundled if recipe.bundled else str(path)
    return found
