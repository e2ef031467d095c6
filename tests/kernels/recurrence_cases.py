"""Cases of the contract suite: a cell, an option, a ragged layout, random tensors; and how results are compared."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tidegate import kernels
from tidegate.kernels import CELLS, Options, Weights
from tidegate.kernels.ragged import Ragged, flip, pad, ragged_from_lengths
from tidegate.kernels.reference import GATES

LENGTHS = {
    "one": [1],
    "ragged": [5, 3, 5, 0, 1, 9, 2, 2, 7, 4, 3],
    "full": [6] * 17,
    "empty": [0, 0],
    "long": [40],
    "many": [int(n) for n in torch.randint(0, 12, (41,), generator=torch.Generator().manual_seed(3))],
}
SIZES = [1, 7, 16, 17, 33, 64]
DTYPES = [torch.float32, torch.float64, torch.bfloat16]
# Relative to one plus the largest entry.
TOLERANCE = {torch.float32: 3e-5, torch.float64: 1e-11, torch.bfloat16: 3e-2}
_COMMON = ("plain", "no_bias", "layer_norm", "recurrent_dropout", "zoneout", "zoneout_expected", "everything")
_LSTM = ("projection", "peephole", "zoneout_c", "zoneout_h")
# Cell and option: what each kernel is to serve.
KINDS = [(cell, option) for cell in CELLS for option in (_COMMON + _LSTM if cell == "lstm" else _COMMON)]
# Each cell as torch.nn has it, and with all that it can do.
EXTREMES = [(cell, option) for cell in CELLS for option in ("plain", "everything")]


class Case:
    """Random inputs, weights, non-zero states, masks and output weights of one recurrence."""

    def __init__(
        self,
        cell: str,
        lengths: Sequence[int],
        hidden: int,
        *,
        option: str = "plain",
        directions: int = 1,
        features: int = 5,
        dtype: torch.dtype = torch.float64,
        seed: int = 0,
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        everything = option == "everything"
        lstm = cell == "lstm"

        def draw(*shape: int, scale: float = 1.0, offset: float = 0.0) -> Tensor:
            values = torch.randn(*shape, generator=generator, dtype=torch.float64) * scale + offset
            return values.to(dtype).requires_grad_()

        def chance(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, dtype=torch.float64) < 0.3

        self.cell = cell
        self.ragged: Ragged = ragged_from_lengths(lengths)
        self.hidden = hidden
        self.projected = (hidden + 1) // 2 if option == "projection" or (everything and lstm) else hidden
        entries, rows, values = GATES[cell] * hidden, len(lengths), self.ragged.num_values
        scale = hidden**-0.5

        def draw_weights() -> Weights:
            normed = option == "layer_norm" or everything
            biased = option != "no_bias"
            return Weights(
                weight_ih=draw(entries, features, scale=scale),
                weight_hh=draw(entries, self.projected, scale=scale),
                bias_ih=draw(entries) if biased else None,
                bias_hh=draw(entries) if biased else None,
                weight_hr=draw(self.projected, hidden, scale=scale) if self.projected != hidden else None,
                peephole=draw(3, hidden, scale=0.5) if lstm and (everything or option == "peephole") else None,
                norm_ih=draw(entries, scale=0.3, offset=1) if normed else None,
                # At a gain of one a step enlarges differences, and forty make chaos of bfloat16's roundings.
                norm_hh=draw(entries, scale=0.3, offset=0.5) if normed else None,
                norm_c=draw(2, hidden, scale=0.3, offset=0.5) if normed and lstm else None,
            )

        self.weights = [draw_weights() for _ in range(directions)]
        self.x = draw(values, features)
        self.h_0 = draw(directions, rows, self.projected)
        self.c_0 = draw(directions, rows, hidden) if lstm else None
        mask, zoneout_h, zoneout_c = None, None, None
        if option == "recurrent_dropout" or everything:
            mask = (~chance(directions, rows, self.projected)).to(dtype) / 0.75
        if option in ("zoneout", "zoneout_h") or everything:
            zoneout_h = chance(values, directions * self.projected)
        if lstm and (option in ("zoneout", "zoneout_c") or everything):
            zoneout_c = chance(values, directions * hidden)
        if option == "zoneout_expected":
            zoneout_h, zoneout_c = 0.25, 0.125 if lstm else None
        self.options = Options(mask, zoneout_h, zoneout_c, eps=1e-3 if everything else 1e-5)
        self.of_output = draw(values, directions * self.projected).detach()
        self.of_h_n = draw(directions, rows, self.projected).detach()
        self.of_c_n = draw(directions, rows, hidden).detach() if lstm else None

    @property
    def leaves(self) -> list[Tensor]:
        """All that has a gradient, in the order of `call`."""
        states = [self.h_0] if self.c_0 is None else [self.h_0, self.c_0]
        return [self.x, *states, *(p for w in self.weights for p in w if p is not None)]

    def call(self, backend: str | None, *leaves: Tensor) -> tuple[Tensor, ...]:
        """``output, h_n`` and for the LSTM ``c_n`` as a function of the leaves, given ones or the case's own."""
        given = iter(leaves or self.leaves)
        x, h_0, c_0 = next(given), next(given), None if self.c_0 is None else next(given)
        weights = [Weights(*(None if p is None else next(given) for p in w)) for w in self.weights]
        found = kernels.recurrence(self.cell, x, weights, h_0, c_0, self.ragged, self.options, backend)
        return tuple(tensor for tensor in found[:3] if tensor is not None)

    def loss(self, results: Sequence[Tensor]) -> Tensor:
        weights = [self.of_output, self.of_h_n, self.of_c_n]
        return sum(((r * w).sum() for r, w in zip(results, weights) if w is not None), torch.tensor(0.0))  # noqa: B905

    def run(self, backend: str | None) -> list[Tensor]:
        """Output, last states and all gradients."""
        results = self.call(backend)
        # Where every row is empty the reference never meets the weights; their gradients are zeros all the same.
        grads = torch.autograd.grad(self.loss(results), self.leaves, allow_unused=True, materialize_grads=True)
        return [*(result.detach() for result in results), *grads]

    def rounded_otherwise(self) -> Case:
        """The same case with each number of inputs, states and weights up to half a rounding to bfloat16 away."""
        generator = torch.Generator().manual_seed(5)

        def moved(tensor: Tensor | None) -> Tensor | None:
            if tensor is None:
                return None
            factors = 1 + 2**-8 * (2 * torch.rand(tensor.shape, generator=generator, dtype=torch.float64) - 1)
            return (tensor.detach().double() * factors).to(tensor.dtype).requires_grad_()

        weights = [Weights(*map(moved, w)) for w in self.weights]
        return self.part(x=moved(self.x), h_0=moved(self.h_0), c_0=moved(self.c_0), weights=weights)

    def part(self, **changes: Any) -> Case:
        """The same case with other tensors."""
        twin = object.__new__(Case)
        twin.__dict__ = self.__dict__ | changes
        return twin

    def row(self, place: int) -> Case:
        """The row at a sorted place by itself."""
        row = int(self.ragged.order[place])
        length = int(self.ragged.lengths[row])

        def of_row(values: Tensor) -> Tensor:
            return pad(values, self.ragged)[row, :length]

        def of_state(state: Tensor | None) -> Tensor | None:
            return None if state is None else state[:, place : place + 1]

        return self.part(
            x=of_row(self.x),
            h_0=of_state(self.h_0),
            c_0=of_state(self.c_0),
            ragged=ragged_from_lengths([length]),
            options=_map_options(self.options, of_state, of_row),
        )

    def steps(self, start: int, stop: int, states: Sequence[Tensor]) -> Case:
        """Some of the steps of rows of one length, from other states."""
        rows = self.ragged.num_rows
        chosen = slice(start * rows, stop * rows)
        return self.part(
            x=self.x[chosen],
            h_0=states[0],
            c_0=states[1] if len(states) > 1 else None,
            ragged=ragged_from_lengths([stop - start] * rows),
            options=_map_options(self.options, lambda mask: mask, lambda values: values[chosen]),
        )

    def flipped(self) -> Case:
        """The second direction as a first one over rows that are turned round."""
        units = self.projected

        def of_values(values: Tensor) -> Tensor:
            return flip(values[:, values.shape[1] // 2 :], self.ragged)

        assert self.options.zoneout_h is None or self.options.zoneout_h.shape[1] == 2 * units
        return self.part(
            x=flip(self.x, self.ragged),
            h_0=self.h_0[1:],
            c_0=None if self.c_0 is None else self.c_0[1:],
            weights=self.weights[1:],
            options=_map_options(self.options, lambda mask: mask[1:], of_values),
        )


def _map_options(options: Options, of_mask: Any, of_values: Any) -> Options:
    def zoneout(keep: Tensor | float | None) -> Tensor | float | None:
        return of_values(keep) if isinstance(keep, Tensor) else keep

    mask = options.recurrent_dropout
    return replace(
        options,
        recurrent_dropout=None if mask is None else of_mask(mask),
        zoneout_h=zoneout(options.zoneout_h),
        zoneout_c=zoneout(options.zoneout_c),
    )


class Call(NamedTuple):
    """One call of an op."""

    func: Any
    args: tuple
    kwargs: dict[str, Any]
    results: Any


class RecordedOps(TorchDispatchMode):
    """Keeps what the ops of tidegate are called with, and what they return."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        if func.namespace == "tidegate":
            self.calls.append(Call(func, args, kwargs or {}, results))
        return results


def errors(found: Sequence[Tensor], expected: Sequence[Tensor], on_average: bool = False) -> list[float]:
    """The largest error of each tensor, or its root mean square, against one plus the like of the expected tensor."""
    size = Tensor.norm if on_average else lambda tensor: tensor.abs().max()
    sizes = []
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        assert torch.isfinite(b).all()
        a, b = a.detach().double(), b.detach().double()
        one = b.numel() ** 0.5 if on_average else 1
        sizes.append(float(size(a - b) / (one + size(b))) if b.numel() else 0.0)
    return sizes


def assert_all_close(
    found: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float, on_average: bool = False
) -> None:
    # A NaN is no smaller than the tolerance.
    differ = {i: e for i, e in enumerate(errors(found, expected, on_average)) if not e < tolerance}
    assert not differ, f"tensors {differ} differ by more than {tolerance:.1e}"


class Expected:
    """What the reference makes of a case, and how far from it a result of the case's type may lie.

    In bfloat16 the two may round each gate otherwise, so what such roundings of the inputs and weights do to the
    reference itself is allowed as well. They carry some inputs of a ReLU over its kink, where the gradient jumps: those
    gradients are near on average alone.
    """

    def __init__(self, case: Case) -> None:
        self.results = case.run("reference")
        self.count_of_states = 2 if case.c_0 is None else 3
        self.tolerance = TOLERANCE[case.x.dtype]
        if case.weights[0].norm_hh is not None and case.x.dtype == torch.float32:
            # Rounding is divided by the deviation; that of one unit is nought, and leaves eps**0.5.
            self.tolerance *= 300 if case.hidden == 1 else 10
        low = case.x.dtype == torch.bfloat16
        if low:
            self.tolerance += 3 * max(errors(case.rounded_otherwise().run("reference"), self.results))
        self.kinked, self.hidden = low and case.cell == "rnn_relu", case.hidden

    def hold(self, found: Sequence[Tensor]) -> None:
        """Raise an AssertionError where output, last states and gradients differ."""
        states = self.count_of_states
        assert_all_close(found[:states], self.results[:states], self.tolerance)
        if self.kinked and self.hidden == 1:
            return  # nothing to average: one jump is the whole gradient
        tolerance = self.tolerance + 0.3 * self.kinked
        assert_all_close(found[states:], self.results[states:], tolerance, on_average=self.kinked)


@dataclass(frozen=True)
class Setting:
    """What of the product of all factors one test runs."""

    kind: tuple[str, str]
    isa: str
    threads: int
    directions: int
    hidden: int
    lengths: str
    dtype: torch.dtype

    def __str__(self) -> str:
        directions = "both" if self.directions == 2 else "forward"
        place = f"{self.isa}-{self.threads}threads-{str(self.dtype).removeprefix('torch.')}"
        return f"{'-'.join(self.kind)}-{directions}-{self.hidden}units-{self.lengths}-{place}"


def factors(isas: Sequence[str]) -> dict[str, list[Any]]:
    return {
        "kind": KINDS,
        "isa": list(isas),
        # More than a small machine has, so that no team of threads spins where another process works.
        "threads": [1, 3, 5],
        "directions": [1, 2],
        "hidden": SIZES,
        "lengths": list(LENGTHS),
        "dtype": DTYPES,
    }


def _met_by(missing: set[tuple[int, int, int, int]], factor: int, row: dict[int, int], choice: int) -> int:
    """How many missing pairs a choice for one more factor meets."""
    pairs = ((factor, choice, a, i) if factor < a else (a, i, factor, choice) for a, i in row.items())
    return sum(pair in missing for pair in pairs)


def pairwise(values: dict[str, list[Any]], seed: int = 0) -> list[dict[str, Any]]:
    """Rows in which every two values of two factors meet at least once.

    Greedy: each row starts from a pair that is still missing, and takes for every other factor the value that meets the
    most missing pairs.
    """
    names = list(values)
    missing = {
        (a, i, b, j)
        for a, b in itertools.combinations(range(len(names)), 2)
        for i in range(len(values[names[a]]))
        for j in range(len(values[names[b]]))
    }
    shuffle = random.Random(seed)
    rows = []
    while missing:
        a, i, b, j = min(missing)
        row = {a: i, b: j}
        for factor in range(len(names)):
            if factor in row:
                continue
            candidates = list(range(len(values[names[factor]])))
            shuffle.shuffle(candidates)

            row[factor] = max(candidates, key=functools.partial(_met_by, missing, factor, row))
        missing -= {(a, row[a], b, row[b]) for a, b in itertools.combinations(range(len(names)), 2)}
        rows.append({name: values[name][row[place]] for place, name in enumerate(names)})
    return rows
