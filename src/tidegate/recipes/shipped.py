"""The recipes that ship, listed and copied."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tidegate.config import find_recipe, shipped_recipes
from tidegate.errors import TidegateError


@dataclass(frozen=True)
class ShippedRecipe:
    """A recipe of the package: its name, the first line of its comment, the command it opens with, and its file."""

    name: str
    purpose: str
    command: str
    path: Path


def list_recipes() -> list[ShippedRecipe]:
    """The recipes of the package."""
    recipes = []
    for name, path in shipped_recipes().items():
        lines = [line.removeprefix("#").strip() for line in path.read_text(encoding="utf-8").splitlines()]
        command = next(line for line in lines if line.startswith("tidegate train"))
        recipes.append(ShippedRecipe(name, lines[0].rstrip(":"), command, path))
    return recipes


def copy_recipe(name: str, destination: str | Path | None = None) -> Path:
    """Copy a recipe of the package to a file or folder; None takes the current folder.

    Raises:
        RecipeError: There is no such recipe.
        TidegateError: The file is there already or cannot be written.
    """
    source = shipped_recipes().get(name.removesuffix(".yaml")) or find_recipe(name)
    target = Path(destination) if destination is not None else Path()
    if target.is_dir():
        target = target / source.name
    try:
        with open(target, "xb") as file:
            file.write(source.read_bytes())
    except FileExistsError:
        raise TidegateError(f"{target}: there is a file of this name. Name another, or remove it.") from None
    except OSError as error:
        raise TidegateError(f"{target}: the file could not be written: {error.strerror or error}.") from None
    return target
