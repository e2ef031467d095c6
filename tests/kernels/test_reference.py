"""The reference against two oracles: torch.nn where it has the option, and each step written out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from kernels.recurrence_cases import KINDS, Case, assert_all_close
from tidegate.kernels import Weights
from tidegate.kernels.ragged import pack, pad

TORCH = {
    "rnn_tanh": nn.RNN,
    "rnn_relu": lambda *args, **kwargs: nn.RNN(*args, nonlinearity="relu", **kwargs),
    "lstm": nn.LSTM,
    "gru": nn.GRU,
}


@pytest.mark.parametrize(
    ("cell", "option"), [(cell, option) for cell in TORCH for option in ("plain", "no_bias")] + [("lstm", "projection")]
)
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("backend", ["reference", "native", "torch"])
def test_equals_torch_nn(backend, cell, directions, option):
    """Values and gradients of torch.nn's layer with the same weights, on packed rows, with non-zero states."""
    lengths = [4, 1, 6, 6, 2]
    case = Case(cell, lengths, 7, option=option, directions=directions)
    sizes = {"proj_size": case.projected} if option == "projection" else {}
    layer = TORCH[cell](5, 7, bias=option != "no_bias", bidirectional=directions == 2, **sizes).double()
    with torch.no_grad():
        ours = [p for w in case.weights for p in w if p is not None]
        for theirs, parameter in zip(layer.parameters(), ours, strict=True):
            theirs.copy_(parameter)
    packed = nn.utils.rnn.pack_padded_sequence(
        pad(case.x, case.ragged), torch.tensor(lengths), batch_first=True, enforce_sorted=False
    )
    states = [case.h_0] if case.c_0 is None else [case.h_0, case.c_0]
    hx = tuple(s.new_empty(s.shape).index_copy(1, case.ragged.order, s) for s in states)
    output, last = layer(packed, hx if cell == "lstm" else hx[0])
    last = last if cell == "lstm" else (last,)
    output = pack(nn.utils.rnn.pad_packed_sequence(output, batch_first=True)[0], case.ragged)
    results = [output, *(state.index_select(1, case.ragged.order) for state in last)]
    grads = torch.autograd.grad(case.loss(results), [case.x, *states, *layer.parameters()])
    assert_all_close(case.run(backend), [*results, *grads], 1e-12)


def normalised(vector: Tensor, gain: Tensor | None, eps: float, bias: Tensor | float = 0.0) -> Tensor:
    if gain is None:
        return vector
    mean = vector.sum() / len(vector)
    variance = ((vector - mean) ** 2).sum() / len(vector)
    return (vector - mean) / (variance + eps) ** 0.5 * gain + bias


def one_step(cell: str, x: Tensor, h: Tensor, c: Tensor | None, w: Weights, mask: Tensor, eps: float):
    """The equations of one row, one step and one direction, without zoneout."""
    none = torch.zeros(len(w.weight_ih)).double()
    b_ih, b_hh = (none, none) if w.bias_ih is None else (w.bias_ih, w.bias_hh)
    h_in = h * mask
    of_x = normalised(w.weight_ih @ x, w.norm_ih, eps)
    of_h = normalised(w.weight_hh @ h_in, w.norm_hh, eps)
    if cell.startswith("rnn"):
        new = of_x + b_ih + of_h + b_hh
        return new.clamp(min=0) if cell == "rnn_relu" else new.tanh(), None
    if cell == "lstm":
        p_i, p_f, p_o = torch.zeros(3, len(c)).double() if w.peephole is None else w.peephole
        i, f, g, o = (of_x + b_ih + of_h + b_hh).chunk(4)
        new_c = (f + p_f * c).sigmoid() * c + (i + p_i * c).sigmoid() * g.tanh()
        o = (o + p_o * new_c).sigmoid()
        inner = new_c if w.norm_c is None else normalised(new_c, w.norm_c[0], eps, w.norm_c[1])
        new_h = o * inner.tanh()
        return new_h if w.weight_hr is None else w.weight_hr @ new_h, new_c
    i_r, i_z, i_n = (of_x + b_ih).chunk(3)
    units = len(h)
    if cell == "gru":
        h_r, h_z, h_n = (of_h + b_hh).chunk(3)
        r, z = (i_r + h_r).sigmoid(), (i_z + h_z).sigmoid()
        n = (i_n + r * h_n).tanh()
    else:
        gain_rz, gain_n = (None, None) if w.norm_hh is None else (w.norm_hh[: 2 * units], w.norm_hh[2 * units :])
        h_r, h_z = (normalised(w.weight_hh[: 2 * units] @ h_in, gain_rz, eps) + b_hh[: 2 * units]).chunk(2)
        r, z = (i_r + h_r).sigmoid(), (i_z + h_z).sigmoid()
        n = (i_n + normalised(w.weight_hh[2 * units :] @ (r * h_in), gain_n, eps) + b_hh[2 * units :]).tanh()
    return (1 - z) * n + z * h, None


@pytest.mark.parametrize(("cell", "option"), KINDS)
def test_the_reference_is_the_formula(cell, option):
    """Three steps of one row by hand: the states that are carried, and the mask that stays."""
    case = Case(cell, [3], 5, option=option, features=2)
    options, (w,) = case.options, case.weights
    h, c = case.h_0[0, 0], None if case.c_0 is None else case.c_0[0, 0]
    mask = torch.ones(()).double() if options.recurrent_dropout is None else options.recurrent_dropout[0, 0]

    def zone_out(keep: Tensor | float | None, t: int, new: Tensor, before: Tensor) -> Tensor:
        if keep is None:
            return new
        kept = keep[t].double() if isinstance(keep, Tensor) else keep
        return kept * before + (1 - kept) * new

    expected = []
    for t in range(3):
        new_h, new_c = one_step(cell, case.x[t], h, c, w, mask, options.eps)
        h = zone_out(options.zoneout_h, t, new_h, h)
        c = None if c is None else zone_out(options.zoneout_c, t, new_c, c)
        expected.append(h)
    output, h_n, *c_n = case.call("reference")
    torch.testing.assert_close(output, torch.stack(expected))
    torch.testing.assert_close(h_n[0, 0], h)
    for found in c_n:
        torch.testing.assert_close(found[0, 0], c)


@pytest.mark.parametrize(("cell", "option"), [kind for kind in KINDS if kind[1] not in ("plain", "projection")])
def test_each_option_changes_the_result(cell, option):
    plain, case = Case(cell, [4, 2], 6), Case(cell, [4, 2], 6, option=option)
    if case.projected != 6:
        plain = Case(cell, [4, 2], 6, option="projection")
    weights = [
        a._replace(weight_ih=b.weight_ih, weight_hh=b.weight_hh, weight_hr=b.weight_hr)
        for a, b in zip(case.weights, plain.weights, strict=True)
    ]
    changed = case.part(x=plain.x, h_0=plain.h_0, c_0=plain.c_0, weights=weights)
    assert not torch.allclose(changed.call("reference")[0], plain.call("reference")[0])
