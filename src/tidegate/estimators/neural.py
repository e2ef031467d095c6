"""What estimators of a recurrent network share: the course of a fit, the bundle, the pickle."""

from __future__ import annotations

import copy
import dataclasses
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from tidegate.deploy.bundle import Bundle, installed_versions
from tidegate.errors import DataError
from tidegate.estimators.base import (
    check_training_arguments,
    plain_value,
    resolve_device,
    resolve_seed,
    resolve_verbose,
)
from tidegate.estimators.saved import SavedEstimator

if TYPE_CHECKING:
    from lightning import Callback
    from lightning.pytorch.loggers import Logger

    from tidegate.training.fit import BatchSource, FitSettings
    from tidegate.training.records import Record
    from tidegate.training.settings import Score

__all__ = ["TEXT", "FitPlan", "NeuralEstimator", "part_records", "seeded"]

# The estimator's arguments that `TextEncoder.fit_encode` takes.
TEXT = (
    "tokenizer",
    "lowercase",
    "strip_html",
    "normalization",
    "max_tokens",
    "truncation",
    "max_vocabulary",
    "min_count",
)
# A resumed run may train longer or elsewhere; everything else must be as it was.
_FREE_ON_RESUME = ("max_epochs", "patience", "device", "verbose", "random_state", "threshold", "calibrate")

_log = logging.getLogger(__name__)
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class FitPlan:
    """Where and from what a fit runs.

    Attributes:
        device: The device that trains.
        random_state: The seed of every draw.
        settings: How to train.
        folder: Where checkpoints go, or None.
        resume: Whether to go on from the checkpoints there.
        loggers: Where the epochs are recorded.
        callbacks: The user's own, of Lightning's kind.
    """

    device: str
    random_state: int
    settings: FitSettings
    folder: Path | None
    resume: bool
    loggers: Sequence[Record | Logger] = ()
    callbacks: Sequence[Callback] = ()


