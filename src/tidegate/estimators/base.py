"""What the estimators share: reading X, y and sample_weight, the split for validation, the device."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state

from tidegate.errors import DataError, nearest

__all__ = [
    "check_choice",
    "check_data",
    "check_labels",
    "check_sample_weight",
    "check_texts",
    "check_training_arguments",
    "check_validation",
    "check_vector_arguments",
    "data_digest",
    "plain_value",
    "resolve_class_weight",
    "resolve_device",
    "resolve_seed",
    "resolve_verbose",
    "stratified_split",
    "validation_parts",
]


def check_texts(X: Any, *, pairs: bool = False) -> list[Any]:
    """Texts as a list, from a list, a Series, an array of one dimension, or one column of two.

    Args:
        X: The texts.
        pairs: Whether rows may be pairs of texts, in lists or in two columns; they become tuples.

    Raises:
        DataError: X has another shape, or holds something that is not text; the message names the row.
    """
    if isinstance(X, (str, bytes)):
        raise DataError(
            f"X must be a sequence of texts, one a row; found a single {type(X).__name__}; put it in a list"
        )
    if hasattr(X, "to_numpy"):  # pandas and polars
        X = X.to_numpy()
    if isinstance(X, np.ndarray):
        if X.ndim == 2 and X.shape[1] == 1:
            X = X[:, 0]
        if X.ndim != 1 and not (X.ndim == 2 and X.shape[1] == 2):
            two = ", or two of pairs" if pairs else ""
            raise DataError(f"X must be one column of texts{two}; found an array of shape {X.shape}")
        X = X.tolist()
    texts = list(X)
    width = 1
    for row, text in enumerate(texts):
        if (
            isinstance(text, (list, tuple, np.ndarray))
            and len(text) == 2
            and all(isinstance(item, str) for item in text)
        ):
            if not pairs:
                raise DataError(
                    f"row {row} of X is a pair of texts, and this estimator reads one text a row; TextClassifier and "
                    "TextRegressor read pairs"
                )
            if row and width == 1:
                raise DataError(f"row {row} of X is a pair of texts, and the rows before are single texts")
            texts[row], width = (str(text[0]), str(text[1])), 2
            continue
        if width == 2:
            raise DataError(
                f"row {row} of X is no pair of texts: expected two of type str, as the rows before, found {text!r:.60}"
            )
        if isinstance(text, (list, tuple, np.ndarray)) and len(text) == 1:
            text = texts[row] = text[0]
        if not isinstance(text, str):
            raise DataError(
                f"row {row} of X is not text: expected str, found {type(text).__name__} ({text!r:.60}); "
                "remove the row or turn it into text"
            )
        if type(text) is not str:
            texts[row] = str(text)
    return texts


def check_labels(y: Any, num_rows: int) -> np.ndarray:
    """Labels as an array of int64 or of str; booleans become 0 and 1, whole floats become ints.

    Raises:
        DataError: A label is missing, is neither int nor str, kinds are mixed, or there is not one label a row.
    """
    if y is None:
        raise DataError("y is missing: fitting needs one label a row")
    if hasattr(y, "to_numpy"):
        y = y.to_numpy()
    labels = np.asarray(y, dtype=object)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise DataError(f"y must be one column of labels; found an array of shape {labels.shape}")
    if len(labels) != num_rows:
        raise DataError(f"X has {num_rows} rows and y has {len(labels)} labels; there must be one label a row")
    plain = [label.item() if isinstance(label, np.generic) else label for label in labels]
    for row, label in enumerate(plain):
        if isinstance(label, bool) or (isinstance(label, float) and label.is_integer()):
            label = plain[row] = int(label)
        if not isinstance(label, (str, int)):
            raise DataError(f"the label of row {row} must be an int or a str; found {label!r} ({type(label).__name__})")
    texts = sum(isinstance(label, str) for label in plain)
    if 0 < texts < num_rows:
        raise DataError(f"labels must be all int or all str; found {texts} str and {num_rows - texts} int")
    return np.array(plain, dtype=np.str_ if texts else np.int64)


def check_sample_weight(sample_weight: Any, num_rows: int) -> np.ndarray | None:
    """Weights as float64, or None.

    Raises:
        DataError: There is not one finite weight of at least zero a row, or all are zero.
    """
    if sample_weight is None:
        return None
    weights = np.asarray(sample_weight, dtype=np.float64)
    if weights.shape != (num_rows,):
        raise DataError(f"sample_weight must have one number a row, shape ({num_rows},); found shape {weights.shape}")
    bad = np.flatnonzero(~np.isfinite(weights) | (weights < 0))
    if bad.size:
        raise DataError(f"sample_weight must be finite and not negative; row {bad[0]} has {weights[bad[0]]}")
    if num_rows and not weights.any():
        raise DataError("sample_weight is zero in every row, which leaves nothing to learn from")
    return weights


def check_data(
    X: Any,
    y: Any,
    sample_weight: Any,
    check: Callable[[Any, int], np.ndarray] = check_labels,
    *,
    pairs: bool = False,
) -> tuple[list[Any], np.ndarray, np.ndarray | None]:
    """Texts, labels and weights to learn from; rows of weight 0 are left out.

    Args:
        X: The texts.
        y: What is to be learned of each.
        sample_weight: The weight of each, or None.
        check: From y and the number of rows to an array of rows.
        pairs: Whether rows of X may be pairs of texts.

    Raises:
        DataError: There are no texts, or X, y or sample_weight cannot be used; the message says where.
    """
    texts = check_texts(X, pairs=pairs)
    if not texts:
        raise DataError("X is empty: fitting needs at least two texts")
    labels, weights = check(y, len(texts)), check_sample_weight(sample_weight, len(texts))
    if weights is not None and not weights.all():
        kept = np.flatnonzero(weights)
        texts, labels, weights = [texts[row] for row in kept], labels[kept], weights[kept]
    return texts, labels, weights


def check_validation(
    validation_data: tuple[Any, ...], classes: np.ndarray, *, pairs: bool = False
) -> tuple[list[str], np.ndarray, np.ndarray | None]:
    """Texts, class indices and weights of ``(X, y)`` or ``(X, y, sample_weight)``.

    Raises:
        DataError: It has another form, cannot be used, or has a label that is not one of `classes`.
    """
    texts, labels, weights = check_data(*validation_parts(validation_data), pairs=pairs)
    unseen = np.setdiff1d(labels, classes) if labels.dtype.kind == classes.dtype.kind else np.unique(labels)
    if len(unseen):
        raise DataError(
            f"validation_data has labels that the training data has not: {unseen[:5].tolist()}; "
            f"known are {classes[:10].tolist()}"
        )
    return texts, np.searchsorted(classes, labels), weights


def validation_parts(validation_data: Any) -> tuple[Any, Any, Any]:
    """X, y and the weights or None of ``(X, y)`` or ``(X, y, sample_weight)``.

    Raises:
        DataError: It has another form.
    """
    if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
        raise DataError("validation_data must be (X, y) or (X, y, sample_weight)")
    X, y, *rest = validation_data
    return X, y, rest[0] if rest else None


def check_choice(name: str, value: Any, legal: Sequence[str]) -> None:
    """Refuse a value that is none of the legal ones.

    Raises:
        ValueError: It is not; the message names the nearest.
    """
    if value not in legal:
        raise ValueError(f"{name} must be {' or '.join(legal)}; found {value!r}.{nearest(str(value), legal)}")


def check_training_arguments(model: Any) -> None:
    """Check the ranges of the arguments that every estimator of a recurrent network has.

    Raises:
        ValueError: An argument is out of range.
    """
    for name in ("embedding_size", "hidden_size", "num_layers", "batch_size", "max_epochs", "patience"):
        value = getattr(model, name)
        if name == "embedding_size" and value is None:
            continue
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1; found {value!r}")
    check_choice("monitor", model.monitor, getattr(model, "monitors", ("accuracy", "loss")))
    if not model.learning_rate > 0:
        raise ValueError(f"learning_rate must be above 0; found {model.learning_rate!r}")
    if not model.weight_decay >= 0:
        raise ValueError(f"weight_decay must not be negative; found {model.weight_decay!r}")
    if not 0 <= model.validation_fraction < 1:
        raise ValueError(f"validation_fraction must be in [0, 1); found {model.validation_fraction!r}")
    if model.gradient_clip is not None and not model.gradient_clip > 0:
        raise ValueError(f"gradient_clip must be above 0, or None; found {model.gradient_clip!r}")
    if model.ema_decay is not None and not 0 < model.ema_decay < 1:
        raise ValueError(f"ema_decay must be between 0 and 1, or None; found {model.ema_decay!r}")


def resolve_class_weight(class_weight: Any, classes: np.ndarray, targets: np.ndarray) -> np.ndarray | None:
    """The weight of each class, ``[C]``, or None where all weigh the same.

    Args:
        class_weight: None; ``"balanced"``, which weighs a class by rows / (classes * its rows), as scikit-learn does;
            or a mapping from labels to weights, where a label that it lacks weighs 1.
        classes: The labels.
        targets: The place of each row's label among `classes`.

    Raises:
        ValueError: It is none of these, names a label that there is not, or has a weight that is not above 0.
    """
    if class_weight is None:
        return None
    if isinstance(class_weight, str):
        check_choice("class_weight", class_weight, ("balanced",))
        return len(targets) / (len(classes) * np.bincount(targets, minlength=len(classes)).clip(min=1))
    if not isinstance(class_weight, dict):
        raise ValueError(
            f"class_weight must be 'balanced', a mapping from labels to weights, or None; found {class_weight!r}"
        )
    named = [str(label) for label in classes.tolist()]
    weights = np.ones(len(classes))
    for label, weight in class_weight.items():
        if str(label) not in named:
            raise ValueError(
                f"class_weight names the label {label!r}, which y has not; y has {', '.join(named[:10])}."
                f"{nearest(str(label), named)}"
            )
        if isinstance(weight, bool) or not isinstance(weight, (int, float, np.number)) or not 0 < weight < np.inf:
            raise ValueError(f"class_weight must be above 0 and finite; found {weight!r} for the label {label!r}")
        weights[named.index(str(label))] = weight
    return weights


def check_vector_arguments(model: Any) -> None:
    """Check the arguments of an estimator that starts from word vectors: `vectors` and what goes with them.

    Raises:
        ValueError: An argument is out of range, or has no effect beside the others.
    """
    epochs = model.tune_vectors_after
    if epochs is not None and (not isinstance(epochs, (int, np.integer)) or isinstance(epochs, bool) or epochs < 0):
        raise ValueError(f"tune_vectors_after must be a whole number of at least 0, or None; found {epochs!r}")
    if model.vectors is None and epochs != 0:
        raise ValueError(f"tune_vectors_after={epochs!r} has no effect without vectors; name their file")
    init = getattr(model, "embedding_init", None)
    if model.vectors is not None and init not in (None, "normal"):
        raise ValueError(f"embedding_init={init!r} has no effect beside vectors; leave one of them out")


def data_digest(parts: Iterable[tuple[Iterable[str], np.ndarray, np.ndarray | None]]) -> str:
    """The SHA-256 of texts, labels and weights, by which a run knows its data again."""
    digest = hashlib.sha256()
    for texts, labels, weights in parts:
        for text in texts:
            digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
        digest.update(json.dumps([labels.tolist(), None if weights is None else weights.tolist()]).encode())
    return digest.hexdigest()


def stratified_split(targets: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers for training and for validation, each class in its share, every class kept in training.

    The validation part is empty where no class has a second row.
    """
    generator = np.random.default_rng(seed)
    chosen = []
    for target in np.unique(targets):
        rows = generator.permutation(np.flatnonzero(targets == target))
        wanted = max(1, round(fraction * len(rows)))
        chosen.append(rows[: min(wanted, len(rows) - 1)])
    validation = np.sort(np.concatenate(chosen))
    return np.setdiff1d(np.arange(len(targets)), validation), validation


def plain_value(value: Any) -> Any:
    """An argument as JSON holds it: NumPy's numbers become Python's, paths texts, tuples lists."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (tuple, list)):
        return [plain_value(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain_value(item) for key, item in value.items()}
    return value.item() if isinstance(value, np.generic) else value


def resolve_seed(random_state: Any) -> int:
    """An int seed from None (a fresh one), an int, or a ``numpy.random.RandomState``."""
    if random_state is None:
        return secrets.randbits(31)
    if isinstance(random_state, (int, np.integer)):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


def resolve_device(device: str) -> str:
    """``"auto"`` to ``"cuda"`` where there is one, else ``"cpu"``.

    Raises:
        ValueError: The device does not exist here.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise ValueError(f'device must be "auto", "cpu" or "cuda"; found {device!r}') from None
    if kind not in ("cpu", "cuda"):
        raise ValueError(f'device must be "auto", "cpu" or "cuda"; found {device!r}')
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f'device={device!r} needs a CUDA device, and there is none here; use device="auto" or "cpu"')
    return device


def resolve_verbose(verbose: bool | None) -> bool:
    """None to whether standard error is a terminal."""
    return bool(sys.stderr.isatty()) if verbose is None else bool(verbose)
