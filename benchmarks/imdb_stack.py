"""A recurrent and a linear classifier of IMDb's reviews as one (Mesnil et al. 2015), and what each gives.

python benchmarks/imdb_stack.py --data-dir DIR --model RUN/model.tg [--model ...] [--linear RUN/model.tg] [--json FILE]

The models are those of recipes such as imdb_ulmfit, trained with the seed 0 on nine tenths of the training reviews. The
linear one is that of the recipe imdb_linear, trained here on the same nine tenths; the tenth that none has learned from
chooses its C and fits the weights by which all are joined, as ``tidegate ensemble`` does. A run of imdb_linear, which
chose C on that very tenth before it learned from all, may be named with --linear, and C is then not chosen again.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from side_by_side import RESULTS, machine, write_json
from tidegate import LinearTextClassifier, TextStack, load
from tidegate.config import load_recipe
from tidegate.data.seeds import derive_seed
from tidegate.data.sources import read_text_examples
from tidegate.deploy.bundle import load_bundle
from tidegate.estimators.base import stratified_split

SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--model", type=Path, action="append", required=True, help="a model.tg; may be given again")
    parser.add_argument("--linear", type=Path, help="a model.tg of imdb_linear, of which C is taken")
    parser.add_argument("--json", default=str(RESULTS / "imdb_stack.json"))
    arguments = parser.parse_args()
    train, test = (read_text_examples(arguments.data_dir / f"{part}.jsonl.gz") for part in ("train", "test"))
    linear_recipe = load_recipe("imdb_linear", data_dir=arguments.data_dir).arguments
    targets = np.unique(train.labels or [], return_inverse=True)[1]
    rows, places = stratified_split(targets, linear_recipe["validation_fraction"], derive_seed(SEED, "split"))
    learned, held = train.select(rows), train.select(places)
    members: list[Any] = []
    for path in arguments.model:
        model = load(path)
        told = load_bundle(path).metrics["history"][model.best_epoch_ - 1]["validation_accuracy"]
        found = model.score(held.texts, held.labels)
        # The same texts, once in the precision of the training and once in float32.
        if model.random_state_ != SEED or abs(found - told) > 0.004:
            raise SystemExit(
                f"{path}: expected a model of the seed {SEED} that has not learned from the tenth set aside"
            )
        members.append(model)
    started, used = time.perf_counter(), time.process_time()
    settings = {key: value for key, value in linear_recipe.items() if key != "verbose"}
    if arguments.linear is not None:
        settings["C"] = load_bundle(arguments.linear).metrics["C"]
    linear = LinearTextClassifier(**settings)
    linear.fit(learned.texts, learned.labels, validation_data=(held.texts, held.labels))
    cost = {"seconds": time.perf_counter() - started, "processor_seconds": time.process_time() - used}
    stack = TextStack.join([*members, linear], held.texts, held.labels)
    names = [*(model.kind for model in members), linear.kind]
    result = {
        "members": [
            {
                "name": name,
                "validation_accuracy": accuracy,
                "test_accuracy": float(model.score(test.texts, test.labels)),
            }
            for name, model, accuracy in zip(names, stack.members_, stack.member_accuracies_, strict=True)
        ],
        "validation_accuracy": stack.validation_accuracy_,
        "test_accuracy": float(stack.score(test.texts, test.labels)),
        "C": linear.C_,
        "terms": len(linear.bag_.terms),
        "linear": cost,
        "machine": machine(),
    }
    print(result)
    write_json(arguments.json, result)


if __name__ == "__main__":
    main()
