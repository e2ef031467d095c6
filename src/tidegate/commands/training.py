"""The commands that train by a recipe: ``tidegate train``, ``tune`` and ``augment``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tidegate.commands import terminal
from tidegate.commands.session import (
    AsJson,
    DataDir,
    Debug,
    Overrides,
    Quiet,
    RecipeName,
    Verbose,
    check_resume,
    end_interrupted,
    session,
)


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
    check_resume(resume, overwrite)
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
            end_interrupted(
                f"interrupted after {run.epochs} epochs. The best so far (epoch {run.best_epoch}{accuracy}) is in "
                f"{run.model}. Go on with: tidegate train {recipe} --resume --out {run.folder}"
            )
        if not as_json:
            terminal.print_training(terminal.make_console(), loaded.sections.output.title or loaded.name, run)


def tune(
    recipe: RecipeName,
    search: Annotated[
        list[str] | None,
        typer.Option(
            "--search",
            metavar="KEY=SPEC",
            help="A key to search: model.hidden_size=64,128 (values), model.dropout=0.1..0.7 (a range), "
            "training.learning_rate=1e-4..1e-2:log, model.num_layers=1..3:1 (with a step).",
        ),
    ] = None,
    set_: Overrides = None,
    trials: Annotated[int, typer.Option(help="Trials at most, those of earlier calls included.")] = 20,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds after which no trial is begun.", show_default=False)
    ] = None,
    sampler: Annotated[str, typer.Option(help="tpe, random, grid or gp (Gaussian process).")] = "tpe",
    no_prune: Annotated[bool, typer.Option("--no-prune", help="Let bad trials run to their end.")] = False,
    storage: Annotated[
        str | None,
        typer.Option(help="SQLite file, .journal file or database URL, by default in --out.", show_default=False),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results.", show_default=False)] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the sampler.", show_default=False)] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Search the keys of a recipe for the best validation metric; called again, the search goes on."""
    with session(verbose, quiet, debug):
        from tidegate.jobs import tuning

        result = tuning.tune(
            recipe,
            search=search or [],
            overrides=set_ or [],
            data_dir=data_dir,
            trials=trials,
            timeout=timeout,
            sampler=sampler,
            prune=not no_prune,
            storage=storage,
            out=out,
            seed=seed,
        )
        if as_json:
            terminal.print_json(_as_json(result))
        else:
            _print(result)
        if result.interrupted:
            end_interrupted(f"interrupted. Go on with the same command; the trials are in {result.storage}.")


def augment(
    recipe: RecipeName,
    set_: Overrides = None,
    count: Annotated[int, typer.Option(min=1, help="Texts to show.")] = 5,
    epochs: Annotated[int, typer.Option(min=1, help="Changes of each.")] = 2,
    data_dir: DataDir = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show what training's augmentation makes of the first texts of a recipe."""
    with session(debug=debug):
        from tidegate.config import load_recipe
        from tidegate.jobs import augmentation

        loaded = load_recipe(recipe, overrides=set_ or [], data_dir=data_dir)
        found = augmentation.preview(loaded, count=count, epochs=epochs)
        if as_json:
            terminal.print_json([vars(item) for item in found])
            return
        console = terminal.make_console()
        for item in found:
            terminal.print_line(console, item.text)
            for changed in item.changed:
                terminal.print_line(console, f"  > {changed}")


def _as_json(result: Any) -> dict[str, Any]:
    return {
        "best": None if result.best is None else vars(result.best),
        "default": result.default,
        "monitor": result.monitor,
        "trials": [vars(trial) for trial in result.trials],
        "importances": result.importances,
        "recipe": None if result.recipe is None else str(result.recipe),
        "report": str(result.report),
        "storage": result.storage,
        "seconds": result.seconds,
    }


def _print(result: Any) -> None:
    from tidegate.reporting.scores import sign_of

    console = terminal.make_console()
    keys = list(dict.fromkeys(key for trial in result.trials for key in trial.values))
    table = terminal.make_table(
        "trial", result.monitor, *(key.split(".")[-1] for key in keys), "seconds", right=("trial", result.monitor)
    )
    lower = sign_of(result.monitor) < 0
    finished = [trial for trial in result.trials if trial.state == "complete"]
    for trial in sorted(finished, key=lambda trial: trial.metric if lower else -trial.metric)[:10]:
        values = [trial.values.get(key) for key in keys]
        cells = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in values]
        row = [str(trial.number), f"{trial.metric:.4f}", *cells, f"{trial.seconds:.0f}"]
        table.add_row(*(terminal.make_cell(cell) for cell in row))
    console.print(table)
    if result.best is not None:
        was = "" if result.default is None else f"; the recipe as it is has {result.default:.4f}"
        terminal.print_line(
            console, f"best {result.monitor} {result.best.metric:.4f} (trial {result.best.number}){was}"
        )
        terminal.print_line(console, f"Recipe  {result.recipe}\nReport  {result.report}")
        terminal.print_line(console, f"Train it: tidegate train {result.recipe}")
