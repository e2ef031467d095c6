"""Loads the native extension; free of torch."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from pathlib import Path
from types import ModuleType

__all__ = ["extension"]


@functools.cache
def extension() -> ModuleType:
    """The native extension, loaded once.

    It uses OpenMP and shares the runtime of torch: two pools in one process fight for the cores, which costs a factor
    of ten at batch 1. So torch's ``libgomp`` is loaded first where torch is installed, else the system's.

    Raises:
        ImportError: The extension is missing or does not load; the message says what to do.
    """
    _preload_openmp()
    try:
        from tidegate import _native
    except ImportError as error:
        hint = (
            "install the OpenMP runtime (the package libgomp1 on Debian and Ubuntu, libgomp on Fedora)"
            if "libgomp" in str(error)
            else "install tidegate again for this Python and machine: pip install --force-reinstall tidegate"
        )
        raise ImportError(f"tidegate's native extension does not load: {error}; {hint}") from error
    return _native


def _preload_openmp() -> None:
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return
    for library in sorted((Path(spec.origin).parent / "lib").glob("libgomp*.so*")):
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
