"""The test accuracy of a recipe over several seeds, the model chosen on validation data, beside its baseline.

python benchmarks/accuracy.py sentiment_en [--seeds 0 1 2] [--set KEY=VALUE ...] [--data-dir DIR] [--json FILE]

With --out the runs stay in that folder, and called again go on from their last finished epochs. The processor's seconds
are those of this process, all its threads together: on a machine that other work shares they say more than the time.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from side_by_side import machine, write_json
from tidegate import jobs
from tidegate.config import load_recipe
from tidegate.deploy.bundle import load_bundle
from tidegate.jobs.run_folder import RECIPE_FILE


def train_seeds(
    name: str, seeds: Sequence[int], overrides: Sequence[str], data_dir: Path | None = None, out: Path | None = None
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """A row for each seed, and the baseline, which is that of all."""
    rows: list[dict[str, Any]] = []
    baseline = None
    for seed in seeds:
        own = [*overrides, f"training.random_state={seed}"]
        if baseline is not None:
            own.append("output.baseline=false")
        recipe = load_recipe(name, overrides=own, data_dir=data_dir)
        used = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) if out is None else out / f"seed-{seed}"
            begun = (place / RECIPE_FILE).is_file()
            run = jobs.train(recipe, out=place, resume=begun, overwrite=not begun)
            history = load_bundle(run.model).metrics.get("history")  # a linear model has none
        if run.test is None:
            raise SystemExit("expected a recipe with test data")
        baseline = baseline or run.baseline
        rows.append(
            {
                "seed": seed,
                "test_accuracy": run.test["accuracy"],
                "validation_accuracy": run.validation_accuracy,
                "validation_loss": history[run.best_epoch - 1]["validation_loss"] if history else None,
                "best_epoch": run.best_epoch,
                "epochs": run.epochs,
                "seconds": round(run.seconds, 1),
                # Of a run that was gone on with, this is its last part alone.
                "processor_seconds": None if begun else round(time.process_time() - used, 1),
            }
        )
        print(
            f"seed {seed}: test {run.test['accuracy']:.4f}, validation {run.validation_accuracy:.4f}, "
            f"epoch {run.best_epoch} of {run.epochs}, {run.seconds:.0f} s",
            flush=True,
        )
    return rows, baseline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path, help="keep the runs in this folder")
    parser.add_argument("--json", help="write the record to this file")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("tidegate").setLevel(logging.INFO)
    rows, baseline = train_seeds(
        arguments.recipe, arguments.seeds, arguments.overrides, arguments.data_dir, arguments.out
    )
    accuracies = [row["test_accuracy"] for row in rows]
    mean, spread = statistics.mean(accuracies), statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    print(f"{arguments.recipe}: mean test accuracy {mean:.4f}, standard deviation {spread:.4f}, {len(rows)} seeds")
    if baseline is not None:
        print(f"baseline {baseline['accuracy']:.4f}: {baseline['name']}")
    if arguments.json:
        record = {
            "recipe": arguments.recipe,
            "overrides": arguments.overrides,
            "needs_data_dir": arguments.data_dir is not None,
            "mean_test_accuracy": mean,
            "standard_deviation": spread,
            "baseline": baseline,
            "runs": rows,
            "machine": machine(),
        }
        write_json(arguments.json, record)


if __name__ == "__main__":
    main()
