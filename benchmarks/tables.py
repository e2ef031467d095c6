"""docs/performance.md, docs/results.md and the figures of docs/tagging.md, from the records in benchmarks/results.

python benchmarks/tables.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import performance_page
import tagging_figures
from performance_page import RESULTS, markdown

ROOT = Path(__file__).parents[1]

RESULTS_PAGE = """# Results

Test accuracy; the epoch is chosen on validation data. Each figure stands beside
the command that printed it; `benchmarks/results` keeps the records, and `python benchmarks/tables.py` made this page.

{table}

The baseline is TF-IDF with logistic regression over tidegate's tokens (`reporting/compare.py`): words and word pairs,
for Chinese characters and character pairs, and it is printed beside every run's own result. **It is strong:** where a
network starts from random word vectors and has a few thousand texts alone, as in the English recipes, it does not beat
the baseline, and the reports say so. One standard error of a single run, from the size of the test set, is 1.3 points
on the English reviews, 1.0 on the Chinese and 0.2 on IMDb.
{remarks}
Times are of whole runs (reading, training, baseline, report) on the machine of [performance.md](performance.md).

## Tagging

{tagging}
"""


def load(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / name).read_text())


def results() -> str:
    rows = []
    for path in sorted(RESULTS.glob("accuracy_*.json")):
        record = load(path.name)
        seeds = [run["seed"] for run in record["runs"]]
        accuracies = ", ".join(f"{run['test_accuracy']:.4f}" for run in record["runs"])
        seconds = max(run["seconds"] for run in record["runs"])
        data_dir = " --data-dir DIR" if record["needs_data_dir"] else ""
        overrides = "".join(f" --set {override}" for override in record["overrides"])
        rows.append(
            [
                f"`python benchmarks/accuracy.py {record['recipe']}{data_dir}{overrides} "
                f"--seeds {' '.join(map(str, seeds))}`",
                f"**{record['mean_test_accuracy']:.4f}**",
                accuracies,
                f"{record['baseline']['accuracy']:.4f}" if record["baseline"] else "-",
                f"{seconds:.0f} s",
            ]
        )
    header = ["command", "mean", "each seed", "baseline", "longest run"]
    remarks = RESULTS / "remarks.md"
    text = "\n" + remarks.read_text() if remarks.exists() else ""
    return RESULTS_PAGE.format(table=markdown(header, rows), remarks=text, tagging=tagging_figures.figures())


def filled(page: str, parts: dict[str, str]) -> str:
    """A page with what stands between the marks ``<!-- NAME -->`` and ``<!-- end -->`` made anew."""
    for name, text in parts.items():
        start, end = f"<!-- {name} -->\n", "<!-- end -->"
        before, rest = page.split(start)
        page = before + start + text + "\n" + end + rest.split(end, 1)[1]
    return page


def main() -> None:
    (ROOT / "docs" / "performance.md").write_text(performance_page.page())
    (ROOT / "docs" / "results.md").write_text(results())
    tagging = ROOT / "docs" / "tagging.md"
    parts = {"figures": tagging_figures.figures(), "speed": tagging_figures.speed()}
    tagging.write_text(filled(tagging.read_text(), parts))


if __name__ == "__main__":
    main()
