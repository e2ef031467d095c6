from __future__ import annotations

import torch

from tidegate.kernels.ragged import from_batch_major, ragged_from_lengths, to_batch_major
from tidegate.layers.language_states import LanguageStates
from tidegate.layers.two_way import TwoWayStack


def make(bidirectional: bool = True) -> tuple[LanguageStates, TwoWayStack]:
    torch.manual_seed(0)
    states = LanguageStates(9, cell="gru", size=4, num_layers=2, bidirectional=bidirectional)
    learned = TwoWayStack("gru", 4, 4, 2, bidirectional)
    found = {f"encoder.{name}": tensor for name, tensor in learned.state_dict().items()}
    states.load_state_dict({**states.state_dict(), **found, "table": torch.randn(9, 4)})
    return states, learned


def test_the_features_are_the_mixture_of_the_papers_first_equation():
    for bidirectional in (True, False):
        states, learned = make(bidirectional)
        ragged = ragged_from_lengths(torch.tensor([2, 4, 1]))
        ids = from_batch_major(torch.tensor([3, 1, 8, 0, 5, 5, 2]), ragged)
        with torch.no_grad():
            states.mix.copy_(torch.tensor([0.3, -1.0, 0.8]))
            states.scale.fill_(1.7)
        table = states.get_buffer("table")[ids]
        first, second = learned.layer_outputs(table, ragged)
        h_0 = torch.cat([table, table], 1) if bidirectional else table
        s = torch.tensor([0.3, -1.0, 0.8]).exp()
        s = s / s.sum()
        expected = 1.7 * (s[0] * h_0 + s[1] * first + s[2] * second)
        torch.testing.assert_close(states(ids, ragged), expected)
        assert states.output_size == expected.shape[1]


def test_only_the_mixture_learns_and_a_row_does_not_see_another():
    states, _ = make()
    assert {name for name, _ in states.named_parameters()} == {"mix", "scale"}
    ragged = ragged_from_lengths(torch.tensor([2, 4]))
    ids = from_batch_major(torch.tensor([3, 1, 8, 0, 5, 5]), ragged)
    states(ids, ragged).square().sum().backward()
    assert states.mix.grad is not None and states.mix.grad.abs().min() > 0
    assert states.scale.grad is not None and states.scale.grad != 0
    together = to_batch_major(states(ids, ragged), ragged)[:2]
    torch.testing.assert_close(together, states(torch.tensor([3, 1]), ragged_from_lengths(torch.tensor([2]))))
