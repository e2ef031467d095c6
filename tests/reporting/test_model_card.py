from __future__ import annotations

import html
import re
from typing import Any

import pytest
from markdown_it import MarkdownIt

from tidegate.reporting.markdown import escape
from tidegate.reporting.model_card import CardFacts, render_card

HEADINGS = [
    "Model details",
    "Intended use",
    "Factors",
    "Training data",
    "Evaluation data and metrics",
    "Quantitative analysis",
    "Ethical considerations",
    "Caveats and recommendations",
    "How to load it",
]
TEST: dict[str, Any] = {
    "count": 200,
    "accuracy": 0.8,
    "standard_error": 0.0283,
    "interval": [0.7391, 0.8495],
    "macro_f1": 0.79,
    "log_loss": 0.45,
    "per_class": [
        {"label": "好|<b>", "precision": 0.9, "recall": 0.8, "f1": 0.85, "support": 180},
        {"label": "*坏*", "precision": 0.5, "recall": 0.6, "f1": 0.55, "support": 20},
    ],
}


def facts(**changes: Any) -> CardFacts:
    run = {
        "title": "影评 <script>",
        "counts": {"test": 200, "train": 800},
        "class_counts": {"train": {"好|<b>": 600, "*坏*": 200}, "test": {"好|<b>": 180, "*坏*": 20}},
        "test": TEST,
        "baseline": {"name": "TF-IDF", "accuracy": 0.75},
        "notes": ["- longer than max_tokens=6 were 3 of 800"],
    } | changes.pop("run", {})
    given = {"task": "text-classification", "kind": "text-classifier", "unit": "texts", "labels": ["好|<b>", "*坏*"]}
    return CardFacts(run=run, sources={"train": "train.csv", "test": "test.csv"}, **{**given, **changes})


def rendered(card: str) -> str:
    return MarkdownIt("commonmark").enable("table").render(card)


def rows(card: str, first: str) -> list[list[str]]:
    """The cells of the table whose first head this is, as a reader sees them."""
    for table in re.findall(r"<table>.*?</table>", rendered(card), re.DOTALL):
        found = [
            [html.unescape(cell) for cell in re.findall(r"<t[hd]>(.*?)</t[hd]>", row, re.DOTALL)]
            for row in re.findall(r"<tr>.*?</tr>", table, re.DOTALL)
        ]
        if found[0][0] == first:
            return found
    raise AssertionError(f"no table of {first}")


@pytest.mark.parametrize(
    "words",
    [
        "a*b*c _d_ `e`",
        "<script>alert(1)</script>",
        "[x](javascript:1) ![y](z)",
        "# no head",
        "- no list",
        "12. none",
        "a|b",
        "&amp; ~~s~~",
        "不错，*真的*！",
        "back\\slash",
        "two\nlines",
    ],
)
def test_any_text_stands_as_it_is(words: str) -> None:
    seen = rendered(f"- {escape(words)}\n")
    assert "<li>" in seen
    inside = seen.split("<li>")[1].split("</li>")[0]
    assert "<" not in inside
    assert html.unescape(inside) == " ".join(words.split())


def test_the_card_has_its_sections_and_shows_no_html_of_the_data() -> None:
    card = render_card(facts())
    assert re.findall(r"^## (.*)$", card, re.MULTILINE) == HEADINGS
    page = rendered(card)
    assert page.startswith("<h1>Model card: 影评 &lt;script&gt;</h1>")
    assert "<script>" not in page and "<b>" not in page


def test_figures_stand_with_their_interval_and_the_baseline() -> None:
    card = render_card(facts())
    assert rows(card, "measure")[1] == ["accuracy", "0.8000", "0.7391 to 0.8495 (standard error 0.0283)"]
    assert "accuracy 0.7500; the model is better by 0.0500. That is inside the interval above" in card
    assert "the model is worse by 0.1500." in render_card(facts(run={"baseline": {"name": "x", "accuracy": 0.95}}))
    assert rows(card, "part")[1:] == [["train", "800", "train.csv"], ["test", "200", "test.csv"]]
    assert ["*坏*", "200 (25.0%)", "20 (10.0%)"] in rows(card, "label")


