"""How well sentences were tagged: segments as conlleval counts them, tokens, types taken for others, and the errors."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tidegate.data.tag_schemes import Span, spans_of, split_tag, tags_of
from tidegate.errors import DataError, require

__all__ = ["ERROR_KINDS", "TaggingMistake", "segment_errors", "tagging_metrics", "tagging_mistakes"]

ERROR_KINDS = {
    "boundary": "the type is right, the borders are not",
    "type": "the borders are right, the type is not",
    "boundary and type": "neither is right, but they overlap",
    "missed": "nothing was found where a segment is",
    "spurious": "a segment was found where none is",
}
_RESAMPLES = 1000


@dataclass(frozen=True)
class TaggingMistake:
    """A segment that was tagged wrongly, in its sentence.

    Attributes:
        tokens: The sentence.
        kind: One of `ERROR_KINDS`, or ``"tag"`` where tags mark no segments.
        truth: The segment that is there, or None.
        predicted: The one that was found, or None.
        confidence: The probability that the model gave to what it found; of nothing, NaN.
        origin: Where the sentence stands, such as ``eng.testb:17``.
    """

    tokens: Sequence[str]
    kind: str
    truth: Span | None
    predicted: Span | None
    confidence: float
    origin: str = ""


def tagging_metrics(
    y_true: Sequence[Sequence[str]], y_pred: Sequence[Sequence[str]], scheme: str, *, known_tags: Iterable[str] = ()
) -> dict[str, Any]:
    """Judge predicted tags.

    Precision, recall and F1 of segments are those of the script conlleval (through the package seqeval): a segment is
    right where its borders and its type are. Where the scheme is ``"plain"`` each token is a segment, and F1 is the
    accuracy.

    Args:
        y_true: The right tags of each sentence.
        y_pred: The predicted ones.
        scheme: The scheme of both.
        known_tags: The tags that the model knows, by which those it cannot find are counted; empty for no count.

    Returns:
        ``scheme``, ``count`` (sentences), ``tokens``, ``segments``, ``accuracy`` (of tokens), ``sentence_accuracy``,
        ``precision``, ``recall``, ``f1``, ``interval`` (of F1, 95%, by a bootstrap over sentences), ``per_type`` (rows
        of label, precision, recall, f1, support, found), ``confusion`` (``labels`` and ``matrix`` of tokens, right
        types as rows), ``errors`` (kind -> count) and ``unseen`` (tag -> tokens, of tags that the model lacks).

    Raises:
        DataError: There are no tokens, or not as many tags in both.
    """
    if len(y_true) != len(y_pred) or any(len(a) != len(b) for a, b in zip(y_true, y_pred, strict=True)):
        raise DataError("expected one predicted tag for every right one")
    tokens = sum(map(len, y_true))
    if not tokens:
        raise DataError("expected at least one tagged token to judge a model on, found none")
    right = sum(a == b for truth, found in zip(y_true, y_pred, strict=True) for a, b in zip(truth, found, strict=True))
    known = set(known_tags)
    unseen = Counter(tag for row in y_true for tag in row if known and tag not in known)
    same = [list(truth) == list(found) for truth, found in zip(y_true, y_pred, strict=True)]
    metrics: dict[str, Any] = {
        "scheme": scheme,
        "count": len(y_true),
        "tokens": tokens,
        "accuracy": right / tokens,
        "sentence_accuracy": sum(same) / len(same),
        "unseen": dict(unseen.most_common()),
    }
    if scheme == "plain":
        spans = [[[Span(i, i + 1, tag) for i, tag in enumerate(row)] for row in rows] for rows in (y_true, y_pred)]
    else:
        spans = [[spans_of(row) for row in rows] for rows in (y_true, y_pred)]
    there, found = spans
    metrics |= _segment_scores(there, found, list(map(len, y_true)))
    kinds = Counter(
        kind for truth, said in zip(there, found, strict=True) for kind, _, _ in segment_errors(truth, said)
    )
    metrics["errors"] = {} if scheme == "plain" else {kind: kinds[kind] for kind in ERROR_KINDS}
    metrics["confusion"] = _confusion(y_true, y_pred, scheme)
    return metrics


def segment_errors(truth: Sequence[Span], found: Sequence[Span]) -> list[tuple[str, Span | None, Span | None]]:
    """What is wrong in a sentence: the kind of each error, the segment that is there and the one that was found.

    A segment that is there is set beside the one found that overlaps it most, its own type before another; each that
    was found is set beside one at most.
    """
    exact = set(truth) & set(found)
    left = [span for span in found if span not in exact]
    errors: list[tuple[str, Span | None, Span | None]] = []
    for span in (span for span in truth if span not in exact):
        shared = {other: min(span.end, other.end) - max(span.start, other.start) for other in left}
        near = [other for other in left if shared[other] > 0]
        if not near:
            errors.append(("missed", span, None))
            continue
        best = max(near, key=lambda other: (other[:2] == span[:2], other.type == span.type, shared[other]))
        left.remove(best)
        same_borders = best[:2] == span[:2]
        kind = "type" if same_borders else "boundary" if best.type == span.type else "boundary and type"
        errors.append((kind, span, best))
    return [*errors, *(("spurious", None, span) for span in left)]


def tagging_mistakes(
    sentences: Sequence[Sequence[str]],
    y_true: Sequence[Sequence[str]],
    found: Sequence[Sequence[tuple[Span, float]]],
    scheme: str,
    origins: Sequence[str] | None = None,
    most: int = 6,
) -> list[TaggingMistake]:
    """The errors of which the model was surest, at most so many of each kind; what was missed in the order of the data.

    Args:
        sentences: Tokens.
        y_true: The right tags.
        found: The segments found in each sentence, with their probabilities.
        scheme: The scheme of the tags.
        origins: Where each sentence stands.
        most: At most so many of a kind.
    """
    kept: dict[str, list[TaggingMistake]] = {}
    for row, (tokens, tags, pairs) in enumerate(zip(sentences, y_true, found, strict=True)):
        truth = [Span(i, i + 1, tag) for i, tag in enumerate(tags)] if scheme == "plain" else spans_of(tags)
        chances = dict(pairs)
        for kind, there, said in segment_errors(truth, list(chances)):
            name = "tag" if scheme == "plain" else kind
            confidence = math.nan if said is None else chances[said]
            mistake = TaggingMistake(tokens, name, there, said, confidence, origins[row] if origins else "")
            kept.setdefault(name, []).append(mistake)
    order = ["tag", *ERROR_KINDS]
    chosen = []
    for kind in sorted(kept, key=order.index):
        surest = sorted(kept[kind], key=lambda item: 0.0 if math.isnan(item.confidence) else -item.confidence)
        chosen += surest[: most * (3 if kind == "tag" else 1)]
    return chosen


def _segment_scores(there: list[list[Span]], found: list[list[Span]], lengths: list[int]) -> dict[str, Any]:
    scores = require("seqeval.metrics.sequence_labeling", "metrics").precision_recall_fscore_support
    # seqeval reads tags; a type that it cannot read (empty, or with marks of its own) goes by a number.
    kinds = sorted({span.type for rows in (there, found) for row in rows for span in row})
    names = {kind: f"{number:06d}" for number, kind in enumerate(kinds)}

    def written(rows: list[list[Span]]) -> list[list[str]]:
        return [
            tags_of((Span(span.start, span.end, names[span.type]) for span in row), length, "bio")
            for row, length in zip(rows, lengths, strict=True)
        ]

    truth, said = written(there), written(found)
    precision, recall, f1, _ = scores(truth, said, average="micro", zero_division=0)
    per_type = scores(truth, said, average=None, zero_division=0) if kinds else ([], [], [], [])
    predicted = Counter(span.type for row in found for span in row)
    counts = np.array([[len(set(a) & set(b)), len(a), len(b)] for a, b in zip(there, found, strict=True)], np.float64)
    return {
        "segments": int(counts[:, 1].sum()),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "interval": _interval(counts),
        "per_type": [
            {
                "label": kind,
                "precision": float(per_type[0][place]),
                "recall": float(per_type[1][place]),
                "f1": float(per_type[2][place]),
                "support": int(per_type[3][place]),
                "found": predicted[kind],
            }
            for place, kind in enumerate(kinds)
        ],
    }


def _interval(counts: np.ndarray) -> list[float]:
    """The 95% interval of F1 over resamples of the sentences; the draws are the same each time."""
    weights = np.random.default_rng(0).poisson(1.0, (_RESAMPLES, len(counts))) if len(counts) <= 2000 else None
    if weights is None:  # blocks of sentences, so that the draws stay small
        edges = np.linspace(0, len(counts), 2001).astype(int)[:-1]
        return _interval(np.add.reduceat(counts, edges))
    right, there, found = (weights @ counts).T
    values = 2 * right / np.maximum(there + found, 1)
    low, high = np.quantile(values, [0.025, 0.975])
    return [float(low), float(high)]


def _confusion(y_true: Sequence[Sequence[str]], y_pred: Sequence[Sequence[str]], scheme: str, most: int = 24) -> Any:
    """Tokens by their right and predicted types; rarer types than the `most` commonest share one row."""

    def kind(tag: str) -> str:
        if scheme == "plain":
            return tag
        letter, name = split_tag(tag)
        return "O" if letter == "O" else name

    pairs = Counter((kind(a), kind(b)) for x, y in zip(y_true, y_pred, strict=True) for a, b in zip(x, y, strict=True))
    totals: Counter[str] = Counter()
    for (a, b), count in pairs.items():
        totals[a] += count
        totals[b] += 0
    labels = [name for name, _ in totals.most_common(most)]
    rest = len(totals) > len(labels)
    place = {name: number for number, name in enumerate(sorted(labels))}
    size = len(labels) + rest
    matrix = [[0] * size for _ in range(size)]
    for (a, b), count in pairs.items():
        matrix[place.get(a, size - 1)][place.get(b, size - 1)] += count
    return {"labels": [*sorted(labels), *(["others"] if rest else [])], "matrix": matrix}
