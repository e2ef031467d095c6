"""Sphinx's settings for the API reference: `make docs`."""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

import tidegate

project = "tidegate"
version = release = tidegate.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = f"tidegate {version}"
templates_path: list[str] = []
exclude_patterns: list[str] = []

# What classes have from tidegate's own bases belongs to them, what they have from others' does not.
OTHERS = "object, tuple, Module, Generic, BaseEstimator, ClassifierMixin"
autodoc_default_options = {"members": True, "inherited-members": OTHERS, "member-order": "bysource"}
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 100


def skip(_app: Sphinx, _what: str, name: str, _value: Any, skipped: bool, _options: Any) -> bool | None:
    """Leave out what scikit-learn makes for the routing of fit's, predict's and score's arguments."""
    return True if re.fullmatch(r"set_\w+_request|get_metadata_routing", name) else None


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-skip-member", skip)
