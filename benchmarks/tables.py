"""docs/performance.md, docs/results.md and the figures of docs/tagging.md, from the records in benchmarks/results.

python benchmarks/tables.py
"""

from __future__ import annotations

from pathlib import Path

import performance_page
import results_page
import tagging_figures

ROOT = Path(__file__).parents[1]


def main() -> None:
    (ROOT / "docs" / "performance.md").write_text(performance_page.page())
    (ROOT / "docs" / "results.md").write_text(results_page.page())
    tagging = ROOT / "docs" / "tagging.md"
    tagging.write_text(tagging_figures.filled(tagging.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
