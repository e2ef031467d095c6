"""How tags mark segments: IOB1, BIO, BIOES and its spellings, recognised, checked, repaired and converted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from tidegate.errors import DataError, nearest

__all__ = [
    "SCHEMES",
    "Span",
    "convert_tags",
    "full_tags",
    "illegal_places",
    "recognise_scheme",
    "repair_tags",
    "segment_tables",
    "spans_of",
    "split_tag",
    "tags_of",
    "transition_masks",
]

SCHEMES = {
    "iob1": "I- inside; B- only where a segment follows another of its type at once (Ramshaw & Marcus 1995)",
    "bio": "B- at the first token of every segment, I- at the others (IOB2, Ratnaparkhi 1998)",
    "bioes": "B- first, I- inside, E- last, S- alone",
    "bmes": "bioes with M- for I-",
    "bilou": "bioes with L- for E- and U- for S-",
    "plain": "no segments: each tag stands for itself, as parts of speech do",
}
_PARTED = re.compile(r"([BIESMLU])(?:-(.*))?", re.DOTALL)
_LETTERS = {"bmes": {"I": "M"}, "bilou": {"E": "L", "S": "U"}}
_STANDARD = {"M": "I", "L": "E", "U": "S"}
_USED = {"bioes": set("BIES"), "bmes": set("BMES"), "bilou": set("BILU")}


class Span(NamedTuple):
    """A segment: its tokens ``start`` to ``end`` (exclusive), and its type, empty where segments have none."""

    start: int
    end: int
    type: str


def split_tag(tag: str) -> tuple[str, str]:
    """The letter B, I, E, S or O of a tag, whatever its spelling, and its type: ``"U-PER"`` is ``("S", "PER")``.

    Raises:
        DataError: The tag marks no segment.
    """
    if tag == "O":
        return "O", ""
    match = _PARTED.fullmatch(tag)
    if match is None:
        raise DataError(
            f"the tag {tag!r} marks no segment: expected O, or one of B I E S M L U with a type, as B-PER; "
            'if these tags stand for themselves, as parts of speech do, pass tag_scheme="plain"'
        )
    return _STANDARD.get(match[1], match[1]), match[2] or ""


def recognise_scheme(sentences: Iterable[Sequence[str]]) -> str:
    """The scheme that the tags of some sentences are written in, one of `SCHEMES`.

    Tags are of segments when each is O or a letter with or without a type, and they are used as a scheme uses them:
    with a type, or with B among them. Of B, I and O alone, ``"iob1"`` is told from ``"bio"`` by how segments begin that
    do not follow one of their own type; the commoner way wins.
    """
    letters: Counter[str] = Counter()
    begun: Counter[str] = Counter()
    typed = False
    for tags in sentences:
        before = ("O", "")
        for tag in tags:
            match = _PARTED.fullmatch(tag)
            if match is None and tag != "O":
                return "plain"
            letter, kind = (match[1], match[2] or "") if match is not None else ("O", "")
            typed = typed or bool(kind)
            letters[letter] += 1
            if letter in "BI" and (before[0] == "O" or before[1] != kind):
                begun[letter] += 1
            before = (letter, kind)
    found = set(letters) - {"O"}
    if not found or (not typed and ("B" not in found or len(found) < 2) and found != {"S"}):
        return "plain"
    if found <= {"B", "I"}:
        return "iob1" if begun["I"] > begun["B"] else "bio"
    return next((name for name, used in _USED.items() if found <= used), "plain")


def spans_of(tags: Sequence[str]) -> list[Span]:
    """The segments of tags of any scheme but ``"plain"``, read as the script conlleval does.

    A segment begins at B and S, after E and S, and where the type changes or O comes before; so every sequence of tags,
    legal or not, has segments.

    Raises:
        DataError: A tag marks no segment.
    """
    spans = []
    start, before = 0, ("O", "")
    for place, tag in enumerate(tags):
        letter, kind = split_tag(tag)
        if _ends(before, (letter, kind)):
            spans.append(Span(start, place, before[1]))
        if _begins(before, (letter, kind)):
            start = place
        before = (letter, kind)
    if before[0] != "O":
        spans.append(Span(start, len(tags), before[1]))
    return spans


def tags_of(spans: Iterable[Span], length: int, scheme: str) -> list[str]:
    """The tags of a sentence of `length` tokens that has these segments, in order and without overlap.

    Raises:
        DataError: There is no such scheme, or it marks no segments.
    """
    check_scheme(scheme)
    if scheme == "plain":
        raise DataError('tag_scheme "plain" marks no segments')
    names = _LETTERS.get(scheme, {})
    tags = ["O"] * length
    before: Span | None = None
    for span in spans:
        width = span.end - span.start
        if scheme == "iob1":
            follows = before is not None and before.end == span.start and before.type == span.type
            letters = ["B" if follows else "I"] + ["I"] * (width - 1)
        elif scheme == "bio":
            letters = ["B"] + ["I"] * (width - 1)
        else:
            letters = ["S"] if width == 1 else ["B", *["I"] * (width - 2), "E"]
        ending = f"-{span.type}" if span.type else ""
        tags[span.start : span.end] = [names.get(letter, letter) + ending for letter in letters]
        before = span
    return tags


def convert_tags(tags: Sequence[str], source: str, target: str) -> list[str]:
    """Tags of one scheme in another; back again they are what they were, where they were legal.

    Raises:
        DataError: There is no such scheme, one of the two marks no segments and the other does, or a tag is of no
            scheme.
    """
    for scheme in (source, target):
        check_scheme(scheme)
    if source == target:
        return list(tags)
    if "plain" in (source, target):
        raise DataError(f"tags of the scheme {source!r} have no form in {target!r}: one marks segments, the other not")
    return tags_of(spans_of(tags), len(tags), target)


def repair_tags(tags: Sequence[str], scheme: str) -> list[str]:
    """The legal tags of the same segments, as conlleval reads them; legal tags stay as they are."""
    return list(tags) if scheme == "plain" else tags_of(spans_of(tags), len(tags), scheme)


def illegal_places(tags: Sequence[str], scheme: str) -> list[int]:
    """The tokens whose tag the scheme does not allow where it stands; one past the last where the end is not allowed.

    Raises:
        DataError: There is no such scheme, or a tag is of none.
    """
    check_scheme(scheme)
    if scheme == "plain":
        return []
    places, before = [], ("O", "")
    for place, tag in enumerate(tags):
        current = split_tag(tag)
        if not _allowed(before, current, scheme):
            places.append(place)
        before = current
    if not _allowed(before, ("O", ""), scheme):
        places.append(len(tags))
    return places


def full_tags(tags: Iterable[str], scheme: str) -> list[str]:
    """The tags that a model needs: for every type among `tags` all letters of the scheme, and O where it is there.

    A sentence of any length then has a legal path, even where the training data lack some letter of a type. In order of
    their text, O first.
    """
    found = set(tags)
    if scheme == "plain":
        return sorted(found)
    types = sorted({split_tag(tag)[1] for tag in found if tag != "O"})
    letters = "BI" if scheme in ("iob1", "bio") else "BIES"
    names = _LETTERS.get(scheme, {})
    made = [names.get(letter, letter) + (f"-{kind}" if kind else "") for kind in types for letter in letters]
    return (["O"] if "O" in found else []) + made


def transition_masks(tags: Sequence[str], scheme: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which tag may follow which ``[K, K]``, be first ``[K]`` and be last ``[K]``, as booleans.

    As :class:`tidegate.CRF` takes them: ``CRF(len(tags), *transition_masks(tags, "bioes"))`` gives illegal sequences no
    probability.

    Args:
        tags: The labels, in the order of their numbers.
        scheme: ``"iob1"``, ``"bio"``, ``"bioes"``, ``"bmes"``, ``"bilou"`` or ``"plain"``, where all is allowed.

    Raises:
        DataError: The scheme is none of these, or a tag marks no segment.
    """
    check_scheme(scheme)
    if scheme == "plain":
        return np.ones((len(tags), len(tags)), bool), np.ones(len(tags), bool), np.ones(len(tags), bool)
    parts, outside = [split_tag(tag) for tag in tags], ("O", "")
    follow = np.array([[_allowed(before, after, scheme) for after in parts] for before in parts], bool)
    first = np.array([_allowed(outside, after, scheme) for after in parts], bool)
    last = np.array([_allowed(before, outside, scheme) for before in parts], bool)
    return follow.reshape(len(tags), len(tags)), first, last


