"""Trains a recipe in processes that are killed at random moments, and goes on with the run each time; run as a script.

A process of this script imports everything once and forks a child for each attempt, since an import takes longer than
the run itself. No hook in the code under test says when: moments are drawn against the length of an unbroken run, or
are those at which half a checkpoint stands in the folder.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def survive(recipe: Path, folder: Path, *, kills: int, seed: int, members: int = 1) -> dict[str, Any]:
    """Train a recipe once unbroken and then, killed `kills` times, as often as that takes.

    Returns:
        ``unbroken`` and ``survivors``, the folders of the finished runs; ``kills``, how often a process was killed;
        ``in_writing``, how often half a checkpoint was left; ``after_epochs``, how often epochs were finished before.
    """
    arguments = [str(recipe), str(folder), str(kills), str(seed), str(members)]
    tests = Path(__file__).parent
    paths = os.pathsep.join([str(tests), str(tests.parent / "src"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, __file__, *arguments], env=environment, capture_output=True, check=False)
    if done.returncode:
        raise AssertionError(done.stderr.decode())
    return json.loads(done.stdout.splitlines()[-1])


def main(recipe: Path, folder: Path, kills: int, seed: int, members: int) -> None:
    import lightning.pytorch  # noqa: F401
    from sklearn import feature_extraction, linear_model  # noqa: F401

    from tidegate import jobs
    from tidegate.config import load_recipe
    from tidegate.estimators import loading  # noqa: F401

    def attempt(run: Path) -> int:
        """A process that trains, or goes on with, the run."""
        child = os.fork()
        if child:
            return child
        status = 1
        try:
            out = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(out, 1)
            os.dup2(out, 2)
            resume = (run / "recipe.yaml").exists()
            jobs.train(load_recipe(recipe), out=run, resume=resume, members=members)
            status = 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(status)

    def finish(child: int) -> None:
        if os.waitpid(child, 0)[1]:
            sys.exit((folder / "log").read_text())

    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    finish(attempt(folder / "unbroken"))
    length = time.perf_counter() - started
    drawn = random.Random(seed)
    result: dict[str, Any] = {"unbroken": str(folder / "unbroken"), "survivors": []}
    result |= {"kills": 0, "in_writing": 0, "after_epochs": 0, "length": length}
    run = folder / "run-1"
    while result["kills"] < kills:
        child = attempt(run)
        moment = time.perf_counter() + drawn.uniform(0.0, length)
        # Every third waits for the file that a checkpoint is written to.
        watched = result["kills"] % 3 == 2
        ended = 0
        while not ended and time.perf_counter() < moment + (length if watched else 0):
            if watched and time.perf_counter() >= moment - length / 2 and half_written(run):
                break
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended and status:
                sys.exit((folder / "log").read_text())
            time.sleep(0.0001 if watched else 0.002)
        if ended:
            result["survivors"].append(str(run))
            run = folder / f"run-{len(result['survivors']) + 1}"
            continue
        result["after_epochs"] += any(run.glob("**/last.ckpt"))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        result["kills"] += 1
        result["in_writing"] += half_written(run)
    finish(attempt(run))
    result["survivors"].append(str(run))
    print(json.dumps(result))


def half_written(run: Path) -> bool:
    """Whether there is a file that a checkpoint is being written to."""
    folders = [run / "checkpoints", *run.glob("*/checkpoints")]
    return any(name.startswith(".") for folder in folders if folder.is_dir() for name in os.listdir(folder))


def outcome(run: Path) -> tuple[dict[str, bytes], Any]:
    """The bytes of all weights of a finished run, and all else that its model says but for times."""
    from tidegate.deploy.bundle import load_bundle

    bundle = load_bundle(run / "model.tg")
    weights, values = {}, []
    for number, part in enumerate([bundle, *bundle.members]):
        weights |= {f"{number}.{name}": array.tobytes() for name, array in part.weights.items()}
        values.append([part.config, part.metrics, part.labels, part.tokenizer])
    return weights, _timeless(values)


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        left_out = ("seconds", "tokens_per_second", "timing")
        return {name: _timeless(item) for name, item in value.items() if name not in left_out}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


if __name__ == "__main__":
    shutil.rmtree(sys.argv[2], ignore_errors=True)
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
