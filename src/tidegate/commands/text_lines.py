"""The lines of a stream, as soon as they are there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

__all__ = ["text_batches"]

_READ_BYTES = 1 << 16


def text_batches(stream: BinaryIO, most: int = 256) -> Iterator[list[str]]:
    """The lines of a byte stream, in batches of what is there: a line that was sent is never held back for the next.

    Lines end with LF or CRLF; bytes that are not UTF-8 become U+FFFD; an empty line is an empty text.

    Args:
        stream: Bytes, e.g. ``sys.stdin.buffer``.
        most: Lines in a batch at most.
    """
    pending: list[bytes] = []
    first = True
    read = getattr(stream, "read1", stream.read)
    while chunk := read(_READ_BYTES):
        if b"\n" not in chunk:
            pending.append(chunk)
            continue
        *lines, rest = (b"".join(pending) + chunk).split(b"\n")
        pending = [rest]
        for start in range(0, len(lines), most):
            yield [_decode(line, first and not start and not place) for place, line in enumerate(lines[start:][:most])]
        first = False
    if last := b"".join(pending):
        yield [_decode(last, first)]


def _decode(line: bytes, first: bool) -> str:
    text = line.removesuffix(b"\r").decode("utf-8", "replace")
    return text.removeprefix("\ufeff") if first else text
