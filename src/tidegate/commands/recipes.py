"""The commands on recipes themselves: ``tidegate validate`` and ``tidegate recipes``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tidegate.commands import terminal
from tidegate.commands.session import AsJson, DataDir, Debug, Overrides, RecipeName, session

app = typer.Typer(
    help="The recipes that ship: list them, or copy one to change it.",
    epilog="Example: tidegate recipes copy sentiment_en",
    add_completion=False,
    pretty_exceptions_enable=False,
)


def validate(
    recipe: RecipeName,
    set_: Overrides = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Check a recipe: every key, type and range, that its data files are there, and their columns."""
    with session(debug=debug):
        from tidegate import jobs

        check = jobs.validate(recipe, overrides=set_ or [], data_dir=data_dir)
        if as_json:
            terminal.print_json(
                {"valid": True, "path": str(check.recipe.path), "data": check.data, "sets": check.recipe.arguments}
            )
            return
        console = terminal.make_console()
        terminal.print_line(console, f"{check.recipe.path}: valid")
        for part, source in check.data.items():
            terminal.print_line(console, f"  data.{part}: {source}")


@app.callback(invoke_without_command=True)
def _recipes(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_recipes()


@app.command("list", epilog="Example: tidegate recipes list")
def list_recipes(as_json: AsJson = False, debug: Debug = False) -> None:
    """List the recipes that ship, each with its command."""
    with session(debug=debug):
        from tidegate.recipes import shipped

        found = shipped.list_recipes()
        if as_json:
            terminal.print_json(
                [
                    {"name": item.name, "purpose": item.purpose, "command": item.command, "path": str(item.path)}
                    for item in found
                ]
            )
            return
        console = terminal.make_console()
        for item in found:
            terminal.print_line(console, f"{item.name}\n  {item.purpose}\n  {item.command}")


@app.command("copy", epilog="Example: tidegate recipes copy sentiment_en my_sentiment.yaml")
def copy_recipe(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A recipe that ships.", show_default=False)],
    destination: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="Where to; by default the current folder.", show_default=False),
    ] = None,
    debug: Debug = False,
) -> None:
    """Copy a recipe that ships, to change the copy."""
    with session(debug=debug):
        from tidegate.recipes import shipped

        target = shipped.copy_recipe(name, destination)
        terminal.print_line(terminal.make_console(), f"{target}\nEdit it, then: tidegate train {target}")
