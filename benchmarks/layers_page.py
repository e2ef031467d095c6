"""docs/layers.md: what the layers can do, beside the other libraries, and the tests that prove it.

    python benchmarks/layers_page.py

From the record of layer_features.py (tidegate and torch.nn, each feature tried) and other_libraries.py (by hand).
"""

from __future__ import annotations

import json
import re
from itertools import groupby
from pathlib import Path
from typing import Any

from further_layers import SECTIONS
from other_libraries import OTHERS, SOURCES

ROOT = Path(__file__).parents[1]
RECORD = Path(__file__).parent / "results" / "layer_features.json"
PAGE = ROOT / "docs" / "layers.md"
Row = dict[str, Any]
# A missing argument or method is told by the "no" alone.
ABSENT = re.compile("unexpected keyword argument|has no attribute")
LONGEST = 130  # characters of an error that the page repeats

HEAD = """# Layers

What tidegate's layers can do, what others can, and the test behind every "yes" of ours. `python
benchmarks/layers_page.py` made this page.

- **tidegate** and **torch.nn**: each feature was tried on RNN, LSTM and GRU by the same lines
  (`benchmarks/layer_features.py`, which compares values wherever there is something to compare; torch {torch}, on a
  CPU). A "yes" of tidegate names the test that proves it; where cells differ, they are named.
- **Keras 3**, **Haste** (its layers for PyTorch) and **ONNX** (the operators RNN, LSTM and GRU) are kept by hand in
  `benchmarks/other_libraries.py`, from documentation ({sources}), from signatures and schemas (Keras 3.15.1, ONNX opset
  22), and a few of Keras's from trying it. `?`: not known; `-`: has no meaning there.

Where torch.nn failed by an error, the error is under the table; a "no" without one means that there is no such argument
or method.

Tests that need a GPU are skipped where there is none; a few compile for long and run with `make test-slow` alone.
"""

GROUPS = {
    "PyTorch": "With the rest of PyTorch",
    "Sequences": "Sequences, states and what is inside",
    "Options": "Options",
}


def link(test: str) -> str:
    """A relative link from docs/ to the file of a test; the text names the test."""
    path, name = test.split("::")
    return f"[`{name}`](../{path})"


def verdict(cells: dict[str, Row]) -> str:
    """A library's answer: yes, no, or which of the cells."""
    working = [cell for cell, result in cells.items() if result["works"]]
    if len(working) == len(cells):
        return "yes"
    return f"{', '.join(working)} only" if working else "no"


def ours(row: Row) -> str:
    answer = verdict(row["tidegate"])
    return answer if answer == "no" else f"{answer}: {link(row['test'])}"


def reasons(row: Row) -> str:
    """Why torch.nn has not what a row names, the cells that fail alike together."""
    failed: dict[str, list[str]] = {}
    for cell, result in row["torch.nn"].items():
        if not result["works"]:
            # An error that names the cell's class is the same error.
            failed.setdefault(result["why"].replace(f"{cell}.", "").replace(f"'{cell}'", "the layer"), []).append(cell)
    return "; ".join(f"{', '.join(cells)}: `{why[:LONGEST].rstrip()}`" for why, cells in failed.items())


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def features(rows: list[Row]) -> str:
    """Every group with its table, and under it what torch.nn answered where it failed."""
    unknown = {row["name"] for row in rows} ^ OTHERS.keys()
    if unknown:
        raise ValueError(f"layer_features.json and other_libraries.py do not name the same features: {sorted(unknown)}")
    parts = []
    for group, members in groupby(rows, key=lambda row: row["group"]):
        chosen = list(members)
        lines = [[row["name"], ours(row), verdict(row["torch.nn"]), *OTHERS[row["name"]]] for row in chosen]
        parts.append(f"## {GROUPS[group]}\n\n{table(['', 'tidegate', 'torch.nn', *SOURCES], lines)}")
        failed = [[row["name"], why] for row in chosen if (why := reasons(row)) and not ABSENT.search(why)]
        parts.append("What torch.nn answered:\n\n" + table(["", "cells and error"], failed))
    return "\n\n".join(parts)


def further() -> str:
    """A section for each further layer, with a list of its tests."""
    return "\n\n".join(
        f"## {section.title}\n\n{section.text}\n\n"
        + "\n".join(f"- {claim}: {link(test)}" for claim, test in section.claims)
        for section in SECTIONS
    )


def page() -> str:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    sources = ", ".join(f"[{name}]({address})" for name, address in SOURCES.items())
    head = HEAD.format(torch=record["machine"]["torch"], sources=sources)
    return "\n\n".join([head.strip(), features(record["rows"]), further()]) + "\n"


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