def test_limits_follow_from_the_run() -> None:
    card = render_card(facts(unknown={"train": 0.2, "test": 0.081}, calibration=0.12))
    seen = html.unescape(rendered(card))
    assert "Weakest: *坏* (F1 0.550, 20 examples)." in seen
    assert "Fewer than 30 test examples have the labels *坏*" in seen
    assert "The test set is small (200 texts)" in seen and "0.110 wide" in seen
    assert "8.1% of the test tokens are unknown to it" in seen and "20.0% of the train tokens are unknown" not in seen
    assert "Expected calibration error 0.120" in seen and "not to be taken at their word" in seen
    assert "- longer than max_tokens=6 were 3 of 800" in seen
    many = {**TEST, "count": 25000, "per_class": [{**row, "support": 9000} for row in TEST["per_class"]]}
    large = render_card(facts(run={"test": many}, unknown={"test": 0.01}, calibration=0.01))
    for words in ("Fewer than", "test set is small", "unknown to it;", "at their word"):
        assert words not in large


def test_a_run_without_a_test_part_says_so() -> None:
    card = render_card(facts(run={"test": None, "baseline": None}))
    assert "nothing is known of how well it does on new texts" in card
    assert "Test it on labelled texts of your own before use" in card


def test_a_tagger_has_the_interval_at_its_f1() -> None:
    test = {"scheme": "BIO", "count": 90, "f1": 0.7, "accuracy": 0.9, "interval": [0.6, 0.8], "per_type": []}
    card = render_card(facts(run={"test": test, "baseline": None}, kind="sequence-tagger"))
    assert ["F1 of segments", "0.7000", "0.6000 to 0.8000"] in rows(card, "measure")
    assert ["accuracy", "0.9000", ""] in rows(card, "measure")


def test_each_of_several_tasks_has_its_figures() -> None:
    rating = {
        "count": 150,
        "mae": 1.5,
        "standard_error": 0.05,
        "interval": [1.4, 1.6],
        "guess": 1.9,
        "by_size": [{"low": 1.0, "high": 3.0, "count": 50, "mae": 2.0, "bias": 0.5}],
    }
    run = {
        "test": {"count": 200, "tasks": {"tone": TEST, "rating": rating}},
        "baseline": {"tasks": {"tone": {"name": "words", "accuracy": 0.9}, "rating": {"name": "ridge", "mae": 1.7}}},
        "class_counts": {"train": {"tone: 好": 60, "tone: 坏": 20}, "test": {"tone: 好": 15, "tone: 坏": 5}},
    }
    made = facts(run=run, kind="multi-task-text", labels=(), tasks={"tone": ["好", "坏"], "rating": []})
    card = render_card(made)
    assert "Tasks: tone (好, 坏); rating (a number)." in card and "Labels:" not in card
    assert "200 test texts of tone:" in card and "150 test texts of rating:" in card
    assert "| mean absolute error | 1.5000 | 1.4000 to 1.6000 (standard error 0.0500) |" in card
    assert "Baseline (words): accuracy 0.9000; the model is worse by 0.1000." in card
    assert "Baseline (ridge): mean absolute error 1.7000; the model is better by 0.2000." in card
    assert "Always the median of the test numbers would err by 1.9000" in card
    assert "Always the most frequent label would be right in 75.0%." in card
    assert rows(card, "right number")[1] == ["1 to 3", "2.0000", "0.5000", "50"]
    assert "Weakest (tone): \\*坏\\* (F1 0.550" in card


def test_numbers_to_be_found_are_described() -> None:
    card = render_card(facts(numbers={"train": [1.0, 2.0, 6.0], "test": [3.0, 3.0]}, kind="text-regressor", labels=()))
    spread = f"{(14 / 3) ** 0.5:.4g}"
    assert rows(card, "part")[0] == ["part", "texts", "source"]
    tables = rendered(card)
    assert "<td>train</td>" in tables and f"<td>3</td>\n<td>{spread}</td>\n<td>1</td>\n<td>2</td>\n<td>6</td>" in tables


def test_the_most_frequent_label_is_that_of_the_training_data() -> None:
    counts = {"train": {"a": 5, "b": 60}, "test": {"a": 15, "b": 5}}
    assert "Always the most frequent label would be right in 25.0%." in render_card(facts(run={"class_counts": counts}))
    several = render_card(facts(run={"class_counts": counts}, kind="multi-label-text-classifier"))
    assert "most frequent label" not in several and "A text that none of them fits may get none." in several
