from __future__ import annotations

import json
from pathlib import Path

from tidegate.data.tag_schemes import Span
from tidegate.reporting.facts import TaggingFacts
from tidegate.reporting.report import write_report
from tidegate.reporting.tagging import TaggingMistake, tagging_metrics


def facts(**changed: object) -> TaggingFacts:
    truth = [["B-PER", "O", "B-LOC", "I-LOC"], ["O", "B-PER"]]
    said = [["B-PER", "O", "B-LOC", "O"], ["O", "B-LOC"]]
    values = {
        "title": "Names <of> things",
        "test": {
            **tagging_metrics(truth, said, "bio"),
            "unseen": {"B-<X>": 3},
            "intent_accuracy": 0.5,
            "joint_accuracy": 0.25,
        },
        "mistakes": [
            TaggingMistake(
                ["<b>Ada</b>", "saw", "New", "York"], "boundary", Span(2, 4, "LOC"), Span(2, 3, "LOC"), 0.87, "a:1"
            ),
            TaggingMistake(["x"] * 100, "missed", Span(50, 51, "PER"), None, float("nan")),
            TaggingMistake(["北", "京"], "spurious", None, Span(0, 2, "LOC"), 0.5),
        ],
        "transitions": {
            "tags": ["O", "B-LOC", "I-LOC"],
            "scores": [[0.5, -1.25, 3.0], [0.0, 0.0, 2.0], [0.1, 0.2, 0.3]],
            "allowed": [[True, True, False], [True, True, True], [True, True, True]],
        },
        "inspection": [
            {
                "token": "Ada",
                "tag": "B-LOC",
                "emission": 1.5,
                "transition": -0.25,
                "probability": 0.75,
                "emission_tag": "O",
            }
        ],
        "history": [
            {"epoch": 1, "train_loss": 2.0, "validation_loss": 1.0, "validation_accuracy": 0.9, "validation_f1": 0.8}
        ],
        "best_epoch": 1,
    }
    return TaggingFacts(**{**values, **changed})  # pyright: ignore


def test_the_page_shows_scores_errors_transitions_and_one_sentence(tmp_path: Path):
    page = write_report(tmp_path, facts()).read_text(encoding="utf-8")
    assert "Names &lt;of&gt; things" in page
    for words in (
        "test F1 of segments",
        "33.33",
        "intent accuracy",
        "50.0%",
        "Test set by type",
        "LOC",
        "Errors by kind",
    ):
        assert words in page
    assert "B-&lt;X&gt;" in page and "<b>Ada</b>" not in page
    assert "87.0% sure" in page and "&lt;b&gt;Ada&lt;/b&gt; saw" in page
    # What is there and what was found are set off where they stand.
    both = '<span class="right" style="border-bottom:2px solid var(--bad)">New</span>'
    assert f'{both} <span class="right" style="">York</span>' in page
    assert 'lang="zh"' in page and "北</span><span" in page  # no blanks between Chinese characters
    assert page.count("… x x") == 1
    assert "+3.0" not in page and "-1.2" in page and "·" in page  # a forbidden transition has no score
    assert "boundary: the type is right" in page
    assert "by emissions alone" in page and "75.0%" in page
    assert "validation F1" in page and "80.0%" in page
    record = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert record["test"]["f1"] == 1 / 3
    assert record["mistakes"][1]["confidence"] is None
    assert record["transitions"]["tags"] == ["O", "B-LOC", "I-LOC"]


def test_what_is_not_known_is_left_out(tmp_path: Path):
    page = write_report(tmp_path, TaggingFacts(title="t")).read_text(encoding="utf-8")
    for words in ("Errors by kind", "Transitions", "One sentence inside", "Test set by type"):
        assert words not in page


def test_parts_of_speech_are_judged_by_their_accuracy(tmp_path: Path):
    test = tagging_metrics([["n", "v"]], [["n", "n"]], "plain")
    page = write_report(tmp_path, TaggingFacts(title="t", test=test)).read_text(encoding="utf-8")
    assert "test accuracy of tags" in page and "50.00" in page and "precision</span>" not in page


def test_many_tags_are_drawn_in_part(tmp_path: Path):
    tags = [f"t{number}" for number in range(50)]
    drawn = {"tags": tags, "scores": [[0.0] * 50] * 50, "allowed": None}
    page = write_report(tmp_path, facts(transitions=drawn)).read_text(encoding="utf-8")
    assert "The first 34 of 50 tags." in page
    assert "t33" in page and "t34" not in page
    assert "font-size:0.6875rem" in page
    assert "font-size:0.6875rem" not in write_report(tmp_path, facts()).read_text(encoding="utf-8")


def test_a_run_that_was_gone_on_with_took_as_long_as_all_its_epochs(tmp_path: Path):
    epoch = {"epoch": 1, "train_loss": 2.0, "validation_f1": 0.8, "seconds": 75.0}
    shown = facts(history=[epoch, {**epoch, "epoch": 2}], timing={"train": 0.4})
    assert "<b>2 min 30 s</b>" in write_report(tmp_path, shown).read_text(encoding="utf-8")


def test_types_are_counted_among_segments(tmp_path: Path):
    counted = facts(counts={"train": 10}, class_counts={"train": {"LOC": 30, "PER": 10}})
    page = write_report(tmp_path, counted).read_text(encoding="utf-8")
    assert "<td>10</td><td>30 (75%)</td><td>10 (25%)</td>" in page and ">sentences</th>" in page
