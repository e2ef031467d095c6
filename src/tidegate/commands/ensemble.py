"""The command ``tidegate ensemble``: reads arguments, calls a job, prints what it returns."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from tidegate.commands import terminal
from tidegate.commands.session import (
    AsJson,
    BadBytes,
    Debug,
    Delimiter,
    Encoding,
    Header,
    LabelColumn,
    Quote,
    SplitColumn,
    TextColumn,
    reading_options,
    session,
)

__all__ = ["ensemble"]


def ensemble(
    models: Annotated[
        list[Path], typer.Argument(metavar="MODEL MODEL...", help=".tg files of classifiers.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="The ensemble's file.", show_default=False)],
    weights: Annotated[
        str,
        typer.Option(
            metavar="fit|equal|NUMBER,NUMBER",
            help="fit: a logistic regression over the members, on --data; equal: the mean of their probabilities; or a "
            "number a member.",
        ),
    ] = "fit",
    data: Annotated[
        str | None,
        typer.Option(help="Labelled texts that no member learned from, as of evaluate.", show_default=False),
    ] = None,
    part: Annotated[
        str | None, typer.Option(help="Their part: a value of the split column.", show_default=False)
    ] = None,
    test: Annotated[
        str | None, typer.Option(help="Labelled texts to compare members and ensemble on.", show_default=False)
    ] = None,
    test_part: Annotated[str | None, typer.Option(help="Their part.", show_default=False)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file that --out names.")] = False,
    text: TextColumn = None,
    label: LabelColumn = None,
    split: SplitColumn = None,
    delimiter: Delimiter = None,
    quote: Quote = None,
    header: Header = None,
    encoding: Encoding = None,
    errors: BadBytes = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Join saved classifiers of any kinds into one file, which predicts with all of them."""
    with session(debug=debug):
        from tidegate.jobs import ensemble
        from tidegate.jobs.text_data import options_named

        reading = reading_options(delimiter=delimiter, quote=quote, header=header, encoding=encoding, errors=errors)
        with options_named("On the command line", "--{}"):
            result = ensemble.join(
                models,
                out,
                weights=_weights(weights),
                data=data,
                part=part,
                test=test,
                test_part=test_part,
                overwrite=overwrite,
                columns={"text": text, "label": label, "split": split},
                **reading,
            )
        if as_json:
            terminal.print_json({**dataclasses.asdict(result), "model": str(result.model)})
        else:
            _print(result)


def _weights(given: str) -> str | list[float]:
    if given in ("fit", "equal"):
        return given
    try:
        return [float(number) for number in given.split(",")]
    except ValueError:
        raise typer.BadParameter(f"--weights: expected fit, equal or a number a member, found {given!r}.") from None


def _print(result: Any) -> None:
    console = terminal.make_console()
    judged = [item for item in (result.held_out, result.test) if item is not None]
    names = ["held out", "test"] if len(judged) == 2 else ["held out" if result.held_out else "test"][: len(judged)]
    table = terminal.make_table("member", "kind", *names, right=tuple(names))
    for number, (member, kind) in enumerate(zip(result.members, result.kinds, strict=True)):
        row = [member, kind, *(f"{item.members[number]:.4f}" for item in judged)]
        table.add_row(*(terminal.make_cell(cell) for cell in row))
    table.add_row(
        *(
            terminal.make_cell(cell)
            for cell in ["together", result.weights, *(f"{item.together:.4f}" for item in judged)]
        )
    )
    console.print(table)
    for item, name in zip(judged, names, strict=True):
        fitted = " (cross-fitted)" if name == "held out" and "logistic" in result.weights else ""
        terminal.print_line(console, f"{name}: {item.rows:,} texts of {item.data}{fitted}")
    terminal.print_line(console, f"Model  {result.model}")
