from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from features.tiny_bert import write_tiny_bert
from tidegate.cli import app
from tidegate.features.contextual import fill_mask

pytest.importorskip("transformers")


def test_words_for_a_mask(tmp_path: Path) -> None:
    folder = str(write_tiny_bert(tmp_path / "bert"))
    expected = fill_mask(folder, "the ___ was bad", 2)
    said = CliRunner().invoke(app, ["fill-mask", folder, "the ___ was bad", "--count", "2", "--json"])
    assert said.exit_code == 0, said.output
    found = json.loads(said.stdout)
    assert [item["piece"] for item in found] == [item.piece for item in expected]
    assert found[0]["probability"] == pytest.approx(expected[0].probability)
    plain = CliRunner().invoke(app, ["fill-mask", folder, "the ___ was bad", "--count", "1"])
    assert plain.stdout.startswith(f"{expected[0].probability:.4f}  {expected[0].piece}")
    refused = CliRunner().invoke(app, ["fill-mask", folder, "no mask here"])
    assert refused.exit_code == 1
    assert "the text must have one mask" in refused.output
