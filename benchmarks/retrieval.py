"""BM25, and BM25 read again by a bidirectional GRU: Cranfield and SciFact, as `tidegate search` judges them.

python benchmarks/retrieval.py --data-dir DIR [--sets cranfield scifact] [--seeds 0 1 2] [--json FILE]

DIR holds the folders cranfield and scifact. BM25 is judged on all queries of Cranfield and on the test queries of
SciFact; a ranker learns from Cranfield's queries 1 to 150 or SciFact's training queries and is judged on the others,
where BM25 alone is judged too. What the ranker adds is chosen on a tenth of its training queries. The figures go into
the record of docs/features.md.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from side_by_side import RESULTS, write_json
from tidegate.jobs import search

CANDIDATES = 50
_TRAINED_QUERIES = 150  # of Cranfield's 225


@dataclass(frozen=True)
class Collection:
    """Documents, the queries and judgments that teach and those that judge, and how the judgments are read."""

    title: str
    documents: Path
    train: tuple[Path, Path]
    test: tuple[Path, Path]
    options: dict[str, Any]


def cranfield(folder: Path, work: Path) -> Iterator[Collection]:
    """Cranfield whole, for BM25 alone, and its judgments in two parts by the queries' places."""
    data = folder / "cranfield"
    # Every judgment counts, the -1 too, as in SMART's own distribution.
    options: dict[str, Any] = {"by_place": True, "least": -1}
    lines = (data / "cranqrel").read_text(encoding="utf-8").splitlines(keepends=True)
    parts = []
    for name, wanted in (("train", range(1, _TRAINED_QUERIES + 1)), ("test", range(_TRAINED_QUERIES + 1, 1000))):
        parts.append(work / f"{name}.qrel")
        parts[-1].write_text("".join(line for line in lines if int(line.split()[0]) in wanted), encoding="utf-8")
    documents, queries = data / "cran.all.1400.gz", data / "cran.qry"
    whole = (queries, data / "cranqrel")
    yield Collection("Cranfield", documents, whole, whole, options)
    yield Collection("Cranfield queries 151-225", documents, (queries, parts[0]), (queries, parts[1]), options)


def scifact(folder: Path, work: Path) -> Iterator[Collection]:
    """SciFact's own parts."""
    del work
    data = folder / "scifact"
    train, test = ((data / f"queries.{part}.jsonl", data / f"qrels.{part}.tsv") for part in ("train", "test"))
    yield Collection("SciFact", data / "corpus.jsonl.xz", train, test, {})


SETS = {"cranfield": cranfield, "scifact": scifact}


def judged(collection: Collection, seeds: list[int], work: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a collection: BM25, and with the ranker the mean over the seeds."""
    index = work / "index"
    search.build(collection.documents, index, text="text", title="title", stop_words=None)
    yield f"{collection.title}, BM25", search.evaluate(index, *collection.test, **collection.options)
    if collection.train == collection.test:
        return
    runs = []
    for seed in seeds:
        model = work / f"ranker_{seed}.tg"
        options = {**collection.options, "candidates": CANDIDATES}
        how = {**options, "random_state": seed, "verbose": False, "overwrite": True}
        ranker, interrupted = search.train_ranker(index, *collection.train, model, **how)
        if interrupted:
            raise KeyboardInterrupt
        run = search.evaluate(index, *collection.test, ranker=model, **options)
        run["train_seconds"] = ranker.timing_["train"]
        runs.append(run)
        print(collection.title, "seed", seed, run, "share", float(ranker.network_.mixture), flush=True)
    means = {key: statistics.mean(run[key] for run in runs) for key in runs[0]}
    yield f"{collection.title}, BM25 + BiGRU", {**means, "queries": runs[0]["queries"], "seeds": seeds, "runs": runs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--json", type=Path, default=RESULTS / "features.json")
    arguments = parser.parse_args()
    for name in arguments.sets:
        with tempfile.TemporaryDirectory() as work:
            for collection in SETS[name](arguments.data_dir, Path(work)):
                for title, scores in judged(collection, arguments.seeds, Path(work)):
                    print(title, json.dumps(scores), flush=True)
                    with open(arguments.json.with_suffix(".lock"), "w") as lock:
                        fcntl.flock(lock, fcntl.LOCK_EX)
                        record = json.loads(arguments.json.read_text(encoding="utf-8"))
                        record.setdefault("search", {})[title] = scores
                        write_json(str(arguments.json), record)


if __name__ == "__main__":
    main()
