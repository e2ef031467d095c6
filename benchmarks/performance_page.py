"""docs/performance.md from the records of the speed benchmarks; what has no record yet is named as such."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bars import at_least, summary

RESULTS = Path(__file__).parent / "results"
Row = dict[str, Any]

HEAD = """# Speed

`make bench` runs every benchmark of this page with a part of the grid, `make bench-full` the whole grid; the records
are in `benchmarks/results`, and `python benchmarks/tables.py` made this page of them. Candidates take turns in one
process and medians count, of at least 15 turns unless a section says otherwise; outputs (in training gradients too) are
compared before anything is timed.

A **bar** is what the project holds itself to. `!` marks a figure that misses its bar.
"""


@dataclass(frozen=True)
class Section:
    """A benchmark's part of the page: title, the records it may stand on (the first there is), text, table."""

    title: str
    script: str
    records: tuple[str, ...]
    text: str
    table: Callable[[list[Row]], str]
    bars_of: Callable[[Row], list[dict[str, Any]]] = lambda row: row["bars"]


def markdown(header: list[str], rows: list[list[str]], left: int = 1) -> str:
    rule = ["---"] * left + ["---:"] * (len(header) - left)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, rule, *rows])


def describe(machine: dict[str, Any]) -> str:
    onnx = f", ONNX Runtime {machine['onnxruntime']}" if "onnxruntime" in machine else ""
    return (
        f"Machine: {machine['processor']}, {machine['cores']} cores, instruction set {machine['isa']}; "
        f"Python {machine['python']}, torch {machine['torch']}{onnx}."
    )


def columns(**formats: str) -> Callable[[list[Row]], str]:
    """A table of a record's rows: header -> format of the row's figures; what a row has not is a dash."""

    def cell(row: Row, text: str) -> str:
        try:
            return text.format_map(row)
        except KeyError:
            return "-"

    def table(rows: list[Row]) -> str:
        lines = [[row["name"] + mark(row["bars"]), *(cell(row, text) for text in formats.values())] for row in rows]
        return markdown(["", *(header.replace("_", " ") for header in formats)], lines)

    return table


def mark(bars: list[dict[str, Any]]) -> str:
    return "" if all(bar["reached"] for bar in bars) else " !"


def grid(rows: list[Row]) -> str:
    """Each cell as a whole; for each cell, job and thread count a table of batches, steps and directions by units."""
    parts = [_by_cell(rows)]
    for job, legend in (
        ("training", "milliseconds, times torch.nn, part of torch.mm's rate"),
        ("inference", "milliseconds, times torch.nn, times ONNX Runtime"),
    ):
        for cell in dict.fromkeys(row["cell"] for row in rows):
            for threads in dict.fromkeys(row["threads"] for row in rows):
                chosen = [row for row in rows if row["cell"] == cell and row["threads"] == threads]
                if chosen:
                    count = f"{threads} thread{'s' if threads > 1 else ''}"
                    parts.append(f"### {cell}, {job}, {count}\n\nEach entry: {legend}.\n\n{_by_units(chosen, job)}")
    return "\n\n".join(parts)


def _by_cell(rows: list[Row]) -> str:
    lines = []
    for cell in [*dict.fromkeys(row["cell"] for row in rows), "all"]:
        chosen = [row for row in rows if cell in ("all", row["cell"])]
        training = [row["training_ratio"] for row in chosen]
        onnx = [row["inference_ratio_onnx"] for row in chosen]
        middles = statistics.median(training), statistics.geometric_mean(onnx)
        spans = [(min(training), middles[0], max(training)), (min(onnx), middles[1], max(onnx))]
        lines.append([cell, str(len(chosen)), *(f"{low:.2f}, {middle:.2f}, {high:.2f}" for low, middle, high in spans)])
    header = ["", "shapes", "training, times torch.nn: least, median, most"]
    return markdown([*header, "inference, times ONNX Runtime: least, geometric mean, most"], lines)


