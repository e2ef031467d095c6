"""Where the members of a model stand in its bundle, as ``members/1/members/0/``, and how many there may be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

__all__ = ["MOST_LEVELS", "MOST_MEMBERS", "count_members", "member_folders", "without_members"]

# More than these are not read, however many a file says that it has.
MOST_MEMBERS, MOST_LEVELS = 150, 4
_FOLDER = re.compile(r"members/(?:0|[1-9]\d{0,2})/")


def count_members(members: Any, level: int = 1) -> int:
    """How many members a manifest describes, on all levels; more than there may be where it is not sound."""
    sound = isinstance(members, list) and all(
        isinstance(member, dict) and set(member) == {"kind", "members"} and isinstance(member["kind"], str)
        for member in members
    )
    if not sound or len(members) > MOST_MEMBERS or (members and level > MOST_LEVELS):
        return MOST_MEMBERS + 1
    return len(members) + sum(count_members(member["members"], level + 1) for member in members)


def member_folders(members: list[dict[str, Any]], folder: str = "") -> Iterator[str]:
    """The folder of a model, which is none for the outermost, and those of its members."""
    yield folder
    for number, member in enumerate(members):
        yield from member_folders(member["members"], f"{folder}members/{number}/")


def without_members(name: str) -> str:
    """The name that an entry has in the folder of its member."""
    return _FOLDER.sub("", name)
