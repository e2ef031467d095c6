"""The commands ``tidegate language``: reads arguments, calls a job, prints what it returns."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tidegate.commands import terminal
from tidegate.commands.session import (
    AsJson,
    BadBytes,
    Debug,
    Encoding,
    KeepCase,
    LeastCount,
    OverwriteFile,
    Quiet,
    ResumeFile,
    Seed,
    TextField,
    TextFile,
    Verbose,
    check_resume,
    command_group,
    end_interrupted,
    reading_options,
    session,
)
from tidegate.reporting.progress_bar import progress_bar

app = command_group(
    "Language models, whose states are features: train one on texts, judge it.",
    "tidegate language train texts.txt --out english.tg",
)


@app.command("train", epilog="Example: tidegate language train texts.txt --out english.tg --layers 2")
def train_command(
    text_file: TextFile,
    out: Annotated[Path, typer.Option(help="The model's file, NAME.tg.", show_default=False)],
    tokenizer: Annotated[str, typer.Option(help="words, characters, bpe or jieba.")] = "words",
    keep_case: KeepCase = False,
    vocabulary: Annotated[int, typer.Option(min=2, help="Most tokens that have a vector.")] = 30000,
    min_count: LeastCount = 2,
    cell: Annotated[str, typer.Option(help="gru, lstm or rnn.")] = "gru",
    size: Annotated[int, typer.Option(min=1, help="Units of a layer and direction, and features of a vector.")] = 256,
    layers: Annotated[int, typer.Option(min=1, help="Layers of each direction.")] = 1,
    forward: Annotated[bool, typer.Option("--forward", help="Read forward alone.")] = False,
    dropout: Annotated[float, typer.Option(min=0, max=0.99, help="Of features of a text.")] = 0.2,
    rate: Annotated[float, typer.Option(help="Learning rate.")] = 1e-3,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the texts at most.")] = 5,
    batch_size: Annotated[int, typer.Option(min=1, help="Pieces of a step.")] = 32,
    max_tokens: Annotated[int, typer.Option(min=2, help="Tokens of a piece.")] = 128,
    text: TextField = "text",
    encoding: Encoding = None,
    errors: BadBytes = None,
    seed: Seed = 0,
    resume: ResumeFile = False,
    overwrite: OverwriteFile = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Learn a language model from texts; a twentieth of them is held out and chooses the epoch.

    Ctrl-C keeps the best epoch so far; --resume then goes on.
    """
    check_resume(resume, overwrite)
    with session(verbose, quiet, debug), progress_bar(quiet) as report:
        from tidegate.jobs import language
        from tidegate.jobs.interrupts import how_to_go_on

        trained = language.train(
            text_file,
            out,
            text=text,
            **reading_options(encoding=encoding, errors=errors),
            resume=resume,
            overwrite=overwrite,
            report=report,
            tokenizer=tokenizer,
            lowercase=not keep_case,
            max_vocabulary=vocabulary,
            min_count=min_count,
            cell=cell,
            hidden_size=size,
            num_layers=layers,
            bidirectional=not forward,
            dropout=dropout,
            learning_rate=rate,
            max_epochs=epochs,
            batch_size=batch_size,
            max_tokens=max_tokens,
            random_state=seed,
            verbose=False if quiet else None,
        )
        held = trained["validation_perplexity"]
        said = "" if held is None else f", perplexity {held:.1f} on texts that it has not seen"
        if trained["interrupted"]:
            if as_json:
                terminal.print_json(trained)
            end_interrupted(
                f"interrupted after {trained['epochs']} epochs. The best so far (epoch {trained['best_epoch']}{said}) "
                f"is in {out}. {how_to_go_on(out)}"
            )
        terminal.print_result(
            trained,
            f"{out}: {trained['tokens']:,} tokens known, epoch {trained['best_epoch']} kept{said}\n"
            f"Use it: tidegate train sentiment_en --set model.language_model={out.resolve()}",
            as_json,
        )


@app.command("evaluate", epilog="Example: tidegate language evaluate english.tg other_texts.txt")
def evaluate_command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A language model's file.", show_default=False)],
    text_file: TextFile,
    text: TextField = "text",
    encoding: Encoding = None,
    errors: BadBytes = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say how well a language model foretells the tokens of texts."""
    with session(debug=debug), progress_bar() as report:
        from tidegate.jobs import language

        reading = reading_options(encoding=encoding, errors=errors)
        found = language.evaluate(model, text_file, text=text, **reading, report=report)
        terminal.print_result({"perplexity": found}, f"perplexity {found:.2f}", as_json)
