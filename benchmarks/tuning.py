"""A search for a better recipe on the bundled Chinese reviews, killed on its way and gone on with, and what it found.

python benchmarks/tuning.py [--minutes 15] [--kill-after 3] [--trials 40] [--work DIR] [--json FILE]
python benchmarks/tuning.py --judge [--seeds 0 1 2]     trains the found recipe, adds it and the default to the record

The search is the command ``tidegate tune sentiment_zh`` with cheap trials (few epochs, bad ones ended early), killed
with SIGKILL once --kill-after trials are finished and started again by the same command. Trials are compared by the
log-loss on the validation part, which is less noisy than its accuracy; the test part is read only by --judge.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accuracy import train_seeds
from side_by_side import RESULTS, machine, write_json
from tidegate.jobs.tuning import BEST_FILE, STORAGE_FILE, TRIALS_FILE
from tidegate.reporting.plots import search_history

RECIPE = "sentiment_zh"
# The drawing has the colours of the report's page; by itself it needs them, and a ground to stand on.
COLOURS = (
    "<style>svg { --paper: #f6f5f2; --card: #fff; --ink: #1c2127; --muted: #616a75; --line: #e3e1db; "
    "--series-1: #0f6a74; --series-2: #b8531b; --series-3: #6a55a6; --sans: sans-serif; }</style>"
    '<rect width="100%" height="100%" fill="#fff"/>'
)
IMAGE = Path(__file__).parents[1] / "docs" / "images" / "tune_sentiment_zh.svg"
BEST = RESULTS / "tune_sentiment_zh_best.yaml"
# The found recipe is judged by as many epochs as the default one has, not by the few of a trial.
WHOLE = ("training.max_epochs=12", "training.patience=3", "output.baseline=false", "output.report=false")
CHEAP = ("training.max_epochs=4", "training.monitor=loss", "training.precision=bfloat16")
SPACE = (
    "training.learning_rate=1e-3..6e-3:log",
    "training.schedule=constant,one-cycle",
    "training.ema_decay=0.99,0.998",
    "model.pooling=attention,max,mean",
    "model.dropout=0.2..0.6",
    "model.embedding_dropout=0.2..0.6",
)


def command(trials: int, seed: int, folder: Path) -> list[str]:
    """The search as it is typed."""
    keys = [part for item in CHEAP for part in ("--set", item)] + [
        part for item in SPACE for part in ("--search", item)
    ]
    return ["tidegate", "tune", RECIPE, *keys, "--trials", str(trials), "--seed", str(seed), "--out", str(folder)]


def standalone(svg: str) -> str:
    """A drawing of the report as a file of its own."""
    head, close, rest = svg.partition(">")
    return f'{head} xmlns:xlink="http://www.w3.org/1999/xlink"{close}{COLOURS}{rest}\n'


def finished(storage: Path) -> int:
    """Trials of a study that are done."""
    if not storage.is_file():
        return 0
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(storage)) as database:
        found = database.execute("SELECT count(*) FROM trials WHERE state IN ('COMPLETE', 'PRUNED', 'FAIL')")
        return int(found.fetchone()[0])
    return 0


def run(words: list[str], killed_when: Callable[[float], bool]) -> dict[str, Any]:
    """Run the search until it ends or is killed; its time, processor time, and how it ended."""
    started = time.perf_counter()
    code = "import sys; from tidegate.cli import main; sys.argv = sys.argv[1:]; sys.exit(main())"
    child = subprocess.Popen([sys.executable, "-c", code, *words])
    while True:
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            return {
                "seconds": round(time.perf_counter() - started, 1),
                "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
                "ended": "killed" if os.WIFSIGNALED(status) else "by itself",
            }
        if killed_when(time.perf_counter() - started):
            os.kill(child.pid, signal.SIGKILL)
        time.sleep(1.0)


def search(arguments: argparse.Namespace) -> None:
    """The search, and its record."""
    folder: Path = arguments.work
    storage, limit = folder / STORAGE_FILE, 60.0 * arguments.minutes
    words = command(arguments.trials, arguments.seed, folder)
    parts: list[dict[str, Any]] = []
    reached: list[float] = []

    def in_the_middle(seconds: float) -> bool:
        if finished(storage) >= arguments.kill_after:
            reached.append(seconds)
        return bool(reached) and seconds > reached[0] + 5  # within the next trial

    if arguments.kill_after and not storage.is_file():
        first = run([*words, "--timeout", f"{limit:.0f}"], in_the_middle)
        parts.append({**first, "finished": finished(storage)})
        print(f"killed after {parts[0]}", flush=True)
    left = limit - sum(part["seconds"] for part in parts)
    last = run([*words, "--timeout", f"{left:.0f}"], lambda seconds: False)
    parts.append({**last, "finished": finished(storage)})
    found = json.loads((folder / TRIALS_FILE).read_text(encoding="utf-8"))
    shutil.copyfile(folder / BEST_FILE, BEST)
    IMAGE.parent.mkdir(exist_ok=True)
    IMAGE.write_text(standalone(search_history(found["monitor"], found["trials"])), encoding="utf-8")
    shown = ["tidegate", *(item if " " not in item else f'"{item}"' for item in words[1:-2])]
    write_json(arguments.json, {"command": shown, "parts": parts, **found, "machine": machine()})


def judge(arguments: argparse.Namespace) -> None:
    """The found recipe over seeds, and what `accuracy.py` recorded of the default one, added to the record."""
    record = json.loads(Path(arguments.json).read_text(encoding="utf-8"))
    judged = record.setdefault("judged", {})
    default = json.loads((RESULTS / f"accuracy_{RECIPE}.json").read_text(encoding="utf-8"))["runs"]
    judged["default"] = [row for row in default if row["seed"] in arguments.seeds]
    rows = judged.setdefault("found", [])
    for seed in arguments.seeds:
        if seed not in [row["seed"] for row in rows]:
            rows += train_seeds(str(BEST), [seed], WHOLE)[0]
            write_json(arguments.json, record)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument(
        "--kill-after", type=int, default=3, help="trials after which the search is killed; 0 for never"
    )
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("runs/tuning"))
    parser.add_argument("--judge", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--json", default=str(RESULTS / "tune_sentiment_zh.json"))
    arguments = parser.parse_args()
    (judge if arguments.judge else search)(arguments)


if __name__ == "__main__":
    main()
