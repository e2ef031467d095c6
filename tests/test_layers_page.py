"""docs/layers.md is what its command makes, and every test that it names is there."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "layers.md"


@functools.cache
def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.fixture
def layers_page(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import layers_page

    return layers_page


def test_the_page_is_what_the_command_makes(layers_page, tmp_path, monkeypatch):
    monkeypatch.setattr(layers_page, "PAGE", tmp_path / "layers.md")
    layers_page.main()
    assert (tmp_path / "layers.md").read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8"), (
        "docs/layers.md is not what its sources say: run python benchmarks/layers_page.py"
    )


def test_every_test_that_is_named_is_there():
    links = re.findall(r"\[`(\w+)`\]\(\.\./(tests/[\w/]+\.py)\)", PAGE.read_text(encoding="utf-8"))
    missing = [f"{path}::{name}" for name, path in links if name not in names_in(ROOT / path)]
    assert len(links) > 100
    assert not missing


def test_every_yes_of_ours_has_its_test(layers_page):
    """A row of the feature tables: what it is about, ours, torch.nn's, three others'."""
    rows = [line.split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.count(" | ") == 5]
    answers = [row[1] for row in rows if row[1] not in ("tidegate", "---")]
    assert len(answers) == len(layers_page.OTHERS)
    for answer in answers:
        assert answer == "no" or re.fullmatch(r"(yes|[A-Z, ]+ only): \[`test_\w+`\]\(\.\./tests/[\w/]+\.py\)", answer)


def test_an_error_is_told_once_for_the_cells_that_give_it(layers_page):
    said = {
        "RNN": {"works": False, "why": "RNN.forward() has no 'mask'"},
        "LSTM": {"works": True, "why": ""},
        "GRU": {"works": False, "why": "GRU.forward() has no 'mask'"},
    }
    row = {"torch.nn": said}
    assert layers_page.verdict(said) == "LSTM only"
    assert layers_page.reasons(row) == "RNN, GRU: `forward() has no 'mask'`"
