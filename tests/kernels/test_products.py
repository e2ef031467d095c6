from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from tidegate.kernels.products import linear, rows_times, sum_over_rows

ROWS = [0, 1, 31, 32, 33, 255, 256, 257, 700, 8191, 8192, 8193, 9500]


@pytest.fixture
def tensors() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(9500, 24), torch.randn(24, 40), torch.randn(9500, 40)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", ROWS)
def test_products_in_blocks_are_the_products(rows: int, dtype: torch.dtype, tensors: tuple[torch.Tensor, ...]) -> None:
    x, weight, other = (tensor.to(dtype) for tensor in tensors)
    x, other = x[:rows], other[:rows]
    exact = x.double() @ weight.double()
    close = {"rtol": 1e-2, "atol": 2e-2} if dtype is torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-4}
    torch.testing.assert_close(rows_times(x, weight).double(), exact, **close)
    out = torch.full((rows, 100), 7.0, dtype=dtype)
    assert rows_times(x, weight, out=out[:, 10:50]).data_ptr() == out[:, 10:50].data_ptr()
    torch.testing.assert_close(out[:, 10:50].double(), exact, **close)
    assert (out[:, :10] == 7).all()
    assert (out[:, 50:] == 7).all()
    added = rows_times(x, weight, added=other)
    torch.testing.assert_close(added.double(), exact + other.double(), **close)
    summed = sum_over_rows(x, other)
    exact = x.double().t() @ other.double()
    assert (summed.double() - exact).abs().max() <= 1e-2 * max(1.0, float(exact.abs().max()))


@pytest.mark.parametrize("rows", [1, 40, 256, 600])
def test_a_linear_map_under_autocast_and_its_gradients(rows: int, tensors: tuple[torch.Tensor, ...]) -> None:
    values, weight, grads = tensors[0][:rows], tensors[1].t().contiguous(), tensors[2][:rows]
    bias = torch.linspace(-1, 1, 40)
    found = []
    for apply in (linear, functional.linear):
        leaves = [tensor.clone().requires_grad_() for tensor in (values, weight, bias)]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = apply(*leaves)
        output.backward(grads.to(output.dtype))
        found.append([output, *(leaf.grad for leaf in leaves)])
    for ours, theirs in zip(*found, strict=True):
        assert ours.dtype == theirs.dtype
        assert (ours - theirs).abs().max() <= 1e-2 * max(1.0, float(theirs.detach().abs().max()))
    assert linear(values, weight).dtype == torch.float32


def test_batches_of_any_length_share_a_few_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = set()
    plain = torch.mm

    def recorded(a: torch.Tensor, b: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
        shapes.add(tuple(a.shape))
        return plain(a, b, out=out)

    monkeypatch.setattr(torch, "mm", recorded)
    weight = torch.zeros(2, 1, dtype=torch.bfloat16)
    for rows in range(1, 30000, 7):
        rows_times(torch.zeros(rows, 2, dtype=torch.bfloat16), weight)
    assert len(shapes) < 70
    shapes.clear()
    rows_times(torch.zeros(1001, 2), weight.float())  # MKL compiles nothing
    assert shapes == {(1001, 2)}
