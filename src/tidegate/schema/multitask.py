"""The sections of a recipe of the task multi-task-text: their keys, types and ranges, and what must go together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field
from typing_extensions import TypedDict

from tidegate.errors import nearest
from tidegate.reporting.task_scores import task_monitors
from tidegate.schema.located_yaml import Document
from tidegate.schema.sections import STRICT, TEACHING, Character, Model, Output, Text, Training, listed
from tidegate.schema.targets import derived_section

__all__ = ["MultiTaskSections", "multitask_problems"]

Files = Annotated[list[str], Field(min_length=1), BeforeValidator(listed)]
Name = Annotated[str, Field(min_length=1)]
Weight = Annotated[float, Field(gt=0)]
# Keys of the text classifier that say something of the classes of its one task.
_OF_ONE_TASK = ("class_weight", "threshold", "calibrate", *TEACHING)


class MultiTaskData(TypedDict, total=False):
    """Which texts to learn from: ``source`` (bundled, or a file with a split column), or ``train`` and its fellows.

    ``train``, ``validation`` and ``test`` are a file each, or several, of which each may have the columns of some of
    the tasks. ``columns`` names the column of a task where it is not called like the task.
    """

    __pydantic_config__ = STRICT  # pyright: ignore[reportGeneralTypeIssues]
    source: str
    train: Files
    validation: Files
    test: Files
    unlabelled: str
    text: str
    columns: dict[Name, Name]
    split: str
    delimiter: Character
    quote: Character | None
    encoding: str
    errors: Literal["strict", "replace", "ignore", "backslashreplace", "surrogateescape"]
    header: Annotated[list[str], Field(min_length=1)]


if TYPE_CHECKING:
    MultiTaskModelSection = dict[str, Any]
    MultiTaskTraining = dict[str, Any]
else:
    MultiTaskModelSection = derived_section(
        Model,
        "MultiTaskModelSection",
        tasks=dict[Name, Literal["classification", "regression"]],
        regression_loss=Literal["squared", "absolute", "huber"],
    )
    MultiTaskTraining = derived_section(
        Training,
        "MultiTaskTraining",
        without=_OF_ONE_TASK,
        monitor=str,
        task_weights=Literal["uncertainty"] | dict[Name, Weight] | None,
        task_sampling=Literal["joint", "proportional", "square-root", "uniform", "temperature"],
        sampling_temperature=Annotated[float, Field(ge=1)] | None,
    )


class MultiTaskOutput(Output):
    """What a run leaves beside the model; ``single_tasks`` trains a model a task as well, to compare with."""

    single_tasks: bool = False


class MultiTaskSections(BaseModel):
    """A whole recipe."""

    model_config = STRICT
    task: Literal["multi-task-text"]
    data: MultiTaskData
    text: Text = {}
    model: MultiTaskModelSection = {}
    training: MultiTaskTraining = {}
    output: MultiTaskOutput = MultiTaskOutput()


def multitask_problems(sections: Any, document: Document) -> list[str]:
    """What of a recipe of several tasks does not go together, a line each."""
    training, tasks = sections.training, sections.model.get("tasks") or {}
    if not tasks:
        return [
            f"{document.place(('model',))}: model.tasks is missing: it names the tasks, each a column of the "
            "data. Write for example: tasks: {label: classification, rating: regression}"
        ]
    problems = []

    def refuse(keys: tuple[str, ...], text: str) -> None:
        problems.append(f"{document.place(keys)}: {'.'.join(keys)}: {text}")

    for section, key in (("data", "columns"), ("training", "task_weights")):
        named = getattr(sections, section).get(key)
        for name in named if isinstance(named, dict) else ():
            if name not in tasks:
                refuse((section, key), f"{name!r} is none of model.tasks ({', '.join(tasks)}).{nearest(name, tasks)}")
    legal = task_monitors(tasks)
    monitor = training.get("monitor", "mean")
    if monitor not in legal:
        refuse(
            ("training", "monitor"),
            f"expected mean, loss, a task ({', '.join(tasks)}) or a figure of one, as {legal[-1]}; found the text "
            f"{monitor!r}.{nearest(monitor, legal)}",
        )
    sampling, temperature = training.get("task_sampling", "joint"), training.get("sampling_temperature")
    if (sampling == "temperature") != (temperature is not None):
        key = "task_sampling" if sampling == "temperature" else "sampling_temperature"
        refuse(("training", key), "task_sampling: temperature and sampling_temperature go together; give both or none.")
    if "regression_loss" in sections.model and "regression" not in tasks.values():
        refuse(("model", "regression_loss"), "it has no effect: no task is a regression. Remove it.")
    return problems
