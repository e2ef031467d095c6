"""The exceptions that tidegate raises for what a user can mend, and the two helpers that word them."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class TidegateError(Exception):
    """Base of every error that a user can mend; its message says what was expected, found, where, and what to do."""


class DataError(TidegateError, ValueError):
    """Input data that cannot be used: a missing column, a broken line, a label that was never seen."""


class RecipeError(TidegateError, ValueError):
    """A recipe that is not valid: an unknown key, a wrong type, a file that is not there."""


class BundleError(TidegateError, ValueError):
    """A model file that is truncated, foreign, newer than this version, or not what its manifest says."""


class MissingExtraError(TidegateError, ImportError):
    """An optional package is needed and not installed; the message names the extra that brings it."""


def require(module: str, extra: str) -> ModuleType:
    """Import an optional module, or say which extra of tidegate installs it.

    Args:
        module: Dotted name of the module, e.g. ``"torch"``.
        extra: The extra of tidegate that installs it, e.g. ``"train"``.

    Raises:
        MissingExtraError: The module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingExtraError(
            f"this needs the package {module.split('.')[0]!r}, which is not installed; "
            f'install it with: pip install "tidegate[{extra}]"'
        ) from None


def nearest(name: str, legal: Iterable[str]) -> str:
    """A sentence `` Did you mean 'x'?`` for the closest of the legal names, or an empty string."""
    matches = difflib.get_close_matches(name, list(legal), n=1, cutoff=0.6)
    return f" Did you mean {matches[0]!r}?" if matches else ""
