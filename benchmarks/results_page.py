"""docs/results.md from the records of accuracy; what has no record yet is left out."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import tagging_figures
from performance_page import RESULTS, describe, markdown

Record = dict[str, Any]

HEAD = """# Results

Test accuracy; the epoch is chosen on validation data. Each figure stands beside
the command that printed it; `benchmarks/results` keeps the records, and `python benchmarks/tables.py` made this page.

{table}

The baseline is TF-IDF with logistic regression over tidegate's tokens (`reporting/compare.py`): words and word pairs,
for Chinese characters and character pairs, and it is printed beside every run's own result. **It is strong:** a
single network that starts from random word vectors and has a few thousand texts alone does not beat it, and the reports
say so. The recipes of the bundled reviews start from the co-occurrences in the training texts, and what each step gives
is in the tables below. One standard error of a single run, from the size of the test set, is 1.3 points on the English
reviews, 1.0 on the Chinese and 0.2 on IMDb.

Times are of whole runs (reading, training, baseline, report) on the machine of [performance.md](performance.md). The
processor's seconds are those of one thread where a run shared the machine with others, and then say more than the time.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD.format(table=_accuracies())]
    sections: tuple[tuple[str, Callable[[Record], str]], ...] = (
        ("ablation_en.json", _ablation),
        ("accuracy_imdb.json", _imdb),
        ("tune_sentiment_zh.json", _tuning),
        ("precision_en.json", _precision),
    )
    parts += [section(_load(name)) for name, section in sections if (RESULTS / name).is_file()]
    parts.append(f"\n## Tagging\n\n{tagging_figures.figures()}")
    remarks = RESULTS / "remarks.md"
    if remarks.is_file():
        parts.append(remarks.read_text(encoding="utf-8"))
    return "\n".join(part.strip("\n") + "\n" for part in parts)


def _load(name: str) -> Record:
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def _command(record: Record) -> str:
    """The command of a record of `accuracy.py`."""
    data_dir = " --data-dir DIR" if record["needs_data_dir"] else ""
    overrides = "".join(f" --set {override}" for override in record["overrides"])
    seeds = " ".join(str(run["seed"]) for run in record["runs"])
    return f"`python benchmarks/accuracy.py {record['recipe']}{data_dir}{overrides} --seeds {seeds}`"


def _accuracies() -> str:
    rows = []
    for path in sorted(RESULTS.glob("accuracy_*.json")):
        record = _load(path.name)
        runs = record["runs"]
        used = [run.get("processor_seconds") for run in runs]
        rows.append(
            [
                _command(record),
                f"**{record['mean_test_accuracy']:.4f}**",
                ", ".join(f"{run['test_accuracy']:.4f}" for run in runs),
                f"{record['baseline']['accuracy']:.4f}" if record["baseline"] else "-",
                f"{max(run['seconds'] for run in runs):.0f} s",
                "-" if None in used else f"{max(used):.0f} s",
            ]
        )
    return markdown(["command", "mean", "each seed", "baseline", "longest run", "processor"], rows)


def spread(values: Sequence[float], digits: int = 4) -> str:
    """Mean and standard deviation."""
    if len(values) < 2:
        return f"{values[0]:.{digits}f}"
    return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def standard_error(accuracy: float, texts: int) -> float:
    """That of an accuracy, from the number of texts that it was measured on."""
    return math.sqrt(accuracy * (1 - accuracy) / texts)


