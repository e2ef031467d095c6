"""Whether bfloat16 reaches float32's accuracy on the bundled English reviews, over five seeds, and what it saves.

python benchmarks/precision.py [--seeds 0 1 2 3 4] [--json FILE]      the accuracies; those in the record are kept
python benchmarks/precision.py --speed [--json FILE]                  a training step of several sizes, side by side
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from side_by_side import RESULTS, alternate, machine, write_json
from tidegate import TextClassifier
from tidegate.config import load_recipe
from tidegate.data.batch import make_batch
from tidegate.data.bundled import load_reviews
from tidegate.heads.classify import SequenceClassifier

RECIPE = "sentiment_en"
PRECISIONS = ("float32", "bfloat16")
SIZES = (128, 256, 512)
ROWS, STEPS, TOKENS = 32, 100, 10000


def accuracies(record: dict[str, Any], seeds: list[int], path: str) -> None:
    """Train each seed in both precisions."""
    parts = {name: load_reviews("en", name) for name in ("train", "validation", "test")}
    train, held, test = (parts[name] for name in ("train", "validation", "test"))
    runs = record.setdefault("runs", {name: [] for name in PRECISIONS})
    for seed in seeds:
        for name in PRECISIONS:
            if seed in [run["seed"] for run in runs[name]]:
                continue
            overrides = [f"training.random_state={seed}", f"training.precision={name}"]
            model = TextClassifier(**load_recipe(RECIPE, overrides=overrides).arguments)
            started, used = time.perf_counter(), time.process_time()
            model.fit(train.texts, train.labels, validation_data=(held.texts, held.labels))
            run = {
                "seed": seed,
                "validation_accuracy": float(model.score(held.texts, held.labels)),
                "test_accuracy": float(model.score(test.texts, test.labels)),
                "best_epoch": model.best_epoch_,
                "epochs": len(model.history_),
                "seconds": round(time.perf_counter() - started, 1),
                "processor_seconds": round(time.process_time() - used, 1),
            }
            runs[name].append(run)
            print(name, run, flush=True)
            write_json(path, {**record, "recipe": RECIPE, "test_texts": len(test), "machine": machine()})


def step(hidden: int, precision: str) -> Callable[[], Any]:
    """A training step of a bidirectional classifier of `hidden` units: forward pass and gradients."""
    torch.manual_seed(0)
    network = SequenceClassifier(
        TOKENS,
        2,
        cell="gru",
        embedding_size=hidden,
        hidden_size=hidden,
        num_layers=1,
        bidirectional=True,
        pooling="attention",
        dropout=0.0,
        embedding_dropout=0.0,
        word_dropout=0.0,
        label_smoothing=0.0,
    )
    ids = np.random.default_rng(0).integers(1, TOKENS, size=(ROWS, STEPS))
    batch = make_batch(list(ids), np.arange(ROWS) % 2)

    def call() -> None:
        network.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            total, count = network.loss(batch)
        (total / count).backward()

    return call


def speed(record: dict[str, Any], path: str) -> None:
    """Milliseconds of a step, and bytes that its forward pass keeps for the backward pass."""
    torch.set_num_threads(1)
    rows = []
    for hidden in SIZES:
        steps = {name: step(hidden, name) for name in PRECISIONS}
        seconds = alternate(steps, 15)
        kept = {name: saved_bytes(call) for name, call in steps.items()}
        row = {
            "hidden": hidden,
            **{f"{name}_ms": round(1e3 * seconds[name], 3) for name in PRECISIONS},
            **{f"{name}_megabytes": round(kept[name] / 1e6, 2) for name in PRECISIONS},
        }
        rows.append(row)
        print(row, flush=True)
    write_json(path, {**record, "speed": rows, "rows": ROWS, "steps": STEPS, "speed_machine": machine()})


def saved_bytes(call: Callable[[], Any]) -> int:
    """What autograd keeps of a step, weights apart, counted once a piece of memory."""
    seen: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        call()
    return sum(seen.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--json", default=str(RESULTS / "precision_en.json"))
    arguments = parser.parse_args()
    path = Path(arguments.json)
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if arguments.speed:
        speed(record, arguments.json)
    else:
        accuracies(record, arguments.seeds, arguments.json)


if __name__ == "__main__":
    main()
