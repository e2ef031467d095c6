"""Optimisers by name, with the arguments that each has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer

from tidegate.errors import nearest

if TYPE_CHECKING:
    from tidegate.training.settings import FitSettings

__all__ = ["AVERAGE_TRIGGER", "OPTIMIZERS", "check_optimizer", "make_optimizer"]

# Which arguments an optimiser has beside learning_rate and weight_decay.
OPTIMIZERS: dict[str, tuple[str, ...]] = {
    "adamw": ("beta1", "beta2", "epsilon"),
    "adam": ("beta1", "beta2", "epsilon"),
    "sgd": ("momentum", "nesterov"),
    "asgd": ("average_trigger",),
    "rmsprop": ("momentum", "beta2", "epsilon"),
    "adagrad": ("epsilon",),
}
AVERAGE_TRIGGER = 5
_UNSET: dict[str, Any] = {
    "momentum": None,
    "nesterov": False,
    "beta1": None,
    "beta2": None,
    "epsilon": None,
    "average_trigger": None,
}


def check_optimizer(settings: FitSettings) -> None:
    """Refuse an optimiser that is not known, and an argument that it does not have or that is out of range.

    Raises:
        ValueError: The message says what is legal.
    """
    name = settings.optimizer
    if name not in OPTIMIZERS:
        raise ValueError(
            f"optimizer must be one of {', '.join(OPTIMIZERS)}; found {name!r}.{nearest(str(name), OPTIMIZERS)}"
        )
    for argument, unset in _UNSET.items():
        value = getattr(settings, argument)
        if value == unset:
            continue
        if argument not in OPTIMIZERS[name]:
            owners = [other for other, legal in OPTIMIZERS.items() if argument in legal]
            raise ValueError(
                f"{argument}={value!r} has no effect with optimizer={name!r}; it belongs to {', '.join(owners)}"
            )
        if argument in ("momentum", "beta1", "beta2") and not 0 <= value < 1:
            raise ValueError(f"{argument} must be in [0, 1); found {value!r}")
        if argument == "epsilon" and not value > 0:
            raise ValueError(f"epsilon must be above 0; found {value!r}")
        if argument == "average_trigger" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise ValueError(f"average_trigger must be a whole number of at least 1; found {value!r}")
    if settings.nesterov and not settings.momentum:
        raise ValueError("nesterov=True needs a momentum above 0")
    if name == "asgd" and settings.ema_decay is not None:
        raise ValueError("optimizer='asgd' keeps an average of its own; remove ema_decay")


def make_optimizer(groups: Iterable[tuple[list[nn.Parameter], float]], settings: FitSettings) -> Optimizer:
    """The optimiser that the settings name.

    ``asgd`` steps as plain SGD; its average is kept by `training.averaging.TriggeredAverage`, which starts it when
    validation stands still, as AWD-LSTM does (Merity et al. 2018).

    Args:
        groups: Parameters, and the factor of their learning rate.
        settings: The name and its arguments.
    """
    rate = settings.learning_rate
    parameters: list[dict[str, Any]] = [{"params": list(members), "lr": rate * scale} for members, scale in groups]
    given: dict[str, Any] = {"lr": rate, "weight_decay": settings.weight_decay}
    if settings.epsilon is not None:
        given["eps"] = settings.epsilon
    # Fused, the step over a table of 30,000 x 128 embeddings takes a sixth of the time of the other forms on a CPU. A
    # fused optimiser undoes float16's scale in its step, where gradients could no longer be clipped.
    fused = {"fused": settings.precision != "float16"}
    match settings.optimizer:
        case "adamw" | "adam":
            first, second = settings.beta1, settings.beta2
            betas = (0.9 if first is None else first, 0.999 if second is None else second)
            kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
            return kind(parameters, betas=betas, **given, **fused)
        case "sgd":
            momentum = settings.momentum or 0.0
            return torch.optim.SGD(parameters, momentum=momentum, nesterov=settings.nesterov, **given, **fused)
        case "asgd":
            return torch.optim.SGD(parameters, **given, **fused)
        case "rmsprop":
            smoothing = 0.99 if settings.beta2 is None else settings.beta2
            return torch.optim.RMSprop(parameters, alpha=smoothing, momentum=settings.momentum or 0.0, **given)
        case _:
            return torch.optim.Adagrad(parameters, **given, **fused)
