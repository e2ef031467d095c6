"""The README's snippets run as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_snippets_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(snippets) == 3
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), {})
    assert (tmp_path / "sentiment.tg").exists()


def test_the_commands_run(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from tidegate.cli import app

    monkeypatch.chdir(tmp_path)
    (console,) = re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL)
    runner = CliRunner()
    commands = console.splitlines()
    assert len(commands) == 6
    for line in commands:
        words = shlex.split(line.removeprefix("$ "))
        text = None
        if "|" in words:
            bar = words.index("|")
            text, words = " ".join(words[1:bar]) + "\n", words[bar + 1 :]
        assert words[0] == "tidegate"
        if words[1] == "train":
            words += [
                "--set",
                "training.max_epochs=1",
                "--set",
                "model.hidden_size=8",
                "--set",
                "output.baseline=false",
            ]
        result = runner.invoke(app, words[1:], input=text)
        assert result.exit_code == 0, f"{line}\n{result.output}"
    assert '"probabilities"' in runner.invoke(app, ["predict", "runs/mine/model.tg", "--json"], input="fine\n").output


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_links_and_paths_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    folder = (ROOT / page).parent
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("http"):
            assert (folder / target).exists(), f"{page} links to {target}"
    if page == "docs/walkthrough.md":
        for path in re.findall(r"\*\*`([\w/.]+)`\*\*", text):
            assert (ROOT / path).exists() or (ROOT / "src/tidegate" / path).exists(), path