def _ablation(record: Record) -> str:
    seeds = " ".join(map(str, record["seeds"]))
    members = "" if record["members"] is None else f" --members {record['members']}"
    rows = []
    for number, row in enumerate(record["rows"]):
        runs = row["runs"]
        beside = row["title"].endswith("alone")
        rows.append(
            [
                ("" if number == 0 or beside else "+ ") + row["title"],
                spread([run["validation_accuracy"] for run in runs]),
                f"{statistics.mean(run['validation_log_loss'] for run in runs):.3f}",
                spread([run["test_accuracy"] for run in runs]),
                f"{statistics.mean(run['processor_seconds'] for run in runs):.0f} s",
            ]
        )
    baseline = record["baseline"]
    rows.append([baseline["name"], "-", "-", f"{baseline['accuracy']:.4f}", "-"])
    table = markdown(["", "validation accuracy", "log-loss", "test accuracy", "processor"], rows)
    error = 100 * standard_error(baseline["accuracy"], record["test_texts"])
    keys = [
        f"- {item['title']}: {', '.join(f'`{key}={value}`' for key, value in item['changes'].items())}"
        for item in record["changes"]
        if item["changes"]
    ]
    listed = "\n".join(keys)
    return f"""
## What each means adds on the bundled English reviews

`python benchmarks/ablation.py --seeds {seeds}{members}`: from the training split alone, each row on top of the one
above it; mean and standard deviation over {len(record["seeds"])} seeds, one figure where all seeds make one model. The
order was laid down beforehand, and the ensemble is of the row of the least log-loss on the validation part; nothing was
chosen by the test part. One standard error of a test accuracy, from its {record["test_texts"]:,} texts, is {error:.1f}
points; the rows share the texts, so that they compare better than that.

{table}

The keys of the rows:

{listed}
"""


IMDB = {
    "imdb": "a bidirectional GRU from random vectors",
    "imdb_ulmfit": "a wider one that first learns to foretell the reviews' words, then classifies, unfrozen from the "
    "head down",
    "imdb_linear": "NB-SVM of words, pairs and triples",
}


def _imdb(_: Record) -> str:
    records = {name: _load(f"accuracy_{name}.json") for name in IMDB if (RESULTS / f"accuracy_{name}.json").is_file()}
    rows = []
    for name, record in records.items():
        run = record["runs"][0]
        rows.append(
            [
                IMDB[name],
                _command(record),
                f"{run['validation_accuracy']:.4f}" if run.get("validation_accuracy") else "-",
                f"**{run['test_accuracy']:.4f}**",
                f"{run['seconds']:.0f} s",
                f"{run['processor_seconds']:.0f} s" if run.get("processor_seconds") else "-",
            ]
        )
    rows.append(["TF-IDF with logistic regression", "printed by the first", "-", f"{_baseline(records):.4f}", "-", "-"])
    stack = RESULTS / "imdb_stack.json"
    if stack.is_file():
        found = _load(stack.name)
        rows.append(
            [
                "the wider GRU and NB-SVM, joined by logistic regression",
                "`python benchmarks/imdb_stack.py --data-dir DIR --model RUN/model.tg`",
                f"{found['validation_accuracy']:.4f}",
                f"**{found['test_accuracy']:.4f}**",
                f"+ {found['linear']['seconds']:.0f} s",
                f"+ {found['linear']['processor_seconds']:.0f} s",
            ]
        )
    table = markdown(["", "command", "validation", "test", "time", "processor"], rows, left=2)
    return f"""
## IMDb from the training reviews alone, step by step

{table}

A tenth of the training reviews is set aside and chooses the epoch, C and the weights of the members. One standard error
of a test accuracy is {100 * standard_error(0.91, 25000):.1f} points. Where processor time is told, a run had one thread
on two cores that a dozen other processes shared: its time is an upper bound of what an idle machine needs. The time of
`imdb_ulmfit` is that of its two stages, run apart: the language model first, and then the classifier from its finished
checkpoint (`--resume`); a first try with three epochs of classification, the rest alike, had 0.8712.

The validation accuracy of `imdb_ulmfit` was measured again from its saved model: while it trained, sums over the
reviews set aside were rounded to bfloat16, which is mended since. The mean of its probabilities and those of
`imdb_linear` (`tidegate ensemble A.tg B.tg --weights equal --test DIR/test.jsonl.gz`) has **0.9189** in the test.
"""


def _baseline(records: dict[str, Record]) -> float:
    return next(record["baseline"]["accuracy"] for record in records.values() if record["baseline"])


