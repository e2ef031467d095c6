"""The native activations beside exact results: errors in ulp."""

from __future__ import annotations

import numpy as np

from tidegate.native import extension

EXACT = {"exp": np.exp, "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "tanh": np.tanh}
ULP = {"exp": 2.0, "sigmoid": 3.0, "tanh": 3.0}


def apply(name: str, x: np.ndarray) -> np.ndarray:
    y = np.empty_like(x)
    extension().activate(name, x, y)
    return y


def with_normal_results(name: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The finite numbers whose results float32 holds in full, their exact results, and what an ulp is there."""
    x = x[np.isfinite(x)]
    with np.errstate(over="ignore", under="ignore"):
        exact = EXACT[name](x.astype(np.float64))
    size = np.abs(exact)
    normal = (size >= np.finfo(np.float32).tiny) & (size <= np.finfo(np.float32).max)
    return x[normal], exact[normal], np.spacing(size[normal].astype(np.float32)).astype(np.float64)


def largest_error_in_ulp(name: str, x: np.ndarray, exact: np.ndarray, ulp: np.ndarray) -> float:
    return float((np.abs(apply(name, x) - exact) / ulp).max(initial=0.0))
