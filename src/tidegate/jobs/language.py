"""What the commands of ``tidegate language`` do: train and judge language models."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

from tidegate.errors import require
from tidegate.jobs.interrupts import fit_into
from tidegate.jobs.out_file import check_out_file
from tidegate.jobs.texts import read_texts
from tidegate.reporting.progress_bar import Report, no_report

__all__ = ["evaluate", "train"]


def train(
    source: str | Path,
    out: str | Path,
    *,
    text: str = "text",
    encoding: str = "utf-8",
    errors: str = "strict",
    resume: bool = False,
    overwrite: bool = False,
    report: Report = no_report,
    **options: Any,
) -> dict[str, Any]:
    """Learn a language model from texts and write it into a file.

    Args:
        source, text, encoding, errors: As `read_texts` has them.
        out: The file, by convention ``NAME.tg``; ``NAME.tg.run`` beside it holds checkpoints until training is done.
        resume, overwrite: As `fit_into` has them.
        report: Told how far the reading is.
        options: Those of `TextLanguageModel`.

    Returns:
        ``model``, ``tokens`` known, ``epochs`` finished, ``best_epoch``, ``validation_perplexity`` or None, ``seconds``
        of training, and whether it was ``interrupted`` by Ctrl-C, so that the best epoch so far is in the file.

    Raises:
        DataError: The texts cannot be read or hold too little, or the file cannot be written.
        ValueError: An option is out of range.
        TidegateError, KeyboardInterrupt: As of `fit_into`.
    """
    check_out_file(out)
    require("torch", "train")
    require("lightning", "train")
    from tidegate.estimators.text_language_model import TextLanguageModel

    model = TextLanguageModel(**options)
    lines = read_texts(source, text, encoding=encoding, errors=errors, progress=partial(report, "texts read", of=None))
    texts = [line for line in lines if line.strip()]
    report("texts read", len(texts), len(texts))
    interrupted = fit_into(out, model, partial(model.fit, texts), resume=resume, overwrite=overwrite)
    loss = model.history_[model.best_epoch_ - 1]["validation_loss"]
    return {
        "model": str(out),
        "tokens": model.encoder_.num_tokens,
        "epochs": len(model.history_),
        "best_epoch": model.best_epoch_,
        "validation_perplexity": None if loss is None else math.exp(loss),
        "seconds": model.timing_["train"],
        "interrupted": interrupted,
    }


def evaluate(
    model: str | Path,
    source: str | Path,
    *,
    text: str = "text",
    encoding: str = "utf-8",
    errors: str = "strict",
    report: Report = no_report,
) -> float:
    """The perplexity of a saved language model on texts.

    Raises:
        BundleError: The file is no language model.
        DataError: The texts cannot be read, or no token of them is foretold.
    """
    require("torch", "train")
    from tidegate.estimators.text_language_model import TextLanguageModel

    loaded = TextLanguageModel.load(model)
    texts = list(read_texts(source, text, encoding=encoding, errors=errors))
    return loaded.perplexity(texts, progress=partial(report, "tokens foretold"))
