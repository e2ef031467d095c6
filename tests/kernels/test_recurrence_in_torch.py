"""The native recurrences as citizens of PyTorch: derivatives, registration, transforms, autocast, memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from kernels.recurrence_cases import EXTREMES, KINDS, Case, RecordedOps, assert_all_close
from tidegate import kernels
from tidegate.kernels import Weights


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_derivatives_against_finite_differences(kind):
    case = Case(kind[0], [3, 0, 2], 4, option=kind[1], directions=2, features=3)
    torch.manual_seed(0)
    leaves = tuple(case.leaves)
    assert torch.autograd.gradcheck(lambda *given: case.call("native", *given), leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda *given: case.call("native", *given), leaves, fast_mode=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_every_derivative_against_finite_differences(kind):
    case = Case(kind[0], [3, 0, 2], 3, option=kind[1], directions=2, features=2)
    leaves = tuple(case.leaves)
    assert torch.autograd.gradcheck(lambda *given: case.call("native", *given), leaves)
    assert torch.autograd.gradgradcheck(lambda *given: case.call("native", *given), leaves)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", EXTREMES, ids="-".join)
def test_ops_are_registered_right(kind, dtype):
    case = Case(kind[0], [3, 1, 2], 5, option=kind[1], directions=2, dtype=dtype)
    with RecordedOps() as recorded:
        case.run("native")
    assert len(recorded.calls) >= 2  # forward and backward
    for call in recorded.calls:
        detached = tuple(arg.detach() if isinstance(arg, Tensor) else arg for arg in call.args)
        tests = ("test_schema", "test_faketensor", "test_autograd_registration")
        torch.library.opcheck(call.func, detached, call.kwargs, test_utils=tests)


def test_the_op_of_the_layout_is_registered_right():
    torch.library.opcheck(torch.ops.tidegate.ragged_layout.default, (torch.tensor([2, 0, 3]), 4))


@pytest.mark.parametrize("kind", EXTREMES, ids="-".join)
def test_inference_keeps_nothing_for_a_backward_pass(kind):
    case = Case(kind[0], [4, 2], 8, option=kind[1])
    with torch.no_grad(), RecordedOps() as recorded:
        results = case.call("native")
    *_, walk = recorded.calls
    assert sum(made.numel() for made in walk.results) == sum(result.numel() for result in results)


TORCH = {"rnn_tanh": nn.RNN, "rnn_relu": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU, "gru_reset_before": nn.GRU}


def saved_bytes(function, given: list[Tensor]) -> int:
    """Bytes that are kept for the backward pass beside what was given."""
    storages: dict[int, int] = {}
    kept = []  # so that no address is used twice

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        kept.append(function())
    own = {tensor.untyped_storage().data_ptr() for tensor in given}
    return sum(size for address, size in storages.items() if address not in own)


@pytest.mark.parametrize("lengths", [[20] * 8, [20, 3, 17, 9, 20, 1, 12, 6]], ids=["full", "ragged"])
@pytest.mark.parametrize("cell", TORCH)
def test_saves_no_more_for_the_backward_pass_than_torch(cell, lengths):
    case = Case(cell, lengths, 32, features=16, dtype=torch.float32)
    layer = TORCH[cell](16, 32)
    packed = nn.utils.rnn.PackedSequence(case.x, case.ragged.batch_sizes)
    hx = case.h_0 if case.c_0 is None else (case.h_0, case.c_0)
    ours = saved_bytes(lambda: case.call("native"), [*case.leaves, case.ragged.batch_sizes])
    assert 0 < ours <= saved_bytes(lambda: layer(packed, hx), [*case.leaves, *layer.parameters()])


@pytest.mark.parametrize("kind", EXTREMES, ids="-".join)
def test_vmap_maps_inputs_and_states(kind):
    case = Case(kind[0], [3, 1, 2], 6, option=kind[1], directions=2)
    generator = torch.Generator().manual_seed(1)
    xs = torch.randn(4, *case.x.shape, generator=generator).double()
    h_0s = torch.randn(*case.h_0.shape, 4, generator=generator).double()

    def call(x: Tensor, h_0: Tensor) -> tuple[Tensor, ...]:
        return case.part(x=x, h_0=h_0).call("native")

    found = torch.vmap(call, in_dims=(0, -1))(xs, h_0s)
    for i in range(4):
        for a, b in zip(found, call(xs[i], h_0s[..., i].contiguous()), strict=True):
            torch.testing.assert_close(a[i], b)


@pytest.mark.parametrize("kind", EXTREMES, ids="-".join)
def test_gradients_of_each_sample_by_vmap(kind):
    case = Case(kind[0], [3, 1, 2], 6, option=kind[1], directions=2)
    xs = torch.randn(4, *case.x.shape, generator=torch.Generator().manual_seed(1)).double()
    weights = [leaf.detach() for leaf in case.leaves[1:]]

    def loss(weights: list[Tensor], x: Tensor) -> Tensor:
        return case.loss(case.call("native", x, *weights))

    found = torch.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, xs)
    for i, x in enumerate(xs):
        for a, b in zip(found, torch.func.grad(loss)(weights, x), strict=True):
            torch.testing.assert_close(a[i], b)


def test_vmap_refuses_weights():
    case = Case("gru", [3, 1, 2], 6)
    stacked = torch.stack([case.weights[0].weight_hh.detach()] * 2)

    def call(weight_hh: Tensor) -> tuple[Tensor, ...]:
        return case.part(weights=[case.weights[0]._replace(weight_hh=weight_hh)]).call("native")

    with pytest.raises(ValueError, match="vmap over weights or lengths is not supported"):
        torch.vmap(call)(stacked)


# Dynamo itself instantiates autograd Functions.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("kind", EXTREMES, ids="-".join)
def test_compiles_whole_forward_and_backward(kind):
    case = Case(kind[0], [3, 6, 0, 2], 5, option=kind[1], directions=2, features=3)

    def loss(*leaves: Tensor) -> Tensor:
        return case.loss(case.call(None, *leaves))

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")(*case.leaves)
    assert_all_close(
        [compiled, *torch.autograd.grad(compiled, case.leaves)],
        [loss(*case.leaves), *torch.autograd.grad(loss(*case.leaves), case.leaves)],
        1e-12,
    )
    torch._dynamo.reset()


@pytest.mark.parametrize("kind", EXTREMES, ids="-".join)
def test_autocast_gives_bfloat16_close_to_float32(kind):
    """Outputs and last states of autocast's type, as torch.nn.LSTM's and RNN's are; gradients of the parameters'."""
    case = Case(kind[0], [5, 3, 5, 0, 2], 17, option=kind[1], directions=2, dtype=torch.float32)
    expected = case.run("reference")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        results = case.call("native")
    grads = torch.autograd.grad(case.loss([result.float() for result in results]), case.leaves)
    assert all(result.dtype == torch.bfloat16 for result in results)
    assert all(gradient.dtype == torch.float32 for gradient in grads)
    found = [*(result.float() for result in results), *grads]
    # Rounding carries some inputs of a ReLU over its kink, where the gradient jumps.
    assert_all_close(found, expected, 0.3 if case.cell == "rnn_relu" else 6e-2, on_average=case.cell == "rnn_relu")


@pytest.mark.parametrize("cell", kernels.CELLS)
def test_the_meta_device_has_shapes_alone(cell):
    case = Case(cell, [3, 2], 4, directions=2)

    def to_meta(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.to("meta")

    twin = case.part(
        x=to_meta(case.x),
        h_0=to_meta(case.h_0),
        c_0=to_meta(case.c_0),
        weights=[Weights(*map(to_meta, w)) for w in case.weights],
        ragged=case.ragged.to("meta"),
    )
    for found, expected in zip(twin.call(None), case.call("native"), strict=True):
        assert found.device.type == "meta"
        assert found.shape == expected.shape and found.dtype == expected.dtype
