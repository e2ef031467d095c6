"""The recipe: one YAML file that says which data, which model and which training, read strictly.

The sections text, model and training hold the estimator's arguments of the same names. No default stands here: a key
that a recipe leaves out is not passed, and the estimator's signature decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tidegate.data.bundled import PREFIX, bundled_path
from tidegate.data.sources import is_table
from tidegate.errors import RecipeError, nearest
from tidegate.schema.data import data_problems, idle_problems
from tidegate.schema.located_yaml import Document, dump_document, parse_document, read_document
from tidegate.schema.multitask import multitask_problems
from tidegate.schema.pairs import pair_problems
from tidegate.schema.sections import Sections
from tidegate.schema.tagging import tagging_data_problems
from tidegate.schema.tasks import SECTIONS, TASKS, AnySections, section_keys
from tidegate.schema.wording import explain, joined, shown_value

READING = ("delimiter", "quote", "encoding", "errors", "header")
TABLES_ONLY = ("delimiter", "quote", "header")
TAGGED_ONLY = ("format", "token_column", "tag_column", "unit")


@dataclass(frozen=True)
class Recipe:
    """A recipe that was read and found valid.

    Attributes:
        path: Its file.
        data_folder: The folder that its data paths are relative to.
        sections: Its values.
        document: The same as plain values, with the place of each.
    """

    path: Path
    data_folder: Path
    sections: AnySections
    document: Document

    @property
    def name(self) -> str:
        """The stem of the file, by which runs are filed."""
        return self.path.stem

    @property
    def task(self) -> str:
        """What the recipe trains, as ``"text-classification"``."""
        return self.sections.task

    @property
    def arguments(self) -> dict[str, Any]:
        """The estimator's arguments that the recipe sets; paths among them are full ones."""
        arguments: dict[str, Any] = {**self.sections.text, **self.sections.model, **self.sections.training}
        if arguments.get("vectors") is not None:
            arguments["vectors"] = [str((self.data_folder / name).resolve()) for name in arguments["vectors"]]
        # An encoder may be the name of a package, and what is kept of it goes where the runs go.
        if "encoder" in arguments and (folder := self.data_folder / arguments["encoder"]).is_dir():
            arguments["encoder"] = str(folder.resolve())
        if arguments.get("cache") is not None:
            arguments["cache"] = str(Path(arguments["cache"]).resolve())
        for key in _FILES:
            if arguments.get(key) is not None:
                arguments[key] = str((self.data_folder / arguments[key]).resolve())
        return arguments

    @property
    def bundled(self) -> str | None:
        """Name of the bundled data set that ``data.source`` asks for, if it does."""
        source = self.sections.data.get("source", "")
        return source.removeprefix(PREFIX) if source.startswith(PREFIX) else None

    def data_path(self, key: str) -> Path | None:
        """The file or folder that a key of the section data names, or None where the recipe has no such key."""
        value = dict(self.sections.data).get(key)
        return None if value is None else (self.data_folder / str(value)).resolve()

    def data_paths(self, key: str) -> list[Path]:
        """The files or folders that a key of the section data names, which may be one or several."""
        value = dict(self.sections.data).get(key)
        names = [] if value is None else value if isinstance(value, list) else [value]
        return [(self.data_folder / str(name)).resolve() for name in names]

    def resolved(self, arguments: Mapping[str, Any]) -> str:
        """The recipe as YAML with the data's full paths and every argument, defaults too, so that it repeats the run.

        Args:
            arguments: All of the estimator's arguments, as its ``get_params()`` gives them.
        """
        data = dict(self.sections.data)
        for key in data.keys() & {"unlabelled", *(() if self.bundled else _PATHS)}:
            paths = [str(path) for path in self.data_paths(key)]
            data[key] = paths if len(paths) > 1 else paths[0]
        output: dict[str, Any] = self.sections.output.model_dump(by_alias=True, exclude_unset=True)
        if "baseline" in output:
            output["baseline"] = False if output["baseline"] is None else output["baseline"] or True
        values: dict[str, Any] = {"task": self.sections.task, "data": data}
        for section in SECTIONS:
            chosen = {name: arguments[name] for name in section_keys(section, self.task) if name in arguments}
            values[section] = {name: list(item) if isinstance(item, tuple) else item for name, item in chosen.items()}
        if self.bundled or "validation" in data:
            values["training"].pop("validation_fraction", None)
        return dump_document(
            {**values, "output": output},
            f"The recipe {self.path.name} with every option of the run.\nRepeat the run: tidegate train <this file>",
        )


_PATHS = ("source", "train", "validation", "test")
# Keys that name a file, and their sections.
_FILES = {"synonyms": "training", "init_from": "training", "teacher": "training", "language_model": "model"}
# Tasks that learn from labelled texts alone.
_LABELS_ALONE = ("linear-text-classification", "contextual-text-classification")


