"""The sections of a tagging recipe: their keys, types and ranges, and what must go together."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field
from typing_extensions import TypedDict

from tidegate.data.bundled import tagged_path
from tidegate.schema.data import data_problems
from tidegate.schema.located_yaml import Document
from tidegate.schema.sections import STRICT, Count, Log, Rate, listed

# How the files of a recipe are read: arguments of `read_tagged`.
TAGGED_READING = ("format", "token_column", "tag_column", "unit", "fields", "encoding", "errors")


class TaggingData(TypedDict, total=False):
    """Which sentences to learn from: ``source`` (bundled, or one file of which the last part tests), or ``train`` etc.

    The keys from ``format`` on say how the files are read, and are those of `read_tagged`.
    """

    __pydantic_config__ = STRICT  # pyright: ignore[reportGeneralTypeIssues]
    source: str
    test_share: Annotated[float, Field(gt=0, lt=1)]
    train: str
    validation: str
    test: str
    intents: bool
    format: Literal["conll", "conllu", "jsonl", "word/tag"]
    token_column: int
    tag_column: int | str
    unit: Literal["words", "characters", "tagged-characters"]
    fields: dict[str, str]
    encoding: str
    errors: Literal["strict", "replace", "ignore", "backslashreplace", "surrogateescape"]


class TaggingText(TypedDict, total=False):
    """How tokens and tags are read."""

    __pydantic_config__ = STRICT  # pyright: ignore[reportGeneralTypeIssues]
    tokenizer: Literal["words", "characters", "blanks"]
    lowercase: bool
    replace_digits: bool
    max_vocabulary: Count
    min_count: Count
    tag_scheme: Literal["auto", "iob1", "bio", "bioes", "bmes", "bilou", "plain"]
    model_scheme: Literal["bioes", "bio"]
    illegal_tags: Literal["repair", "drop", "error"]


class TaggingModel(TypedDict, total=False):
    """What the network is."""

    __pydantic_config__ = STRICT  # pyright: ignore[reportGeneralTypeIssues]
    cell: Literal["gru", "lstm", "rnn", "gru-blstm"]
    embedding_size: Count | None
    vectors: Annotated[list[str], Field(min_length=1), BeforeValidator(listed)] | None
    extra_words: Annotated[int, Field(ge=0)]
    char_encoder: Literal["cnn", "gru", "lstm"] | None
    char_embedding_size: Count
    char_hidden_size: Count
    case_features: bool
    bigram_embedding_size: Annotated[int, Field(ge=0)]
    language_model: str | None
    hidden_size: Count
    num_layers: Count
    bidirectional: bool
    output_layer: Literal["crf", "softmax"]
    dropout: Rate
    embedding_dropout: Rate
    word_dropout: Rate
    recurrent_dropout: Rate
    intent_pooling: Literal["attention", "max", "mean", "last"]
    intent_weight: Annotated[float, Field(gt=0)]
    window: Annotated[int, Field(ge=4)] | None


class TaggingTraining(TypedDict, total=False):
    """How the network learns."""

    __pydantic_config__ = STRICT  # pyright: ignore[reportGeneralTypeIssues]
    learning_rate: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    optimizer: Literal["adamw", "adam", "sgd", "asgd", "rmsprop", "adagrad"]
    momentum: Rate | None
    schedule: Literal["constant", "step", "plateau", "cosine", "linear", "one-cycle", "cyclic"]
    warmup_epochs: Annotated[float, Field(ge=0)]
    decay_factor: Annotated[float, Field(gt=0, lt=1)] | None
    decay_epochs: Count | None
    cycles: Count | None
    batch_size: Count
    accumulate: Count
    max_epochs: Count
    patience: Count
    monitor: Literal["f1", "accuracy", "sentence_accuracy", "intent_accuracy", "loss"]
    validation_fraction: Rate
    gradient_clip: Annotated[float, Field(gt=0)] | None
    gradient_clip_value: Annotated[float, Field(gt=0)] | None
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None
    precision: Literal["float32", "bfloat16", "float16"]
    random_state: Annotated[int, Field(ge=0, lt=2**32)] | None
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$")]
    devices: Count
    verbose: bool | None


class TaggingOutput(BaseModel):
    """What a run leaves beside the model."""

    model_config = STRICT
    report: bool = True
    title: str | None = None
    try_: Annotated[list[str], Field(alias="try")] = []
    log: Log = []


class TaggingSections(BaseModel):
    """A whole tagging recipe."""

    model_config = STRICT
    task: Literal["sequence-tagging"]
    data: TaggingData
    text: TaggingText = {}
    model: TaggingModel = {}
    training: TaggingTraining = {}
    output: TaggingOutput = TaggingOutput()


def tagging_data_problems(sections: Any, document: Document, bundled: str | None) -> list[str]:
    """What of a tagging recipe's data does not go together, a line each."""
    data = sections.data

    def idle() -> tuple[list[str], str]:
        if bundled is not None:
            own = [key for key in TAGGED_READING if key != "unit"]
            return ["test_share", "train", "validation", "test", "intents", *own], "the bundled data bring their own"
        if "source" in data:
            return ["validation", "test"], "data.source brings its own"
        return ["test_share"], "it says which part of data.source tests"

    return data_problems(sections, document, bundled, find=lambda name: tagged_path(name, "train"), idle=idle)
