"""docs/performance.md and docs/results.md from the records that the benchmarks keep in benchmarks/results.

python benchmarks/tables.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"

PERFORMANCE = """# Speed

Made by `make bench` and `python benchmarks/tables.py` from `benchmarks/results/gru.json`.

{machine}

tidegate.GRU beside torch.nn.GRU in one process, taking turns; medians of {repeats} turns. A training step is forward
and backward with the gradients of the input and of all parameters; its FLOPs are 3 x 2 N 3H (I + H) a direction, N the
number of real steps, I = H; inference takes a third of that. `of peak` is the fraction of torch.mm's rate (float32,
2048 cubed) measured beside the same shape. In the ragged batches torch.nn.GRU takes a PackedSequence made beforehand.

{table}
"""

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
"""


def load(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / name).read_text())


def markdown(header: list[str], rows: list[list[str]], left: int = 1) -> str:
    rule = ["---"] * left + ["---:"] * (len(header) - left)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, rule, *rows])


def describe(machine: dict[str, Any]) -> str:
    return (
        f"Machine: {machine['processor']}, {machine['cores']} cores, instruction set {machine['isa']}; "
        f"Python {machine['python']}, torch {machine['torch']}."
    )


def performance() -> str:
    record = load("gru.json")
    header = ["shape", "job", "threads", "tidegate ms", "torch ms", "ratio", "GFLOP/s", "of peak"]
    rows = [
        [
            row["shape"],
            row["job"],
            str(row["threads"]),
            f"{row['tidegate_ms']:.3f}",
            f"{row['torch_ms']:.3f}",
            f"**{row['ratio']:.2f}**",
            f"{row['gflops']:.0f}",
            f"{row['fraction_of_peak']:.0%}",
        ]
        for row in record["rows"]
    ]
    machine = describe(record["machine"])
    return PERFORMANCE.format(machine=machine, repeats=record["repeats"], table=markdown(header, rows, left=2))


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
    return RESULTS_PAGE.format(table=markdown(header, rows), remarks=text)


def main() -> None:
    (ROOT / "docs" / "performance.md").write_text(performance())
    (ROOT / "docs" / "results.md").write_text(results())


if __name__ == "__main__":
    main()
