"""The command line: reads arguments, calls a job, prints what it returns."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from tidegate import cli_ensemble, cli_fill_mask, cli_language, cli_search, cli_training, cli_vectors, terminal
from tidegate.cli_session import (
    INTERRUPTED,
    AsJson,
    BadBytes,
    DataDir,
    Debug,
    Delimiter,
    Encoding,
    Header,
    LabelColumn,
    ModelFile,
    Overrides,
    Quiet,
    Quote,
    RecipeName,
    SplitColumn,
    TextColumn,
    Verbose,
    complain,
    reading_options,
    session,
)
from tidegate.errors import TidegateError

app = typer.Typer(
    name="tidegate",
    help="Gated recurrent models of text: train them, judge them, put them to use.",
    epilog="Start here: tidegate train sentiment_en",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
recipes_app = typer.Typer(
    help="The recipes that ship: list them, or copy one to change it.",
    epilog="Example: tidegate recipes copy sentiment_en",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(recipes_app, name="recipes")
app.command("tune", epilog="Example: tidegate tune sentiment_zh --trials 20 --out runs/search")(cli_training.tune)
app.command("augment", epilog="Example: tidegate augment sentiment_en --set training.augment_swap=0.1")(
    cli_training.augment
)
app.command(
    "ensemble", epilog="Example: tidegate ensemble linear.tg gru.tg --data valid.csv --test test.csv --out joined.tg"
)(cli_ensemble.ensemble)
app.command("fill-mask", epilog='Example: tidegate fill-mask bert-folder "The film was ___."')(
    cli_fill_mask.fill_mask_command
)
app.add_typer(cli_search.app, name="search")
app.add_typer(cli_vectors.app, name="vectors")
app.add_typer(cli_language.app, name="language")


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    if version:
        import tidegate

        typer.echo(f"tidegate {tidegate.__version__}")
        raise typer.Exit


@app.command(epilog="Example: tidegate train sentiment_en --set model.hidden_size=256 --out runs/large")
def train(
    recipe: RecipeName,
    set_: Overrides = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; by default a new one under runs/.", show_default=False)
    ] = None,
    data_dir: DataDir = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, or with the latest.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run that --out holds.")] = False,
    find_lr: Annotated[
        bool, typer.Option("--find-lr", help="Look for a learning rate first, and take it; its plot is in the report.")
    ] = False,
    members: Annotated[int, typer.Option(help="Models from seeds of their own, averaged, in one file.")] = 1,
    snapshots: Annotated[
        bool, typer.Option("--snapshots", help="Take the --members from one run, by a cyclic learning rate.")
    ] = False,
    devices: Annotated[
        int | None,
        typer.Option(
            min=1, help="Processes that train side by side, on a GPU each or on the cores.", show_default=False
        ),
    ] = None,
    log: Annotated[
        list[str] | None,
        typer.Option("--log", metavar="NAME", help="Record the epochs in tensorboard or mlflow too; may be repeated."),
    ] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train the model of a recipe, test it, and write the model, its report and its metrics into a folder."""
    if resume and overwrite:
        raise typer.BadParameter("--resume goes on with a run and --overwrite replaces it; give one of the two.")
    with session(verbose, quiet, debug):
        from tidegate import jobs
        from tidegate.config import load_recipe

        logged = [f"output.log=[{', '.join(log)}]"] if log else []
        shared = [] if devices is None else [f"training.devices={devices}"]
        loaded = load_recipe(recipe, overrides=[*(set_ or []), *logged, *shared], data_dir=data_dir)
        run = jobs.train(
            loaded,
            out=out,
            resume=resume,
            overwrite=overwrite,
            verbose=True if verbose else False if quiet else None,
            members=members,
            snapshots=snapshots,
            find_rate=find_lr,
        )
        if as_json:
            terminal.print_json(terminal.training_json(run))
        if run.interrupted:
            accuracy = "" if run.validation_accuracy is None else f", validation accuracy {run.validation_accuracy:.4f}"
            complain(
                f"interrupted after {run.epochs} epochs. The best so far (epoch {run.best_epoch}{accuracy}) is in "
                f"{run.model}. Go on with: tidegate train {recipe} --resume --out {run.folder}"
            )
            raise typer.Exit(INTERRUPTED)
        if not as_json:
            terminal.print_training(terminal.make_console(), loaded.sections.output.title or loaded.name, run)


@app.command(epilog="Example: tidegate evaluate runs/demo/model.tg bundled:reviews_en")
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
        from tidegate.recipe_data import options_named

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


def _column(name: str | None) -> int | str | None:
    return int(name) if name is not None and name.lstrip("-").isdigit() else name


@app.command(epilog="Example: echo 'not bad at all' | tidegate predict runs/demo/model.tg --json")
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
        from tidegate.data.files import existing
        from tidegate.text_lines import text_batches

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


@app.command(epilog="Example: tidegate info --json")
def info(as_json: AsJson = False, debug: Debug = False) -> None:
    """Show versions, processor, instruction set and threads, and which backend computes what."""
    with session(debug=debug):
        from tidegate.environment import describe_environment

        environment = describe_environment()
        if as_json:
            terminal.print_json(environment.to_dict())
            return
        console = terminal.make_console()
        native = environment.native
        facts = {
            "platform": environment.platform,
            "processor": f"{environment.processor}, {environment.cores} cores for this process",
            "features": " ".join(environment.features) or "none of those that matter here",
            "instruction set": f"{native['isa']} (of {', '.join(native['available_isas'])})" if native else "none",
            "threads": str(native.get("threads", "unknown without torch")) if native else "none",
        }
        console.print(terminal.pair_table("machine", facts))
        console.print(terminal.pair_table("versions", environment.versions))
        if environment.backends:
            table = terminal.make_table("cell", "device", "type", "backend", "note")
            for row in environment.backends:
                table.add_row(*(terminal.make_cell(row[key]) for key in ("cell", "device", "dtype", "backend", "note")))
            console.print(table)
        for note in environment.notes:
            terminal.print_line(console, f"note: {note}")


@app.command(epilog="Example: tidegate validate sentiment.yaml --set training.learning_rate=1e-3")
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


@recipes_app.callback(invoke_without_command=True)
def _recipes(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_recipes()


@recipes_app.command("list", epilog="Example: tidegate recipes list")
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


@recipes_app.command("copy", epilog="Example: tidegate recipes copy sentiment_en my_sentiment.yaml")
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


def main() -> None:
    """The entry point ``tidegate``."""
    # Threads that wait spin for milliseconds by default, which on a busy machine takes the cores from those they wait
    # for. Shorter spinning measured the same on a quiet one. Only a process of our own is told so, before torch loads.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    # Of several processes that train, torch warns that it looks for parameters which rest: they may, in other epochs.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    app(prog_name="tidegate")
