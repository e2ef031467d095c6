"""What a classifier's probabilities and decisions are made of beside its network, and what `monitor` may be."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from tidegate.errors import nearest
from tidegate.estimators.base import check_choice
from tidegate.reporting.calibration import DECISION_FIGURES, calibration_figures, fit_temperature, tune_threshold
from tidegate.reporting.metrics import decide
from tidegate.reporting.scores import CLASS_MONITORS, class_score

if TYPE_CHECKING:
    from tidegate.training.settings import BatchSource, Score

__all__ = ["ClassDecisions", "network_outputs"]


class ClassDecisions:
    """Part of a classifier whose network may be given a temperature after training, and whose decisions a threshold.

    The class that it is a part of is a :class:`~tidegate.estimators.neural.NeuralEstimator` with the arguments
    `threshold`, `calibrate` and `monitor`, whose network has a head of classes. It calls `_check_decisions` before
    training, and puts what `_decisions` gives into the metrics of its bundle, for `_restore_decisions`.

    Attributes:
        threshold_: The probability from which on the second of two classes is predicted, or None.
        calibration_: None, or ``temperature``, and ``before`` and ``after`` it the ``log_loss`` and
            ``calibration_error`` on the validation data that it was fitted on.
    """

    monitors: ClassVar[tuple[str, ...]] = CLASS_MONITORS
    # What is there row by row, so that it needs no second look at the validation data.
    _measured: ClassVar[tuple[str, ...]] = ("accuracy", "loss")
    threshold_: Any
    calibration_: dict[str, Any] | None

    if TYPE_CHECKING:
        threshold: Any
        calibrate: str | None
        monitor: str
        network_: Any

    def _scorer(self) -> Score | None:
        return None if self.monitor in self._measured else functools.partial(class_score, self.monitor)

    def _check_decisions(self, num_classes: int) -> None:
        """Refuse a threshold or a calibration that there cannot be.

        Raises:
            ValueError: It is out of range, or of a kind that these classes have not.
        """
        if self.calibrate is not None:
            check_choice("calibrate", self.calibrate, ("temperature",))
        if self.threshold is None:
            return
        _check_threshold(self.threshold)
        if num_classes > 2:
            raise ValueError(
                f"threshold={self.threshold!r} is the probability from which on the second of two classes is "
                f"predicted, and y has {num_classes} classes; leave it out"
            )

    def _needs_validation(self) -> str | None:
        if self.calibrate is not None:
            return f"calibrate={self.calibrate!r}"
        return "threshold='tuned'" if self.threshold == "tuned" else None

    def _settle(self, validation: BatchSource | None) -> None:
        self._set_decisions(None)
        if validation is None or self._needs_validation() is None:
            return
        logits, targets, weights = network_outputs(self.network_, validation)
        if self.calibrate is not None:
            before = _brief(self._probabilities(logits), targets)
            temperature = fit_temperature(logits, targets, weights)
            logits = logits / temperature
            after = _brief(self._probabilities(logits), targets)
            self.calibration_ = {"temperature": temperature, "before": before, "after": after}
            self.network_.head.temperature = temperature
        if self.threshold == "tuned":
            self.threshold_ = self.tune(targets, self._probabilities(logits), weights)

    def tune(self, targets: NDArray[Any], probabilities: NDArray[Any], weights: NDArray[Any] | None = None) -> Any:
        """The threshold that is best for `monitor`, or for macro F1 where that is no figure of decisions.

        Args:
            targets: ``[rows]``, the places of the right ones of two classes.
            probabilities: ``[rows, 2]``.
            weights: ``[rows]``, or None.
        """
        figure = self.monitor if self.monitor in DECISION_FIGURES else "macro_f1"
        return tune_threshold(figure, targets, probabilities[:, 1], weights)

    @staticmethod
    def _probabilities(logits: NDArray[Any]) -> NDArray[Any]:
        return torch.from_numpy(logits).double().softmax(-1).numpy()

    def _decisions(self) -> dict[str, Any]:
        """For the bundle."""
        threshold = self.threshold_
        threshold = threshold.tolist() if isinstance(threshold, np.ndarray) else threshold
        return {"threshold": threshold, "calibration": self.calibration_}

    def _restore_decisions(self, metrics: dict[str, Any], network: Any) -> None:
        """Set what `_decisions` gave, in the network too; models of older files have neither."""
        self._set_decisions(metrics.get("threshold"))
        self.calibration_ = metrics.get("calibration")
        if self.calibration_ is not None:
            network.head.temperature = float(self.calibration_["temperature"])

    def _set_decisions(self, threshold: Any) -> None:
        given = None if isinstance(self.threshold, str) else self.threshold
        self.threshold_ = given if threshold is None else threshold
        self.calibration_ = None

    def _decide(self, probabilities: NDArray[Any]) -> NDArray[np.int64]:
        """The place of the class that is predicted of each row."""
        return decide(probabilities, self.threshold_)


def network_outputs(network: Any, batches: BatchSource) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]:
    """What a network says of all rows before anything is decoded, with their targets, and their weights or None."""
    device = next(network.parameters()).device
    outputs, targets, weights = [], [], []
    with torch.inference_mode():
        for batch in batches.epoch(0):
            here = batch if device.type == "cpu" else batch.to(device)
            outputs.append(network(here.values, here.ragged).float().cpu().numpy())
            targets.append(np.asarray(batch.targets))
            weights.append(None if batch.weights is None else batch.weights.numpy())
    weighted = None if weights[0] is None else np.concatenate(weights)
    return np.concatenate(outputs), np.concatenate(targets), weighted


def _brief(probabilities: NDArray[Any], targets: NDArray[Any]) -> dict[str, float]:
    figures = calibration_figures(probabilities, targets)
    return {name: figures[name] for name in ("log_loss", "calibration_error")}


def _check_threshold(threshold: Any) -> None:
    if isinstance(threshold, str):
        if threshold != "tuned":
            guess = nearest(threshold, ("tuned",))
            raise ValueError(
                f"threshold must be 'tuned', a number between 0 and 1, or None; found {threshold!r}.{guess}"
            )
    elif isinstance(threshold, bool) or not isinstance(threshold, (int, float, np.number)) or not 0 < threshold < 1:
        raise ValueError(f"threshold must be 'tuned', a number between 0 and 1, or None; found {threshold!r}")
