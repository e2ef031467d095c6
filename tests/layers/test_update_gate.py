"""The two signs of the update gate, against a loop that has the other one."""

from __future__ import annotations

import pytest
import torch

import tidegate
from tidegate.layers.update_gate import negate_update_gate_


def other_sign(layer, x, h):
    """h = (1 - z) h + z n, as Chung et al. 2014 write it."""
    for step in x:
        r, z, n = (layer.weight_ih_l0 @ step + layer.bias_ih_l0).chunk(3)
        h_r, h_z, h_n = (layer.weight_hh_l0 @ h + layer.bias_hh_l0).chunk(3)
        r, z = torch.sigmoid(r + h_r), torch.sigmoid(z + h_z)
        h = (1 - z) * h + z * torch.tanh(n + r * h_n)
    return h


def test_a_papers_weights_become_ours():
    torch.manual_seed(0)
    layer = tidegate.GRU(3, 4, dtype=torch.float64)
    x, h = torch.randn(5, 3, dtype=torch.float64), torch.randn(1, 4, dtype=torch.float64)
    expected = other_sign(layer, x, h[0])
    assert not torch.allclose(layer(x, h)[1][0], expected)
    negate_update_gate_(layer)
    torch.testing.assert_close(layer(x, h)[1][0], expected)
    theirs = torch.nn.GRU(3, 4, dtype=torch.float64)
    theirs.load_state_dict(layer.state_dict())
    negate_update_gate_(theirs)
    negate_update_gate_(layer)
    for name, value in layer.state_dict().items():
        assert torch.equal(theirs.state_dict()[name], value)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_layers": 2, "bidirectional": True, "residual": True},
        {"bias": False, "reset_after": False},
        {"layer_norm": True},
        {"layer_norm": True, "reset_after": False},
    ],
    ids=str,
)
def test_every_update_gate_is_one_minus_what_it_was(options):
    torch.manual_seed(1)
    layer = tidegate.GRU(3, 4, dtype=torch.float64, **options)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn_like(parameter))
    x = torch.randn(1, 2, 3, dtype=torch.float64)  # one step: the states before it are the same
    before = layer.trace(x)
    negate_update_gate_(layer)
    after = layer.trace(x)
    for suffix in ("l0", "l0_reverse")[: layer.num_directions]:
        torch.testing.assert_close(after[f"update_gate_{suffix}"], 1 - before[f"update_gate_{suffix}"])
        for name in ("reset_gate", "candidate"):
            torch.testing.assert_close(after[f"{name}_{suffix}"], before[f"{name}_{suffix}"])


def test_it_is_a_public_name():
    assert tidegate.negate_update_gate_ is negate_update_gate_
