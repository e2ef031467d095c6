"""Opening text files, plain or compressed, with errors that name the file and the line."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from tidegate.errors import DataError, nearest

COMPRESSIONS = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
_DAMAGED = (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error)
_ERROR_HANDLERS = ("strict", "replace", "ignore", "backslashreplace", "surrogateescape")
_SIGNATURES = {
    b"\x1f\x8b": "it is gzip data: give the file a name that ends in .gz",
    b"\xfd7zXZ\x00": "it is xz data: give the file a name that ends in .xz",
    b"BZh": "it is bzip2 data: give the file a name that ends in .bz2",
    b"PK\x03\x04": "it is a zip archive or an office document: unpack it, or save the table as CSV",
    b"PAR1": "it is a Parquet file: save it as CSV, or in Python read it with pandas or polars and pass the frame",
    b"\xff\xfe": "it begins with a UTF-16 byte order mark: pass encoding='utf-16'",
    b"\xfe\xff": "it begins with a UTF-16 byte order mark: pass encoding='utf-16'",
}


def plain_suffix(path: Path) -> str:
    """The ending of a file's name in lower case, without that of the compression: ``.csv`` for ``a.CSV.gz``."""
    name = path.name.lower()
    for ending in COMPRESSIONS:
        name = name.removesuffix(ending)
    return Path(name).suffix


def signature_hint(head: bytes) -> str | None:
    """What a file that begins with some bytes is, and what to do, where they are those of another kind than text."""
    return next((hint for signature, hint in _SIGNATURES.items() if head.startswith(signature)), None)


def existing(path: Path) -> Path:
    """The path itself when something is there.

    Raises:
        DataError: Nothing is there, with the nearest name in the folder, or its first missing folder.
    """
    try:
        if path.exists():
            return path
        if path.parent.is_dir():
            names = [entry.name for entry in path.parent.iterdir()]
            raise DataError(f"{path}: there is no such file or folder.{nearest(path.name, names)}")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    raise DataError(f"{path}: there is no folder {path.parent}")


@contextmanager
def open_text(
    path: Path, *, encoding: str = "utf-8", errors: str = "strict", newline: str | None = None
) -> Iterator[io.TextIOWrapper]:
    """Open a text file for reading, decompressed by its ending (.gz, .xz, .bz2), a byte order mark removed.

    Args:
        path: The file.
        encoding: Its character encoding.
        errors: What is done with bytes that are not in the encoding: ``"strict"`` raises, and the others are
            Python's: ``"replace"``, ``"ignore"``, ``"backslashreplace"``, ``"surrogateescape"``.
        newline: As in ``open``.

    Raises:
        DataError: The file is missing, empty, damaged, or not in the encoding; also while it is read.
    """
    encoding = checked_encoding(encoding)
    if errors not in _ERROR_HANDLERS:
        raise DataError(
            f"errors={errors!r}: expected one of {', '.join(_ERROR_HANDLERS)}.{nearest(errors, _ERROR_HANDLERS)}"
        )
    try:
        with open_bytes(path) as raw, io.TextIOWrapper(raw, encoding, errors, newline=newline) as stream:
            yield stream
    except UnicodeDecodeError:
        raise DataError(_describe_bad_bytes(path, encoding)) from None
    except UnicodeError as error:  # UTF-16 and UTF-32 want a byte order mark
        raise DataError(
            f"{path}: expected {encoding.upper()} text: {error}; if the file has no byte order mark, pass "
            f"encoding='{encoding}-le', else the encoding that it has"
        ) from None


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """Open a file's bytes for reading, decompressed by its ending (.gz, .xz, .bz2).

    Raises:
        DataError: The file is missing, a folder, or damaged; also while it is read.
    """
    if existing(path).is_dir():
        raise DataError(f"{path}: expected a file, found a folder")
    try:
        with _open_bytes(path) as stream:
            yield stream
    except _DAMAGED as error:
        raise DataError(
            f"{path}: the compressed file is damaged or cut short ({error}); copy or download it again"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def checked_lines(lines: Iterator[str], path: Path) -> Iterator[str]:
    """The same lines, after a check that none holds a NUL byte, which only a binary or UTF-16 file has.

    Raises:
        DataError: A line holds a NUL byte, with the file and line.
    """
    for number, line in enumerate(lines, 1):
        if "\0" in line:
            raise DataError(
                f"{path}:{number}: found a NUL byte, which no text file holds. If the file is UTF-16, pass "
                "encoding='utf-16'; if the bytes are a mistake, remove them, for example with: "
                f"tr -d '\\000' < {path.name} > clean{plain_suffix(path)}"
            )
        yield line


def checked_encoding(encoding: str) -> str:
    """Python's name of a character encoding; UTF-8 is the form that passes over a byte order mark.

    Raises:
        DataError: There is no such encoding, or it is not one of characters (as base64).
    """
    try:
        io.TextIOWrapper(io.BytesIO(), encoding)
        name = codecs.lookup(encoding).name
    except (LookupError, ValueError):
        raise DataError(
            f"encoding={encoding!r}: Python knows no such encoding; usual ones: utf-8, utf-16, gb18030, latin-1, cp1252"
        ) from None
    return "utf-8-sig" if name == "utf-8" else name


def _open_bytes(path: Path) -> BinaryIO:
    opener = COMPRESSIONS.get(path.suffix.lower())
    return cast("BinaryIO", path.open("rb") if opener is None else opener(path, "rb"))


def _describe_bad_bytes(path: Path, encoding: str) -> str:
    """Read the file once more, slowly, for the line of the first bytes that are not in the encoding."""
    decoder = codecs.getincrementaldecoder(encoding)()
    lines = 1
    with _open_bytes(path) as stream:
        head = stream.read(8)
        stream.seek(0)
        while chunk := stream.read(1 << 16):
            state = decoder.getstate()
            try:
                lines += decoder.decode(chunk).count("\n")
            except UnicodeDecodeError:
                decoder.setstate(state)
                chunk_lines, found = _first_bad_byte(decoder, chunk)
                lines += chunk_lines
                break
        else:
            found = "a character that is cut off at the end of the file"
    advice = signature_hint(head) or (
        "save the file as UTF-8, or pass its encoding (encoding='gb18030', 'latin-1', 'cp1252', ...), or "
        "errors='replace' to put \ufffd in place of such bytes"
    )
    return f"{path}:{lines}: expected {encoding.removesuffix('-sig').upper()} text, found {found}; {advice}"


def _first_bad_byte(decoder: codecs.IncrementalDecoder, chunk: bytes) -> tuple[int, str]:
    lines = 0
    for place in range(len(chunk)):
        try:
            lines += decoder.decode(chunk[place : place + 1]).count("\n")
        except UnicodeDecodeError as error:
            wrong = error.object[error.start : error.end]
            return lines, f"the byte{'s' if len(wrong) > 1 else ''} {' '.join(f'0x{value:02x}' for value in wrong)}"
    return lines, "bytes that are not"
