"""The file that a command writes: whether it can be written, before what goes into it is computed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from tidegate.errors import DataError

__all__ = ["check_out_file"]


def check_out_file(path: str | Path) -> None:
    """Refuse a file that cannot be written.

    Raises:
        DataError: Its folder is not there or takes no files, or it is a folder itself.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise DataError(f"{path}: there is no folder {path.parent}")
    if path.is_dir():
        raise DataError(f"{path}: expected the name of a file, found a folder")
    probe = path.with_name(f".{path.name}.{os.getpid()}.probe")
    try:
        probe.touch()
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}; choose another place") from None
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
