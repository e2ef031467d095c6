from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import tidegate
from tidegate.layers.time_distributed import TimeDistributed

LENGTHS = torch.tensor([3, 0, 5, 1])


class Watched(nn.Linear):
    """Remembers how many rows it saw, and refuses what is not a number."""

    rows = 0

    def forward(self, input):
        assert torch.isfinite(input).all()
        self.rows += input.shape[0]
        return super().forward(input)


@pytest.mark.parametrize("batch_first", [True, False])
def test_the_module_sees_each_step_and_no_padding(batch_first):
    torch.manual_seed(0)
    head = TimeDistributed(Watched(3, 2), batch_first)
    x = torch.randn(4, 5, 3)
    beyond = torch.arange(5) >= LENGTHS[:, None]
    poisoned = x.masked_fill(beyond[..., None], torch.nan)
    given = (poisoned if batch_first else poisoned.transpose(0, 1)).requires_grad_()
    output = head(given, lengths=LENGTHS)
    assert head.module.rows == 9
    by_row = output if batch_first else output.transpose(0, 1)
    expected = nn.functional.linear(x, head.module.weight, head.module.bias)
    torch.testing.assert_close(by_row[~beyond], expected[~beyond])
    assert (by_row[beyond] == 0).all()
    output.pow(2).sum().backward()
    assert torch.isfinite(head.module.weight.grad).all()
    gradient = given.grad if batch_first else given.grad.transpose(0, 1)
    assert (gradient[beyond] == 0).all() and (gradient[~beyond] != 0).all()


def test_masks_with_holes_packed_unbatched_and_whole_input():
    torch.manual_seed(0)
    head = TimeDistributed(Watched(3, 2), batch_first=True)
    x = torch.randn(4, 5, 3)
    mask = torch.rand(4, 5) < 0.5
    with torch.no_grad():
        whole = head(x)
        torch.testing.assert_close(whole, nn.functional.linear(x, head.module.weight, head.module.bias))
        head.module.rows = 0
        torch.testing.assert_close(head(x, mask=mask), whole * mask[..., None])
        assert head.module.rows == mask.sum()
        torch.testing.assert_close(head(x[0]), whole[0])
        packed = head(pack_padded_sequence(x, [2, 5, 1, 3], batch_first=True, enforce_sorted=False))
        unpacked, lengths = pad_packed_sequence(packed, batch_first=True)
        torch.testing.assert_close(unpacked, whole * (torch.arange(5) < lengths[:, None])[..., None])


def test_steps_of_more_than_one_dimension():
    torch.manual_seed(0)
    images = torch.randn(2, 3, 1, 6, 6)
    head = TimeDistributed(nn.Conv2d(1, 4, 3), batch_first=True)
    output = head(images, lengths=torch.tensor([3, 1]))
    torch.testing.assert_close(output[0], head.module(images[0]))
    torch.testing.assert_close(output[1, :1], head.module(images[1, :1]))
    assert (output[1, 1:] == 0).all()


def test_after_a_recurrent_layer_batch_statistics_are_of_steps_alone():
    torch.manual_seed(0)
    layer = tidegate.GRU(3, 4, bidirectional=True, batch_first=True)
    head = TimeDistributed(nn.BatchNorm1d(8, momentum=1.0), batch_first=True)
    x = torch.randn(4, 5, 3)
    output, _ = layer(x, lengths=LENGTHS)
    head(output, lengths=LENGTHS)
    steps = output[torch.arange(5) < LENGTHS[:, None]]
    torch.testing.assert_close(head.module.running_mean, steps.mean(0))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="a tensor of 4 rows; found tuple"):
        TimeDistributed(nn.GRU(3, 3))(torch.zeros(2, 2, 3))
    with pytest.raises(ValueError, match=r"a tensor of 4 rows; found \(12,\)"):
        TimeDistributed(nn.Flatten(0))(torch.zeros(2, 2, 3))
    with pytest.raises(ValueError, match="each of the 2 rows"):
        TimeDistributed(nn.Linear(3, 3))(torch.zeros(2, 2, 3), lengths=torch.tensor([1]))
    assert repr(TimeDistributed(nn.ReLU(), batch_first=True)).startswith("TimeDistributed(\n  batch_first=True")
