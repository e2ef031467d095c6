"""Gated recurrent sequence models: trained, judged and in use on an ordinary CPU."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidegate.data.tag_schemes import transition_masks as transition_masks
    from tidegate.estimators.contextual_text_classifier import ContextualTextClassifier as ContextualTextClassifier
    from tidegate.estimators.linear_text_classifier import LinearTextClassifier as LinearTextClassifier
    from tidegate.estimators.loading import load as load
    from tidegate.estimators.multi_label_text_classifier import MultiLabelTextClassifier as MultiLabelTextClassifier
    from tidegate.estimators.multi_label_text_ensemble import MultiLabelTextEnsemble as MultiLabelTextEnsemble
    from tidegate.estimators.multi_task_text_ensemble import MultiTaskTextEnsemble as MultiTaskTextEnsemble
    from tidegate.estimators.multi_task_text_model import MultiTaskTextModel as MultiTaskTextModel
    from tidegate.estimators.multitask_data import join_data_sets as join_data_sets
    from tidegate.estimators.ranker import Ranker as Ranker
    from tidegate.estimators.sequence_tagger import SequenceTagger as SequenceTagger
    from tidegate.estimators.sequence_tagger_ensemble import SequenceTaggerEnsemble as SequenceTaggerEnsemble
    from tidegate.estimators.text_classifier import TextClassifier as TextClassifier
    from tidegate.estimators.text_ensemble import TextEnsemble as TextEnsemble
    from tidegate.estimators.text_language_model import TextLanguageModel as TextLanguageModel
    from tidegate.estimators.text_regressor import TextRegressor as TextRegressor
    from tidegate.estimators.text_regressor_ensemble import TextRegressorEnsemble as TextRegressorEnsemble
    from tidegate.estimators.text_stack import TextStack as TextStack
    from tidegate.kernels.ragged import Ragged as Ragged
    from tidegate.kernels.ragged import pack as pack
    from tidegate.kernels.ragged import pad as pad
    from tidegate.kernels.ragged import ragged_from_lengths as ragged_from_lengths
    from tidegate.layers.attention import AdditiveAttention as AdditiveAttention
    from tidegate.layers.crf import CRF as CRF
    from tidegate.layers.initialization import initialize_ as initialize_
    from tidegate.layers.keras_weights import from_keras as from_keras
    from tidegate.layers.keras_weights import load_keras_ as load_keras_
    from tidegate.layers.keras_weights import to_keras as to_keras
    from tidegate.layers.lru import LRU as LRU
    from tidegate.layers.minimal import MinGRU as MinGRU
    from tidegate.layers.minimal import MinLSTM as MinLSTM
    from tidegate.layers.multihead import MultiHeadAttention as MultiHeadAttention
    from tidegate.layers.onnx_weights import OnnxNode as OnnxNode
    from tidegate.layers.onnx_weights import from_onnx as from_onnx
    from tidegate.layers.onnx_weights import load_onnx_ as load_onnx_
    from tidegate.layers.onnx_weights import to_onnx as to_onnx
    from tidegate.layers.query_attention import BahdanauAttention as BahdanauAttention
    from tidegate.layers.query_attention import LuongAttention as LuongAttention
    from tidegate.layers.recurrent import GRU as GRU
    from tidegate.layers.recurrent import LSTM as LSTM
    from tidegate.layers.recurrent import RNN as RNN
    from tidegate.layers.replace import replace_ as replace_
    from tidegate.layers.stack import RecurrentStack as RecurrentStack
    from tidegate.layers.time_distributed import TimeDistributed as TimeDistributed
    from tidegate.layers.transformer import TransformerEncoder as TransformerEncoder
    from tidegate.layers.update_gate import negate_update_gate_ as negate_update_gate_

__version__ = "0.1.0"

# Where each public name lives. Names load on first use, so `import tidegate` needs neither torch nor time (PEP 562).
_HOMES = {
    "AdditiveAttention": "tidegate.layers.attention",
    "BahdanauAttention": "tidegate.layers.query_attention",
    "CRF": "tidegate.layers.crf",
    "GRU": "tidegate.layers.recurrent",
    "LRU": "tidegate.layers.lru",
    "LSTM": "tidegate.layers.recurrent",
    "ContextualTextClassifier": "tidegate.estimators.contextual_text_classifier",
    "LinearTextClassifier": "tidegate.estimators.linear_text_classifier",
    "LuongAttention": "tidegate.layers.query_attention",
    "MinGRU": "tidegate.layers.minimal",
    "MinLSTM": "tidegate.layers.minimal",
    "MultiHeadAttention": "tidegate.layers.multihead",
    "MultiTaskTextEnsemble": "tidegate.estimators.multi_task_text_ensemble",
    "MultiTaskTextModel": "tidegate.estimators.multi_task_text_model",
    "MultiLabelTextClassifier": "tidegate.estimators.multi_label_text_classifier",
    "MultiLabelTextEnsemble": "tidegate.estimators.multi_label_text_ensemble",
    "OnnxNode": "tidegate.layers.onnx_weights",
    "RNN": "tidegate.layers.recurrent",
    "Ragged": "tidegate.kernels.ragged",
    "RecurrentStack": "tidegate.layers.stack",
    "Ranker": "tidegate.estimators.ranker",
    "SequenceTagger": "tidegate.estimators.sequence_tagger",
    "SequenceTaggerEnsemble": "tidegate.estimators.sequence_tagger_ensemble",
    "TextClassifier": "tidegate.estimators.text_classifier",
    "TextEnsemble": "tidegate.estimators.text_ensemble",
    "TextStack": "tidegate.estimators.text_stack",
    "TextRegressor": "tidegate.estimators.text_regressor",
    "TextRegressorEnsemble": "tidegate.estimators.text_regressor_ensemble",
    "TextLanguageModel": "tidegate.estimators.text_language_model",
    "TimeDistributed": "tidegate.layers.time_distributed",
    "TransformerEncoder": "tidegate.layers.transformer",
    "from_keras": "tidegate.layers.keras_weights",
    "from_onnx": "tidegate.layers.onnx_weights",
    "initialize_": "tidegate.layers.initialization",
    "join_data_sets": "tidegate.estimators.multitask_data",
    "load": "tidegate.estimators.loading",
    "load_keras_": "tidegate.layers.keras_weights",
    "load_onnx_": "tidegate.layers.onnx_weights",
    "negate_update_gate_": "tidegate.layers.update_gate",
    "pack": "tidegate.kernels.ragged",
    "pad": "tidegate.kernels.ragged",
    "ragged_from_lengths": "tidegate.kernels.ragged",
    "replace_": "tidegate.layers.replace",
    "to_keras": "tidegate.layers.keras_weights",
    "to_onnx": "tidegate.layers.onnx_weights",
    "transition_masks": "tidegate.data.tag_schemes",
}

__all__ = [
    "CRF",
    "GRU",
    "LRU",
    "LSTM",
    "RNN",
    "AdditiveAttention",
    "BahdanauAttention",
    "ContextualTextClassifier",
    "LinearTextClassifier",
    "LuongAttention",
    "MinGRU",
    "MinLSTM",
    "MultiHeadAttention",
    "MultiLabelTextClassifier",
    "MultiLabelTextEnsemble",
    "MultiTaskTextEnsemble",
    "MultiTaskTextModel",
    "OnnxNode",
    "Ragged",
    "Ranker",
    "RecurrentStack",
    "SequenceTagger",
    "SequenceTaggerEnsemble",
    "TextClassifier",
    "TextEnsemble",
    "TextLanguageModel",
    "TextRegressor",
    "TextRegressorEnsemble",
    "TextStack",
    "TimeDistributed",
    "TransformerEncoder",
    "__version__",
    "from_keras",
    "from_onnx",
    "initialize_",
    "join_data_sets",
    "load",
    "load_keras_",
    "load_onnx_",
    "negate_update_gate_",
    "pack",
    "pad",
    "ragged_from_lengths",
    "replace_",
    "to_keras",
    "to_onnx",
    "transition_masks",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tidegate' has no attribute {name!r}")
    from tidegate.errors import require

    require("torch", "train")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
