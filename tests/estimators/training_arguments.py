"""The arguments of training that every estimator of a network may have, with a change of each."""

from __future__ import annotations

from typing import Any

# These act on the network or on the rows.
ON_THE_NETWORK: dict[str, Any] = {
    "locked_dropout": 0.3,
    "recurrent_dropout": 0.3,
    "weight_dropout": 0.3,
    "focal_gamma": 2.0,
    "class_weight": {"positive": 5.0},
    "activity_penalty": 5.0,
    "temporal_penalty": 5.0,
    "augment_delete": 0.3,
    "augment_swap": 0.3,
    "augment_insert": 0.3,
    "augment_replace": 0.3,
    "augment_noise": 0.3,
    "pretrain_epochs": 1,
    "adapt_epochs": 1,
}
# These need files, or others beside them: see test_text_network.
# These follow training: see test_decisions.
ELSEWHERE = {
    "threshold",
    "calibrate",
    "augment_share",
    "synonyms",
    "init_from",
    "devices",
    "teacher",
    "teacher_temperature",
    "teacher_weight",
}
# What else is set, and arguments that go to `FitSettings`, whose effects tests/training hold.
OF_THE_SETTINGS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"optimizer": "adagrad", "beta1": 0.5, "beta2": 0.9, "epsilon": 0.1}),
    ({"optimizer": "sgd", "momentum": 0.5}, {"momentum": 0.9, "nesterov": True}),
    ({"optimizer": "asgd"}, {"average_trigger": 4}),
    ({}, {"schedule": "linear", "warmup_epochs": 1.0}),
    ({"schedule": "step"}, {"decay_factor": 0.9, "decay_epochs": 2}),
    ({"schedule": "cyclic", "cycles": 1}, {"cycles": 2}),
    ({}, {"l1": 0.01, "l2": 0.1}),
    ({"l2": 0.1}, {"penalized": "head"}),
    ({}, {"frozen": "embedding", "unfreeze_every": 2, "layer_rate_decay": 0.5}),
    ({}, {"accumulate": 2, "gradient_clip_value": 0.001, "precision": "bfloat16"}),
]
ARGUMENTS_OF_TRAINING = ELSEWHERE | set(ON_THE_NETWORK) | {name for _, changes in OF_THE_SETTINGS for name in changes}
