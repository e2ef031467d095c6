"""The command ``tidegate fill-mask``: reads arguments, calls a job, prints what it returns."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from tidegate.commands import terminal
from tidegate.commands.session import AsJson, Debug, session


def fill_mask(
    encoder: Annotated[
        str,
        typer.Argument(
            metavar="ENCODER", help="A folder with an encoder, or an installed package.", show_default=False
        ),
    ],
    text: Annotated[
        str, typer.Argument(metavar="TEXT", help="A text with one mask: [MASK], or ___.", show_default=False)
    ],
    count: Annotated[int, typer.Option(min=1, help="How many words to show.")] = 5,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show which words a pre-trained encoder (BERT) puts in the place of a mask."""
    with session(debug=debug):
        from tidegate.errors import require

        require("torch", "train")
        from tidegate.features import contextual

        found = contextual.fill_mask(encoder, text, count)
        if as_json:
            terminal.print_json([dataclasses.asdict(item) for item in found])
            return
        console = terminal.make_console()
        for item in found:
            terminal.print_line(console, f"{item.probability:.4f}  {item.piece:<16} {item.text}")
