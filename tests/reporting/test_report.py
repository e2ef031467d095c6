from __future__ import annotations

import dataclasses
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tidegate.errors import TidegateError
from tidegate.reporting.facts import json_safe
from tidegate.reporting.metrics import classification_metrics
from tidegate.reporting.report import Mistake, RunFacts, write_metrics, write_report

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """The tags, attributes and texts of a page; an unbalanced tag is an error."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.headings: list[str] = []
        self.pieces: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        if "style" not in self.open:
            self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())


def judged(accuracy_of_100: int, classes=("negative", "positive")) -> dict:
    y_true = [classes[i % 2] for i in range(100)]
    right = np.arange(100) < accuracy_of_100
    column = np.where(right, np.arange(100) % 2, 1 - np.arange(100) % 2)
    return classification_metrics(y_true, np.where(np.eye(2)[column] == 1, 0.9, 0.1), list(classes))


def full_facts() -> RunFacts:
    return RunFacts(
        title="reviews",
        recipe={"task": "classify", "text": {"max_tokens": 3, "lowercase": True}, "model": {"cell": "gru"}},
        counts={"test": 100, "train": 1200},
        class_counts={"train": {"negative": 300, "positive": 900}, "test": {"negative": 50, "positive": 50}},
        token_lengths={"train": [1, 2, 3, 4, 5], "test": [2, 9]},
        history=[
            {"epoch": 1, "train_loss": 0.69, "validation_loss": 0.6, "validation_accuracy": 0.7125, "seconds": 2.5},
            {"epoch": 2, "train_loss": 0.5, "validation_loss": 0.55, "validation_accuracy": 0.75, "seconds": 2.25},
        ],
        best_epoch=2,
        test=judged(88),
        baseline={"name": "a bag of words", "accuracy": 0.70, "macro_f1": 0.7, "seconds": 1.0, "vocabulary": 10},
        mistakes=[Mistake("不错的电影", "positive", "negative", 0.987, "reviews.csv:17")],
        timing={"reading": 0.25, "train": 61.5, "tuning": 3599.7, "total": 3599.4},
        environment={"tidegate": "0.1.0", "threads": 2},
        notes=["3 texts stand in both sets."],
    )


def written(folder: Path, facts: RunFacts) -> tuple[Page, dict]:
    path = write_report(folder, facts)
    assert path == folder / "report.html"

    def no_constant(name: str) -> float:
        raise AssertionError(f"{name} is not JSON")

    record = json.loads((folder / "metrics.json").read_text("utf-8"), parse_constant=no_constant)
    return Page(path.read_text("utf-8")), record


def test_the_page_shows_the_facts_in_their_sections(tmp_path):
    page, _ = written(tmp_path / "new" / "run", full_facts())
    assert page.headings == [
        "Test set by class",
        "Worst mistakes",
        "Learning curves",
        "Data",
        "Recipe",
        "Timing",
        "Environment",
    ]
    for fact in (
        "88.0",  # test accuracy
        "95% interval 80.2 to 93.0%",  # Wilson
        "a bag of words",
        "70.0%",
        "stands 18.0 points above the baseline",
        "Always answering “negative” would be right for 50.0%",
        "900 (75%)",
        "shortens 3 of 7",
        "71.2%",
        "2 (kept)",
        "不错的电影",
        "98.7% sure",
        "reviews.csv:17",
        "training 61.5 s",  # the tile
        "train 61.5 s",
        "250 ms",
        "tuning 1 h 0 min",
        "total 59 min 59 s",
        "3 texts stand in both sets.",
        "max_tokens: 3",  # the recipe as YAML
        "expected calibration error is 2.0%",  # 88 of 100 right where it says 0.9
        "roc auc 0.8800",
    ):
        assert fact in page.text, fact
    assert page.tags.count("svg") == 5


def test_metrics_json_holds_the_same_facts(tmp_path):
    facts = full_facts()
    _, record = written(tmp_path, facts)
    assert record.pop("format") == 1
    assert isinstance(record.pop("tidegate"), str)
    assert set(record) == {field.name for field in dataclasses.fields(RunFacts)}
    assert record == json.loads(json.dumps(dataclasses.asdict(facts)))
    assert '"train": [ 1, 2, 3, 4, 5 ]' in (tmp_path / "metrics.json").read_text("utf-8")


def test_a_model_below_its_baseline_is_said_to_be_below(tmp_path):
    baseline = {"name": "a bag of words", "accuracy": 0.91}
    page, _ = written(tmp_path, dataclasses.replace(full_facts(), baseline=baseline))
    assert "stands 3.0 points below the baseline" in page.text
    assert "standard error of such a difference is 4.3 points, so it is not sure that one is better" in page.text
    page, _ = written(tmp_path, dataclasses.replace(full_facts(), baseline={**baseline, "accuracy": 0.88}))
    assert "equally accurate" in page.text


def test_the_title_alone_makes_a_report(tmp_path):
    page, record = written(tmp_path, RunFacts(title="empty"))
    assert page.headings == []
    assert "empty" in page.text
    assert record["test"] is None
    assert record["mistakes"] == []


@pytest.mark.parametrize(
    ("without", "heading"),
    [
        ({"test": None}, "Test set by class"),
        ({"mistakes": []}, "Worst mistakes"),
        ({"history": []}, "Learning curves"),
        ({"counts": {}, "class_counts": {}, "token_lengths": {}}, "Data"),
        ({"recipe": {}}, "Recipe"),
        ({"timing": {}}, "Timing"),
        ({"environment": {}}, "Environment"),
    ],
)
def test_a_section_without_data_is_left_out_and_the_others_stay(tmp_path, without, heading):
    whole, _ = written(tmp_path, full_facts())
    page, _ = written(tmp_path, dataclasses.replace(full_facts(), **without))
    assert page.headings == [name for name in whole.headings if name != heading]


def test_without_a_baseline_no_comparison_is_made(tmp_path):
    page, _ = written(tmp_path, dataclasses.replace(full_facts(), baseline=None))
    assert "baseline" not in page.text
    assert "88.0" in page.text


EVIL = "<script>alert(1)</script>\"'&amp;<img src=x onerror=alert(1)>$title ${body} @@0@@ \x00\x1b\udc80"


def hostile_facts() -> RunFacts:
    return RunFacts(
        title=EVIL,
        recipe={EVIL: EVIL, "text": {EVIL: [EVIL], "max_tokens": None}},
        counts={EVIL: 3},
        class_counts={EVIL: {EVIL: 3, "other": 1}},
        token_lengths={EVIL: [1, 2]},
        history=[{"epoch": 1, "train_loss": float("nan"), "validation_loss": float("inf")}],
        test=judged(60, classes=(EVIL, "other")),
        baseline={"name": EVIL, "accuracy": 0.5},
        mistakes=[Mistake(EVIL, EVIL, EVIL, 0.9, EVIL), Mistake("", 0, 1, 0.5)],
        timing={EVIL: 1.0},
        environment={EVIL: EVIL},
        notes=[EVIL],
    )


def test_no_text_of_the_user_becomes_markup(tmp_path):
    page, record = written(tmp_path, hostile_facts())
    assert not {"script", "img"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.text.count("<script>alert(1)</script>") >= 15
    assert "(an empty text)" in page.text
    raw = (tmp_path / "report.html").read_text("utf-8")
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", raw)
    assert record["notes"] == [EVIL.replace("\udc80", "?")]
    assert record["history"] == [{"epoch": 1, "train_loss": None, "validation_loss": None}]


def test_the_page_needs_no_other_file_and_no_network(tmp_path):
    page, _ = written(tmp_path, full_facts())
    assert not {"script", "link", "img", "iframe", "object", "base"} & set(page.tags)
    references = [value for name, value in page.attributes if name in ("src", "href", "xlink:href", "srcset", "data")]
    assert all(value.startswith("#") for value in references)
    raw = (tmp_path / "report.html").read_text("utf-8")
    assert "@import" not in raw
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", raw))
    assert set(re.findall(r"https?://[^\"\s<]+", raw)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_a_text_of_100_000_tokens_is_shortened_in_the_page_and_whole_in_the_record(tmp_path):
    long = "begin " + "word " * 99_998 + "finish"
    facts = dataclasses.replace(full_facts(), mistakes=[Mistake(long, "positive", "negative", 0.9)])
    page, record = written(tmp_path, facts)
    assert (tmp_path / "report.html").stat().st_size < 100_000
    assert "begin word" in page.text
    assert "word finish" in page.text
    left_out = re.search(r"([\d,]+) characters left out", page.text)
    assert left_out
    assert int(left_out[1].replace(",", "")) == len(long) - 700
    assert record["mistakes"][0]["text"] == long


def test_many_classes_and_integer_labels(tmp_path):
    classes = list(range(60))
    test = classification_metrics(classes, np.eye(60), classes)
    counts = {"train": {label: 100 - label for label in classes}}
    page, record = written(tmp_path, RunFacts(title="many", test=test, class_counts=counts))
    assert "48 rarer labels are not shown" in page.text
    assert record["class_counts"]["train"]["59"] == 41
    assert record["test"]["per_class"][59]["label"] == 59


def test_a_second_report_replaces_the_first_and_leaves_nothing_else(tmp_path):
    written(tmp_path, RunFacts(title="first"))
    page, record = written(tmp_path, RunFacts(title="second"))
    assert record["title"] == "second"
    assert "first" not in page.text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.json", "report.html"]


def test_a_failed_write_keeps_the_old_report_and_is_told_in_words(tmp_path, monkeypatch):
    written(tmp_path, RunFacts(title="old"))

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(TidegateError, match=r"cannot write the report into .*No space left on device"):
        write_report(tmp_path, RunFacts(title="new"))
    assert json.loads((tmp_path / "metrics.json").read_text("utf-8"))["title"] == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.json", "report.html"]


def test_the_record_can_be_written_without_the_page(tmp_path, monkeypatch):
    write_report(tmp_path / "both", full_facts())
    path = write_metrics(tmp_path / "new" / "alone", full_facts())
    assert path == tmp_path / "new" / "alone" / "metrics.json"
    assert path.read_bytes() == (tmp_path / "both" / "metrics.json").read_bytes()
    assert [entry.name for entry in path.parent.iterdir()] == ["metrics.json"]

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(TidegateError, match=r"cannot write the report into .*alone: No space left on device"):
        write_metrics(path.parent, RunFacts(title="new"))
    assert json.loads(path.read_text("utf-8"))["title"] == "reviews"
    assert [entry.name for entry in path.parent.iterdir()] == ["metrics.json"]


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TidegateError, match="cannot write the report"):
        write_report(tmp_path / "file", RunFacts(title="x"))


def test_json_safe_turns_every_value_into_json():
    value = {
        1: np.float32(0.5),
        "array": np.array([[1, 2], [3, 4]]),
        "nan": [float("nan"), np.float64("inf"), -0.25],
        "path": Path("a") / "b",
        "flag": np.bool_(True),
        "int": np.int64(7),
        "tuple": (True, None),
        "mistake": Mistake("t", 1, 0, 0.5),
    }
    assert json_safe(value) == {
        "1": 0.5,
        "array": [[1, 2], [3, 4]],
        "nan": [None, None, -0.25],
        "path": "a/b",
        "flag": True,
        "int": 7,
        "tuple": [True, None],
        "mistake": {"text": "t", "label": 1, "predicted": 0, "probability": 0.5, "origin": ""},
    }
    assert type(json_safe(value)["int"]) is int
