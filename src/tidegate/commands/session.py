"""What every command of the command line does around its job: the options they share, logging, errors, exit codes."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from tidegate.errors import RecipeError, TidegateError

FAILED, MISUSE, INTERRUPTED = 1, 2, 130

RecipeName = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A YAML file, or the name of a recipe that ships.", show_default=False)
]
ModelFile = Annotated[Path, typer.Argument(metavar="MODEL", help="A .tg file.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A value over the recipe's: --set model.hidden_size=256."),
]
DataDir = Annotated[
    Path | None, typer.Option(help="Folder that the recipe's data paths are relative to.", show_default=False)
]
TextFile = Annotated[
    Path,
    typer.Argument(
        metavar="TEXT",
        help="A text a line, CSV, TSV or JSON Lines (.gz, .xz too), a folder, or bundled:reviews_en.",
        show_default=False,
    ),
]
TextField = Annotated[str, typer.Option("--text", help="Field of the texts, in a table.")]
KeepCase = Annotated[bool, typer.Option("--keep-case", help="Upper and lower case are different.")]
LeastCount = Annotated[int, typer.Option("--min-count", min=1, help="Occurrences that earn a token its vector.")]
WordTokenizer = Annotated[str, typer.Option("--tokenizer", help="words, characters or jieba.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of all that is drawn.")]
ResumeFile = Annotated[
    bool, typer.Option("--resume", help="Go on with the training of --out that was broken off, by the same options.")
]
OverwriteFile = Annotated[bool, typer.Option("--overwrite", help="Begin anew where one was broken off.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
TextColumn = Annotated[
    str | None,
    typer.Option(help="Column of the texts, or both of pairs as first,second; text by default.", show_default=False),
]
LabelColumn = Annotated[
    str | None,
    typer.Option(
        help="Column of the labels; label by default. Of several tasks: TASK=COLUMN,TASK=COLUMN.", show_default=False
    ),
]
SplitColumn = Annotated[
    str | None, typer.Option(help="The split column, for --part; split by default.", show_default=False)
]
Delimiter = Annotated[str | None, typer.Option(help="Character between fields.", show_default=False)]
Quote = Annotated[str | None, typer.Option(help="Character around fields, or none.", show_default=False)]
Header = Annotated[
    str | None,
    typer.Option(metavar="NAME,NAME", help="Columns of a table without a line of names.", show_default=False),
]
Encoding = Annotated[str | None, typer.Option(help="As gb18030; UTF-8 by default.", show_default=False)]
BadBytes = Annotated[str | None, typer.Option(help="Bad bytes: strict, replace, ...", show_default=False)]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more on standard error.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors on standard error.")]


def command_group(purpose: str, example: str) -> typer.Typer:
    """Commands under one name, as ``tidegate vectors``, with what their help begins and ends with."""
    return typer.Typer(
        help=purpose,
        epilog=f"Example: {example}",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )


def reading_options(
    *, delimiter: str | None = None, quote: str | None = None, header: str | None = None, **others: Any
) -> dict[str, Any]:
    """How a file is read, as far as the command line says so."""
    given = {"delimiter": delimiter, "quote": quote, **others}
    reading: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if quote == "none":
        reading["quote"] = None
    if delimiter == "\\t":
        reading["delimiter"] = "\t"
    if header is not None:
        reading["header"] = [name.strip() for name in header.split(",")]
    return reading


@contextlib.contextmanager
def session(verbose: bool = False, quiet: bool = False, debug: bool = False) -> Iterator[None]:
    """One command: logging on standard error, and one clear message with the right exit code for what goes wrong."""
    if verbose and quiet:
        raise typer.BadParameter("give one of --verbose and --quiet.")
    with _logging(logging.DEBUG if verbose else logging.ERROR if quiet else logging.INFO):
        try:
            yield
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except KeyboardInterrupt:
            complain("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # Whoever read our output has enough. What is buffered must not raise again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except Exception as error:
            if debug:
                raise
            complain(str(error) if isinstance(error, TidegateError) else _unforeseen(error))
            raise typer.Exit(MISUSE if isinstance(error, RecipeError) else FAILED) from None


def check_resume(resume: bool, overwrite: bool) -> None:
    """Refuse --resume beside --overwrite."""
    if resume and overwrite:
        raise typer.BadParameter("--resume goes on with a run and --overwrite replaces it; give one of the two.")


def end_interrupted(message: str) -> NoReturn:
    """Leave a command that Ctrl-C ended after what was done had been kept."""
    complain(message)
    raise typer.Exit(INTERRUPTED)


def _unforeseen(error: Exception) -> str:
    return (
        f"{type(error).__name__}: {error}\nThis error was not foreseen. Run the command again with --debug for the "
        "traceback, and report it with that."
    )


@contextlib.contextmanager
def _logging(level: int) -> Iterator[None]:
    logger = logging.getLogger("tidegate")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.levelno <= logging.INFO else f"{record.levelname.lower()}: {text}"


def complain(message: str) -> None:
    """Say on standard error what went wrong."""
    typer.echo(f"tidegate: {message}", err=True)
