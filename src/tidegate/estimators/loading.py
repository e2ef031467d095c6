"""From a saved model to its estimator, whatever its kind."""

from __future__ import annotations

import os
from typing import Any

from tidegate.deploy.bundle import Bundle, load_bundle
from tidegate.errors import BundleError
from tidegate.estimators.contextual_text_classifier import ContextualTextClassifier
from tidegate.estimators.linear_text_classifier import LinearTextClassifier
from tidegate.estimators.multi_label_text_classifier import MultiLabelTextClassifier
from tidegate.estimators.multi_label_text_ensemble import MultiLabelTextEnsemble
from tidegate.estimators.multi_task_text_ensemble import MultiTaskTextEnsemble
from tidegate.estimators.multi_task_text_model import MultiTaskTextModel
from tidegate.estimators.ranker import Ranker
from tidegate.estimators.sequence_tagger import SequenceTagger
from tidegate.estimators.sequence_tagger_ensemble import SequenceTaggerEnsemble
from tidegate.estimators.text_classifier import TextClassifier
from tidegate.estimators.text_ensemble import TextEnsemble
from tidegate.estimators.text_language_model import TextLanguageModel
from tidegate.estimators.text_regressor import TextRegressor
from tidegate.estimators.text_regressor_ensemble import TextRegressorEnsemble
from tidegate.estimators.text_stack import TextStack

__all__ = ["load", "restore"]

_ESTIMATORS = (
    ContextualTextClassifier,
    LinearTextClassifier,
    MultiTaskTextModel,
    MultiTaskTextEnsemble,
    MultiLabelTextClassifier,
    MultiLabelTextEnsemble,
    Ranker,
    SequenceTagger,
    SequenceTaggerEnsemble,
    TextClassifier,
    TextEnsemble,
    TextRegressor,
    TextRegressorEnsemble,
    TextStack,
    TextLanguageModel,
)
_KINDS: dict[str, Any] = {estimator.kind: estimator for estimator in _ESTIMATORS}


def load(path: str | os.PathLike[str]) -> Any:
    """The fitted estimator in a ``.tg`` file.

    Raises:
        BundleError: The file is missing, damaged, or of a kind that this version does not know.
    """
    return restore(load_bundle(path), path)


def restore(bundle: Bundle, path: str | os.PathLike[str]) -> Any:
    """The fitted estimator that a bundle describes, whatever its kind; `path` names it in errors.

    Raises:
        BundleError: It is of a kind that this version does not know, or its parts do not fit together.
    """
    if bundle.kind not in _KINDS:
        raise BundleError(f"{path}: expected a model of the kind {', '.join(_KINDS)}; found {bundle.kind!r}")
    return _KINDS[bundle.kind].from_bundle(bundle, path)
