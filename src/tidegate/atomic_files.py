"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["is_abandoned", "replace_by_copy", "replacing"]

_PARTIAL = re.compile(r"\..+\.\d+\.[0-9a-f]{8}\.partial")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that stands at `path` once it is whole and flushed to the disk; until then, what was there does.

    Raises:
        OSError: It could not be written; what was there is as it was.
    """
    partial = _beside(path)
    try:
        with open(partial, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _flush_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def replace_by_copy(source: Path, path: Path) -> None:
    """Let `path` be the same file as `source`, or a copy of it where the file system has no links.

    Raises:
        OSError: It could not be written; what was there is as it was.
    """
    partial = _beside(path)
    try:
        try:
            os.link(source, partial)
        except OSError:
            shutil.copyfile(source, partial)
        os.replace(partial, path)
        _flush_folder(path.parent)
    finally:  # where both were links to one file, the move leaves them as they are
        with contextlib.suppress(OSError):
            partial.unlink()


def is_abandoned(path: Path) -> bool:
    """Whether the name is that of a file half written, which a process that was killed leaves."""
    return _PARTIAL.fullmatch(path.name) is not None


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.partial")


def _flush_folder(folder: Path) -> None:
    # The move itself reaches the disk only with its folder; not every file system lets a folder be flushed.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
