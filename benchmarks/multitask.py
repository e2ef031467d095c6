"""Whether sharing an encoder helps: each task of a recipe learned together and alone, over several seeds.

python benchmarks/multitask.py multitask_en [--seeds 0 1 2] [--set KEY=VALUE ...] [--data-dir DIR] [--json FILE]

The recipe must have output.single_tasks. With --out the runs stay in that folder: called again, those that are finished
are read, and those that broke off go on. Prints a Markdown table; a difference above zero is a gain of sharing, and its
spread is that over the seeds, each of which trains both.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from side_by_side import machine, write_json
from tidegate import jobs
from tidegate.config import load_recipe
from tidegate.jobs.run_folder import METRICS_FILE, RECIPE_FILE

# Kind of a task -> its figures, with whether a lower one is better.
FIGURES = {
    "classification": {"accuracy": False, "macro_f1": False},
    "regression": {"mae": True, "r2": False, "spearman": False},
}


def run_seed(recipe: str, overrides: Sequence[str], seed: int, data_dir: Path | None, folder: Path) -> dict[str, Any]:
    """The facts of a run, which is trained where it is not finished."""
    if not (folder / METRICS_FILE).is_file():
        loaded = load_recipe(recipe, overrides=[*overrides, f"training.random_state={seed}"], data_dir=data_dir)
        begun = (folder / RECIPE_FILE).is_file()
        jobs.train(loaded, out=folder, resume=begun, overwrite=not begun)
    facts: dict[str, Any] = json.loads((folder / METRICS_FILE).read_text("utf-8"))
    if not facts.get("single"):
        raise SystemExit(f"{folder}: expected a run with output.single_tasks and test data")
    return facts


def compare(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each task and figure: together and alone for each seed, and the gain of sharing."""
    rows = []
    for task, kind in runs[0]["kinds"].items():
        for figure, lower in FIGURES[kind].items():
            together = [run["test"]["tasks"][task][figure] for run in runs]
            alone = [run["single"][task][figure] for run in runs]
            gains = [(b - a) if lower else (a - b) for a, b in zip(together, alone, strict=True)]
            baseline = ((runs[0].get("baseline") or {}).get("tasks") or {}).get(task)
            rows.append(
                {
                    "task": task,
                    "figure": figure,
                    "together": together,
                    "alone": alone,
                    "gain": statistics.mean(gains),
                    "spread": statistics.stdev(gains) if len(gains) > 1 else None,
                    "baseline": None if baseline is None else baseline[figure],
                }
            )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""

    def listed(values: Sequence[float]) -> str:
        each = ", ".join(f"{value:.4f}" for value in values)
        return f"**{statistics.mean(values):.4f}** ({each})" if len(values) > 1 else f"**{each}**"

    lines = [
        "| task | figure | together | alone | gain of sharing | TF-IDF, linear |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        spread = "" if row["spread"] is None else f" ± {row['spread']:.4f}"
        baseline = "-" if row["baseline"] is None else f"{row['baseline']:.4f}"
        cells = [row["task"], row["figure"], listed(row["together"]), listed(row["alone"])]
        lines.append(f"| {' | '.join(cells)} | {row['gain']:+.4f}{spread} | {baseline} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path, help="keep the runs in this folder, as seed-0, seed-1 ...")
    parser.add_argument("--json", help="write the record to this file")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("tidegate").setLevel(logging.INFO)
    with tempfile.TemporaryDirectory() as temporary:
        out = arguments.out or Path(temporary)
        runs = [
            run_seed(arguments.recipe, arguments.overrides, seed, arguments.data_dir, out / f"seed-{seed}")
            for seed in arguments.seeds
        ]
    rows = compare(runs)
    print(table(rows))
    if arguments.json:
        record = {
            "recipe": arguments.recipe,
            "overrides": arguments.overrides,
            "needs_data_dir": arguments.data_dir is not None,
            "seeds": arguments.seeds,
            "rows": rows,
            "test_texts": runs[0]["test"]["count"],
            "seconds": [{key: round(run["timing"][key], 1) for key in ("train", "single tasks")} for run in runs],
            "epochs": [len(run["history"]) for run in runs],
            "machine": machine(),
        }
        write_json(arguments.json, record)


if __name__ == "__main__":
    main()
