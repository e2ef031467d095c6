"""Real data sets, which are not part of the repository: TIDEGATE_DATA names the folder that holds them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_ROOT = Path(os.environ.get("TIDEGATE_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def real_data(name: str) -> Path:
    """The folder of a data set, or a file in it; where it is not there the test is skipped."""
    if not (_ROOT / name).exists():
        pytest.skip(f"needs {name}; name the folder that holds it in TIDEGATE_DATA")
    return _ROOT / name