class NeuralEstimator(SavedEstimator):
    """Base of the estimators that train a network on Lightning and keep it in a bundle.

    A subclass names its bundle's ``kind``, stores its arguments in ``__init__`` and gives `_describe` and `_restore`.
    Its ``fit`` reads its data between `_plan` and `_train`::

        plan = self._plan(run_folder, resume)  # arguments checked; device, seed, folder
        network = seeded(derive_seed(plan.random_state, "weights"), lambda: MyNetwork(...))
        self._train(plan, network, train, validation, data=digest, seconds=encode_seconds, fitted={"classes_": classes})

    Attributes:
        network_: The fitted ``torch.nn.Module``.
        history_: One dict an epoch.
        best_epoch_: The epoch whose weights are kept, counted from 1.
        random_state_: The seed in use.
        timing_: Seconds of the steps of the fit.
    """

    network_: Any
    history_: list[dict[str, Any]]
    best_epoch_: int
    random_state_: Any
    timing_: dict[str, float]

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """The arguments, which `_store` sets."""

    def _store(self, arguments: Mapping[str, Any]) -> None:
        """Keep the arguments of ``__init__``, of which ``locals()`` is the mapping, under their own names."""
        vars(self).update({name: arguments[name] for name in type(self)._get_param_names()})

    # --- what a subclass gives

    def _describe(self) -> dict[str, Any]:
        """The fields ``tokenizer``, ``labels`` and ``metrics`` of the bundle; of the metrics those that are its own."""
        raise NotImplementedError

    def _restore(self, bundle: Bundle) -> nn.Module:
        """Set from a bundle the fitted attributes that `_describe` put there; return the network, of any weights."""
        raise NotImplementedError

    def _scorer(self) -> Score | None:
        """What measures `monitor` from all validation rows, where the network does not measure it row by row."""
        return None

    def _needs_validation(self) -> str | None:
        """The argument, as ``threshold='tuned'``, that is settled on validation data; None where there is none."""
        return None

    def _settle(self, validation: BatchSource | None) -> None:
        """Set, on the validation data, what follows training; ``network_`` has the weights of the best epoch."""

    # --- fitting

    def _plan(
        self,
        run_folder: str | os.PathLike[str] | None,
        resume: bool,
        loggers: Sequence[Any] = (),
        callbacks: Sequence[Any] = (),
    ) -> FitPlan:
        """Check the arguments that all of these estimators have, and settle device, seed and folder.

        Raises:
            ValueError: An argument is out of range, there is nothing to resume from, or a logger is none.
            MissingExtraError: The package of a logger is not installed.
        """
        # Lightning takes seconds to import, and a fitted model does without it.
        from tidegate.training.checkpoints import CheckpointFolder
        from tidegate.training.precision import describe_precision
        from tidegate.training.records import as_records
        from tidegate.training.settings import FitSettings

        check_training_arguments(self)
        if resume and run_folder is None:
            raise ValueError("resume=True needs run_folder, the folder of the run to go on with")
        device, folder = resolve_device(self.device), None if run_folder is None else Path(run_folder)
        stored: int | None = None
        if resume and folder is not None and self.random_state is None:
            # A run that was killed in its pre-training has its seed there alone.
            seeds = (CheckpointFolder(folder / name).random_state() for name in ("", "pretrain", "adapt"))
            stored = next((seed for seed in seeds if seed is not None), None)
        random_state = resolve_seed(self.random_state) if stored is None else stored
        verbose = resolve_verbose(self.verbose)
        own = {"random_state": random_state, "device": device, "verbose": verbose, "monitor": self.monitor}
        # An estimator may leave arguments out, and then has their defaults.
        names = self.get_params().keys() & {field.name for field in fields(FitSettings)} - own.keys()
        settings = FitSettings(**self._arguments(names), **own, score=self._scorer())
        if settings.precision != "float32":
            _log.info("precision: %s", describe_precision(settings.precision, device))
        records = as_records(loggers, folder)
        return FitPlan(device, random_state, settings, folder, resume, records, tuple(callbacks))

    def _train(
        self,
        plan: FitPlan,
        network: nn.Module,
        train: BatchSource,
        validation: BatchSource | None,
        *,
        data: str,
        seconds: float,
        fitted: Mapping[str, Any],
        callbacks: Sequence[Callback] = (),
    ) -> None:
        """Train a network and become the fitted estimator.

        Args:
            plan: As `_plan` gave it.
            network: What to train; it moves to the plan's device.
            train: Batches to learn from.
            validation: Batches that choose the epoch, or None.
            data: The digest of the data, which a resumed run must share.
            seconds: What encoding the data took.
            fitted: The attributes of the subclass, set once there is a network to go with them.
            callbacks: The user's own, of Lightning's kind.

        Raises:
            DataError: An argument needs validation data, and there are none.
            TidegateError: A checkpoint cannot be written or read, or belongs to another run; or training diverged.
            KeyboardInterrupt: Ctrl-C; where an epoch was finished, the estimator is fitted with the best one so far.
        """
        from tidegate.training.fit import fit

        if validation is None and (argument := self._needs_validation()):
            raise DataError(
                f"{argument} is set on validation data, and there are none; give validation_data, or set a "
                "validation_fraction above 0 and fit on more rows"
            )
        fingerprint = {**self._fingerprint_arguments(plan), "data": data}
        started = time.perf_counter()
        result = fit(
            network.to(plan.device),
            train,
            validation,
            plan.settings,
            run_folder=plan.folder,
            resume=plan.resume,
            fingerprint=fingerprint,
            callbacks=[*plan.callbacks, *callbacks],
            loggers=plan.loggers,
            hyperparameters={**self._arguments(self.get_params(deep=False)), "random_state": plan.random_state},
        )
        vars(self).update(fitted)
        self.network_ = network.eval()
        self.history_ = result.history
        self.best_epoch_ = result.best_epoch
        self.random_state_ = plan.random_state
        self._settle(validation)
        self.timing_ = {"encode": seconds, "train": time.perf_counter() - started}
        if result.interrupted:
            raise KeyboardInterrupt

    def _fingerprint_arguments(self, plan: FitPlan) -> dict[str, Any]:
        """The arguments that a resumed run must share."""
        from tidegate.training.schedules import SLANTED

        free = set(_FREE_ON_RESUME) - ({"max_epochs"} if plan.settings.schedule in SLANTED else set())
        names = [name for name in self.get_params() if name not in free]
        return {**self._arguments(names), "random_state": plan.random_state}

    def _arguments(self, names: Iterable[str]) -> dict[str, Any]:
        """Arguments by name, as plain values: a grid search hands over NumPy's numbers, and users hand over paths."""
        return {name: plain_value(getattr(self, name)) for name in names}

    def _ready_network(self) -> tuple[Any, str]:
        """The fitted network in evaluation on the estimator's device, and that device.

        Raises:
            NotFittedError: `fit` has not been called.
        """
        check_is_fitted(self)
        device = resolve_device(self.device)
        return self.network_.to(device).eval(), device

    # --- the bundle

    def to_bundle(self) -> Bundle:
        """The fitted model as plain values.

        Raises:
            NotFittedError: `fit` has not been called.
        """
        check_is_fitted(self)
        # The device is a matter of the machine that loads the model, not of the one that trained it.
        config = {**self._arguments(self.get_params()), "random_state": self.random_state_, "device": "auto"}
        parts = self._describe()
        own = {"history": self.history_, "best_epoch": self.best_epoch_, "timing": self.timing_}
        return Bundle(
            kind=self.kind,
            config=config,
            tokenizer=parts["tokenizer"],
            labels=parts["labels"],
            metrics={**own, **parts["metrics"]},
            weights={name: tensor.cpu().numpy() for name, tensor in self.network_.state_dict().items()},
            versions=installed_versions(),
        )

    @classmethod
    def _from_parts(cls, bundle: Bundle) -> Self:
        model = cls(**bundle.config)
        network = seeded(0, lambda: model._restore(bundle))
        network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in bundle.weights.items()})
        model.network_ = network.eval()
        model.history_ = bundle.metrics["history"]
        model.best_epoch_ = bundle.metrics["best_epoch"]
        model.timing_ = bundle.metrics["timing"]
        model.random_state_ = model.random_state
        return model

    def __getstate__(self) -> dict[str, Any]:
        state = dict(cast("dict[str, Any]", super().__getstate__()))
        network = state.get("network_")
        if network is not None and any(parameter.device.type != "cpu" for parameter in network.parameters()):
            state["network_"] = copy.deepcopy(network).cpu()
        return state


def part_records(loggers: Sequence[Any], run_folder: str | os.PathLike[str] | None, part: str) -> list[Record]:
    """The records of one part of a run that is made of several fits, as of a member of an ensemble.

    Raises:
        ValueError: A logger is no name of a record, or there is no folder.
        MissingExtraError: Its package is not installed.
    """
    if not loggers:
        return []
    from tidegate.training.records import Record, as_records

    found = as_records(loggers, None if run_folder is None else Path(run_folder))
    if any(not isinstance(record, Record) for record in found):
        raise ValueError(f"loggers of several fits must be names, as 'tensorboard'; found {loggers!r}")
    return [dataclasses.replace(record, part=part) for record in found if isinstance(record, Record)]


def seeded(seed: int, build: Callable[[], Network]) -> Network:
    """What `build` makes while torch's generator on the CPU is seeded; the generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()
