from __future__ import annotations

import io

import pytest

from tidegate.commands.text_lines import text_batches


class Chunks(io.RawIOBase):
    """A stream that gives one chunk a read and counts the reads."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks, self.reads = list(chunks), 0

    def read1(self, _: int) -> bytes:
        self.reads += 1
        return self.chunks.pop(0) if self.chunks else b""


def test_lines_are_given_as_soon_as_they_are_there():
    stream = Chunks(b"one\ntwo\nthr", b"ee\n", b"four")
    batches = text_batches(stream)  # pyright: ignore[reportArgumentType]
    assert next(batches) == ["one", "two"]
    assert stream.reads == 1
    assert next(batches) == ["three"]
    assert stream.reads == 2
    assert list(batches) == [["four"]]


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a\n\nb\n", ["a", "", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"\xef\xbb\xbfa\nb", ["a", "b"]),
        (b"a\xff\xfeb\n\x00\n", ["a\ufffd\ufffdb", "\x00"]),
        ("坏\n好".encode(), ["坏", "好"]),
        (b"x" * 200_000 + b"\ny", ["x" * 200_000, "y"]),
    ],
)
def test_every_kind_of_line_is_read(data: bytes, lines: list[str]):
    assert [line for batch in text_batches(io.BytesIO(data)) for line in batch] == lines


def test_batches_are_bounded_and_a_character_may_span_reads():
    sizes = [len(batch) for batch in text_batches(io.BytesIO(b"a\n" * 1000), most=300)]
    assert sizes == [300, 300, 300, 100]
    stream = Chunks("坏".encode()[:2], "坏".encode()[2:] + b"\n")
    assert list(text_batches(stream)) == [["坏"]]  # pyright: ignore[reportArgumentType]