def _tuning(record: Record) -> str:
    trials = record["trials"]
    finished = [trial for trial in trials if trial["state"] == "complete"]
    best = min(finished, key=lambda trial: trial["metric"])
    default = next(trial for trial in trials if trial["number"] == 0)
    parts = [
        f"{'killed ' if part['ended'] == 'killed' else ''}after {part['seconds']:.0f} s "
        f"({part['processor_seconds']:.0f} s of processor time) with {part['finished']} trials done"
        for part in record["parts"]
    ]
    used = sum(part["processor_seconds"] for part in record["parts"])
    wall = sum(part["seconds"] for part in record["parts"])
    values = ", ".join(
        f"`{key}={value if not isinstance(value, float) else f'{value:.3g}'}`" for key, value in best["values"].items()
    )
    typed = record["command"]
    lines = [f"{typed[0]} {typed[1]} {typed[2]}"]
    lines += [" ".join(pair) for pair in zip(typed[3::2], typed[4::2], strict=False)]
    command = " \\\n    ".join(lines)
    text = f"""
## A search on the bundled Chinese reviews

`python benchmarks/tuning.py` runs this command, kills it with SIGKILL in the middle of a trial and runs it again:

```
{command}
```

It was {"; by the same command it went on, and was done ".join(parts)}:
{wall / 60:.0f} minutes in all, {used / 60:.1f} of processor time. Of {len(trials)} trials
{sum(trial["state"] == "pruned" for trial in trials)} were ended early. The log-loss on the validation part fell from
{default["metric"]:.4f} (the recipe as it is, with the trials' few epochs) to {best["metric"]:.4f} in trial
{best["number"]}: {values}.

{record.get("remark", "")}

![The course of the search](images/tune_sentiment_zh.svg)
"""
    if "judged" in record:
        heads = ["recipe", "validation accuracy", "validation log-loss", "test accuracy", "seeds"]
        rows = [
            [
                {"default": "`sentiment_zh`", "found": "`benchmarks/results/tune_sentiment_zh_best.yaml`"}[name],
                spread([run["validation_accuracy"] for run in runs]),
                spread([run["validation_loss"] for run in runs]) if "validation_loss" in runs[0] else "-",
                spread([run["test_accuracy"] for run in runs]),
                str(len(runs)),
            ]
            for name, runs in record["judged"].items()
        ]
        text += f"""
`python benchmarks/tuning.py --judge` trains the recipe that was found from three seeds, with as many epochs as the
default one has, which stands beside it as in the first table; the standard error of a test accuracy, from its 1,200
texts, is {100 * standard_error(0.86, 1200):.1f} points:

{markdown(heads, rows)}
"""
    return text


def _precision(record: Record) -> str:
    text = "\n## bfloat16 beside float32\n"
    if "runs" in record:
        rows = [
            [
                name,
                spread([run["validation_accuracy"] for run in runs]),
                spread([run["test_accuracy"] for run in runs]),
                f"{statistics.mean(run['processor_seconds'] / run['epochs'] for run in runs):.1f} s",
                str(len(runs)),
            ]
            for name, runs in record["runs"].items()
        ]
        means = [statistics.mean(run["test_accuracy"] for run in runs) for runs in record["runs"].values()]
        noise = math.hypot(
            *(
                statistics.stdev(run["test_accuracy"] for run in runs) / math.sqrt(len(runs))
                for runs in record["runs"].values()
            )
        )
        text += f"""
`python benchmarks/precision.py`: the recipe `sentiment_en` in both, over {len(record["runs"]["float32"])} seeds. The
means on the test part differ by {100 * abs(means[1] - means[0]):.2f} points; the standard error of their difference, by
the seeds' spread, is {100 * noise:.2f}.

{markdown(["", "validation accuracy", "test accuracy", "processor, an epoch", "seeds"], rows)}
"""
    if "speed" in record:
        rows = [
            [
                str(row["hidden"]),
                f"{row['float32_ms']:.0f}",
                f"{row['bfloat16_ms']:.0f}",
                f"{row['float32_ms'] / row['bfloat16_ms']:.1f}",
                f"{row['float32_megabytes']:.0f}",
                f"{row['bfloat16_megabytes']:.0f}",
            ]
            for row in record["speed"]
        ]
        heads = ["units", "float32, ms", "bfloat16, ms", "times faster", "float32, MB kept", "bfloat16, MB kept"]
        text += f"""
`python benchmarks/precision.py --speed`: a training step (without the optimiser) of a bidirectional GRU classifier,
{record["rows"]} texts of {record["steps"]} tokens, vectors as wide as the units, one thread, the precisions taking
turns; and what the forward pass keeps for the backward pass.
{describe(record["speed_machine"])}

{markdown(heads, rows)}
"""
    return text
