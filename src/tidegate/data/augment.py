"""Texts changed a little for training: words left out, swapped, inserted, replaced, and characters mistyped.

The five changes are those of Wei & Zou 2019 (EDA, arXiv:1901.11196) and of misspelled text (Belinkov & Bisk 2018,
arXiv:1711.02173). Every draw is seeded from (random_state, epoch, row), so that an epoch can be had again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tidegate.data.seeds import derive_seed
from tidegate.errors import DataError

__all__ = ["Augmentation", "Augmenter", "mistype", "read_synonyms"]

Ids = NDArray[np.int64]
Neighbours = Mapping[int, Sequence[int]]


@dataclass(frozen=True)
class Augmentation:
    """How much of a text is changed, as shares from 0 to below 1.

    Attributes:
        delete: Of the tokens that are left out; one at least stays.
        swap: Of the tokens that change places with another one.
        insert: Of the tokens beside which a neighbour in meaning is put, at a place drawn anew.
        replace: Of the tokens that a neighbour in meaning takes the place of.
        noise: Of the characters that are left out, doubled, replaced or exchanged with the next one.
        share: Of the texts that are changed at all in an epoch; may be 1.

    Raises:
        ValueError: A share is out of range.
    """

    delete: float = 0.0
    swap: float = 0.0
    insert: float = 0.0
    replace: float = 0.0
    noise: float = 0.0
    share: float = 1.0

    def __post_init__(self) -> None:
        for name in ("delete", "swap", "insert", "replace", "noise"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"augment_{name} must be in [0, 1); found {getattr(self, name)!r}")
        if not 0 < self.share <= 1:
            raise ValueError(f"augment_share must be above 0 and at most 1; found {self.share!r}")
        if not self.active and self.share != 1:
            raise ValueError(f"augment_share={self.share!r} has no effect: nothing is to be changed")

    @property
    def active(self) -> bool:
        """Whether anything is changed."""
        return any((self.delete, self.swap, self.insert, self.replace, self.noise))

    @property
    def needs_neighbours(self) -> bool:
        """Whether neighbours in meaning are asked for."""
        return self.insert > 0 or self.replace > 0


class Augmenter:
    """Gives the tokens of a row of the training data in an epoch.

    Args:
        augmentation: How much is changed.
        ids: The tokens of each row.
        random_state: The seed of the run.
        neighbours: Token id -> ids near it in meaning; a token without any is neither replaced nor a source.
        texts: The texts of the rows, which ``noise`` mistypes.
        encode: From a text to its ids, for mistyped texts.

    Raises:
        ValueError: Neighbours, or texts and `encode`, are needed and missing.
    """

    def __init__(
        self,
        augmentation: Augmentation,
        ids: Sequence[Ids],
        *,
        random_state: int,
        neighbours: Neighbours | None = None,
        texts: Sequence[str] | None = None,
        encode: Callable[[str], Ids] | None = None,
    ) -> None:
        if augmentation.needs_neighbours and neighbours is None:
            raise ValueError("insert and replace need neighbours in meaning; found none")
        if augmentation.noise and (texts is None or encode is None):
            raise ValueError("noise needs the texts and a way to encode them; found none")
        self.augmentation, self.ids, self.random_state = augmentation, ids, random_state
        self.neighbours, self.texts, self.encode = neighbours or {}, texts, encode

    def __call__(self, row: int, epoch: int) -> Ids:
        """The tokens of a row in an epoch."""
        options = self.augmentation
        generator = np.random.Generator(np.random.PCG64(derive_seed(self.random_state, "augment", epoch, row)))
        ids = self.ids[row]
        if generator.random() >= options.share:
            return ids
        if options.noise and self.texts is not None and self.encode is not None:
            ids = self.encode(mistype(self.texts[row], options.noise, generator))
        if options.replace:
            ids = self._replaced(ids, generator)
        if options.insert:
            ids = self._inserted(ids, generator)
        if options.swap:
            ids = _swapped(ids, options.swap, generator)
        return _thinned(ids, options.delete, generator) if options.delete else ids

    def _replaced(self, ids: Ids, generator: np.random.Generator) -> Ids:
        chosen = np.flatnonzero(generator.random(len(ids)) < self.augmentation.replace)
        changed = ids.copy()
        for place in chosen.tolist():
            if near := self.neighbours.get(int(ids[place])):
                changed[place] = near[int(generator.integers(len(near)))]
        return changed

    def _inserted(self, ids: Ids, generator: np.random.Generator) -> Ids:
        chosen = np.flatnonzero(generator.random(len(ids)) < self.augmentation.insert)
        nears = [near for place in chosen.tolist() if (near := self.neighbours.get(int(ids[place])))]
        new = [near[int(generator.integers(len(near)))] for near in nears]
        places = generator.integers(len(ids) + 1, size=len(new))
        return np.insert(ids, places, new)


def _swapped(ids: Ids, rate: float, generator: np.random.Generator) -> Ids:
    if len(ids) < 2:
        return ids
    changed = ids.copy()
    for place in np.flatnonzero(generator.random(len(ids)) < rate).tolist():
        other = int(generator.integers(len(ids)))
        changed[place], changed[other] = changed[other], changed[place]
    return changed


def _thinned(ids: Ids, rate: float, generator: np.random.Generator) -> Ids:
    if not len(ids):
        return ids
    kept = generator.random(len(ids)) >= rate
    if not kept.any():
        kept[generator.integers(len(ids))] = True
    return ids[kept]


def mistype(text: str, rate: float, generator: np.random.Generator) -> str:
    """A text in which a share of the characters, spaces excepted, is mistyped.

    A mistyped character is left out, doubled, replaced by another one of the text, or exchanged with the next one; so a
    Chinese text stays Chinese.

    Args:
        text: Any text.
        rate: The share, in [0, 1).
        generator: What draws.
    """
    letters = list(text)
    known = [letter for letter in letters if not letter.isspace()]
    for place in np.flatnonzero(generator.random(len(letters)) < rate).tolist():
        letter = letters[place]
        if not letter or letter.isspace():
            continue
        match int(generator.integers(4)):
            case 0:
                letters[place] = ""
            case 1:
                letters[place] = letter * 2
            case 2:
                letters[place] = known[int(generator.integers(len(known)))]
            case _ if place + 1 < len(letters) and not letters[place + 1].isspace():
                letters[place], letters[place + 1] = letters[place + 1], letter
            case _:
                letters[place] = letter * 2
    return "".join(letters)


def read_synonyms(path: str | Path) -> dict[str, list[str]]:
    """Word -> words that may stand for it, from a file with a group of synonyms a line, between tabs or commas.

    Every word of a line may stand for every other one. Empty lines, and lines that start with ``#``, are skipped.

    Raises:
        DataError: The file cannot be read, or a line has one word only; the message names file and line.
    """
    path = Path(path)
    synonyms: dict[str, list[str]] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected UTF-8 text: {error.reason} at byte {error.start}") from None
    except OSError as error:
        raise DataError(f"{path}: the file of synonyms cannot be read: {error.strerror or error}") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        words = [word.strip() for word in (line.split("\t") if "\t" in line else line.split(","))]
        words = list(dict.fromkeys(word for word in words if word))
        if len(words) < 2:
            raise DataError(
                f"{path}:{number}: expected two synonyms or more between tabs or commas, found {line!r:.60}"
            )
        for word in words:
            synonyms.setdefault(word, []).extend(other for other in words if other != word)
    if not synonyms:
        raise DataError(f"{path}: expected a line of synonyms, found none")
    return {word: list(dict.fromkeys(others)) for word, others in synonyms.items()}
