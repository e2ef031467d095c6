"""The test figures of the taggers, over the seeds that a record has; the epoch is chosen on validation data.

    python benchmarks/tagging_figures.py atis --data-dir DIR [--seeds 0 1] [--runs FOLDER]

Each job below is a recipe with what is set over it, the bars that it is held to, and the data it needs in DIR. The
record goes to benchmarks/results/tagging_JOB.json, and `python benchmarks/tables.py` puts it on the pages. With --runs
each seed's run is kept in FOLDER/JOB_SEED; a run that is finished there, as `tidegate train` leaves it too, is read
once its recipe is found to be the job's, and not trained again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bars import at_least
from performance_page import RESULTS, describe, mark, markdown
from side_by_side import machine, write_json
from tidegate import SequenceTagger, jobs
from tidegate.config import Recipe, load_recipe


@dataclass(frozen=True)
class Job:
    """A recipe, the folder under DIR that it reads, what is set over it, and what its test figures have to reach."""

    title: str
    recipe: str
    bars: Mapping[str, float]
    folder: str | None = ""  # None: the data ship
    settings: Mapping[str, str] = field(default_factory=dict)

    def overrides(self, seed: int | None = None) -> list[str]:
        settings = dict(self.settings) | ({} if seed is None else {"training.random_state": str(seed)})
        return [f"{key}={value}" for key, value in settings.items()]

    def command(self) -> str:
        folder = "" if self.folder is None else f" --data-dir DIR{'/' * bool(self.folder)}{self.folder}"
        sets = "".join(f" --set {key}={_quoted(value)}" for key, value in self.settings.items())
        return f"tidegate train {self.recipe}{folder}{sets}"


_NO_VECTORS = {"model.vectors": "null", "model.word_dropout": "0.1"}
_GLOVE = {"model.vectors": "../glove/glove.6B.50d.subset.npz", "model.embedding_size": "null"}
_SLOTS = {"f1": 0.955, "intent_accuracy": 0.975}
_SNIPS = {"f1": 0.92, "intent_accuracy": 0.975}
_WHOLE = {"training.validation_fraction": "0.05", "training.schedule": "cosine", "training.ema_decay": "0.995"}
JOBS = {
    "conll2003": Job(
        "CoNLL-2003, GloVe 50d", "tagging_conll2003", {"f1": 0.895}, settings={"training.max_epochs": "12"}
    ),
    "conll2003_random": Job(
        "CoNLL-2003, no outside vectors",
        "tagging_conll2003",
        {"f1": 0.84},
        settings=_NO_VECTORS | {"training.max_epochs": "8"},
    ),
    "atis": Job("ATIS", "tagging_slots", _SLOTS, folder="atis", settings={"training.patience": "8"}),
    "atis_max": Job(
        "ATIS, intents by the maximum, words from GloVe",
        "tagging_slots",
        _SLOTS,
        folder="atis",
        settings=_GLOVE | {"model.intent_pooling": "max", "training.max_epochs": "18"},
    ),
    "atis_weighted": Job(
        "ATIS, the intent's loss three times",
        "tagging_slots",
        _SLOTS,
        folder="atis",
        settings={"model.intent_weight": "3", "training.max_epochs": "25", "training.patience": "8"},
    ),
    "atis_glove": Job(
        "ATIS, words from GloVe",
        "tagging_slots",
        _SLOTS,
        folder="atis",
        settings={
            "training.max_epochs": "20",
            "training.schedule": "cosine",
            "training.batch_size": "16",
            **_GLOVE,
        },
    ),
    "snips": Job(
        "SNIPS",
        "tagging_slots",
        _SNIPS,
        folder="snips",
        settings={"training.patience": "5", "training.monitor": "f1"},
    ),
    "snips_max": Job(
        "SNIPS, intents by the maximum, words from GloVe",
        "tagging_slots",
        _SNIPS,
        folder="snips",
        settings=_GLOVE | {"model.intent_pooling": "max", "training.max_epochs": "10", "training.patience": "4"},
    ),
    "resume": Job("Chinese resumes, characters", "tagging_zh_names", {"f1": 0.94}, settings={"training.patience": "5"}),
    "resume_vectors": Job(
        "Chinese resumes, vectors of characters",
        "tagging_zh_names",
        {"f1": 0.94},
        settings={
            "model.vectors": "zh_char_vectors/tencent_char_200d.npz",
            "model.embedding_size": "null",
            "training.max_epochs": "12",
            "training.schedule": "cosine",
        },
    ),
    "msra": Job(
        "MSRA, characters",
        "tagging_zh_names",
        {"f1": 0.87},
        settings={
            "data": "{train: msra_ner/train.bio.xz, test: msra_ner/test.bio.xz}",
            "training.validation_fraction": "0.05",
            "model.vectors": "zh_char_vectors/tencent_char_200d.npz",
            "model.embedding_size": "null",
            "text.max_vocabulary": "8000",
            "text.min_count": "2",
            "model.cell": "gru",
            "training.batch_size": "32",
            "training.max_epochs": "6",
            "training.schedule": "cosine",
            "model.hidden_size": "128",
            "training.ema_decay": "0.999",
        },
    ),
    "people_daily_words": Job(
        "People's Daily, words",
        "tagging_zh_words",
        {"f1": 0.95},
        settings={
            "data": "{source: 199801.txt, format: word/tag, unit: characters}",
            "text.max_vocabulary": "10000",
            "training.max_epochs": "5",
            **_WHOLE,
        },
    ),
    "people_daily_pos": Job(
        "People's Daily, parts of speech",
        "tagging_zh_pos",
        {"accuracy": 0.94},
        settings={
            "data": "{source: 199801.txt, format: word/tag}",
            "text.max_vocabulary": "20000",
            "training.max_epochs": "4",
            **_WHOLE,
        },
    ),
    "shipped_words": Job("the 2,400 lines that ship, words", "tagging_zh_words", {}, folder=None),
    "shipped_pos": Job("the 2,400 lines that ship, parts of speech", "tagging_zh_pos", {}, folder=None),
}
_SHOWN = ("f1", "accuracy", "intent_accuracy", "joint_accuracy")
_TITLES = {"f1": "F1", "accuracy": "accuracy", "intent_accuracy": "intents"}
_HEAD = """Test figures, the mean over the seeds and in brackets each seed's; the epoch is chosen on validation data,
and so were the settings. `python benchmarks/tagging_figures.py JOB --data-dir DIR` runs a row's command for its seeds;
`!` marks a figure that misses its bar. Times are of runs on two cores that other work shared."""
# No figure depends on how much a run said, nor on how raw text is cut.
_IDLE = ("random_state", "verbose", "tokenizer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=JOBS)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--runs", type=Path, help="folder of the runs, JOB_SEED each")
    arguments = parser.parse_args()
    job, rows = JOBS[arguments.job], []
    if (job.folder is not None) != (arguments.data_dir is not None):
        parser.error(f"{arguments.job} {'needs' if job.folder is not None else 'takes no'} --data-dir")
    for seed in arguments.seeds:
        data_dir = arguments.data_dir if job.folder is None else arguments.data_dir / job.folder
        recipe = load_recipe(job.recipe, overrides=job.overrides(seed), data_dir=data_dir)
        with tempfile.TemporaryDirectory() as made:
            folder = arguments.runs / f"{arguments.job}_{seed}" if arguments.runs else Path(made)
            if not (folder / "metrics.json").exists():
                print(f"seed {seed}: no finished run in {folder}; training one", flush=True)
                jobs.train(recipe, out=folder, overwrite=True)
            rows.append({"seed": seed, **_figures(json.loads((folder / "metrics.json").read_text()), recipe)})
        figures = ", ".join(f"{name} {rows[-1][name]:.4f}" for name in _SHOWN if name in rows[-1])
        print(f"seed {seed}: {figures}, epoch {rows[-1]['best_epoch']} of {rows[-1]['epochs']}", flush=True)
    bars = [at_least(name, statistics.mean(row[name] for row in rows), limit) for name, limit in job.bars.items()]
    record = {"job": arguments.job, "command": job.command(), "runs": rows, "bars": bars, "machine": machine()}
    write_json(RESULTS / f"tagging_{arguments.job}.json", record)


def _figures(metrics: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    """What a record keeps of a run."""
    expected = dict(_settings({**SequenceTagger(**recipe.arguments).get_params(), "data": recipe.sections.data}))
    for name, found in _settings({**_flat(metrics["recipe"]), "data": metrics["recipe"]["data"]}):
        if name not in _IDLE and expected.get(name) != found:
            raise SystemExit(f"the run has {name}={found!r} where the job has {expected.get(name)!r}; train it anew")
    if metrics["recipe"]["training"]["random_state"] != recipe.arguments["random_state"]:
        raise SystemExit(f"the run has the seed {metrics['recipe']['training']['random_state']}, not the one asked for")
    return {
        **{name: metrics["test"][name] for name in _SHOWN if name in metrics["test"]},
        "best_epoch": metrics["best_epoch"],
        "epochs": len(metrics["history"]),
        # Of a run that was gone on with, the total is its last part alone.
        "seconds": round(max(metrics["timing"]["total"], sum(epoch["seconds"] for epoch in metrics["history"]))),
        "tidegate": metrics["tidegate"],
    }


def _flat(recipe: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for section in ("text", "model", "training") for name, value in recipe[section].items()}


def _settings(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Settings by name; of a path its last part alone, since folders differ from machine to machine."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield name, {key: _end(part) for key, part in value.items()}
        else:
            yield name, [_end(part) for part in value] if isinstance(value, list | tuple) else _end(value)


def _end(value: Any) -> Any:
    return value.rsplit("/", 1)[-1] if isinstance(value, str) and value not in ("word/tag",) else value


def _quoted(value: str) -> str:
    return f"'{value}'" if " " in value else value


def figures() -> str:
    """The records as a table of Markdown in the order of the jobs, and what it stands for."""
    lines = []
    for name, job in JOBS.items():
        path = RESULTS / f"tagging_{name}.json"
        if not path.exists():
            continue
        record = json.loads(path.read_text())
        rows = record["runs"]
        shown = ("accuracy",) if job.recipe == "tagging_zh_pos" else ("f1", "intent_accuracy")
        cells = [
            f"{_TITLES[metric]} **{statistics.mean(row[metric] for row in rows):.4f}**"
            + (f" ({', '.join(format(row[metric], '.4f') for row in rows)})" if len(rows) > 1 else "")
            for metric in shown
            if metric in rows[0]
        ]
        limits = [f"{bar['limit']:g}" for bar in record["bars"]]
        seeds = " ".join(str(row["seed"]) for row in rows)
        longest = max(row["seconds"] for row in rows) / 60
        lines.append(
            [
                job.title,
                f"`{record['command']}`",
                seeds,
                "; ".join(cells) + mark(record["bars"]),
                ", ".join(limits) or "-",
                f"{longest:.0f} min",
            ]
        )
    header = ["what", "command", "seeds", "test figures", "bar", "longest run"]
    return f"{_HEAD}\n\n{markdown(header, lines, left=4)}"


def speed() -> str:
    """The record of benchmarks/tagging.py as a table of Markdown, or the command that makes it."""
    path = RESULTS / "tagging.json"
    if not path.exists():
        return (
            "`TIDEGATE_DATA=DIR python benchmarks/tagging.py --json benchmarks/results/tagging.json` has no record yet."
        )
    record = json.loads(path.read_text())
    lines = [
        [
            row["name"] + mark(row["bars"]),
            f"{row['tidegate_words_per_second']:,}",
            f"{row['torch_words_per_second']:,}",
            f"{row['ratio']:.2f}",
            ", ".join(f"{bar['limit']:g}" for bar in row["bars"]),
        ]
        for row in record["rows"]
    ]
    header = ["", "tidegate, words/s", "plain PyTorch, words/s", "times", "bar"]
    return f"{markdown(header, lines)}\n\n{describe(record['machine'])} Sentences of {record['rows'][0]['data']}."


def filled(page: str) -> str:
    """docs/tagging.md with what stands between ``<!-- figures -->``, ``<!-- speed -->`` and their ends made anew."""
    for name, text in {"figures": figures(), "speed": speed()}.items():
        start, end = f"<!-- {name} -->\n", "<!-- end -->"
        before, rest = page.split(start)
        page = before + start + text + "\n" + end + rest.split(end, 1)[1]
    return page


if __name__ == "__main__":
    main()
