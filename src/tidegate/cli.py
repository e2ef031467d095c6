"""The command line: which commands there are, and where each is."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from tidegate.commands import ensemble, fill_mask, info, language, models, recipes, search, training, vectors

app = typer.Typer(
    name="tidegate",
    help="Gated recurrent models of text: train them, judge them, put them to use.",
    epilog="Start here: tidegate train sentiment_en",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    if version:
        import tidegate

        typer.echo(f"tidegate {tidegate.__version__}")
        raise typer.Exit


# Each command, what does it, and the example that its help ends with.
for _name, _command, _example in (
    ("train", training.train, "tidegate train sentiment_en --set model.hidden_size=256 --out runs/large"),
    ("evaluate", models.evaluate, "tidegate evaluate runs/demo/model.tg bundled:reviews_en"),
    ("predict", models.predict, "echo 'not bad at all' | tidegate predict runs/demo/model.tg --json"),
    ("info", info.info, "tidegate info --json"),
    ("validate", recipes.validate, "tidegate validate sentiment.yaml --set training.learning_rate=1e-3"),
    ("tune", training.tune, "tidegate tune sentiment_zh --trials 20 --out runs/search"),
    ("augment", training.augment, "tidegate augment sentiment_en --set training.augment_swap=0.1"),
    (
        "ensemble",
        ensemble.ensemble,
        "tidegate ensemble linear.tg gru.tg --data valid.csv --test test.csv --out joined.tg",
    ),
    ("fill-mask", fill_mask.fill_mask, 'tidegate fill-mask bert-folder "The film was ___."'),
):
    app.command(_name, epilog=f"Example: {_example}")(_command)
app.add_typer(recipes.app, name="recipes")
app.add_typer(search.app, name="search")
app.add_typer(vectors.app, name="vectors")
app.add_typer(language.app, name="language")


def main() -> None:
    """The entry point ``tidegate``."""
    # Threads that wait spin for milliseconds by default, which on a busy machine takes the cores from those they wait
    # for. Shorter spinning measured the same on a quiet one. Only a process of our own is told so, before torch loads.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    # Of several processes that train, torch warns that it looks for parameters which rest: they may, in other epochs.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    app(prog_name="tidegate")
