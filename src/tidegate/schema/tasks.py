"""What a recipe of each task may say: its sections, and their keys."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from tidegate.schema.contextual import ContextualSections
from tidegate.schema.linear import LinearSections
from tidegate.schema.multitask import MultiTaskSections
from tidegate.schema.sections import Sections
from tidegate.schema.tagging import TaggingSections
from tidegate.schema.targets import MultiLabelSections, RegressionSections

__all__ = ["SECTIONS", "TASKS", "AnySections", "section_keys", "section_type"]

# Those that hold the estimator's arguments.
SECTIONS = ("text", "model", "training")
AnySections = (
    Sections
    | LinearSections
    | ContextualSections
    | TaggingSections
    | RegressionSections
    | MultiLabelSections
    | MultiTaskSections
)
TASKS: dict[str, type[BaseModel]] = {
    "text-classification": Sections,
    "linear-text-classification": LinearSections,
    "contextual-text-classification": ContextualSections,
    "sequence-tagging": TaggingSections,
    "text-regression": RegressionSections,
    "multi-label-text-classification": MultiLabelSections,
    "multi-task-text": MultiTaskSections,
}


def section_type(section: str, task: str = "text-classification") -> Any:
    """What a section may say, a TypedDict; of output a model of pydantic's."""
    return TASKS[task].model_fields[section].annotation


def section_keys(section: str, task: str = "text-classification") -> tuple[str, ...]:
    """The legal keys of a section, in their order."""
    model = section_type(section, task)
    if section == "output":
        return tuple(info.alias or name for name, info in model.model_fields.items())
    return tuple(name for name in model.__annotations__ if not name.startswith("__"))
