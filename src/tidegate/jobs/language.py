"""What the commands of ``tidegate language`` do: train and judge language models."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from tidegate.errors import DataError, require
from tidegate.jobs.vectors import read_texts

__all__ = ["evaluate", "train"]


def train(text_file: str | Path, out: str | Path, *, text: str = "text", **options: Any) -> dict[str, Any]:
    """Learn a language model from texts and write it into a file.

    Args:
        text_file: A text a line (.txt), or CSV, TSV, JSON Lines or a folder with the texts under the field `text`;
            plain or compressed.
        out: The file, by convention ``NAME.tg``.
        text: The field of the texts.
        options: Those of `TextLanguageModel`.

    Returns:
        ``model``, ``tokens`` known, ``best_epoch``, ``validation_perplexity`` or None, and ``seconds`` of training.

    Raises:
        DataError: The texts cannot be read or hold too little, or there is no folder for the file.
        ValueError: An option is out of range.
    """
    if not Path(out).parent.is_dir():
        raise DataError(f"{out}: there is no folder {Path(out).parent}")
    require("torch", "train")
    require("lightning", "train")
    from tidegate.estimators.text_language_model import TextLanguageModel

    model = TextLanguageModel(**options)
    model.fit([line for line in read_texts(Path(text_file), text) if line.strip()])
    model.save(out)
    loss = model.history_[model.best_epoch_ - 1]["validation_loss"]
    return {
        "model": str(out),
        "tokens": model.encoder_.num_tokens,
        "best_epoch": model.best_epoch_,
        "validation_perplexity": None if loss is None else math.exp(loss),
        "seconds": model.timing_["train"],
    }


def evaluate(model: str | Path, text_file: str | Path, *, text: str = "text") -> float:
    """The perplexity of a saved language model on texts.

    Raises:
        BundleError: The file is no language model.
        DataError: The texts cannot be read, or no token of them is foretold.
    """
    require("torch", "train")
    from tidegate.estimators.text_language_model import TextLanguageModel

    return TextLanguageModel.load(model).perplexity(list(read_texts(Path(text_file), text)))
