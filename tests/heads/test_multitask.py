from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tidegate.heads.multitask import MultiTaskHead, MultiTaskNetwork, TaskHead
from tidegate.kernels.ragged import Ragged, from_batch_major, ragged_from_lengths

NAN = math.nan
LENGTHS = [4, 0, 6, 1]
# Columns: a label of three, a number, a label of two. The second row has a number alone, the last one nothing.
TARGETS = torch.tensor([[0.0, 2.0, 1.0], [NAN, -1.0, NAN], [2.0, NAN, 0.0], [NAN, NAN, NAN]])
TASKS = (TaskHead("topic", 3, 2.0), TaskHead("rating", None, 0.5, mean=1.0, scale=2.0), TaskHead("tone", 2, 3.0))


@dataclass(frozen=True)
class Rows:
    values: Tensor
    ragged: Ragged
    targets: Tensor
    weights: Tensor | None = None


def rows(targets: Tensor, weights: list[float] | None = None) -> Rows:
    ragged = ragged_from_lengths(LENGTHS)
    values = from_batch_major(torch.arange(sum(LENGTHS)), ragged)
    return Rows(values, ragged, targets, None if weights is None else torch.tensor(weights))


def network(**changes: Any) -> MultiTaskNetwork:
    torch.manual_seed(0)
    arguments: dict[str, Any] = {
        "cell": "gru",
        "embedding_size": 6,
        "hidden_size": 5,
        "num_layers": 1,
        "bidirectional": True,
        "pooling": "mean",
        "dropout": 0.0,
        "embedding_dropout": 0.0,
        "word_dropout": 0.0,
    }
    return MultiTaskNetwork(12, TASKS, **{**arguments, **changes}).double()


def by_hand(found: Tensor) -> dict[str, Tensor]:
    """The losses of the targets that are there, from the outputs ``[4, 6]``: of rows 0 and 2, 0 and 1, 0 and 2."""
    standard = (torch.tensor([2.0, -1.0]) - 1.0) / 2.0
    return {
        "topic": functional.cross_entropy(found[[0, 2], :3], torch.tensor([0, 2]), reduction="none"),
        "rating": (found[[0, 1], 3] - standard).square(),
        "tone": functional.cross_entropy(found[[0, 2], 4:], torch.tensor([1, 0]), reduction="none"),
    }


def test_the_loss_is_the_weighted_sum_of_the_tasks_losses() -> None:
    model = network()
    total, count = model.loss(rows(TARGETS))
    outputs = model(rows(TARGETS).values, rows(TARGETS).ragged)
    single = by_hand(outputs)
    expected = 2.0 * single["topic"].sum() + 0.5 * single["rating"].sum() + 3.0 * single["tone"].sum()
    torch.testing.assert_close(total, expected)
    assert count.item() == 4.0
    weighted, count = model.loss(rows(TARGETS, [0.5, 4.0, 2.0, 0.0]))
    first = 2.0 * single["topic"][0] + 0.5 * single["rating"][0] + 3.0 * single["tone"][0]
    third = 2.0 * single["topic"][1] + 3.0 * single["tone"][1]
    torch.testing.assert_close(weighted, 0.5 * first + 4.0 * 0.5 * single["rating"][1] + 2.0 * third)
    assert count.item() == 6.5


def test_gradients_are_the_weighted_sum_of_those_of_the_tasks_alone() -> None:
    def gradients(columns: tuple[int, ...]) -> dict[str, Tensor]:
        model, targets = network(), torch.full_like(TARGETS, NAN)
        targets[:, columns] = TARGETS[:, columns]
        model.loss(rows(targets))[0].backward()
        return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}

    together, alone = gradients((0, 1, 2)), [gradients((column,)) for column in range(3)]
    for name, gradient in together.items():
        torch.testing.assert_close(gradient, sum(one[name] for one in alone))
    # A task's own head learns from its own targets alone, and all of them move the encoder.
    for column, one in enumerate(alone):
        assert all(not one[f"head.heads.{other}.projection.weight"].any() for other in range(3) if other != column)
        assert one[f"head.heads.{column}.projection.weight"].any()
        assert one["embedding.weight"].any()


def test_what_stands_in_place_of_a_missing_target_changes_nothing() -> None:
    model = network()
    outputs = model(rows(TARGETS).values, rows(TARGETS).ragged).detach().requires_grad_()
    losses = model.head.losses(outputs, TARGETS)
    assert losses[3].item() == 0.0
    losses.sum().backward()
    gradient = outputs.grad
    assert gradient is not None and gradient.isfinite().all()
    assert not gradient[3].any() and not gradient[1, [0, 1, 2, 4, 5]].any() and not gradient[2, 3]


