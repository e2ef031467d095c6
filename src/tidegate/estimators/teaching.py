"""What a student learns from a teacher: the rows of its training, with what the teacher says of each text."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tidegate.errors import DataError
from tidegate.estimators.base import stratified_split
from tidegate.estimators.text_network import Rows

__all__ = ["TEACHING", "check_teaching", "taught_rows", "teaching_arguments"]

# The arguments of a classifier that may have a teacher.
TEACHING = ("teacher", "teacher_temperature", "teacher_weight")
_TEMPERATURE, _WEIGHT = 2.0, 0.5


def check_teaching(model: Any) -> None:
    """Refuse what is said of a teacher where there is none, or out of range.

    Raises:
        ValueError: It is.
    """
    if model.teacher is None:
        for name in TEACHING[1:]:
            if (value := getattr(model, name)) is not None:
                raise ValueError(f"{name}={value!r} has no effect without teacher; name its file")
        return
    found = teaching_arguments(model)
    if not found["teacher_temperature"] > 0:
        raise ValueError(f"teacher_temperature must be above 0, or None; found {model.teacher_temperature!r}")
    if not 0 < found["teacher_weight"] <= 1:
        raise ValueError(f"teacher_weight must be above 0 and at most 1, or None; found {model.teacher_weight!r}")


def teaching_arguments(model: Any) -> dict[str, float]:
    """Temperature and weight in use, as :class:`~tidegate.heads.classify.DistillationHead` takes them."""
    temperature, weight = model.teacher_temperature, model.teacher_weight
    return {
        "teacher_temperature": _TEMPERATURE if temperature is None else float(temperature),
        "teacher_weight": _WEIGHT if weight is None else float(weight),
    }


def taught_rows(
    model: Any, rows: Rows, held: Rows | None, classes: np.ndarray, unlabelled: Sequence[Any], *, seed: int
) -> tuple[Rows, Rows | None, np.ndarray]:
    """What a student learns from and is judged on.

    Args:
        model: The student, whose `teacher` names the file of a classifier of the same labels.
        rows: Texts with the places of their labels.
        held: What chooses the epoch; None sets the student's share of `rows` aside.
        classes: The labels.
        unlabelled: Further texts, of which the teacher alone speaks.
        seed: Of what is set aside.

    Returns:
        The rows that are learned, with targets ``[rows, 1 + classes]``: the label or NaN, and the teacher's
        probabilities; the rows held out, with their labels; and the places in `rows` of those with a label.

    Raises:
        BundleError: The teacher's file cannot be read.
        DataError: It is no classifier, or one of other labels.
    """
    from tidegate.estimators.loading import load  # which knows every kind, the student's too

    teacher = load(model.teacher)
    known = getattr(teacher, "classes_", None)
    if known is None or not hasattr(teacher, "predict_proba") or hasattr(teacher, "predict_labels"):
        raise DataError(
            f"teacher={model.teacher!r}: expected a classifier that gives a text one label, found {teacher.kind!r}"
        )
    if known.tolist() != classes.tolist():
        raise DataError(
            f"teacher={model.teacher!r} has the labels {known.tolist()[:10]}, and y has {classes.tolist()[:10]}; a "
            "student needs the labels of its teacher"
        )
    places = np.arange(len(rows.texts))
    if held is None and model.validation_fraction > 0:
        places, aside = stratified_split(rows.targets, model.validation_fraction, seed)
        held = rows.take(aside) if len(aside) else None
    learned = rows.take(places)
    texts = [*learned.texts, *unlabelled]
    labels = np.concatenate([learned.targets.astype(np.float32), np.full(len(unlabelled), np.nan, dtype=np.float32)])
    told = np.asarray(teacher.predict_proba(texts), dtype=np.float32)
    weights = learned.weights
    if weights is not None:
        weights = np.concatenate([weights, np.ones(len(unlabelled))])
    taught = dataclasses.replace(learned, texts=texts, targets=np.column_stack([labels, told]), weights=weights)
    return taught, held, places
