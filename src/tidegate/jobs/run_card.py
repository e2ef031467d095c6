"""The model card of a run: what is known of its model and data, gathered for `tidegate.reporting.model_card`."""

from __future__ import annotations

import dataclasses
import inspect
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tidegate.config import Recipe
from tidegate.data.bundled import PREFIX
from tidegate.data.encoder import TextEncoder
from tidegate.data.pairs import flatten, is_pair
from tidegate.data.token_encoder import TokenEncoder
from tidegate.deploy.bundle import Bundle, load_bundle
from tidegate.features.bag_of_words import BagOfWords
from tidegate.jobs.run_folder import CARD_FILE, METRICS_FILE, write_text
from tidegate.reporting.model_card import CardFacts, render_card
from tidegate.schema.tasks import SECTIONS

__all__ = ["write_card"]

_SAMPLE = 2000  # examples of a part that are looked at
_SCRIPTS = {"CJK": "Chinese characters", "HIRAGANA": "Hiragana", "KATAKANA": "Katakana", "HANGUL": "Hangul"}


def write_card(recipe: Recipe, model: Any, splits: Any, unit: str, folder: Path, model_file: Path) -> Path:
    """Write ``model_card.md`` beside a model whose ``metrics.json`` is there.

    Args:
        recipe: Of the run.
        model: The fitted estimator.
        splits: The parts of the data, with ``parts()``.
        unit: What examples are called.
        folder: Of the run.
        model_file: The saved model.

    Raises:
        TidegateError: The file cannot be written.
    """
    run = json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))
    bundle = load_bundle(model_file)
    inner = getattr(model, "members_", None) or [model]
    reader = next(
        (found for name in ("encoder_", "bag_") if (found := getattr(inner[0], name, None)) is not None), None
    )
    tasks = {task.name: [] if task.classes is None else task.classes.tolist() for task in getattr(model, "tasks_", ())}
    sampled = {part: _sample(examples) for part, examples in splits.parts().items()}
    facts = CardFacts(
        run=run,
        task=recipe.task,
        kind=bundle.kind,
        unit="pairs of texts" if any(map(is_pair, getattr(splits.train, "texts", [])[:1])) else unit,
        sources=_sources(recipe),
        labels=() if tasks else bundle.labels,
        tasks=tasks,
        numbers=_numbers(splits),
        size=model_file.stat().st_size,
        parameters=_parameters(bundle),
        members=len(inner),
        vocabulary=_vocabulary(reader),
        unknown={part: share for part, rows in sampled.items() if (share := _unknown(reader, rows)) is not None},
        scripts=_scripts(sampled["train"]),
        settings=_settings(run["recipe"], inner[0]),
        example=_example(model, bundle.kind, sampled["train"]),
        calibration=(run.get("test") or {}).get("calibration_error"),
        date=date.today().isoformat(),
    )
    path = folder / CARD_FILE
    write_text(path, render_card(facts))
    return path


def _parameters(bundle: Bundle) -> int:
    """The numbers of a model, and of its members."""
    return sum(int(array.size) for array in bundle.weights.values()) + sum(map(_parameters, bundle.members))


def _settings(recipe: dict[str, Any], model: Any) -> dict[str, dict[str, Any]]:
    """What the run's recipe sets otherwise than the estimator's signature has it."""
    from tidegate.estimators.base import plain_value  # light commands do without torch

    defaults = {name: parameter.default for name, parameter in inspect.signature(type(model)).parameters.items()}
    return {
        section: {
            key: said
            for key, said in recipe.get(section, {}).items()
            if plain_value(defaults.get(key)) != said and key not in ("random_state", "verbose", "device")
        }
        for section in SECTIONS
    }


def _sources(recipe: Recipe) -> dict[str, str]:
    """Part of the data -> its file as the recipe names it, for a card tells nobody's folders."""
    data: dict[str, Any] = dict(recipe.sections.data)
    named = {key: data[key] for key in ("source", "train", "validation", "test") if data.get(key)}
    return {
        key: ", ".join(
            str(name) if str(name).startswith(PREFIX) else Path(name).name or str(name)
            for name in (names if isinstance(names, list) else [names])
        )
        for key, names in named.items()
    }


def _numbers(splits: Any) -> dict[str, list[float]]:
    """Part of the data -> its targets, where they are numbers."""
    found = {part: getattr(examples, "targets", None) for part, examples in splits.parts().items()}
    return {
        part: [float(number) for number in targets]
        for part, targets in found.items()
        if isinstance(targets, list) and targets and all(isinstance(number, (int, float)) for number in targets)
    }


def _sample(examples: Any) -> list[Any]:
    """Some examples of a part, evenly over it: texts, or sentences as lists of tokens."""
    rows: Sequence[Any] = examples.sentences if hasattr(examples, "sentences") else examples.texts
    return flatten([rows[place] for place in range(0, len(rows), -(-len(rows) // _SAMPLE) or 1)])[0]


def _vocabulary(reader: Any) -> int | None:
    if isinstance(reader, TextEncoder):
        return reader.num_tokens
    if isinstance(reader, TokenEncoder):
        return len(reader.words) + len(reader.extra_words)
    return len(reader.terms) if isinstance(reader, BagOfWords) else None


def _unknown(reader: Any, rows: list[Any]) -> float | None:
    """The share of the rows' tokens that a model does not know; None where it cannot be said."""
    ids: np.ndarray | None = None
    if isinstance(reader, TextEncoder):
        ids = np.concatenate([*reader.encode(rows).ids, np.empty(0, dtype=np.int64)])
    elif isinstance(reader, TokenEncoder):
        encoded = reader.encode(rows)
        ids = encoded.words[np.concatenate([*encoded.forms, np.empty(0, dtype=np.int64)])]
    elif isinstance(reader, BagOfWords):
        single = dataclasses.replace(reader.splitter, ngram_range=(1, 1), character_ngram_range=None)
        ids = np.array([reader.index.get(term, -1) + 1 for row in rows for term in single(row)], dtype=np.int64)
    return float((ids == 0).mean()) if ids is not None and len(ids) else None


def _scripts(rows: list[Any]) -> dict[str, float]:
    """Script -> share of the rows' letters, those above a thousandth, the most frequent first."""
    counts: Counter[str] = Counter()
    for character, count in Counter(_characters(rows)).items():
        if name := _script(character):
            counts[name] += count
    total = sum(counts.values())
    return {name: count / total for name, count in counts.most_common() if count > total / 1000}


def _characters(rows: Iterable[Any]) -> Iterable[str]:
    for row in rows:
        yield from row if isinstance(row, str) else "".join(row)


@lru_cache(maxsize=1 << 16)
def _script(character: str) -> str:
    """The script of a letter, as ``"Latin"``; empty for what is no letter."""
    if not character.isalpha():
        return ""
    name = unicodedata.name(character, "").split(" ")[0]
    return _SCRIPTS.get(name, name.capitalize())


def _example(model: Any, kind: str, rows: list[Any]) -> str:
    if getattr(model, "reads_pairs", False):
        return '("a text", "another one")'
    if kind.startswith("sequence-tagger"):
        return repr([str(token) for token in rows[0][:6]]) if rows else '["a", "sentence"]'
    return '"a text"'
