"""The commands ``tidegate search``: reads arguments, calls a job, prints what it returns."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from tidegate.commands import terminal
from tidegate.commands.session import (
    AsJson,
    BadBytes,
    Debug,
    Encoding,
    OverwriteFile,
    Quiet,
    ResumeFile,
    Verbose,
    WordTokenizer,
    check_resume,
    command_group,
    end_interrupted,
    reading_options,
    session,
)
from tidegate.reporting.progress_bar import progress_bar

app = command_group(
    "Full-text search by BM25: index documents, query the index, judge it.",
    "tidegate search build documents.jsonl --out documents.index",
)

IndexFolder = Annotated[
    Path, typer.Argument(metavar="INDEX", help="A folder that 'search build' wrote.", show_default=False)
]
RankerFile = Annotated[
    Path | None,
    typer.Option(metavar="MODEL", help="A .tg file of 'search train': the best are read again.", show_default=False),
]
QueryFile = Annotated[
    Path, typer.Argument(metavar="QUERIES", help="JSON Lines, CSV, TSV, .txt or SMART.", show_default=False)
]
JudgmentFile = Annotated[
    Path, typer.Argument(metavar="JUDGMENTS", help="Query, document and grade a line.", show_default=False)
]
QueryField = Annotated[str, typer.Option("--text", help="Field of the queries' texts.")]
ByPlace = Annotated[
    bool, typer.Option("--by-place", help="The judgments call queries by their place in the file (Cranfield).")
]
LeastGrade = Annotated[int, typer.Option("--least", help="The smallest grade of an answer.")]
CandidateCount = Annotated[int, typer.Option(min=1, help="How many of BM25's best the ranker reads.")]


@app.command("build", epilog="Example: tidegate search build papers.jsonl --out papers.index --stop-words english")
def build_command(
    documents: Annotated[
        Path,
        typer.Argument(
            metavar="DOCUMENTS",
            help="JSON Lines, CSV or TSV with id, title and text, a folder of .txt files, or a SMART collection.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the index.", show_default=False)],
    method: Annotated[str, typer.Option(help="lucene, okapi, bm25+ or bm25l.")] = "lucene",
    k1: Annotated[float, typer.Option(help="How soon repetitions of a term stop to count.")] = 1.2,
    b: Annotated[float, typer.Option(help="How much long documents lose, 0 to 1.")] = 0.75,
    delta: Annotated[float, typer.Option(help="What bm25+ and bm25l add.")] = 0.5,
    tokenizer: WordTokenizer = "words",
    stop_words: Annotated[
        str | None, typer.Option(help="english, chinese, ..., or a file with a word a line.", show_default=False)
    ] = None,
    text: Annotated[str, typer.Option(help="Field of the texts.")] = "text",
    title: Annotated[str, typer.Option(help="Field of the titles, where there is one.")] = "title",
    encoding: Encoding = None,
    errors: BadBytes = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Index documents and write the index into a folder."""
    with session(quiet=quiet, debug=debug), progress_bar(quiet) as report:
        from tidegate.jobs import search

        index = search.build(
            documents,
            out,
            text=text,
            title=title,
            stop_words=stop_words,
            **reading_options(encoding=encoding, errors=errors),
            report=report,
            method=method,
            k1=k1,
            b=b,
            delta=delta,
            tokenizer=tokenizer,
        )
        terminal.print_result(
            {"index": str(out), "documents": index.num_documents, "terms": index.num_terms},
            f"{out}: {index.num_documents:,} documents, {index.num_terms:,} terms\n"
            f'Search it: tidegate search query {out} "..."',
            as_json,
        )


