"""What is made of a classifier's outputs once it is trained, on validation data: a temperature, and thresholds."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import require
from tidegate.reporting.scores import (
    calibration_error,
    class_score,
    confidences,
    label_score,
    reliability_bins,
)

__all__ = ["DECISION_FIGURES", "calibration_figures", "fit_temperature", "softened", "tune_threshold"]

# What `tune_threshold` can tune.
DECISION_FIGURES = ("accuracy", "balanced_accuracy", "macro_f1", "micro_f1", "matthews", "f1")
_COLDEST, _HOTTEST = 0.05, 20.0

Numbers = NDArray[np.floating[Any]]
Weights = NDArray[np.floating[Any]] | None


def fit_temperature(logits: Numbers, targets: NDArray[Any], weights: Weights = None) -> float:
    """The temperature by which logits are divided for the least log-loss (Guo et al. 2017), between 1/20 and 20.

    Where all rows are right, or the outputs say nothing, there is none; it is then 1, with a warning.

    Args:
        logits: ``[n, C]``.
        targets: ``[n]``, the places of the right classes; or ``[n, C]``, whether each label is there.
        weights: ``[n]``, or None for ones.
    """
    optimize: Any = require("scipy.optimize", "train")
    logits = np.asarray(logits, dtype=np.float64)
    if targets.ndim == 2:
        # A label and its absence are two classes, with the logits z and 0.
        weights = None if weights is None else np.repeat(weights, targets.shape[1])
        logits = np.stack([np.zeros(logits.size), logits.ravel()], 1)
        targets = (targets.ravel() > 0.5).astype(np.int64)
    right = logits[np.arange(len(targets)), targets]

    def log_loss(log_temperature: float) -> float:
        scale = math.exp(-log_temperature)
        tops = logits.max(1) * scale
        totals = tops + np.log(np.exp(logits * scale - tops[:, None]).sum(1))
        return float(np.average(totals - right * scale, weights=weights))

    ends = (math.log(_COLDEST), math.log(_HOTTEST))
    found = math.exp(optimize.minimize_scalar(log_loss, bounds=ends, method="bounded", options={"xatol": 1e-6}).x)
    why = ""
    if (right >= logits.max(1)).all():
        why = "all of these rows are right, so that ever surer"
    elif found > 0.99 * _HOTTEST:
        why = "the outputs say nothing, so that flat"
    if why:
        warnings.warn(f"no temperature was fitted: {why} probabilities have the least log-loss", stacklevel=2)
    return 1.0 if why else found


def softened(probabilities: Numbers, temperature: float, *, labels: bool = False) -> Numbers:
    """Probabilities as they are at another temperature, relative to their own; above 1 they are less sure.

    Args:
        probabilities: ``[n, C]``.
        temperature: Above 0.
        labels: Whether each column is a probability of its own, instead of each row a distribution.
    """
    powers = np.asarray(probabilities, dtype=np.float64) ** (1 / temperature)
    if labels:
        return powers / (powers + (1 - np.asarray(probabilities, dtype=np.float64)) ** (1 / temperature))
    return powers / powers.sum(1, keepdims=True)


def calibration_figures(probabilities: Numbers, targets: NDArray[Any]) -> dict[str, Any]:
    """``log_loss``, ``calibration_error`` and ``reliability`` of classes, ``targets [n]``, or labels, ``[n, C]``."""
    if targets.ndim == 1:
        sure, right = confidences(targets, probabilities)
        loss = class_score("log_loss", targets, probabilities)
    else:
        sure, right = probabilities.ravel(), targets.ravel() > 0.5
        loss = label_score("log_loss", targets, probabilities)
    return {
        "log_loss": loss,
        "calibration_error": calibration_error(sure, right),
        "reliability": reliability_bins(sure, right),
    }


def tune_threshold(figure: str, targets: NDArray[Any], probabilities: Numbers, weights: Weights = None) -> float:
    """The probability from which on "yes" is the better answer: the one of the best figure, of equals the nearest to ½.

    Args:
        figure: One of :data:`DECISION_FIGURES`; ``f1`` is that of "yes", ``macro_f1`` the mean of those of both.
        targets: ``[n]``, 1 where the right answer is yes, else 0.
        probabilities: ``[n]`` of yes.
        weights: ``[n]``, or None for ones.

    Returns:
        A threshold in (0, 1), halfway between two probabilities; 1/2 where only one answer occurs.
    """
    if figure not in DECISION_FIGURES:
        raise ValueError(f"figure must be one of {', '.join(DECISION_FIGURES)}; found {figure!r}")
    yes = np.asarray(targets) > 0.5
    if yes.all() or not yes.any():
        return 0.5
    weights = np.ones(len(yes)) if weights is None else np.asarray(weights, dtype=np.float64)
    order = np.argsort(-np.asarray(probabilities, dtype=np.float64), kind="stable")
    scores = np.asarray(probabilities, dtype=np.float64)[order]
    last = np.flatnonzero(np.r_[scores[:-1] != scores[1:], True])  # of each run of equal probabilities
    tp = np.r_[0.0, np.cumsum(weights[order] * yes[order])[last]]
    fp = np.r_[0.0, np.cumsum(weights[order] * ~yes[order])[last]]
    ends = np.r_[1.0, scores[last], 0.0]
    found = _figure(figure, tp, fp, tp[-1] - tp, fp[-1] - fp)
    middles = (ends[:-1] + ends[1:]) / 2
    best = np.flatnonzero(found >= found.max() - 1e-12)
    chosen = float(middles[best[np.argmin(np.abs(middles[best] - 0.5))]])
    return min(max(chosen, 1e-6), 1 - 1e-6)


def _figure(name: str, tp: Numbers, fp: Numbers, fn: Numbers, tn: Numbers) -> Numbers:
    """A figure of the counts of right and wrong yes, and of wrong and right no."""
    if name in ("accuracy", "micro_f1"):
        return (tp + tn) / (tp + fp + fn + tn)
    if name == "balanced_accuracy":
        return (tp / (tp + fn) + tn / (tn + fp)) / 2
    if name == "matthews":
        spread = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
        return np.divide(tp * tn - fp * fn, spread, out=np.zeros_like(spread), where=spread > 0)
    of_yes = 2 * tp / (2 * tp + fp + fn)
    return of_yes if name == "f1" else (of_yes + 2 * tn / (2 * tn + fp + fn)) / 2
