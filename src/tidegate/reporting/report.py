"""The report of a run: report.html, one self-contained page, and metrics.json, the same facts for programs."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import tidegate
from tidegate.atomic_files import replacing
from tidegate.errors import TidegateError
from tidegate.reporting.facts import Mistake, RunFacts, json_safe
from tidegate.reporting.page import render_page

__all__ = ["Mistake", "RunFacts", "write_metrics", "write_report"]

_FORMAT = 1


def write_report(folder: str | os.PathLike[str], facts: RunFacts) -> Path:
    """Write ``report.html`` and ``metrics.json`` into a folder, which is made where it is not there.

    Each file is replaced at once or not at all, so that a reader never meets half of one. The page needs no other file
    and no network; what is not known of the run is left out of it, and long texts are shortened. What ``metrics.json``
    holds is told at `write_metrics`.

    Args:
        folder: where the two files go.
        facts: what is known of the run.

    Returns:
        The path of ``report.html``.

    Raises:
        TidegateError: the folder or a file cannot be written, as on a full disk.
    """
    page = render_page(facts)
    write_metrics(folder, facts)
    return _write(Path(folder) / "report.html", page)


def write_metrics(folder: str | os.PathLike[str], facts: RunFacts) -> Path:
    """Write ``metrics.json`` alone into a folder, which is made where it is not there; replaced at once or not at all.

    The file holds one object in UTF-8, with whole texts::

        {
          "format": 1,                  number of this layout
          "tidegate": "0.1.0",          version that wrote it
          "title": text,
          "recipe": {section: {key: value}},
          "counts": {split: integer},
          "class_counts": {split: {label: integer}},
          "token_lengths": {split: [integer]},
          "history": [{"epoch": integer, "train_loss": number, "validation_loss": number,
                       "validation_accuracy": number, "tokens_per_second": number, "seconds": number}],
          "best_epoch": integer or null,
          "test": null or {"count": integer, "accuracy": number, "standard_error": number, "interval": [low, high],
                           "macro_f1": number, "micro_f1": number, "log_loss": number, "balanced_accuracy": number,
                           "roc_auc": number, "average_precision": number, "matthews": number,
                           "calibration_error": number, "reliability": [{"low": number, "high": number,
                           "confidence": number, "accuracy": number, "share": number}],
                           "threshold": number (of a model with one), "temperature": number and "uncalibrated":
                           {"log_loss": number, "calibration_error": number, "reliability": ...} (of a calibrated one),
                           "per_class": [{"label": text or integer, "precision": number, "recall": number,
                                          "f1": number, "support": integer}],
                           "confusion": [[integer]]},
          "baseline": null or {"name": text, "accuracy": number, "macro_f1": number, "seconds": number,
                               "vocabulary": integer},
          "mistakes": [{"text": text, "label": label, "predicted": label, "probability": number, "origin": text}],
          "timing": {part: seconds},
          "environment": {name: value},
          "notes": [text]
        }

    Of numbers and of several labels ``test`` and ``baseline`` hold what `number_metrics` and `label_metrics` give; of
    numbers ``truth`` and ``predicted`` are lists beside them. A number that was not finite is null; NaN, which is not
    JSON, is never written.

    Args:
        folder: where the file goes.
        facts: what is known of the run.

    Returns:
        The path of ``metrics.json``.

    Raises:
        TidegateError: the folder or the file cannot be written, as on a full disk.
    """
    record = json.dumps(
        {"format": _FORMAT, "tidegate": tidegate.__version__, **json_safe(facts)},
        indent=2,
        ensure_ascii=False,
        allow_nan=False,
    )
    # Lists of plain numbers stand on one line each. Line breaks inside texts are escaped, so none is touched.
    record = re.sub(r"\[\n[\s\d.,eE+-]+\]", lambda match: re.sub(r"\s+", " ", match[0]), record)
    return _write(Path(folder) / "metrics.json", record + "\n")


def _write(path: Path, text: str) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(text.encode(errors="replace"))
    except OSError as error:
        raise TidegateError(
            f"cannot write the report into {path.parent}: {error.strerror or error}; "
            "expected a folder that can be written, with some room on its disk"
        ) from error
    return path
