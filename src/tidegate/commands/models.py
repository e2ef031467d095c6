"""The commands that put a saved model to use: ``tidegate evaluate`` and ``tidegate predict``."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated

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
    ModelFile,
    Quote,
    SplitColumn,
    TextColumn,
    reading_options,
    session,
)
from tidegate.errors import TidegateError


def evaluate(
    model: ModelFile,
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A CSV, TSV or JSON Lines file, a folder of texts, or bundled:reviews_en.",
            show_default=False,
        ),
    ],
    text: TextColumn = None,
    label: LabelColumn = None,
    part: Annotated[
        str | None, typer.Option(help="Judge on one part: a value of the split column.", show_default=False)
    ] = None,
    split: SplitColumn = None,
    delimiter: Delimiter = None,
    quote: Quote = None,
    header: Header = None,
    encoding: Encoding = None,
    errors: BadBytes = None,
    format: Annotated[
        str | None, typer.Option(help="Of tagged sentences: conll, conllu, jsonl, word/tag.", show_default=False)
    ] = None,
    token_column: Annotated[
        int | None, typer.Option(help="Of tagged columns: where the token stands, from 0.", show_default=False)
    ] = None,
    tag_column: Annotated[
        str | None, typer.Option(help="Of tagged columns: where the tag stands; -1 is the last.", show_default=False)
    ] = None,
    label_separator: Annotated[
        str | None, typer.Option(help="Between several labels of a text; ; by default.", show_default=False)
    ] = None,
    unit: Annotated[
        str | None, typer.Option(help="Of word/tag lines: words, characters, tagged-characters.", show_default=False)
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Judge a saved model on labelled texts, or a tagger on tagged sentences."""
    with session(debug=debug):
        import dataclasses

        from tidegate import jobs
        from tidegate.jobs.text_data import options_named

        named = {"encoding": encoding, "errors": errors, "format": format, "unit": unit}
        named |= {"token_column": token_column, "tag_column": _column(tag_column), "label_separator": label_separator}
        reading = reading_options(delimiter=delimiter, quote=quote, header=header, **named)
        with options_named("On the command line", "--{}"):
            result = jobs.evaluate(model, data, text=text, label=label, part=part, split=split, **reading)
        if as_json:
            terminal.print_json(dataclasses.asdict(result))
            return
        console = terminal.make_console()
        terminal.print_line(console, f"{terminal.judgement_line(result.metrics)} of {data}")
        console.print(terminal.class_table(result.metrics))


def predict(
    model: ModelFile,
    file: Annotated[
        str,
        typer.Argument(
            metavar="[FILE|-]",
            help="One text a line, of pairs two with a tab between; - is standard input.",
            show_default=False,
        ),
    ] = "-",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object a line, with all probabilities.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Label or tag texts as they come: a line of text in, a line out with its label, or with its segments marked."""
    with session(debug=debug):
        from tidegate import jobs
        from tidegate.commands.text_lines import text_batches
        from tidegate.data.files import existing

        with contextlib.ExitStack() as opened:
            if file == "-":
                stream = sys.stdin.buffer
            else:
                path = existing(Path(file))
                if path.is_dir():
                    raise TidegateError(f"{path}: expected a file with a text a line, found a folder.")
                stream = opened.enter_context(open(path, "rb"))
            results = jobs.predict(model, text_batches(stream))
            if file == "-" and sys.stdin.isatty():
                typer.echo("Type a text and press Enter; Ctrl-D ends.", err=True)
            for predictions in results:
                lines = [terminal.json_line(item) if as_json else terminal.plain_line(item) for item in predictions]
                sys.stdout.buffer.write("".join(lines).encode("utf-8"))
                sys.stdout.buffer.flush()


def _column(name: str | None) -> int | str | None:
    return int(name) if name is not None and name.lstrip("-").isdigit() else name