def _by_units(rows: list[Row], job: str) -> str:
    units = sorted({row["hidden"] for row in rows})
    shapes = sorted({(row["batch"], row["steps"], row["directions"]) for row in rows})
    found = {(row["batch"], row["steps"], row["directions"], row["hidden"]): row for row in rows}

    def entry(row: Row | None) -> str:
        if row is None:
            return "-"
        last = f"{row['training_of_peak']:.0%}" if job == "training" else f"{row['inference_ratio_onnx']:.2f} x"
        missed = mark([bar for bar in row["bars"] if bar["what"].startswith(job)])
        return f"{row[f'{job}_ms']:.3g} ms, {row[f'{job}_ratio']:.2f} x, {last}{missed}"

    header = ["", *(f"{size} units" for size in units)]
    lines = [
        [f"B{batch} T{steps}{' two' if directions == 2 else ''}"]
        + [entry(found.get((batch, steps, directions, size))) for size in units]
        for batch, steps, directions in shapes
    ]
    return markdown(header, lines)


def by_part(rows: list[Row]) -> str:
    """A line for each part of a shape's time, under one for the whole."""
    lines = []
    for row in rows:
        onnx = f", ONNX Runtime {row['onnx_ms']:.3g}" if "onnx_ms" in row else ""
        lines.append([f"**{row['name']}**", f"{row['ms']:.3g}", f"torch.nn {row['torch_ms']:.3g}{onnx}", "", ""])
        for part in row["parts"]:
            rates = [f"{part['gflops'] / row['peak_gflops']:.0%}", f"{part['gigabytes']:.3g}"]
            if not part["mflop"]:
                rates[0] = ""
            if not part["megabytes"]:
                rates[1] = ""
            lines.append([part["part"], f"{part['ms']:.3g}", f"{part['share']:.0%}", *rates])
    header = ["", "ms", "share", "of torch.mm", "GB/s"]
    copies = sorted(row["copy_gigabytes"] for row in rows)
    rate = f"Copying 64 MB: {copies[0]:.0f} to {copies[-1]:.0f} GB/s, read and written."
    return f"{rate}\n\n{markdown(header, lines)}"


def name_of(row: Row) -> str:
    return (
        row["name"] if "name" in row else f"{row['shape']}, {row['threads']} thread{'s' if row['threads'] > 1 else ''}"
    )


def crf_bars(row: Row) -> list[dict[str, Any]]:
    if row["shape"] != "B32 T50 K9":
        return []
    job = "loss with gradients" if row["job"] == "training" else "Viterbi"
    return [at_least(f"CRF {job}, B32 T50 9 tags: times pytorch-crf", row["ratio"], 10)]


