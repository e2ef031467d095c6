"""The sections of a recipe: their keys, types and ranges."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from typing_extensions import TypedDict

from tidegate.reporting.scores import ClassMonitor
from tidegate.schema.pairs import one_or_two, text_or_pair

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Factor = Annotated[float, Field(ge=0)]
Threshold = Literal["tuned"] | Annotated[float, Field(gt=0, lt=1)] | None
Character = Annotated[str, Field(min_length=1, max_length=1)]


class Data(TypedDict, total=False):
    """Which texts to learn from: ``source`` (bundled, or a file with a split column), or ``train`` and its fellows.

    ``unlabelled`` are further texts, for pre-training; ``text`` is their column, or the two of pairs of texts.

    The keys from ``delimiter`` on say how the files are read, and are those of `read_records`.
    """

    __pydantic_config__ = STRICT  # pyright: ignore[reportGeneralTypeIssues]
    source: str
    train: str
    validation: str
    test: str
    unlabelled: str
    text: Annotated[Any, BeforeValidator(one_or_two)]
    label: str
    split: str
    delimiter: Character
    quote: Character | None
    encoding: str
    errors: Literal["strict", "replace", "ignore", "backslashreplace", "surrogateescape"]
    header: Annotated[list[str], Field(min_length=1)]


class Text(TypedDict, total=False):
    """How a text becomes tokens."""

    __pydantic_config__ = STRICT  # pyright: ignore[reportGeneralTypeIssues]
    tokenizer: Literal["words", "characters", "bpe", "jieba"]
    lowercase: bool
    strip_html: bool
    normalization: Literal["NFKC", "NFC", "NFD", "NFKD"] | None
    max_tokens: Count | None
    truncation: Literal["head", "tail", "ends"]
    max_vocabulary: Count
    min_count: Count


def listed(value: object) -> object:
    """One text as a list of it."""
    return [value] if isinstance(value, str) else value


class Model(TypedDict, total=False):
    """What the network is."""

    __pydantic_config__ = STRICT  # pyright: ignore[reportGeneralTypeIssues]
    cell: Literal["gru", "lstm", "rnn"]
    embedding_size: Count | None
    embedding_init: Literal["normal", "cooccurrence"]
    vectors: Annotated[list[str], Field(min_length=1), BeforeValidator(listed)] | None
    tune_vectors_after: Annotated[int, Field(ge=0)] | None
    char_encoder: Literal["cnn", "gru", "lstm"] | None
    char_embedding_size: Count
    char_hidden_size: Count
    language_model: str | None
    hidden_size: Count
    num_layers: Count
    bidirectional: bool
    pooling: Literal["last", "mean", "max", "attention"]
    dropout: Rate
    embedding_dropout: Rate
    word_dropout: Rate
    locked_dropout: Rate
    recurrent_dropout: Rate
    weight_dropout: Rate


# Of a classifier that learns from another one; recipes of other tasks are without them.
TEACHING = ("teacher", "teacher_temperature", "teacher_weight")


class Training(TypedDict, total=False):
    """How the network learns."""

    __pydantic_config__ = STRICT  # pyright: ignore[reportGeneralTypeIssues]
    learning_rate: Annotated[float, Field(gt=0)]
    weight_decay: Factor
    optimizer: Literal["adamw", "adam", "sgd", "asgd", "rmsprop", "adagrad"]
    momentum: Rate | None
    nesterov: bool
    beta1: Rate | None
    beta2: Rate | None
    epsilon: Annotated[float, Field(gt=0)] | None
    average_trigger: Count | None
    schedule: Literal["constant", "step", "plateau", "cosine", "linear", "one-cycle", "cyclic"]
    warmup_epochs: Factor
    decay_factor: Annotated[float, Field(gt=0, lt=1)] | None
    decay_epochs: Count | None
    cycles: Count | None
    label_smoothing: Rate
    focal_gamma: Factor
    class_weight: Literal["balanced"] | dict[str | int, Annotated[float, Field(gt=0)]] | None
    threshold: Threshold
    calibrate: Literal["temperature"] | None
    l1: Factor
    l2: Factor
    penalized: Literal["weights", "embedding", "recurrent", "head", "all"]
    activity_penalty: Factor
    temporal_penalty: Factor
    batch_size: Count
    accumulate: Count
    augment_delete: Rate
    augment_swap: Rate
    augment_insert: Rate
    augment_replace: Rate
    augment_noise: Rate
    augment_share: Annotated[float, Field(gt=0, le=1)]
    synonyms: str | None
    init_from: str | None
    teacher: str | None
    teacher_temperature: Annotated[float, Field(gt=0)] | None
    teacher_weight: Annotated[float, Field(gt=0, le=1)] | None
    pretrain_epochs: Annotated[int, Field(ge=0)]
    adapt_epochs: Annotated[int, Field(ge=0)]
    frozen: Literal["embedding", "encoder"] | None
    unfreeze_every: Count | None
    layer_rate_decay: Annotated[float, Field(gt=0, le=1)]
    max_epochs: Count
    patience: Count
    monitor: ClassMonitor
    validation_fraction: Rate
    gradient_clip: Annotated[float, Field(gt=0)] | None
    gradient_clip_value: Annotated[float, Field(gt=0)] | None
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None
    warm_start: bool
    precision: Literal["float32", "bfloat16", "float16"]
    random_state: Annotated[int, Field(ge=0, lt=2**32)] | None
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$")]
    devices: Count
    verbose: bool | None


class BaselineOptions(TypedDict, total=False):
    """How the TF-IDF baseline reads a text; left out, it follows ``text.tokenizer``."""

    __pydantic_config__ = STRICT  # pyright: ignore[reportGeneralTypeIssues]
    tokenizer: Literal["words", "characters", "jieba"]


def _baseline_switch(value: object) -> object:
    return value if not isinstance(value, bool) else {} if value else None


# Records of a run's epochs, beside the table that it always leaves.
Log = Annotated[list[Literal["tensorboard", "mlflow"]], BeforeValidator(listed)]


class Output(BaseModel):
    """What a run leaves beside the model."""

    model_config = STRICT
    report: bool = True
    baseline: Annotated[BaselineOptions | None, BeforeValidator(_baseline_switch)] = None
    title: str | None = None
    try_: Annotated[list[Annotated[Any, BeforeValidator(text_or_pair)]], Field(alias="try")] = []
    log: Log = []


class Sections(BaseModel):
    """A whole recipe."""

    model_config = STRICT
    task: Literal["text-classification"]
    data: Data
    text: Text = {}
    model: Model = {}
    training: Training = {}
    output: Output = Output()
