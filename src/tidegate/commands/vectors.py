"""The commands ``tidegate vectors``: reads arguments, calls a job, prints what it returns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate.commands import terminal
from tidegate.commands.session import (
    AsJson,
    BadBytes,
    Debug,
    Encoding,
    KeepCase,
    LeastCount,
    Quiet,
    Seed,
    TextField,
    TextFile,
    Verbose,
    WordTokenizer,
    command_group,
    end_interrupted,
    reading_options,
    session,
)
from tidegate.reporting.progress_bar import progress_bar

if TYPE_CHECKING:
    from tidegate.features.vectors import WordVectors

app = command_group(
    "Word vectors: train them on a text, look into them, judge them, convert their files.",
    "tidegate vectors train text.txt --out vectors.npz",
)

VectorFile = Annotated[
    Path,
    typer.Argument(
        metavar="VECTORS", help="GloVe, word2vec (text, .bin), FastText or .npz; .gz and .xz too.", show_default=False
    ),
]
Count = Annotated[int, typer.Option(min=1, help="How many words to show.")]


@app.command("train", epilog="Example: tidegate vectors train reviews.txt --out reviews.npz --method fasttext")
def train_command(
    text_file: TextFile,
    out: Annotated[
        Path, typer.Option(help=".npz, .vec, .bin, or another ending for GloVe's form.", show_default=False)
    ],
    method: Annotated[str, typer.Option(help="cbow, skipgram, fasttext or glove.")] = "skipgram",
    size: Annotated[int, typer.Option(min=1, help="Numbers of a vector.")] = 100,
    window: Annotated[int, typer.Option(min=1, help="Tokens to either side that count.")] = 5,
    min_count: LeastCount = 5,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the text.")] = 5,
    negative: Annotated[int, typer.Option(min=1, help="Noise words a pair; not for glove.")] = 5,
    subsample: Annotated[float, typer.Option(help="Share above which words are thinned; not for glove.")] = 1e-3,
    min_n: Annotated[int, typer.Option(min=1, help="Characters of FastText's shortest n-gram.")] = 3,
    max_n: Annotated[int, typer.Option(min=1, help="Characters of FastText's longest n-gram.")] = 6,
    buckets: Annotated[int, typer.Option(min=1, help="Rows for FastText's n-grams.")] = 200_000,
    tokenizer: WordTokenizer = "words",
    keep_case: KeepCase = False,
    keep_marks: Annotated[bool, typer.Option("--keep-marks", help="Punctuation has vectors too.")] = False,
    text: TextField = "text",
    encoding: Encoding = None,
    errors: BadBytes = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads; a run repeats exactly with one.")] = 1,
    seed: Seed = 0,
    as_json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Learn word vectors from a text: word2vec, FastText or GloVe.

    Ctrl-C ends the training; the vectors are kept as they are then.
    """
    with session(verbose, quiet, debug), progress_bar(quiet) as report:
        from tidegate.jobs import vectors

        learned = vectors.train(
            text_file,
            out,
            text=text,
            **reading_options(encoding=encoding, errors=errors),
            tokenizer=tokenizer,
            lowercase=not keep_case,
            keep_marks=keep_marks,
            method=method,
            size=size,
            window=window,
            min_count=min_count,
            epochs=epochs,
            negative=negative,
            subsample=subsample,
            min_n=min_n,
            max_n=max_n,
            buckets=buckets,
            threads=threads,
            random_state=seed,
            report=report,
        )
        found = learned.vectors
        advice = f"\nLook into it: tidegate vectors neighbours {out} {found.words[len(found) // 10]}"
        _print_file(out, found, as_json, "" if learned.interrupted else advice)
        if learned.interrupted:
            end_interrupted(
                f"interrupted after {learned.epochs} of {epochs} epochs. {out} holds the vectors as they were then, of "
                f"fewer passes over the text than asked for; word vectors are learned anew, not resumed."
            )


