from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tidegate.heads.ordinal import OrdinalHead


def make_head(**changes: object) -> OrdinalHead:
    torch.manual_seed(0)
    arguments: dict[str, object] = {"levels": [1.0, 2.0, 3.0, 5.0], "counts": [3, 1, 4, 2], **changes}
    return OrdinalHead(3, **arguments).eval()  # pyright: ignore[reportArgumentType]


def test_thresholds_start_at_the_cumulative_shares() -> None:
    head = make_head()
    shares = torch.sigmoid(head.thresholds.detach())
    np.testing.assert_allclose(shares, [0.3, 0.4, 0.8], atol=1e-6)
    equal = torch.sigmoid(make_head(counts=None).thresholds.detach())
    np.testing.assert_allclose(equal, [0.25, 0.5, 0.75], atol=1e-6)


def test_losses_are_the_likelihood_of_the_levels_by_its_definition() -> None:
    head = make_head()
    outputs, targets = torch.tensor([-2.0, 0.3, 1.0, 4.0]), torch.tensor([1.0, 5.0, 3.0, 2.0])
    thresholds = [-math.inf, *head.thresholds.tolist(), math.inf]

    def probability(score: float, place: int) -> float:
        def below(threshold: float) -> float:
            return 0.0 if threshold == -math.inf else 1 / (1 + math.exp(-(threshold - score)))

        return below(thresholds[place + 1]) - below(thresholds[place])

    expected = [[probability(score, place) for place in range(4)] for score in outputs.tolist()]
    found = head.probabilities(outputs).detach()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    right = [expected[row][place] for row, place in enumerate([0, 3, 2, 1])]
    np.testing.assert_allclose(head.losses(outputs, targets).detach(), -np.log(right), rtol=1e-4)


def test_the_decoded_level_is_the_median_and_measures_are_in_its_units() -> None:
    head = make_head()
    outputs, targets = torch.tensor([-9.0, -0.6, 0.9, 9.0]), torch.tensor([1.0, 5.0, 3.0, 2.0])
    levels = np.array([1.0, 2.0, 3.0, 5.0])
    cumulative = head.probabilities(outputs).detach().cumsum(1).numpy()
    expected = levels[(cumulative < 0.5).sum(1)]
    assert head.decode(outputs).tolist() == expected.tolist() == [1.0, 2.0, 3.0, 5.0]
    measured = head.measure(outputs, targets)
    assert measured["accuracy"].tolist() == [1.0, 0.0, 1.0, 0.0]
    assert measured["mae"].tolist() == [0.0, 3.0, 0.0, 3.0]
    assert measured["mse"].tolist() == [0.0, 9.0, 0.0, 9.0]


def test_far_scores_have_finite_losses_and_gradients() -> None:
    head = make_head()
    outputs = torch.tensor([-80.0, 80.0, 80.0], requires_grad=True)
    losses = head.losses(outputs, torch.tensor([5.0, 1.0, 2.0]))
    assert losses.tolist() == pytest.approx([80.0, 80.0, 80.0], abs=5)
    losses.sum().backward()
    assert outputs.grad is not None
    assert outputs.grad.tolist() == pytest.approx([-1.0, 1.0, 1.0])


def test_gradients_are_those_of_the_definition_in_double_precision() -> None:
    head = make_head().double()
    outputs = torch.linspace(-2, 2, 8, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([1.0, 2.0, 3.0, 5.0] * 2)
    torch.autograd.gradcheck(lambda scores: head._log_probabilities(scores), [outputs])
    losses = head.losses(outputs, targets)
    assert losses.shape == (8,)


@pytest.mark.parametrize("levels", [[1.0], [2.0, 2.0], [3.0, 1.0]])
def test_levels_that_do_not_rise_are_refused(levels: list[float]) -> None:
    with pytest.raises(ValueError, match="must be at least 2, each above the one before; found"):
        OrdinalHead(3, levels)
