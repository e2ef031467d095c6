"""Fitting again from the fitted weights: what must be as it was, and how a network takes them over."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from tidegate.errors import DataError

__all__ = ["check_goes_on", "goes_on", "kept_arguments", "known_values", "take_over"]

# Arguments of which the fitted vocabulary, network and weights are made, which therefore stay.
_KEPT = (
    "tokenizer",
    "lowercase",
    "strip_html",
    "normalization",
    "max_tokens",
    "truncation",
    "max_vocabulary",
    "min_count",
    "cell",
    "embedding_size",
    "embedding_init",
    "vectors",
    "char_encoder",
    "char_embedding_size",
    "char_hidden_size",
    "language_model",
    "hidden_size",
    "num_layers",
    "bidirectional",
    "pooling",
    "multi_label",
    "loss",
    "init_from",
    "pretrain_epochs",
    "adapt_epochs",
)


def goes_on(model: Any) -> bool:
    """Whether `fit` goes on from the weights of an estimator: it is fitted, and ``warm_start`` is set."""
    return bool(getattr(model, "warm_start", False)) and hasattr(model, "network_")


def kept_arguments(model: Any) -> dict[str, Any]:
    """The arguments that must be as they are when `fit` goes on, as plain values."""
    return model._arguments(name for name in _KEPT if name in model.get_params(deep=False))


def check_goes_on(
    model: Any, before: Mapping[str, Any], found: Mapping[str, Any], *, resume: bool, unlabelled: Sequence[str]
) -> None:
    """Refuse to go on from the fitted weights with what does not fit them.

    Args:
        model: The estimator.
        before: Its arguments when it was fitted, of `kept_arguments`.
        found: The fitted attributes that the new data would give it, as ``classes_``.
        resume: Whether checkpoints are to be resumed as well.
        unlabelled: Texts for pre-training.

    Raises:
        ValueError: An argument was changed, or there are two beginnings.
        DataError: The data are not of the kind that it was fitted on.
    """
    if resume:
        raise ValueError(
            "resume=True goes on from the checkpoints of a run, and warm_start=True from the weights of this fitted "
            "estimator; fit with resume=False, or resume with an estimator that is not fitted"
        )
    if len(unlabelled):
        raise ValueError(
            "unlabelled texts have no effect when warm_start=True goes on: vocabulary and pre-training are behind it; "
            "leave them out"
        )
    now = kept_arguments(model)
    changed = [f"{name} was {before[name]!r} and is {now[name]!r}" for name in now if now[name] != before.get(name)]
    if changed:
        raise ValueError(
            "warm_start=True goes on with the vocabulary, network and weights of the last fit, and "
            f"{'; '.join(changed)}; set it back, or fit a new estimator"
        )
    for name, value in found.items():
        if not _same(known := getattr(model, name, None), value):
            raise DataError(
                f"warm_start=True goes on with {name}={known!r:.200} of the last fit, and the data give "
                f"{value!r:.200}; fit a new estimator"
            )


def known_values(model: Any, name: str, found: np.ndarray, what: str) -> np.ndarray:
    """The values in `y`: those of the last fit where `fit` goes on from it.

    Args:
        model: The estimator.
        name: Its fitted attribute that holds them, as ``"classes_"``.
        found: The values in `y`, sorted.
        what: What they are called, as ``"classes"``.

    Raises:
        DataError: There are new ones.
    """
    if not goes_on(model):
        return found
    known: np.ndarray = getattr(model, name)
    new = np.setdiff1d(found, known) if found.dtype.kind == known.dtype.kind else found
    if len(new):
        raise DataError(
            f"warm_start=True goes on with the {what} of the last fit ({', '.join(map(repr, known[:10].tolist()))}), "
            f"and y has new ones: {new[:5].tolist()}; leave them out, or fit a new estimator on all of them"
        )
    return known


def take_over(network: nn.Module, fitted: nn.Module) -> str:
    """Give a network the weights of a fitted one; return their digest, by which a resumed run knows its beginning.

    Raises:
        ValueError: The two are not of one architecture.
    """
    weights = {name: tensor.detach().cpu() for name, tensor in fitted.state_dict().items()}
    own = network.state_dict()
    wrong = [name for name in own.keys() | weights.keys() if _shape(own, name) != _shape(weights, name)]
    if wrong:
        name = min(wrong)
        raise ValueError(
            f"warm_start=True goes on with the network of the last fit, and its {name} has the shape "
            f"{_shape(weights, name)} where the new one has {_shape(own, name)}; fit a new estimator"
        )
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(np.ascontiguousarray(weights[name].numpy()).tobytes())
    with torch.no_grad():
        network.load_state_dict(weights)
    return digest.hexdigest()


def _same(first: Any, second: Any) -> bool:
    """Whether two fitted values are equal, arrays in them too."""
    if isinstance(first, np.ndarray) or isinstance(second, np.ndarray):
        return np.array_equal(first, second)
    if dataclasses.is_dataclass(first) and type(first) is type(second):
        return all(_same(getattr(first, item.name), getattr(second, item.name)) for item in dataclasses.fields(first))
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        return len(first) == len(second) and all(map(_same, first, second))
    return bool(first == second)


def _shape(weights: Mapping[str, torch.Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(weights[name].shape) if name in weights else None