@app.command("neighbours", epilog="Example: tidegate vectors neighbours glove.6B.50d.txt film --count 5")
def neighbours_command(
    file: VectorFile,
    word: Annotated[str, typer.Argument(metavar="WORD", help="A word.", show_default=False)],
    count: Count = 10,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show the words nearest to a word, by cosine."""
    with session(debug=debug), progress_bar() as report:
        from tidegate.jobs import vectors

        _print_words(vectors.read(file, report).neighbours(word, count), as_json)


@app.command("analogy", epilog="Example: tidegate vectors analogy glove.6B.50d.txt man king woman")
def analogy_command(
    file: VectorFile,
    first: Annotated[str, typer.Argument(metavar="A", help="A is to B ...", show_default=False)],
    second: Annotated[str, typer.Argument(metavar="B", show_default=False)],
    third: Annotated[str, typer.Argument(metavar="C", help="... as C is to what?", show_default=False)],
    count: Count = 5,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show what is to C as B is to A: the words nearest to B - A + C."""
    with session(debug=debug), progress_bar() as report:
        from tidegate.jobs import vectors

        _print_words(vectors.read(file, report).analogy(first, second, third, count), as_json)


@app.command(
    "evaluate",
    epilog="Example: tidegate vectors evaluate v.npz --similarity wordsim353.tsv --analogies questions-words.txt",
)
def evaluate_command(
    file: VectorFile,
    similarity: Annotated[
        list[Path] | None, typer.Option(help="Word, word and likeness a line; may be repeated.", show_default=False)
    ] = None,
    analogies: Annotated[
        list[Path] | None, typer.Option(help="': section' and four words a line; may be repeated.", show_default=False)
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="The most frequent words that count for analogies.")] = 30_000,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Judge vectors by what people say: Spearman's correlation of likeness, accuracy of analogies."""
    with session(debug=debug), progress_bar() as report:
        from tidegate.jobs import vectors

        given = {"similarity": similarity or [], "analogies": analogies or []}
        found = vectors.evaluate(file, **given, most=most, report=report)
        if as_json:
            terminal.print_json(found)
            return
        console = terminal.make_console()
        for name, scores in found.items():
            if "spearman" in scores:
                covered = f"{scores['covered']:,} of {scores['pairs']:,} pairs"
                terminal.print_line(console, f"{name}: Spearman {scores['spearman']:.3f} ({covered})")
                continue
            numbers = ("accuracy", "right", "covered", "of")
            table = terminal.make_table(name, *numbers, right=numbers)
            for section, score in scores.items():
                accuracy = "" if score["accuracy"] is None else f"{score['accuracy']:.3f}"
                counts = (f"{score[key]:,}" for key in ("right", "covered", "total"))
                table.add_row(*map(terminal.make_cell, (section, accuracy, *counts)))
            console.print(table)


@app.command("convert", epilog="Example: tidegate vectors convert glove.6B.50d.txt.gz glove.npz --most 50000")
def convert_command(
    file: VectorFile,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The new file.", show_default=False)],
    form: Annotated[
        str | None,
        typer.Option("--format", help="npz, glove, word2vec or binary; else by the ending.", show_default=False),
    ] = None,
    words: Annotated[
        Path | None, typer.Option(help="A file of the words to keep, one a line.", show_default=False)
    ] = None,
    most: Annotated[int | None, typer.Option(min=1, help="The first words to keep.", show_default=False)] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write vectors in another form, all of them or some."""
    with session(debug=debug), progress_bar() as report:
        from tidegate.jobs import vectors

        written = vectors.convert(file, out, form=form, words=words, most=most, report=report)
        _print_file(out, written, as_json)


def _print_file(out: Path, vectors: WordVectors, as_json: bool, advice: str = "") -> None:
    value = {"vectors": str(out), "words": len(vectors), "size": vectors.size}
    terminal.print_result(value, f"{out}: {len(vectors):,} words, {vectors.size} numbers each{advice}", as_json)


def _print_words(found: list[tuple[str, float]], as_json: bool) -> None:
    if as_json:
        terminal.print_json([{"word": word, "cosine": cosine} for word, cosine in found])
        return
    console = terminal.make_console()
    for word, cosine in found:
        terminal.print_line(console, f"{cosine:.4f}  {word}")
