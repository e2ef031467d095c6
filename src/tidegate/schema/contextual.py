"""The sections of a recipe of the task contextual-text-classification: their keys, types and ranges."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from tidegate.reporting.scores import ClassMonitor
from tidegate.schema.sections import STRICT, Count, Data, Factor, Output, Rate, Threshold

__all__ = ["ContextualSections"]


class ContextualText(TypedDict, total=False):
    """How a text becomes states: by an encoder of the BERT family."""

    __pydantic_config__ = STRICT  # pyright: ignore[reportGeneralTypeIssues]
    encoder: str
    layer: int
    fine_tune: bool
    cache: str | None
    max_tokens: Annotated[int, Field(ge=3)]


class ContextualModel(TypedDict, total=False):
    """What the network over the states is."""

    __pydantic_config__ = STRICT  # pyright: ignore[reportGeneralTypeIssues]
    cell: Literal["gru", "lstm", "rnn"]
    hidden_size: Count
    num_layers: Count
    bidirectional: bool
    pooling: Literal["last", "mean", "max", "attention"]
    dropout: Rate
    embedding_dropout: Rate


class ContextualTraining(TypedDict, total=False):
    """How it learns."""

    __pydantic_config__ = STRICT  # pyright: ignore[reportGeneralTypeIssues]
    label_smoothing: Rate
    threshold: Threshold
    calibrate: Literal["temperature"] | None
    learning_rate: Annotated[float, Field(gt=0)]
    weight_decay: Factor
    batch_size: Count
    max_epochs: Count
    patience: Count
    monitor: ClassMonitor
    validation_fraction: Rate
    gradient_clip: Annotated[float, Field(gt=0)] | None
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None
    random_state: Annotated[int, Field(ge=0, lt=2**32)] | None
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$")]
    devices: Count
    verbose: bool | None


class ContextualSections(BaseModel):
    """A whole recipe."""

    model_config = STRICT
    task: Literal["contextual-text-classification"]
    data: Data
    text: ContextualText = {}
    model: ContextualModel = {}
    training: ContextualTraining = {}
    output: Output = Output()
