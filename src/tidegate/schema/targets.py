"""The sections of recipes of the tasks text-regression and multi-label-text-classification.

They are those of text-classification but for a few keys, as their estimators' arguments are; so what those gain is
gained here.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from tidegate.reporting.scores import LABEL_MONITORS, NUMBER_MONITORS
from tidegate.schema.sections import STRICT, TEACHING, Data, Model, Output, Text, Training

__all__ = ["MultiLabelSections", "RegressionSections", "derived_section"]


def derived_section(base: Any, name: str, *, without: Collection[str] = (), **own: Any) -> Any:
    """A section with the keys of another one, in their order, less some; keys of its own stand over those or come last.

    Args:
        base: The other section, a TypedDict.
        name: Of the new one.
        without: Keys of `base` that it has not.
        own: Key -> type.
    """
    hints = {key: kind for key, kind in get_type_hints(base, include_extras=True).items() if key not in without}
    make: Any = TypedDict
    section = make(name, {**hints, **own}, total=False)
    section.__pydantic_config__ = STRICT
    return section


RegressionTraining = derived_section(
    Training,
    "RegressionTraining",
    without=("label_smoothing", "focal_gamma", "class_weight", "threshold", "calibrate", *TEACHING),
    monitor=Literal[*NUMBER_MONITORS],
    loss=Literal["squared", "absolute", "huber", "ordinal"],
)


MultiLabelData = derived_section(Data, "MultiLabelData", label_separator=Annotated[str, Field(min_length=1)])
MultiLabelTraining = derived_section(
    Training,
    "MultiLabelTraining",
    without=TEACHING,
    monitor=Literal[*LABEL_MONITORS],
)


class RegressionSections(BaseModel):
    """A whole recipe of text-regression; ``data.label`` is the column of the numbers."""

    model_config = STRICT
    task: Literal["text-regression"]
    data: Data
    text: Text = {}
    model: Model = {}
    training: RegressionTraining = {}  # pyright: ignore[reportInvalidTypeForm]
    output: Output = Output()


class MultiLabelSections(BaseModel):
    """A whole recipe of multi-label-text-classification; ``data.label`` is the column of the labels of a text."""

    model_config = STRICT
    task: Literal["multi-label-text-classification"]
    data: MultiLabelData  # pyright: ignore[reportInvalidTypeForm]
    text: Text = {}
    model: Model = {}
    training: MultiLabelTraining = {}  # pyright: ignore[reportInvalidTypeForm]
    output: Output = Output()
