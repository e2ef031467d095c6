"""What Keras 3, Haste and ONNX say of the features that layer_features.py tries on tidegate and torch.nn.

Kept by hand, from constructor signatures and operator schemas (Keras 3.15.1, ONNX opset 22), the libraries'
documentation and the threads named, and for Keras in part by trying it (backend torch, CPU). Nothing here is guessed:
what could not be found out is "?", and a feature that has no meaning for a library is "-".
"""

from __future__ import annotations

from typing import NamedTuple


class Others(NamedTuple):
    """The entries of a row for Keras 3's layers, Haste's layers for PyTorch, and ONNX's RNN, LSTM and GRU operators."""

    keras: str = "?"
    haste: str = "?"
    onnx: str = "?"


SOURCES = {
    "Keras 3": "https://keras.io/api/layers/recurrent_layers/",
    "Haste": "https://github.com/lmnt-com/haste/tree/master/docs/pytorch",
    "ONNX": "https://onnx.ai/onnx/operators/onnx__GRU.html",
}

_BACKENDS = "its backend's"
_ONE_LAYER = "- (one layer an object)"
_MODEL = "- (training is not ONNX's)"

OTHERS = {
    "torch.compile(fullgraph=True), forward and backward": Others(_BACKENDS, "no", "-"),
    "the same with torch._dynamo.config.allow_rnn": Others("-", "-", "-"),
    "torch.compile(fullgraph=True) over sequences of different lengths": Others(_BACKENDS, "no", "-"),
    "torch.export": Others("?", "?", "-"),
    "torch.export over sequences of different lengths": Others("?", "?", "-"),
    "gradients of each sample by vmap": Others(_BACKENDS, "no", "-"),
    "torch.func.functional_call": Others("?", "?", "-"),
    "second derivatives on a CPU": Others(_BACKENDS, "no", "-"),
    "autocast to bfloat16 on a CPU": Others("?", "?", "-"),
    "bfloat16 on a CPU": Others(_BACKENDS, "?", "yes, as a type of the operator"),
    "float16 on a CPU": Others("?", "?", "yes, as a type of the operator"),
    "deepcopy": Others("yes", "?", "-"),
    "pickle": Others("yes", "?", "-"),
    "DataParallel": Others("?", "?", "-"),
    "the other library's state_dict": Others(
        "no (kernels transposed, other gate order)", "converted by `from_native_weights`", "-"
    ),
    "forward on meta": Others("?", "?", "-"),
    "sequences of different lengths": Others(
        "yes, by mask", "final state alone: the output is not masked", "yes, `sequence_lens`"
    ),
    "lengths of int32": Others("- (masks)", "?", "yes"),
    "lengths of uint8": Others("- (masks)", "?", "no (int32 alone)"),
    "lengths on the input's device": Others("- (masks)", "?", "-"),
    "a sequence of length zero": Others("yes on a CPU; crashed cuDNN (tensorflow#43103)", "?", "?"),
    "a mask with holes": Others("yes, by its generic loop", "no", "no"),
    "unbatched input": Others("no", "no", "no"),
    "state in, state out": Others("yes", "yes", "yes"),
    "a layer's single step": Others("yes, `layer.cell`", "?", "-"),
    "every gate and state of a call": Others("no (keras#3872)", "states, no gates", "hidden states alone"),
    "dropout between layers": Others(_ONE_LAYER, _ONE_LAYER, _MODEL),
    "recurrent dropout": Others("yes, without cuDNN", "no", _MODEL),
    "weight dropout (DropConnect)": Others("no", "yes", _MODEL),
    "weight dropout after deepcopy and .to()": Others("no", "?", _MODEL),
    "zoneout": Others("no", "yes", _MODEL),
    "layer normalisation": Others("no", "yes, LayerNormLSTM and LayerNormGRU", "no"),
    "residual connections": Others("no", "no", "no"),
    "learned initial states": Others("no", "no", "-"),
    "directions merged by sum": Others("yes", "no", "no"),
    "directions merged by mean": Others("yes", "no", "no"),
    "directions merged by product": Others("yes", "no", "no"),
    "directions apart through all layers": Others("one layer's, `merge_mode=None`", "no", "one layer's"),
    "layers of different sizes": Others("yes, a list of cells", _ONE_LAYER, _ONE_LAYER),
    "initialisation by name": Others("yes", "no (LSTM: `forget_bias`)", "-"),
    "projection": Others("no", "no", "no"),
    "peepholes": Others("no", "no", "yes, input `P`"),
    "reset gate before the product": Others("yes", "no", "yes"),
}
