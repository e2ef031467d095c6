"""The sections of a recipe of the task linear-text-classification: their keys, types and ranges."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from tidegate.schema.sections import STRICT, Count, Data, Output, Rate

__all__ = ["LinearSections"]

Range = Annotated[list[Count], Field(min_length=2, max_length=2)]
Positive = Annotated[float, Field(gt=0)]


class LinearText(TypedDict, total=False):
    """How a text becomes weights of terms."""

    __pydantic_config__ = STRICT  # pyright: ignore[reportGeneralTypeIssues]
    tokenizer: Literal["words", "characters", "jieba"]
    lowercase: bool
    strip_html: bool
    normalization: Literal["NFKC", "NFC", "NFD", "NFKD"] | None
    keep_marks: bool
    ngram_range: Range
    character_ngram_range: Range | None
    max_vocabulary: Count | None
    min_documents: Count
    weighting: Literal["tfidf", "counts", "binary"]


class LinearModelSection(TypedDict, total=False):
    """What the linear model is."""

    __pydantic_config__ = STRICT  # pyright: ignore[reportGeneralTypeIssues]
    classifier: Literal["logistic", "naive-bayes", "svm", "nbsvm"]
    C: Positive | None
    alpha: Positive
    interpolation: Annotated[float, Field(ge=0, le=1)]


class LinearTraining(TypedDict, total=False):
    """How it is fitted."""

    __pydantic_config__ = STRICT  # pyright: ignore[reportGeneralTypeIssues]
    validation_fraction: Rate
    random_state: Annotated[int, Field(ge=0, lt=2**32)] | None


class LinearSections(BaseModel):
    """A whole recipe."""

    model_config = STRICT
    task: Literal["linear-text-classification"]
    data: Data
    text: LinearText = {}
    model: LinearModelSection = {}
    training: LinearTraining = {}
    output: Output = Output()
