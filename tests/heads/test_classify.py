from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from tidegate.heads.classify import POOLINGS, ClassificationHead, MultiLabelHead, SequenceClassifier
from tidegate.heads.sequence import weighted_sum
from tidegate.kernels.ragged import Ragged, from_batch_major, ragged_from_lengths

LENGTHS = [4, 0, 6, 1]
TARGETS = torch.tensor([0, 2, 1, 0])
ARGUMENTS: dict[str, Any] = {
    "cell": "gru",
    "embedding_size": 6,
    "hidden_size": 5,
    "num_layers": 1,
    "bidirectional": True,
    "pooling": "attention",
    "dropout": 0.0,
    "embedding_dropout": 0.0,
    "label_smoothing": 0.0,
    "word_dropout": 0.0,
}


@dataclass(frozen=True)
class Rows:
    values: Tensor
    ragged: Ragged
    targets: Tensor | None
    weights: Tensor | None = None


def rows(chosen: list[int], weights: list[float] | None = None) -> Rows:
    ids = torch.arange(sum(LENGTHS)).split(LENGTHS)
    ragged = ragged_from_lengths([LENGTHS[row] for row in chosen])
    values = from_batch_major(torch.cat([ids[row] for row in chosen]), ragged)
    return Rows(values, ragged, TARGETS[chosen], None if weights is None else torch.tensor(weights))


def classifier(**changes: Any) -> SequenceClassifier:
    torch.manual_seed(0)
    return SequenceClassifier(12, 3, **{**ARGUMENTS, **changes})


def loss_and_gradients(network: SequenceClassifier, batch: Rows) -> tuple[Tensor, dict[str, Tensor]]:
    network.zero_grad()
    total, count = network.loss(batch)
    loss = total / count
    loss.backward()
    return loss.detach(), {name: parameter.grad.clone() for name, parameter in network.named_parameters()}


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_weight_two_is_the_row_twice_and_weight_zero_its_absence(pooling: str, cell: str) -> None:
    network = classifier(pooling=pooling, cell=cell)
    weighted_loss, weighted = loss_and_gradients(network, rows([0, 1, 2, 3], [2.0, 1.0, 0.0, 1.0]))
    repeated_loss, repeated = loss_and_gradients(network, rows([0, 0, 1, 3]))
    other_loss, _ = loss_and_gradients(network, rows([0, 1, 2, 3]))
    torch.testing.assert_close(weighted_loss, repeated_loss)
    assert abs(weighted_loss - other_loss) > 1e-4
    for name, gradient in weighted.items():
        torch.testing.assert_close(gradient, repeated[name], atol=1e-6, rtol=1e-5, msg=name)


def test_weighted_loss_by_hand() -> None:
    head = ClassificationHead(2, 3)
    logits = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    total, count = head.loss(logits, torch.tensor([0, 2]), torch.tensor([0.5, 3.0]))
    first, second = -torch.log_softmax(logits, -1)[[0, 1], [0, 2]]
    torch.testing.assert_close(total, 0.5 * first + 3 * second)
    assert count == 3.5
    total, count = head.loss(logits, torch.tensor([0, 2]))
    torch.testing.assert_close(total, first + second)
    assert count == 2


def test_smoothed_targets_in_training_by_hand() -> None:
    head = ClassificationHead(2, 3, label_smoothing=0.3)
    logits = torch.tensor([[1.0, 2.0, -1.0], [0.5, 0.0, 3.0]], dtype=torch.float64)
    targets, rates = torch.tensor([1, 0]), torch.tensor([2.0, 0.5])
    logs = logits.log_softmax(-1)
    smoothed = torch.tensor([[0.1, 0.8, 0.1], [0.8, 0.1, 0.1]], dtype=torch.float64)
    total, count = head.loss(logits, targets, rates)
    assert total.item() == pytest.approx((-(smoothed * logs).sum(1) * rates).sum().item())
    assert count.item() == 2.5
    total, _ = head.eval().loss(logits, targets)
    assert total.item() == pytest.approx(-(logs[0, 1] + logs[1, 0]).item())


