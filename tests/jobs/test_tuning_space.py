from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.config import load_recipe
from tidegate.errors import RecipeError
from tidegate.jobs.tuning_space import Choice, Range, Space, default_space, override, parse_space
from tiny_reviews import write_tiny


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_tiny(tmp_path, train=4, test=2)


def parse(recipe: Path, *given: str) -> Space:
    return parse_space(given, lambda overrides: load_recipe(recipe, overrides=overrides))


def test_values_and_ranges(recipe: Path) -> None:
    assert parse(
        recipe,
        "model.hidden_size=64,128",
        "model.pooling=mean, attention",
        "training.ema_decay=null,0.99",
        "model.bidirectional=true,false",
        "model.dropout=0..0.5",
        "model.num_layers=1..3",
        "training.batch_size=16..64:16",
        "training.learning_rate=1e-4..1e-2:log",
        "training.weight_decay=0..1:0.25",
    ) == (
        Choice("model.hidden_size", (64, 128)),
        Choice("model.pooling", ("mean", "attention")),
        Choice("training.ema_decay", (None, 0.99)),
        Choice("model.bidirectional", (True, False)),
        Range("model.dropout", 0.0, 0.5),
        Range("model.num_layers", 1, 3),
        Range("training.batch_size", 16, 64, step=16),
        Range("training.learning_rate", 1e-4, 1e-2, log=True),
        Range("training.weight_decay", 0.0, 1.0, step=0.25),
    )
    assert Range("a.b", 1, 3).whole and not Range("a.b", 0.0, 3.0).whole
    specs = default_space("text-classification", {})
    assert {item.key for item in parse(recipe, *specs)} == {text.split("=")[0] for text in specs}


def test_lists_are_values_and_are_drawn_by_their_place(recipe: Path) -> None:
    (lists,) = parse_space(["text.ngram_range=[1,1],[1, 2]"], lambda overrides: None)
    assert lists == Choice("text.ngram_range", ([1, 1], [1, 2]))
    assert isinstance(lists, Choice) and lists.grid() == (0, 1)
    assert lists.drawn([1, 2]) == 1 and lists.value(0) == [1, 1]
    plain = Choice("model.pooling", ("mean", None))
    assert plain.grid() == ("mean", None) and plain.drawn(None) is None and plain.value("mean") == "mean"
    with pytest.raises(ValueError, match="not in"):
        plain.drawn("max")
    sizes = Range("a.b", 16, 64)
    assert sizes.drawn(64) == 64 and sizes.value(17) == 17
    for outside in (65, None, True, "32"):
        with pytest.raises(ValueError, match="is not from 16 to 64"):
            sizes.drawn(outside)


def test_the_grid_of_a_range_needs_a_step() -> None:
    assert Range("a.b", 16, 64, step=16).grid() == (16, 32, 48, 64)
    assert Range("a.b", 0.0, 1.0, step=0.3).grid() == pytest.approx((0, 0.3, 0.6, 0.9))
    with pytest.raises(RecipeError, match=r"a\.b: a grid needs values or a step"):
        Range("a.b", 0.0, 1.0).grid()


@pytest.mark.parametrize("value", [1e-5, 0.00012345678901234567, 1e20, 3, True, None, "mean"])
def test_every_value_survives_being_an_override(recipe: Path, value: object) -> None:
    from tidegate.schema.located_yaml import parse_document

    key, _, text = override("a.b", value).partition("=")
    assert (key, parse_document(text, "x", numbered=False).value) == ("a.b", value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("model.hiden_size=1,2", r"model\.hiden_size: unknown key\. Did you mean 'hidden_size'"),
        ("model.hidden_size=0..8", "model.hidden_size: expected a number of at least 1, found the number 0"),
        ("model.dropout=0.1..1.5", "model.dropout: expected a number less than 1.0, found the number 1.5"),
        ("model.pooling=mean,avg", r"model\.pooling: expected last, mean, max or attention, found the text 'avg'"),
        ("model.dropout=0.5..0.1", "an impossible range: expected the lower end first, found 0.5 and 0.1"),
        ("training.learning_rate=0..1:log", "a range by logarithm must begin above 0, found 0"),
        ("model.num_layers=1..3:5", "expected a step above 0 and within the range, found 5"),
        ("model.dropout=a..b", "expected LOW..HIGH, LOW..HIGH:log or LOW..HIGH:STEP, found 'a..b'"),
        ("model.dropout=0.1", "expected two values or more, or a range; one is what --set is for"),
        ("model.hidden_size=8,8", "a value is named twice"),
        ("hidden_size=8,9", "expected KEY=VALUES or KEY=LOW..HIGH"),
        ("model.hidden_size", "expected KEY=VALUES or KEY=LOW..HIGH"),
        ("data.train=a.csv,b.csv", "expected a key of the sections text, model or training; the data stay the same"),
    ],
)
def test_a_space_that_cannot_be(recipe: Path, spec: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse(recipe, spec)


def test_a_key_named_twice(recipe: Path) -> None:
    with pytest.raises(RecipeError, match=r"model\.dropout: the key is named twice"):
        parse(recipe, "model.dropout=0..0.5", "model.dropout=0.1,0.2")
