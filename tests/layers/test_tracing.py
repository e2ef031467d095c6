"""Traced gates, candidates and states satisfy the cells' equations, in every form of input."""

from __future__ import annotations

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from layers.recurrent_cases import LAYERS, ours, states, with_options
from tidegate import kernels


def before(states, initial, reverse):
    """The state before each step: ``[T, B, H]`` of the states after it."""
    if reverse:
        return torch.cat([states[1:], initial[None]])
    return torch.cat([initial[None], states[:-1]])


@pytest.mark.parametrize("name", LAYERS)
def test_traces_satisfy_the_equations(name):
    torch.manual_seed(0)
    layer = ours(name, 3, 6, num_layers=2, bidirectional=True).double()
    x = torch.randn(5, 4, 3).double()
    hx = states(name, layer, 4)
    kinds = hx if isinstance(hx, tuple) else (hx,)
    traces = layer.trace(x, hx)
    output, last = layer(x, hx)
    joined = torch.cat([traces["hidden_l1"], traces["hidden_l1_reverse"]], -1)
    torch.testing.assert_close(joined, output)
    values = x
    for number in range(2):
        for d, suffix in enumerate((f"l{number}", f"l{number}_reverse")):
            got = {key.removesuffix(f"_{suffix}"): trace for key, trace in traces.items() if key.endswith(f"_{suffix}")}
            h = before(got["hidden"], kinds[0][2 * number + d], d == 1)
            w = {kind: layer.get_parameter(f"{kind}_{suffix}").detach() for kind in ("weight_ih", "weight_hh")}
            b_ih, b_hh = (layer.get_parameter(f"bias_{kind}_{suffix}").detach() for kind in ("ih", "hh"))
            of_x, of_h = values @ w["weight_ih"].T + b_ih, h @ w["weight_hh"].T + b_hh
            if name.startswith("RNN"):
                phi = torch.relu if name == "RNN-relu" else torch.tanh
                expected = {"candidate": phi(of_x + of_h)}
                torch.testing.assert_close(got["hidden"], got["candidate"])
            elif name == "GRU":
                (x_r, x_z, x_n), (h_r, h_z, h_n) = of_x.chunk(3, -1), of_h.chunk(3, -1)
                r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
                expected = {"reset_gate": r, "update_gate": z, "candidate": torch.tanh(x_n + r * h_n)}
                torch.testing.assert_close(got["hidden"], (1 - z) * expected["candidate"] + z * h)
            else:
                i, f, g, o = (of_x + of_h).chunk(4, -1)
                c = before(got["cell"], kinds[1][2 * number + d], d == 1)
                expected = {"input_gate": i.sigmoid(), "forget_gate": f.sigmoid(), "candidate": g.tanh()}
                expected |= {"output_gate": o.sigmoid()}
                expected["cell"] = expected["forget_gate"] * c + expected["input_gate"] * expected["candidate"]
                hidden = expected["output_gate"] * got["cell"].tanh()
                if layer.proj_size:
                    hidden = hidden @ layer.get_parameter(f"weight_hr_{suffix}").detach().T
                torch.testing.assert_close(got["hidden"], hidden)
            assert set(got) == {*expected, "hidden"}
            for key, trace in expected.items():
                torch.testing.assert_close(got[key], trace)
        values = torch.cat([traces[f"hidden_l{number}"], traces[f"hidden_l{number}_reverse"]], -1)
    assert not any(trace.requires_grad for trace in traces.values())
    if isinstance(last, tuple):
        torch.testing.assert_close(traces["cell_l1"][-1], last[1][2])
        torch.testing.assert_close(traces["cell_l1_reverse"][0], last[1][3])


@pytest.mark.parametrize("name", LAYERS)
def test_traces_come_from_the_kernel_in_use(name, monkeypatch):
    used = []
    original = kernels.choose_backend

    def spy(*args):
        used.append(original(*args))
        return used[-1]

    monkeypatch.setattr(kernels, "choose_backend", spy)
    layer = with_options(name, 3, 5).eval()
    x = torch.randn(6, 2, 3)
    traces = layer.trace(x)
    assert used == ["native"]
    torch.testing.assert_close(traces["hidden_l0"], layer(x)[0])


@pytest.mark.parametrize("name", LAYERS)
def test_traces_have_the_form_of_the_input(name):
    layer = with_options(name, 3, 5, bidirectional=True, batch_first=True).eval()
    x = torch.randn(3, 6, 3)
    lengths = torch.tensor([4, 6, 2])
    whole = layer.trace(x, lengths=lengths)
    packed = layer.trace(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
    assert list(packed) == list(whole)
    for key, trace in whole.items():
        assert trace.shape[:2] == (3, 6)
        assert (trace[0, 4:] == 0).all() and (trace[2, 2:] == 0).all()
        torch.testing.assert_close(pad_packed_sequence(packed[key], batch_first=True)[0], trace)
    alone = layer.trace(x[1])
    for key, trace in alone.items():
        torch.testing.assert_close(trace, whole[key][1])
    mask = torch.tensor([1, 0, 1, 1, 0, 1]).bool()
    masked = layer.trace(x, mask=mask.expand(3, 6))
    short = layer.trace(x[:, mask])
    for key, trace in masked.items():
        torch.testing.assert_close(trace[:, mask], short[key])
        assert (trace[:, ~mask] == 0).all()


@pytest.mark.parametrize("rate", [(0.0, 0.4), (0.4, 0.0)])
def test_with_zoneout_cell_and_hidden_are_the_states_that_are_carried(rate):
    torch.manual_seed(0)
    layer = ours("LSTM", 3, 5, zoneout=rate).double().eval()
    x = torch.randn(6, 2, 3).double()
    traces = layer.trace(x)
    state = None
    for t, x_t in enumerate(x):
        _, state = layer.step(x_t, state)
        torch.testing.assert_close(traces["hidden_l0"][t], state[0][0])
        torch.testing.assert_close(traces["cell_l0"][t], state[1][0])