@app.command("query", epilog='Example: tidegate search query papers.index "heat conduction in slabs" --explain')
def query_command(
    index: IndexFolder,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What to look for.", show_default=False)],
    count: Annotated[int, typer.Option(min=1, help="Most documents to show.")] = 10,
    explain: Annotated[bool, typer.Option("--explain", help="Show what each term adds to BM25's score.")] = False,
    ranker: RankerFile = None,
    candidates: CandidateCount = 100,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show the documents that answer a query best."""
    with session(debug=debug):
        from tidegate.jobs import search

        found = search.query(index, query, count=count, explain=explain, ranker=ranker, candidates=candidates)
        if as_json:
            terminal.print_json([dataclasses.asdict(item) for item in found])
            return
        console = terminal.make_console()
        if not found:
            terminal.print_line(console, "no document has a word of the query")
        for item in found:
            terminal.print_line(console, f"{item.rank:>3}  {item.score:8.4f}  {item.id}  {item.beginning}")
            for term, score in sorted(item.terms.items(), key=lambda part: -part[1]):
                terminal.print_line(console, f"     {score:8.4f}  from {term}")


@app.command("evaluate", epilog="Example: tidegate search evaluate papers.index queries.jsonl qrels.tsv")
def evaluate_command(
    index: IndexFolder,
    queries: QueryFile,
    judgments: JudgmentFile,
    by_place: ByPlace = False,
    least: LeastGrade = 1,
    depth: Annotated[
        int | None, typer.Option(min=1, help="Documents ranked for a query; by default all.", show_default=False)
    ] = None,
    text: QueryField = "text",
    encoding: Encoding = None,
    errors: BadBytes = None,
    ranker: RankerFile = None,
    candidates: CandidateCount = 100,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Judge an index by queries whose answers are known: nDCG@10, MAP, recall@100, MRR."""
    with session(debug=debug), progress_bar() as report:
        from tidegate.jobs import search

        found = search.evaluate(
            index,
            queries,
            judgments,
            text=text,
            by_place=by_place,
            least=least,
            depth=depth,
            ranker=ranker,
            candidates=candidates,
            **reading_options(encoding=encoding, errors=errors),
            report=report,
        )
        if as_json:
            terminal.print_json(found)
            return
        names = {"ndcg_at_10": "nDCG@10", "map": "MAP", "recall_at_100": "recall@100", "mrr": "MRR"}
        facts = {label: f"{found[name]:.4f}" for name, label in names.items()}
        terminal.make_console().print(terminal.pair_table(f"{int(found['queries']):,} queries", facts))


@app.command(
    "train",
    epilog="Example: tidegate search train papers.index queries.jsonl qrels.tsv --out ranker.tg --vectors g.npz",
)
def train_command(
    index: IndexFolder,
    queries: QueryFile,
    judgments: JudgmentFile,
    out: Annotated[Path, typer.Option(help="The model's file, as ranker.tg.", show_default=False)],
    vectors: Annotated[
        list[str] | None, typer.Option(help="Word vectors to start from; may be repeated.", show_default=False)
    ] = None,
    tune_vectors: Annotated[bool, typer.Option("--tune-vectors", help="Let the word vectors learn as well.")] = False,
    by_place: ByPlace = False,
    least: LeastGrade = 1,
    candidates: Annotated[int, typer.Option(min=1, help="How many of BM25's best are learned from.")] = 50,
    dropout: Annotated[float, typer.Option(min=0, help="Of the network and of the token vectors.")] = 0.3,
    hidden_size: Annotated[int, typer.Option(min=1, help="Units of the GRU, a direction.")] = 64,
    max_epochs: Annotated[int, typer.Option(min=1, help="Epochs at most.")] = 10,
    learning_rate: Annotated[float, typer.Option(help="Step size.")] = 1e-3,
    text: QueryField = "text",
    encoding: Encoding = None,
    errors: BadBytes = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of all that is drawn.", show_default=False)] = None,
    resume: ResumeFile = False,
    overwrite: OverwriteFile = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train a ranker, which reads BM25's best documents again: word vectors, and a bidirectional GRU with attention.

    Ctrl-C keeps the best epoch so far; --resume then goes on.
    """
    check_resume(resume, overwrite)
    with session(verbose, quiet, debug), progress_bar(quiet) as report:
        from tidegate.jobs import search
        from tidegate.jobs.interrupts import how_to_go_on

        ranker, interrupted = search.train_ranker(
            index,
            queries,
            judgments,
            out,
            text=text,
            by_place=by_place,
            least=least,
            candidates=candidates,
            vectors=vectors,
            tune_vectors_after=0 if tune_vectors or not vectors else None,
            dropout=dropout,
            embedding_dropout=dropout,
            hidden_size=hidden_size,
            max_epochs=max_epochs,
            learning_rate=learning_rate,
            random_state=seed,
            verbose=True if verbose else False if quiet else None,
            **reading_options(encoding=encoding, errors=errors),
            resume=resume,
            overwrite=overwrite,
            report=report,
        )
        learned = {"model": str(out), "best_epoch": ranker.best_epoch_, "history": ranker.history_}
        if interrupted:
            if as_json:
                terminal.print_json({**learned, "interrupted": True})
            end_interrupted(
                f"interrupted after {len(ranker.history_)} epochs. The best so far (epoch {ranker.best_epoch_}) is in "
                f"{out}. {how_to_go_on(out)}"
            )
        terminal.print_result(
            {**learned, "interrupted": False},
            f"{out}: best of {len(ranker.history_)} epochs: {ranker.best_epoch_}\n"
            f'Use it: tidegate search query {index} "..." --ranker {out}',
            as_json,
        )
