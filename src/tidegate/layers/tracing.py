"""Names for what the kernels hand out of each step: gates, candidates, states."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

__all__ = ["TRACED_NAMES", "name_traces"]

# In the kernels' order.
TRACED_NAMES = {
    "rnn_tanh": ("candidate",),
    "rnn_relu": ("candidate",),
    "lstm": ("input_gate", "forget_gate", "candidate", "output_gate", "cell"),
    "gru": ("reset_gate", "update_gate", "candidate"),
    "gru_reset_before": ("reset_gate", "update_gate", "candidate"),
}


def name_traces(cell: str, gates: Tensor, output: Tensor, suffixes: Sequence[str]) -> dict[str, Tensor]:
    """What one layer handed out, ``[N, H]`` each, by name and suffix: ``update_gate_l0``, ``hidden_l0_reverse``.

    Args:
        cell: One of :data:`tidegate.kernels.CELLS`.
        gates: ``[N, D, G, H]``, as the kernels return them.
        output: ``[N, D*P]``, the states h.
        suffixes: Of the parameters of each direction: ``l0``, ``l0_reverse``.
    """
    traces: dict[str, Tensor] = {}
    for d, (suffix, hidden) in enumerate(zip(suffixes, output.detach().chunk(len(suffixes), -1), strict=True)):
        for name, gate in zip(TRACED_NAMES[cell], gates[:, d].unbind(1), strict=True):
            traces[f"{name}_{suffix}"] = gate
        traces[f"hidden_{suffix}"] = hidden
    return traces
