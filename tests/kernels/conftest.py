from __future__ import annotations

from collections.abc import Iterator

import pytest

from tidegate.native import extension


@pytest.fixture(autouse=True)
def _threads_share_small_layers() -> Iterator[None]:
    """The layers of these tests are small: all threads are to share them, as they do large ones."""
    extension().let_threads_idle(False)
    yield
    extension().let_threads_idle(True)
