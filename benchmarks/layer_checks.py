"""What recurrent layers are tried on: each check returns where the layer of a library can do it, and raises else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import tidegate

CELLS = ("RNN", "LSTM", "GRU")
LENGTHS = torch.tensor([3, 5, 1])


class Library:
    """One of the two, and its way to sequences of different lengths."""

    def __init__(self, name: str, module: Any) -> None:
        self.name, self._module = name, module

    def make(self, cell: str, *args: Any, **options: Any) -> Any:
        torch.manual_seed(0)
        if not args and "input_size" not in options:
            args = (3, 4)
        return getattr(self._module, cell)(*args, **options)

    def run_lengths(self, layer: Any, x: Tensor, lengths: Tensor) -> tuple[Tensor, Any]:
        """``[T, B, I]`` and lengths to ``[T, B, H]``, zeros beyond, and the last states."""
        if self.name == "tidegate":
            return layer(x, lengths=lengths)
        packed, last = layer(pack_padded_sequence(x, lengths, enforce_sorted=False))
        return pad_packed_sequence(packed, total_length=x.shape[0])[0], last


LIBRARIES = (Library("tidegate", tidegate), Library("torch.nn", nn))


def flat(result: Any) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else [tensor for part in result for tensor in flat(part)]


def expect_equal(found: Any, expected: Any, tolerance: float = 1e-5) -> None:
    for a, b in zip(flat(found), flat(expected), strict=True):
        torch.testing.assert_close(a.to(b.dtype), b, rtol=tolerance, atol=tolerance)


def expect_other(a: Tensor, b: Tensor) -> None:
    if torch.equal(a, b):
        raise AssertionError("the option changes nothing")


def inputs(rows: int = 3) -> Tensor:
    return torch.randn(5, rows, 3, generator=torch.Generator().manual_seed(1))


def gradients(loss: Tensor, layer: Any) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(layer.parameters())))


def compiles(library: Library, cell: str, with_lengths: bool = False) -> None:
    layer, x = library.make(cell), inputs()

    def loss(x: Tensor) -> Tensor:
        output, _ = library.run_lengths(layer, x, LENGTHS) if with_lengths else layer(x)
        return output.pow(2).sum()

    try:
        expected, found = loss(x), torch.compile(loss, fullgraph=True, backend="aot_eager")(x)
        expect_equal([found, *gradients(found, layer)], [expected, *gradients(expected, layer)], 1e-4)
    finally:
        torch._dynamo.reset()


def compiles_where_allowed(library: Library, cell: str) -> None:
    """With the setting that dynamo's refusal of torch.nn's layers names."""
    with torch._dynamo.config.patch(allow_rnn=True):
        compiles(library, cell)


def exports(library: Library, cell: str, with_lengths: bool = False) -> None:
    layer = library.make(cell).eval()

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor, lengths: Tensor) -> Any:
            return library.run_lengths(self.layer, x, lengths) if with_lengths else self.layer(x)

    program = torch.export.export(Model(), (inputs(), LENGTHS))
    expect_equal(program.module()(inputs(), LENGTHS), Model()(inputs(), LENGTHS))


def per_sample_gradients(library: Library, cell: str) -> None:
    layer, xs = library.make(cell), torch.stack([inputs(1), 2 * inputs(1)])
    parameters = dict(layer.named_parameters())

    def loss(parameters: Any, x: Tensor) -> Tensor:
        return functional_call(layer, parameters, (x,))[0].pow(2).sum()

    found = vmap(grad(loss), in_dims=(None, 0))(parameters, xs)
    for i, x in enumerate(xs):
        alone = torch.autograd.grad(loss(parameters, x), list(parameters.values()))
        expect_equal([found[name][i] for name in parameters], list(alone))


def calls_functionally(library: Library, cell: str) -> None:
    layer, other = library.make(cell), library.make(cell)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(2)
    expect_equal(functional_call(layer, dict(other.named_parameters()), (inputs(),)), other(inputs()))


def differentiates_twice(library: Library, cell: str) -> None:
    layer = library.make(cell).double()
    x = inputs(1)[:3].double().requires_grad_()
    if not torch.autograd.gradgradcheck(lambda x: layer(x)[0], (x,)):
        raise AssertionError("second derivatives are wrong")


def autocasts(library: Library, cell: str) -> None:
    layer = library.make(cell)
    expected = flat(layer(inputs()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = flat(layer(inputs()))
    if found[0].dtype != torch.bfloat16:
        raise AssertionError(f"the output is {found[0].dtype} under autocast to bfloat16")
    found[0].float().sum().backward()
    expect_equal(found, expected, 0.05)


def computes_in(dtype: torch.dtype) -> Callable[[Library, str], None]:
    def check(library: Library, cell: str) -> None:
        layer = library.make(cell)
        expected = flat(layer(inputs()))
        found = flat(layer.to(dtype)(inputs().to(dtype)))
        found[0].float().sum().backward()
        expect_equal(found, expected, 0.05)

    return check


def copies(way: Callable[[Any], Any]) -> Callable[[Library, str], None]:
    def check(library: Library, cell: str) -> None:
        layer = library.make(cell)
        expect_equal(way(layer)(inputs()), layer(inputs()))

    return check


def exchanges_state_dicts(library: Library, cell: str) -> None:
    ours, theirs = (lib.make(cell, 3, 4, 2, bidirectional=True) for lib in LIBRARIES)
    target, source = (ours, theirs) if library.name == "tidegate" else (theirs, ours)
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.mul_(1.5)
    target.load_state_dict(source.state_dict())
    expect_equal(target(inputs()), source(inputs()))


def runs_on_meta(library: Library, cell: str) -> None:
    found = flat(library.make(cell, 3, 4, device="meta")(inputs().to("meta")))
    expected = flat(library.make(cell)(inputs()))
    if [t.shape for t in found] != [t.shape for t in expected] or found[0].device.type != "meta":
        raise AssertionError("other shapes than on a CPU")


def takes_lengths(dtype: torch.dtype, lengths: Tensor = LENGTHS) -> Callable[[Library, str], None]:
    def check(library: Library, cell: str) -> None:
        layer, x = library.make(cell, 3, 4, 1, bidirectional=True), inputs()
        output, _ = library.run_lengths(layer, x, lengths.to(dtype))
        for row, length in enumerate(lengths.tolist()):
            if length:
                expect_equal(output[:length, row], layer(x[:length, row])[0])

    return check


def takes_lengths_on_the_device(library: Library, cell: str) -> None:
    """On meta, since there need be no GPU: what matters is that nobody asks for lengths on the CPU."""
    layer = library.make(cell, 3, 4, device="meta")
    try:
        library.run_lengths(layer, inputs().to("meta"), LENGTHS.to("meta"))
    except RuntimeError as error:
        if "CPU" in str(error) and "lengths" in str(error):
            raise


def takes_masks(library: Library, cell: str) -> None:
    layer, x = library.make(cell), inputs(1)
    mask = torch.tensor([True, False, True, True, False])[:, None]
    output, _ = layer(x, mask=mask)
    expect_equal(output[mask[:, 0]], layer(x[mask[:, 0]])[0])
    expect_equal(output[1], output[0])


def unbatched(library: Library, cell: str) -> None:
    layer = library.make(cell)
    expect_equal(layer(inputs(1)[:, 0])[0], layer(inputs(1))[0][:, 0])


def steps(library: Library, cell: str) -> None:
    layer, x, state, outputs = library.make(cell, 3, 4, 2), inputs(), None, []
    for x_t in x:
        output, state = layer.step(x_t, state)
        outputs.append(output)
    expect_equal(torch.stack(outputs), layer(x)[0])


def chunks(library: Library, cell: str) -> None:
    layer, x = library.make(cell, 3, 4, 2), inputs()
    first, state = layer(x[:2])
    expect_equal(torch.cat([first, layer(x[2:], state)[0]]), layer(x)[0])


def traces(library: Library, cell: str) -> None:
    layer = library.make(cell)
    expect_equal(layer.trace(inputs())["hidden_l0"], layer(inputs())[0])


def has(training: bool = False, **options: Any) -> Callable[[Library, str], None]:
    """An option that changes the output of a layer with the same parameters."""

    def check(library: Library, cell: str) -> None:
        form = {} if "hidden_size" in options else {"num_layers": 2}
        layer = library.make(cell, **({"input_size": 3, "hidden_size": 4} | form | options)).train(training)
        if "hidden_size" in options or options.get("init"):
            layer(inputs())
            return
        plain = library.make(cell, 3, 4, **form).train(training)
        plain.load_state_dict(layer.state_dict(), strict=False)
        if options.get("learn_initial_state"):
            with torch.no_grad():
                layer.h_0_l0.fill_(1)
        expect_other(layer(inputs())[0], plain(inputs())[0])

    return check


def merges(way: str) -> Callable[[Library, str], None]:
    def check(library: Library, cell: str) -> None:
        layer = library.make(cell, 3, 4, bidirectional=True, merge=way)
        plain = library.make(cell, 3, 4, bidirectional=True)
        plain.load_state_dict(layer.state_dict())
        first, second = plain(inputs())[0].chunk(2, -1)
        made = {"sum": first + second, "mean": (first + second) / 2, "product": first * second}
        expect_equal(layer(inputs())[0], made.get(way, torch.stack([first, second], -2)))

    return check


def projects(library: Library, cell: str) -> None:
    layer = library.make(cell, 3, 4, proj_size=2)
    output, (h_n, c_n) = layer(inputs())
    expect_equal(output[-1], h_n[0])
    if (output.shape[-1], c_n.shape[-1]) != (2, 4):
        raise AssertionError(f"the output has {output.shape[-1]} features")


def survives_moves(library: Library, cell: str) -> None:
    """Dropped recurrent weights that come back, after a deep copy and a move."""
    layer = copy.deepcopy(library.make(cell, 3, 4, weight_dropout=0.5)).double().float()
    raw = layer.weight_hh_l0.detach().clone()
    expect_other(layer(inputs())[0], layer(inputs())[0])
    expect_equal(layer.weight_hh_l0, raw)