def shipped_recipes() -> dict[str, Path]:
    """Name -> file of the recipes that ship in the package."""
    folder = Path(str(resources.files("tidegate.recipes")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_recipe(name: str | Path) -> Path:
    """The file of a recipe, given by its path or by the name of one that ships.

    Raises:
        RecipeError: There is no such file; the message names the nearest one.
    """
    path, shipped = Path(name), shipped_recipes()
    if path.is_file():
        return path
    if path.is_dir():
        raise RecipeError(f"{path}: expected a recipe (a YAML file), found a folder.")
    if str(name) in shipped:
        return shipped[str(name)]
    siblings = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
    raise RecipeError(
        f"{path}: no such recipe.{nearest(path.name, siblings) or nearest(path.stem, shipped)} "
        f"Give the path of a YAML file, or one that ships: {', '.join(shipped)}."
    )


def load_recipe(
    name: str | Path,
    *,
    overrides: Sequence[str] = (),
    data_dir: str | Path | None = None,
    check_files: bool = True,
) -> Recipe:
    """Read a recipe and check every key, type, range and file.

    Args:
        name: Path of a YAML file, or the name of a recipe that ships.
        overrides: Values that go over those of the file, as ``"model.hidden_size=256"``; the value is YAML.
        data_dir: Folder that data paths are relative to; None takes the recipe's own.
        check_files: Whether the data files must be there.

    Raises:
        RecipeError: With one line for each thing wrong: where, key path, what was expected and found, nearest name.
    """
    path = find_recipe(name)
    document = read_document(path)
    if document.value is None:
        raise RecipeError(f"{path}: the recipe is empty; expected the sections {', '.join(Sections.model_fields)}.")
    if not isinstance(document.value, dict):
        raise RecipeError(
            f"{document.place(())}: expected sections ({joined(Sections.model_fields)}), found no 'key:'."
        )
    for override in overrides:
        document = _override(document, override)
    task = _task(document)
    try:
        sections: Any = TASKS[task].model_validate(document.value)
    except ValidationError as error:
        found = sorted(error.errors(), key=lambda item: document.rank(item["loc"]))
        raise RecipeError("\n".join(dict.fromkeys(explain(item, document, task) for item in found))) from None
    recipe = Recipe(path, Path(data_dir) if data_dir is not None else path.parent, sections, document)
    if recipe.task == "sequence-tagging":
        problems = tagging_data_problems(sections, document, recipe.bundled)
    else:
        problems = _data_problems(recipe)
    problems += pair_problems(sections, document)
    if recipe.task == "multi-task-text":
        problems += multitask_problems(sections, document)
    if not problems and check_files:
        problems = _missing_files(recipe, data_dir is None)
    if problems:
        raise RecipeError("\n".join(problems))
    return recipe


def _task(document: Document) -> str:
    """The task of a recipe; of one that names none, or none that there is, the first."""
    named = document.value.get("task")
    return named if isinstance(named, str) and named in TASKS else "text-classification"


def _override(document: Document, override: str) -> Document:
    place = f"--set {override}"
    name, equals, text = override.partition("=")
    keys = name.strip().split(".")
    if not equals or not all(keys):
        raise RecipeError(f"{place}: expected SECTION.KEY=VALUE, as in model.hidden_size=256.")
    parsed = parse_document(text, place, numbered=False)
    value = dict(document.value)
    inner = value
    for depth, key in enumerate(keys[:-1], start=1):
        below = inner.get(key)
        if below is not None and not isinstance(below, dict):
            raise RecipeError(f"{place}: {'.'.join(keys[:depth])} is {shown_value(below)}, which has no keys.")
        inner[key] = dict(below or {})
        inner = inner[key]
    inner[keys[-1]] = parsed.value
    path = tuple(keys)
    places = {old: where for old, where in document.places.items() if old[: len(path)] != path}
    for depth in range(1, len(path)):
        places.setdefault(path[:depth], place)
    places |= {(*path, *inside): where for inside, where in parsed.places.items()}
    return Document(document.name, value, places | {path: place})


# --- checks that concern more than one key


def _data_problems(recipe: Recipe) -> list[str]:
    data, bundled, document = recipe.sections.data, recipe.bundled, recipe.document

    def idle() -> tuple[list[str], str]:
        if "source" not in data:
            return ["split"], "data.train and its fellows are the splits"
        if bundled is None:
            return ["validation", "test"], "data.source brings its own"
        columns = ["text", "label", "split", "label_separator"]
        return ["validation", "test", *columns, *READING], "the bundled data bring their own"

    problems = data_problems(recipe.sections, document, bundled, find=bundled_path, idle=idle)
    if ("source" in data) == ("train" in data):
        return problems  # of which the others follow
    if recipe.task in _LABELS_ALONE:
        problems += idle_problems(data, document, ["unlabelled"], f"the task {recipe.task} has no pre-training")
    if bundled is None and not any(is_table(path) for key in _PATHS for path in recipe.data_paths(key)):
        reason = "it says how CSV and TSV files are read, and there are none"
        problems += idle_problems(data, document, TABLES_ONLY, reason)
    if dict(recipe.sections.training).get("warm_start"):
        problems.append(
            f"{document.place(('training', 'warm_start'))}: training.warm_start has no effect: a run trains a new "
            "model. To start from another one set training.init_from; to go on with a run that broke off, --resume."
        )
    return problems


def _missing_files(recipe: Recipe, beside_recipe: bool) -> list[str]:
    problems = []
    named: dict[tuple[str | int, ...], Path] = {
        ("data", key, place): path
        for key in ("unlabelled", *(_PATHS if recipe.bundled is None else ()))
        for place, path in enumerate(recipe.data_paths(key))
    }
    vectors = recipe.arguments.get("vectors") or []
    named |= {("model", "vectors", place): Path(name) for place, name in enumerate(vectors)}
    files = {(section, key): recipe.arguments.get(key) for key, section in _FILES.items()}
    named |= {keys: Path(name) for keys, name in files.items() if name is not None}
    for keys, path in named.items():
        if path.exists():
            continue
        siblings = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
        problems.append(
            f"{recipe.document.place(keys)}: {keys[0]}.{keys[1]}: expected a file or folder, found none at {path}."
            f"{nearest(path.name, siblings)} Paths are relative to "
            + (
                f"the recipe ({recipe.data_folder}); --data-dir names another folder."
                if beside_recipe
                else "--data-dir."
            )
        )
    return problems