def test_a_row_of_weight_zero_may_have_any_loss() -> None:
    head = ClassificationHead(2, 2)
    logits = torch.tensor([[0.0, 0.0], [-torch.inf, 0.0]], requires_grad=True)
    total, _ = head.loss(logits, torch.tensor([0, 0]), torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(total, torch.tensor(2.0).log())


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_row_alone_has_the_probabilities_it_has_among_others(pooling: str) -> None:
    network = classifier(pooling=pooling, num_layers=2, dropout=0.5).eval()
    together = network.decode(rows([0, 1, 2, 3]).values, rows([0, 1, 2, 3]).ragged)
    for row in range(4):
        alone = network.decode(rows([row]).values, rows([row]).ragged)
        torch.testing.assert_close(alone[0], together[row], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(together.sum(1), torch.ones(4))
    assert together.std(0).min() > 1e-4


def test_poolings_differ() -> None:
    batch = rows([0, 2])
    outputs = []
    for pooling in POOLINGS:
        network = classifier(pooling=pooling)
        pooled: list[Tensor] = []
        network.head.register_forward_pre_hook(lambda _, inputs, pooled=pooled: pooled.append(inputs[0]))
        network(batch.values, batch.ragged)
        outputs.append(pooled[0])
    for first in range(4):
        for second in range(first):
            assert (outputs[first] - outputs[second]).abs().max() > 1e-3


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_batch_of_empty_rows_has_a_finite_loss_and_gradient(pooling: str) -> None:
    network = classifier(pooling=pooling)
    loss, gradients = loss_and_gradients(network, rows([1, 1]))
    assert loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    assert gradients["head.projection.bias"].abs().sum() > 0.1


def test_measure_counts_weights() -> None:
    network = classifier().eval()
    batch = rows([0, 1, 2, 3], [1.0, 2.0, 0.0, 4.0])
    guesses = network(batch.values, batch.ragged).argmax(-1)
    measured = network.measure(batch)
    right = float((torch.tensor([1.0, 2.0, 0.0, 4.0]) * (guesses == TARGETS)).sum())
    assert [float(value) for value in measured["accuracy"]] == [right, 7.0]
    torch.testing.assert_close(measured["loss"], network.loss(batch))


def test_dropout_rates_act_in_training() -> None:
    batch = rows([0, 2, 3])
    for name in ("dropout", "embedding_dropout", "word_dropout"):
        network = classifier(**{name: 0.5})
        assert not torch.equal(network(batch.values, batch.ragged), network(batch.values, batch.ragged)), name
        network.eval()
        assert torch.equal(network(batch.values, batch.ragged), network(batch.values, batch.ragged)), name


def test_wrong_arguments_say_what_is_legal() -> None:
    with pytest.raises(ValueError, match=r"pooling must be one of last, mean, max, attention; found 'maxx'"):
        classifier(pooling="maxx")
    with pytest.raises(ValueError, match="at least 2 classes; found 1"):
        ClassificationHead(3, 1)
    with pytest.raises(ValueError, match="needs targets"):
        classifier().loss(Rows(rows([0]).values, rows([0]).ragged, None))


# --- focal loss and several labels


def test_the_focal_loss_by_its_equation_in_training_alone() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    targets = torch.tensor([0, 1, 2, 1, 0])
    head = ClassificationHead(4, 3, focal_gamma=2.0)
    probabilities = logits.softmax(1)[torch.arange(5), targets]
    torch.testing.assert_close(
        head.losses(logits, targets), -((1 - probabilities) ** 2) * probabilities.log(), rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(head.eval().losses(logits, targets), -probabilities.log())


def test_several_labels_a_row_by_their_equation() -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    targets = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]], dtype=torch.float64)
    head = MultiLabelHead(4, 3, label_smoothing=0.2, focal_gamma=1.0)
    p = logits.sigmoid()
    plain = -(targets * p.log() + (1 - targets) * (1 - p).log())
    torch.testing.assert_close(head.eval().losses(logits, targets), plain.mean(1))
    wanted = targets * 0.8 + 0.1
    smooth = -(wanted * p.log() + (1 - wanted) * (1 - p).log())
    right = torch.where(targets > 0, p, 1 - p)
    torch.testing.assert_close(
        head.train().losses(logits, targets), (smooth * (1 - right)).mean(1), rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(head.decode(logits), p)
    close = targets * 2 - 1
    close[1, 2] = 3.0
    assert head.measure(close, targets)["accuracy"].tolist() == [1.0, 0.0, 1.0, 1.0]


def test_weights_of_labels_multiply_the_losses_of_rows_that_have_them_in_training_alone() -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(2))
    targets = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]])
    head, plain = MultiLabelHead(4, 3, label_weights=[2.0, 1.0, 0.5]), MultiLabelHead(4, 3)
    weights = torch.tensor([2.0, 1.0, 0.5])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, targets.float(), reduction="none", pos_weight=weights
    )
    torch.testing.assert_close(head.losses(logits, targets), expected.mean(1))
    torch.testing.assert_close(head.eval().losses(logits, targets), plain.losses(logits, targets))
    assert head.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize("kind", [ClassificationHead, MultiLabelHead])
def test_a_temperature_divides_what_is_decoded_and_not_what_is_learned(kind: Any) -> None:
    head = kind(4, 3)
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(2))
    plain = head.decode(logits)
    targets = torch.eye(3)[[0, 2, 1, 1]] if kind is MultiLabelHead else torch.tensor([0, 2, 1, 1])
    losses = head.losses(logits, targets)
    head.temperature = 2.0
    torch.testing.assert_close(head.decode(2 * logits), plain)
    torch.testing.assert_close(head.losses(logits, targets), losses)


def test_a_focal_exponent_below_zero_is_refused() -> None:
    for kind in (ClassificationHead, MultiLabelHead):
        with pytest.raises(ValueError, match="focal_gamma must not be negative; found -1"):
            kind(4, 3, focal_gamma=-1.0)


def test_sums_under_autocast_lose_no_row():
    rows = 301  # which bfloat16, with its 8 bits, cannot count
    head = ClassificationHead(4, 2)
    features, targets = torch.randn(rows, 4), torch.randint(0, 2, (rows,))
    with torch.autocast("cpu", torch.bfloat16):
        logits = head(features)
        total, count = head.loss(logits, targets)
        right, of = weighted_sum(head.measure(logits, targets)["accuracy"], None)
    assert (float(count), float(of)) == (rows, rows)
    assert float(right) == int((logits.argmax(-1) == targets).sum())
    torch.testing.assert_close(
        total, torch.nn.functional.cross_entropy(logits.double(), targets, reduction="sum").float()
    )
