"""Fitted estimators as the members of another one: what they say of texts, and their places in its bundle."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tidegate.deploy.bundle import Bundle
from tidegate.errors import BundleError, DataError

__all__ = ["check_kinds", "check_members", "member_probabilities", "pack_members", "unpack_members"]


def check_members(models: Sequence[Any], names: Sequence[str] | None = None) -> np.ndarray:
    """The classes that classifiers of texts have in common, in the order of all their probabilities.

    Args:
        models: Fitted estimators.
        names: What errors call them; None numbers them.

    Raises:
        DataError: There are fewer than two, one does not give a text one class, or their classes differ.
    """
    if len(models) < 2:
        raise DataError(f"an ensemble needs at least two members; found {len(models)}")
    called = [f"member {number}" for number in range(1, len(models) + 1)] if names is None else list(names)
    for model, name in zip(models, called, strict=True):
        kind = getattr(model, "kind", type(model).__name__)
        if (
            not hasattr(model, "predict_proba")
            or not hasattr(model, "classes_")
            or hasattr(model, "predict_labels")  # several labels a text
        ):
            raise DataError(f"{name}: expected a classifier that gives a text one label, found {kind!r}")
        if model.classes_.tolist() != models[0].classes_.tolist():
            raise DataError(
                f"{name} has the labels {model.classes_.tolist()[:10]}, and {called[0]} has "
                f"{models[0].classes_.tolist()[:10]}; members must be trained on the same labels"
            )
    return models[0].classes_


def check_kinds(models: Sequence[Any], kinds: Sequence[str]) -> None:
    """Refuse members of a bundle that are too few or of another kind.

    Raises:
        ValueError: They are.
    """
    found = [getattr(model, "kind", type(model).__name__) for model in models]
    if len(models) < 2 or not set(found) <= set(kinds) or len(set(found)) > 1:
        raise ValueError(
            f"members of the kinds {', '.join(found) or 'none'}; expected two or more {' or '.join(kinds)}"
        )


def member_probabilities(models: Sequence[Any], texts: Sequence[str]) -> np.ndarray:
    """What each member says of texts, ``[members, rows, classes]`` float64."""
    return np.stack([np.asarray(model.predict_proba(texts), dtype=np.float64) for model in models])


def pack_members(models: Sequence[Any]) -> tuple[Bundle, ...]:
    """The bundles of members; of several with the same tokeniser the first one keeps it."""
    parts: list[Bundle] = []
    for model in models:
        part = model.to_bundle()
        place = next((place for place, other in enumerate(parts) if other.tokenizer == part.tokenizer), None)
        parts.append(part if place is None else dataclasses.replace(part, tokenizer={"of_member": place}))
    return tuple(parts)


def unpack_members(bundle: Bundle) -> list[Any]:
    """The fitted estimators in a bundle that :func:`pack_members` filled.

    Raises:
        ValueError: A member is of a kind that this version does not know, or its parts do not fit together.
    """
    from tidegate.estimators.loading import restore  # which knows every kind, those of this module's users too

    models = []
    for number, part in enumerate(bundle.members):
        place = part.tokenizer.get("of_member")
        if place is not None:
            if not isinstance(place, int) or not 0 <= place < number:
                raise ValueError(f"members/{number} has the tokeniser of a member {place!r}")
            part = dataclasses.replace(part, tokenizer=bundle.members[place].tokenizer)
        try:
            models.append(restore(part, f"members/{number}"))
        except BundleError as error:  # which the ensemble's own name belongs before
            raise ValueError(str(error)) from None
    return models
