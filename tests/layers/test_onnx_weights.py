"""Weights of ONNX's recurrent nodes in and out, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tidegate
from tidegate.layers.onnx_weights import OnnxNode, from_onnx, load_onnx_, to_onnx

LAYERS = {
    "rnn": lambda **o: tidegate.RNN(4, 5, **o),
    "relu": lambda **o: tidegate.RNN(4, 5, nonlinearity="relu", **o),
    "lstm": lambda **o: tidegate.LSTM(4, 5, **o),
    "peephole": lambda **o: tidegate.LSTM(4, 5, peephole=True, **o),
    "gru": lambda **o: tidegate.GRU(4, 5, **o),
    "gru-before": lambda **o: tidegate.GRU(4, 5, reset_after=False, **o),
}
LENGTHS = [6, 2, 4]


def layer_of(kind, **options):
    torch.manual_seed(3)
    return LAYERS[kind](**options)


def run_node(node, x, lengths, states):
    """The node by ONNX Runtime: Y and the last states."""
    reason = "ONNX Runtime is what the weights are checked against: pip install onnx onnxruntime"
    onnx = pytest.importorskip("onnx", reason=reason)
    runtime = pytest.importorskip("onnxruntime", reason=reason)
    given = {"W": node.W, "R": node.R, "B": node.B, "P": node.P}
    feeds = {"X": x, "sequence_lens": np.array(lengths, "int32"), "initial_h": states[0]}
    names = ["X", "W", "R", "B" if node.B is not None else "", "sequence_lens", "initial_h"]
    outputs = ["Y", "Y_h"]
    if node.op_type == "LSTM":
        feeds["initial_c"] = states[1]
        names += ["initial_c", "P" if node.P is not None else ""]
        outputs.append("Y_c")
    types = onnx.TensorProto
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(node.op_type, names, outputs, **node.attributes)],
        "one",
        [
            onnx.helper.make_tensor_value_info(
                name, types.INT32 if value.dtype == "int32" else types.FLOAT, value.shape
            )
            for name, value in feeds.items()
        ],
        [onnx.helper.make_tensor_value_info(n, types.FLOAT, [None] * (4 if n == "Y" else 3)) for n in outputs],
        [onnx.numpy_helper.from_array(value, name) for name, value in given.items() if value is not None],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 14)], ir_version=9)
    onnx.checker.check_model(model)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", LAYERS)
def test_onnx_runtime_computes_the_node_as_we_do_and_we_take_it_back(kind, bias, bidirectional):
    layer = layer_of(kind, bias=bias, bidirectional=bidirectional)
    node = to_onnx(layer)
    directions = 2 if bidirectional else 1
    generator = np.random.default_rng(0)
    x = generator.normal(size=(6, 3, 4)).astype("float32")
    states = [generator.normal(size=(directions, 3, 5)).astype("float32") for _ in range(2)]
    y, *last = run_node(node, x, LENGTHS, states)
    taken = from_onnx(node)
    for ours in (layer, taken):
        hx = [torch.from_numpy(state) for state in states]
        output, found = ours(
            torch.from_numpy(x), tuple(hx) if node.op_type == "LSTM" else hx[0], lengths=torch.tensor(LENGTHS)
        )
        expected = torch.from_numpy(y).transpose(1, 2).flatten(2)
        torch.testing.assert_close(output.detach(), expected, rtol=1e-5, atol=1e-6)
        for a, b in zip(found if isinstance(found, tuple) else (found,), last, strict=True):
            torch.testing.assert_close(a.detach(), torch.from_numpy(b), rtol=1e-5, atol=1e-6)
    for name, parameter in layer.named_parameters():
        assert torch.equal(parameter, taken.get_parameter(name))


def test_every_layer_of_a_stack_is_a_node():
    layer = tidegate.GRU(4, 5, num_layers=2, bidirectional=True)
    x = np.random.default_rng(0).normal(size=(6, 3, 4)).astype("float32")
    expected = layer(torch.from_numpy(x), lengths=torch.tensor(LENGTHS))[0].detach()
    none = np.zeros((2, 3, 5), "float32")
    for index in range(2):
        y = run_node(to_onnx(layer, index), x, LENGTHS, [none])[0]
        x = np.ascontiguousarray(y.transpose(0, 2, 1, 3).reshape(6, 3, 10))
    torch.testing.assert_close(torch.from_numpy(x), expected, rtol=1e-5, atol=1e-6)
    other = tidegate.GRU(4, 5, num_layers=2, bidirectional=True)
    for index in range(2):
        load_onnx_(other, to_onnx(layer, index), index)
    for name, value in layer.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)


def test_exported_attributes_are_read_as_they_come():
    node = to_onnx(layer_of("gru"))
    assert node.attributes == {"hidden_size": 5, "direction": "forward", "linear_before_reset": 1}
    spelled = {"direction": b"forward", "activations": [b"Sigmoid", b"Tanh"], "linear_before_reset": 1, "layout": 0}
    assert from_onnx(node._replace(attributes=spelled)).reset_after
    # ONNX' default is the reset gate before the product.
    assert not from_onnx(node._replace(attributes={})).reset_after
    assert from_onnx(node, batch_first=True).batch_first
    doubled = node._replace(W=node.W.astype("float64"), R=node.R.astype("float64"), B=node.B.astype("float64"))
    assert from_onnx(doubled).weight_hh_l0.dtype == torch.float64


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("gru", {"op_type": "Gru"}, "expected a node of RNN, LSTM, GRU; found 'Gru'"),
        ("gru", {"attributes": {"direction": "reverse"}}, "flip the sequences by their lengths"),
        ("gru", {"attributes": {"clip": 3.0}}, "no layer here does what these attributes ask for: clip"),
        ("gru", {"attributes": {"layout": 1}}, "layout=1 has the rows first"),
        ("gru", {"attributes": {"activations": ["Sigmoid", "Relu"]}}, "expected the activations Sigmoid, Tanh"),
        ("rnn", {"attributes": {"activations": ["Affine"]}}, "expected the activation Tanh or Relu"),
        ("lstm", {"attributes": {"input_forget": 1}}, "input_forget=1 couples the input gate with the forget gate"),
        (
            "lstm",
            {"attributes": {"direction": "bidirectional"}},
            r"expected W of shape \[2, \?, \?\]; found \[1, 20, 4\]",
        ),
        ("lstm", {"R": np.zeros((1, 20, 6), "float32")}, r"expected R of shape \[1, 20, 5\]"),
        ("lstm", {"B": np.zeros((1, 20), "float32")}, r"expected B of shape \[1, 40\]; found \[1, 20\]"),
        ("lstm", {"W": np.zeros((1, 19, 4), "float32")}, "expected a W of 4 gates, as an LSTM has; found 19 rows"),
        ("peephole", {"P": np.zeros((1, 16), "float32")}, r"expected P of shape \[1, 15\]"),
    ],
)
def test_what_does_not_fit_is_refused(kind, change, message):
    with pytest.raises(ValueError, match=message):
        from_onnx(to_onnx(layer_of(kind))._replace(**change))


def test_options_that_onnx_has_not_are_refused():
    for layer, name in (
        (tidegate.LSTM(4, 5, proj_size=3), "proj_size=3"),
        (tidegate.GRU(4, 5, zoneout=0.1), "zoneout=0.1"),
        (tidegate.GRU(4, 5, learn_initial_state=True), "learn_initial_state=True"),
    ):
        with pytest.raises(ValueError, match=f"has nothing for {name}"):
            to_onnx(layer)
    with pytest.raises(ValueError, match="expected a node of LSTM, as the layer; found GRU"):
        load_onnx_(tidegate.LSTM(4, 5), to_onnx(tidegate.GRU(4, 5)))
    with pytest.raises(ValueError, match="the weights have a peephole; expected a layer with one"):
        load_onnx_(tidegate.LSTM(4, 5), to_onnx(layer_of("peephole")))


def test_public_names():
    assert (tidegate.OnnxNode, tidegate.from_onnx, tidegate.to_onnx) == (OnnxNode, from_onnx, to_onnx)
    assert tidegate.load_onnx_ is load_onnx_
