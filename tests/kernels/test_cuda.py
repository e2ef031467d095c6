"""PyTorch's operator as a backend: how it is called; where there is a GPU, that it agrees with the reference."""

from __future__ import annotations

import itertools
import warnings

import pytest
import torch

import tidegate
from kernels.recurrence_cases import KINDS, Case
from tidegate import kernels
from tidegate.kernels import cuda

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


@pytest.fixture
def calls(monkeypatch):
    """The arguments of each call of PyTorch's operators."""
    made = []
    for cell, operator in list(cuda._OPERATORS.items()):

        def spy(*args, operator=operator):
            made.append(args)
            return operator(*args)

        monkeypatch.setitem(cuda._OPERATORS, cell, spy)
    return made


@pytest.mark.parametrize("cell", ["rnn_tanh", "rnn_relu", "lstm", "gru"])
def test_cudnn_keeps_what_its_backward_pass_needs_only_where_there_is_one(cell, calls):
    case = Case(cell, [3, 0, 2], 4, directions=2)
    case.call("torch")
    with torch.no_grad():
        case.call("torch")
    case.call("torch", *(leaf.detach() for leaf in case.leaves))
    assert [args[-2] for args in calls] == [True, False, False]
    # No dropout stands behind that switch.
    assert {args[-3] for args in calls} == {0.0}


def test_on_meta_it_refuses():
    layer = tidegate.GRU(3, 4, device="meta")
    x = torch.empty(5, 2, 3, device="meta")
    assert layer(x)[0].shape == (5, 2, 4)
    assert "tensors on meta" in (cuda.refusal("gru", (), "meta") or "")
    assert cuda.refusal("gru", (), "cuda") is None


def test_what_the_layers_add_outside_the_kernels_leaves_cudnn_its_work(monkeypatch):
    """Merges, residual connections, masks and dropped weights are none of the kernel's extras."""
    seen = []
    original = kernels.choose_backend

    def spy(cell, device, dtype, extras=()):
        seen.append(original(cell, "cuda", dtype, extras))
        return original(cell, device, dtype, extras)

    monkeypatch.setattr(kernels, "choose_backend", spy)
    x = torch.randn(5, 2, 3)
    more = {"merge": "sum", "residual": True, "weight_dropout": 0.5, "init": "chrono:9"}
    tidegate.LSTM(3, [4, 4], bidirectional=True, **more)(x, mask=torch.rand(5, 2) < 0.5)
    tidegate.LSTM(3, 4, proj_size=2)(x, lengths=torch.tensor([3, 0]))
    assert seen == ["torch"] * 3
    tidegate.GRU(3, 4, layer_norm=True)(x)
    tidegate.GRU(3, 4).trace(x)
    assert seen[3:] == ["reference"] * 2


def on_gpu(case: Case) -> Case:
    moved = Case.__new__(Case)
    moved.__dict__.update(case.__dict__)
    moved.ragged = case.ragged.to("cuda")
    options = {
        name: value.cuda() if isinstance(value, torch.Tensor) else value for name, value in vars(case.options).items()
    }
    moved.options = kernels.Options(**options)
    return moved


def check_on_gpu(cell: str, option: str, directions: int) -> None:
    case = Case(cell, [5, 3, 5, 0, 1, 9], 17, option=option, directions=directions)
    expected = case.call("reference")
    loss = sum((t * torch.arange(t.numel()).view(t.shape).cos()).sum() for t in expected)
    gradients = torch.autograd.grad(loss, case.leaves)
    leaves = [leaf.detach().cuda().requires_grad_() for leaf in case.leaves]
    for backend in [None, "reference"]:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = on_gpu(case).call(backend, *leaves)
        loss = sum((t * torch.arange(t.numel(), device="cuda").view(t.shape).cos()).sum() for t in found)
        for a, b in zip([*found, *torch.autograd.grad(loss, leaves)], [*expected, *gradients], strict=True):
            torch.testing.assert_close(a.cpu(), b, msg=lambda text: f"{cell}, {option}, {directions}: {text}")


@needs_gpu
def test_on_a_gpu_values_and_gradients_are_the_references():
    for (cell, option), directions in itertools.product(KINDS, (1, 2)):
        check_on_gpu(cell, option, directions)


@needs_gpu
def test_layers_on_a_gpu_are_those_on_a_cpu():
    for kind in (tidegate.RNN, tidegate.LSTM, tidegate.GRU):
        torch.manual_seed(0)
        layer = kind(3, [5, 6], bidirectional=True, residual=True, batch_first=True).double()
        x, mask = torch.randn(4, 7, 3).double(), torch.rand(4, 7) < 0.6
        expected = layer(x, mask=mask)[0]
        layer.cuda()
        # Lengths and masks may lie on either device.
        torch.testing.assert_close(layer(x.cuda(), mask=mask)[0].cpu(), expected)
        torch.testing.assert_close(layer(x.cuda(), mask=mask.cuda())[0].cpu(), expected)