def test_learned_weights_are_those_of_kendall_et_al() -> None:
    model = network(learn_weights=True)
    with torch.no_grad():
        model.head.log_variances.copy_(torch.tensor([0.3, -0.7, 1.1]))
    total, _ = model.loss(rows(TARGETS))
    single = by_hand(model(rows(TARGETS).values, rows(TARGETS).ragged))
    sums = [single[name].sum() for name in ("topic", "rating", "tone")]
    factors = [math.exp(-0.3), 0.5 * math.exp(0.7), math.exp(-1.1)]
    # Each of the three tasks has two targets.
    expected = sum(factor * value for factor, value in zip(factors, sums, strict=True)) + (0.3 - 0.7 + 1.1) / 2 * 2
    torch.testing.assert_close(total, expected)
    total.backward()
    # d/ds of exp(-s) l + s/2, and half of it for the squared error.
    slopes = [1.0 - factor * value.item() for factor, value in zip(factors, sums, strict=True)]
    torch.testing.assert_close(model.head.log_variances.grad, torch.tensor(slopes, dtype=torch.float64))
    assert model.head.task_weights() == pytest.approx(dict(zip(("topic", "rating", "tone"), factors, strict=True)))
    model.eval()
    torch.testing.assert_close(model.loss(rows(TARGETS))[0], sum(sums))


def test_metrics_are_over_the_rows_that_have_the_target() -> None:
    model = network().eval()
    batch = rows(TARGETS, [1.0, 3.0, 2.0, 5.0])
    sums, decoded = model.judge(batch)
    outputs = model(batch.values, batch.ragged)
    single = by_hand(outputs)
    assert set(sums) == {"loss"} | {
        f"{task}_{name}"
        for task, names in {
            "topic": ("loss", "accuracy"),
            "rating": ("loss", "mae", "mse"),
            "tone": ("loss", "accuracy"),
        }.items()
        for name in names
    }
    for task, weights in (("topic", [1.0, 2.0]), ("rating", [1.0, 3.0]), ("tone", [1.0, 2.0])):
        total, count = sums[f"{task}_loss"]
        torch.testing.assert_close(total, (single[task] * torch.tensor(weights)).sum())
        assert count.item() == sum(weights)
    numbers = outputs[:, 3] * 2.0 + 1.0
    errors = numbers[:2] - torch.tensor([2.0, -1.0])
    torch.testing.assert_close(sums["rating_mae"][0], (errors.abs() * torch.tensor([1.0, 3.0])).sum())
    torch.testing.assert_close(sums["rating_mse"][0], (errors.square() * torch.tensor([1.0, 3.0])).sum())
    right = outputs[[0, 2], :3].argmax(1) == torch.tensor([0, 2])
    assert sums["topic_accuracy"][0].item() == (right * torch.tensor([1.0, 2.0])).sum().item()
    torch.testing.assert_close(decoded[:, :3], outputs[:, :3].softmax(1))
    torch.testing.assert_close(decoded[:, 3], numbers)
    torch.testing.assert_close(decoded[:, 4:], outputs[:, 4:].softmax(1))
    torch.testing.assert_close(model.decode(batch.values, batch.ragged), decoded)


def test_one_task_is_the_head_of_that_task() -> None:
    from tidegate.heads.classify import ClassificationHead

    torch.manual_seed(3)
    head = MultiTaskHead(4, [TaskHead("topic", 3)], label_smoothing=0.2, focal_gamma=2.0)
    torch.manual_seed(3)
    alone = ClassificationHead(4, 3, label_smoothing=0.2, focal_gamma=2.0)
    pooled, targets = torch.randn(5, 4), torch.tensor([0, 1, 2, 1, 0])
    torch.testing.assert_close(
        head.losses(head(pooled), targets[:, None].float()), alone.losses(alone(pooled), targets)
    )


def test_tasks_without_a_name_of_their_own_are_refused() -> None:
    for tasks in ([], [TaskHead("topic", 3), TaskHead("topic", 2)]):
        with pytest.raises(ValueError, match="one name each"):
            MultiTaskHead(4, tasks)
    with pytest.raises(ValueError, match="at least 2 classes"):
        MultiTaskHead(4, [TaskHead("topic", 1)])
    with pytest.raises(ValueError, match="loss must be one of"):
        MultiTaskHead(4, [TaskHead("rating", None)], regression_loss="square")
