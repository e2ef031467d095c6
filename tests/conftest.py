from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path


def _use_other_extension(folder: str) -> None:
    """Test an extension built elsewhere, as `make sanitize` does, instead of the installed one."""
    (library,) = Path(folder).glob("_native*.so")
    spec = importlib.util.spec_from_file_location("tidegate._native", library)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tidegate._native"] = module
    spec.loader.exec_module(module)


if folder := os.environ.get("TIDEGATE_TEST_NATIVE"):
    _use_other_extension(folder)
