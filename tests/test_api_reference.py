"""The source of the API reference has every public name of the package once and nothing else; without Sphinx."""

from __future__ import annotations

import re
from pathlib import Path

import tidegate

ROOT = Path(__file__).parents[1]


def test_every_public_name_is_in_the_reference():
    source = (ROOT / "docs" / "api" / "index.rst").read_text(encoding="utf-8")
    entries = re.findall(r"^\.\. auto(class|function):: tidegate\.(\w+)$", source, flags=re.MULTILINE)
    names = [name for _, name in entries]
    assert sorted(names) == sorted(set(tidegate.__all__) - {"__version__"})
    for kind, name in entries:
        value = getattr(tidegate, name)
        assert isinstance(value, type) == (kind == "class"), f"{name} is no {kind}"
        assert value.__doc__, f"{name} has no docstring, so the reference says nothing of it"


def test_the_version_is_said_to_be_there():
    assert "``tidegate.__version__``" in (ROOT / "docs" / "api" / "index.rst").read_text(encoding="utf-8")
