"""The parts of a network from its input to its output: which of them learn, and how fast."""

from __future__ import annotations

from torch import nn

from tidegate.training.settings import FitSettings

__all__ = ["learning_parts", "network_parts", "parameter_groups"]


def network_parts(network: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of the embedding, of each recurrent layer, and of all that stands above them."""
    embedding = getattr(network, "embedding", None)
    layers = list(getattr(getattr(network, "encoder", None), "layers", []))
    below = [list(module.parameters()) for module in [*([] if embedding is None else [embedding]), *layers]]
    seen = {id(parameter) for part in below for parameter in part}
    top = [parameter for parameter in network.parameters() if id(parameter) not in seen]
    return [part for part in [*below, top] if part]


def parameter_groups(network: nn.Module, settings: FitSettings) -> list[tuple[list[nn.Parameter], float]]:
    """Parameters, and the factor of their learning rate: ``layer_rate_decay`` to the power of the parts above."""
    if settings.layer_rate_decay == 1:
        return [(list(network.parameters()), 1.0)]
    parts = network_parts(network)
    top = len(parts) - 1
    return [(part, settings.layer_rate_decay ** (top - depth)) for depth, part in enumerate(parts)]


def learning_parts(network: nn.Module, settings: FitSettings, epoch: int) -> None:
    """Let those parts of a network learn that do so in an epoch, counted from 0, and let the others rest."""
    if settings.frozen is None and settings.unfreeze_every is None:
        return
    parts = network_parts(network)
    resting = {None: 0, "embedding": 1, "encoder": len(parts) - 1}[settings.frozen]
    if settings.unfreeze_every is not None:
        resting = max(resting, len(parts) - 1 - epoch // settings.unfreeze_every)
    for depth, part in enumerate(parts):
        for parameter in part:
            parameter.requires_grad_(depth >= resting)
            if depth < resting:
                # What an optimiser finds, it would move by its momentum.
                parameter.grad = None
