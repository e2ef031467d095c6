"""One layer three times, with one set of weights: tidegate's, torch.nn's, and an ONNX graph of one node."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

import tidegate

GATES = {"rnn": 1, "lstm": 4, "gru": 3}
_OURS = {"rnn": tidegate.RNN, "lstm": tidegate.LSTM, "gru": tidegate.GRU}
_THEIRS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
# Where ONNX has the gates of torch: i f g o as i o f c, r z n as z r h.
_ONNX_GATES = {"rnn": [0], "lstm": [0, 3, 1, 2], "gru": [1, 0, 2]}


def layers(cell: str, inputs: int, units: int, directions: int = 1) -> tuple[Any, Any]:
    """Our layer and torch.nn's, of the same weights."""
    ours = _OURS[cell](inputs, units, bidirectional=directions == 2)
    theirs = _THEIRS[cell](inputs, units, bidirectional=directions == 2)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def training_flops(cell: str, values: int, inputs: int, units: int, directions: int = 1) -> float:
    """Of a training step over that many real steps; inference takes a third."""
    return 3.0 * 2 * values * GATES[cell] * units * (inputs + units) * directions


def gradients(run: Callable[[], Tensor], leaves: Sequence[Tensor]) -> Callable[[], tuple[Tensor, ...]]:
    """A training step: forward, and the gradients of the leaves under a gradient of ones."""
    ones = torch.ones_like(run())
    return lambda: torch.autograd.grad(run(), leaves, ones)


def inference(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
    def call() -> Tensor:
        with torch.inference_mode():
            return run()

    return call


def check_equal(found: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float = 1e-3) -> None:
    """Raise unless all agree to within a part of the largest entry: what computes something else is not timed."""
    for mine, other in zip(found, expected, strict=True):
        mine, other = mine.detach().float(), other.detach().float()
        torch.testing.assert_close(mine, other, rtol=tolerance, atol=tolerance * float(other.abs().max()))


class OnnxLayer:
    """A session of ONNX Runtime over one layer of fixed sizes; input and outputs stand where they are, uncopied.

    Args:
        layer: torch.nn's layer, one of :func:`layers`.
        batch: Rows.
        steps: Steps of each row.
        threads: Of the session's own pool.
        with_states: Whether the initial states are inputs and the last ones fed back, as a stream needs it.
    """

    def __init__(self, layer: Any, batch: int, steps: int, threads: int, with_states: bool = False) -> None:
        cell, units = layer.mode.split("_")[0].lower(), layer.hidden_size
        directions = 2 if layer.bidirectional else 1
        states = ["h", "c"] if cell == "lstm" else ["h"]
        shape = [directions, batch, units]
        arrays = _onnx_weights(layer, cell, directions)
        attributes: dict[str, Any] = {"hidden_size": units}
        if directions == 2:
            attributes["direction"] = "bidirectional"
        if cell == "gru":
            attributes["linear_before_reset"] = 1
        initial = ["", *(f"{state}_0" for state in states)] if with_states else []
        last = [f"{state}_n" for state in states]
        node = helper.make_node(cell.upper(), ["x", *arrays, *initial], ["y", *last], **attributes)

        def info(name: str, sizes: list[int]) -> Any:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)

        graph = helper.make_graph(
            [node],
            cell,
            [info("x", [steps, batch, layer.input_size]), *(info(name, shape) for name in initial[1:])],
            [info("y", [steps, *shape]), *(info(name, shape) for name in last)],
            [numpy_helper.from_array(array, name) for name, array in arrays.items()],
        )
        model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self.y = np.zeros([steps, *shape], np.float32)
        self.states = {state: np.zeros(shape, np.float32) for state in states}
        self.last = {state: np.zeros(shape, np.float32) for state in states}

    def bound(self, x: np.ndarray) -> Callable[[], Any]:
        """A call with everything bound once; states that are fed back go to and fro between two arrays."""
        self.x = x  # bindings know addresses alone
        wanted = {entry.name for entry in self.session.get_inputs()}
        bindings = []
        for before, after in ((self.states, self.last), (self.last, self.states)):
            binding = self.session.io_binding()
            _bind(binding.bind_input, "x", x)
            _bind(binding.bind_output, "y", self.y)
            for state in self.states:
                if f"{state}_0" in wanted:
                    _bind(binding.bind_input, f"{state}_0", before[state])
                _bind(binding.bind_output, f"{state}_n", after[state])
            bindings.append(binding)
        following = itertools.cycle(bindings)
        return lambda: self.session.run_with_iobinding(next(following))

    def plain(self, x: np.ndarray) -> Callable[[], Any]:
        """A call of `run` with arrays in and arrays out, states fed back from call to call."""
        run, names = self.session.run, [f"{state}_n" for state in self.states]
        inputs = [f"{state}_0" for state in self.states]
        feed = {
            "x": x,
            **{name: np.zeros_like(state) for name, state in zip(inputs, self.states.values(), strict=True)},
        }

        def call() -> None:
            for name, state in zip(inputs, run(names, feed), strict=True):
                feed[name] = state

        return call

    def output(self) -> Tensor:
        """What the last bound call wrote, as torch has it: ``[T, B, D*H]``."""
        return torch.from_numpy(self.y).transpose(1, 2).flatten(2)


def _bind(bind: Callable[..., None], name: str, array: np.ndarray) -> None:
    bind(name, "cpu", 0, np.float32, list(array.shape), array.ctypes.data)


def _onnx_weights(layer: Any, cell: str, directions: int) -> dict[str, np.ndarray]:
    """W, R and B of the node, ``[D, ...]``."""

    def in_order(name: str) -> np.ndarray:
        gates = [getattr(layer, f"{name}_l0{suffix}").detach() for suffix in ("", "_reverse")[:directions]]
        rows = [gate.unflatten(0, (GATES[cell], -1))[_ONNX_GATES[cell]].flatten(0, 1) for gate in gates]
        return torch.stack(rows).numpy()

    bias = np.concatenate([in_order("bias_ih"), in_order("bias_hh")], axis=1)
    return {"W": in_order("weight_ih"), "R": in_order("weight_hh"), "B": bias}