SECTIONS = [
    Section(
        "The grid",
        "recurrent.py",
        ("recurrent.json", "recurrent_quick.json"),
        "rnn, lstm and gru in float32 beside torch.nn and, in inference, ONNX Runtime: full rows, as many inputs as "
        "units. A training step is forward and backward with the gradients of the input and of all parameters; its "
        "FLOPs are 3 x 2 N G H (I + H) a direction, N the steps of all rows, G the gates (1, 4 and 3). The peak is "
        "torch.mm's rate (float32, 2048 cubed), which takes turns with the training steps (five turns where no bar is "
        "a part of it). `two`: two directions.",
        grid,
    ),
    Section(
        "Where the time goes",
        "time_in_parts.py",
        ("time_in_parts.json",),
        "Shapes of the grid that miss a bar, the parts timed inside whole calls; `rest` is Python, autograd and new "
        "tensors. Bytes: each value that a part reads or writes once, its weights too.",
        by_part,
    ),
    Section(
        "Training in bfloat16",
        "bfloat16.py",
        ("bfloat16.json",),
        "A training step under autocast on the CPU, beside torch.nn in float32; the peak is torch.mm's in bfloat16.",
        columns(
            ms="{bfloat16_ms:.3f}",
            torch_float32_ms="{torch_float32_ms:.3f}",
            ratio="{ratio:.2f}",
            GFLOPs="{gflops:.0f}",
            of_peak="{of_peak:.0%}",
        ),
    ),
    Section(
        "Weights of bfloat16 and int8 in inference",
        "low_precision.py",
        ("low_precision.json",),
        "Batch 1, microseconds a step. `recurrence`: the recurrence alone over 100 prepared steps; `stream`: a call "
        "from Python for each step on NumPy arrays, the inputs' projection included.",
        columns(float32="{float32_us:.2f}", bfloat16="{bfloat16_us:.2f}", int8="{int8_us:.2f}"),
    ),
    Section(
        "One step of a stream",
        "single_step.py",
        ("single_step.json",),
        "Batch 1, 128 units and inputs, one thread; microseconds of a call from Python on NumPy arrays. ONNX Runtime "
        "with everything bound once, and by `run` with arrays; its better one counts.",
        columns(
            float32="{float32_us:.2f}",
            bfloat16="{bfloat16_us:.2f}",
            int8="{int8_us:.2f}",
            ONNX_bound="{onnx_bound_us:.2f}",
            ONNX_run="{onnx_run_us:.2f}",
            ratio="{ratio_onnx:.2f}",
        ),
    ),
    Section(
        "Ragged batches",
        "ragged_imdb.py",
        ("ragged_imdb.json",),
        "A GRU's training step (128 units, 64 rows) over batches with the lengths of IMDb's reviews, bucketed as the "
        "loader does or drawn at random, cut to 400 tokens or whole. The ideal: the FLOPs of the real tokens at our "
        "own rate for full batches of as many rows and steps. torch.nn.GRU takes a PackedSequence; a call of it takes "
        "seconds, so it has three turns or more.",
        columns(
            mean_length="{mean_length:.0f}",
            padding_spared="{padding:.0%}",
            ms="{tidegate_ms:.1f}",
            times_ideal="{over_ideal:.2f}",
            torch_ms="{torch_packed_ms:.1f}",
            ratio="{ratio:.2f}",
        ),
    ),
    Section(
        "Options",
        "options.py",
        ("options.json",),
        "What an option adds to the training step of the plain layer (128 units, 50 steps), random masks drawn anew at "
        "each call, and the same with masks given; and how many times faster it is than torch.nn's cell stepped in "
        "Python with the same option.",
        columns(
            plain_ms="{plain_ms:.3f}",
            ms="{option_ms:.3f}",
            over_plain="{over_plain:+.0%}",
            masks_given="{over_plain_given_masks:+.0%}",
            loop_ms="{loop_ms:.2f}",
            times_loop="{ratio_loop:.1f}",
        ),
    ),
    Section(
        "Memory kept for the backward pass",
        "memory.py",
        ("memory.json",),
        "Bytes of all tensors saved by the forward pass, but for parameters and input; bfloat16 is under autocast.",
        columns(bytes="{tidegate_bytes:,}", torch_bytes="{torch_bytes:,}", part="{part:.4f}"),
    ),
    Section(
        "CRF",
        "crf.py",
        ("crf.json",),
        "The loss with its gradients and Viterbi decoding beside pytorch-crf.",
        columns(
            job="{job}",
            ms="{tidegate_ms:.3f}",
            pytorch_crf_ms="{pytorch_crf_ms:.3f}",
            ratio="{ratio:.1f}",
        ),
        crf_bars,
    ),
]


def page() -> str:
    sections, standing, machines = [], [], []
    for section in SECTIONS:
        present = [name for name in section.records if (RESULTS / name).exists()]
        if not present:
            sections.append(f"## {section.title}\n\nNot measured yet: `python benchmarks/{section.script}` does.")
            standing.append([section.title, "no record", "", "", ""])
            continue
        record = json.loads((RESULTS / present[0]).read_text())
        rows = [{**row, "name": name_of(row), "bars": section.bars_of(row)} for row in record["rows"]]
        where = f"`benchmarks/{section.script}`, `benchmarks/results/{present[0]}`"
        described = describe(record["machine"])
        machines.append(described)
        if described != machines[0]:
            where += f". {described.rstrip('.')}"
        if record.get("repeats"):
            where += f". Medians of {record['repeats']} turns"
        sections.append(f"## {section.title}\n\n{section.text}\n\n{where}.\n\n{section.table(rows)}")
        standing += [
            [
                line["what"],
                f"{line['sense']} {line['limit']:g}",
                f"{line['reached']} of {line['entries']}{'' if line['reached'] == line['entries'] else ' !'}",
                f"{line['worst']:.3g}",
                line["where"],
            ]
            for line in summary([*rows, *record.get("overall", [])])
        ]
    header = ["figure", "bar", "reached", "worst", "where"]
    remarks = RESULTS / "performance_remarks.md"
    head = [HEAD, *machines[:1], f"## Bars\n\n{markdown(header, standing)}"]
    text = [remarks.read_text().strip()] if remarks.exists() else []
    return "\n\n".join(part.strip() for part in [*head, *text, *sections]) + "\n"