def segment_tables(tags: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `spans_of` sees, as tables over the numbers of tags; K, one past the last, is outside the sentence.

    Returns:
        ``begins [K + 1, K + 1]`` (a segment begins at the second tag after the first), ``ends [K + 1, K + 1]`` (one
        ends between the first and the second), and ``types [K]``, the number of each tag's type.
    """
    parts = [*(split_tag(tag) for tag in tags), ("O", "")]
    size = len(parts)
    begins = np.array([[_begins(before, after) for after in parts] for before in parts]).reshape(size, size)
    ends = np.array([[_ends(before, after) for after in parts] for before in parts]).reshape(size, size)
    kinds = {kind: number for number, kind in enumerate(sorted({kind for _, kind in parts}))}
    return begins, ends, np.array([kinds[kind] for _, kind in parts[:-1]], dtype=np.int64)


def check_scheme(scheme: str) -> None:
    """Refuse what is no scheme.

    Raises:
        DataError: It is none; the message names the nearest.
    """
    if scheme not in SCHEMES:
        raise DataError(f"tag_scheme={scheme!r}: expected one of {', '.join(SCHEMES)}.{nearest(scheme, SCHEMES)}")


def _ends(before: tuple[str, str], after: tuple[str, str]) -> bool:
    return before[0] != "O" and (after[0] in "OBS" or before[0] in "ES" or after[1] != before[1])


def _begins(before: tuple[str, str], after: tuple[str, str]) -> bool:
    return after[0] != "O" and (before[0] == "O" or _ends(before, after))


def _allowed(before: tuple[str, str], after: tuple[str, str], scheme: str) -> bool:
    (old, old_type), (new, new_type) = before, after
    if scheme == "iob1":  # B only separates; I may stand anywhere
        return new in "OI" or (new == "B" and old in "BI" and old_type == new_type)
    if scheme == "bio":
        return new in "OB" or (new == "I" and old in "BI" and old_type == new_type)
    if old in "BI":  # an open segment goes on or ends
        return new in "IE" and old_type == new_type
    return new in "OBS"
