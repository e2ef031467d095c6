from __future__ import annotations

import re
from typing import Any

import numpy as np

from tidegate.reporting.facts import MultiTaskFacts
from tidegate.reporting.metrics import classification_metrics
from tidegate.reporting.number_metrics import NumberMistake, number_metrics
from tidegate.reporting.page import render_page

TRUTH = [2.0, 4.0, 1.0, 3.0]


def classified(right: int, rows: int = 400) -> dict[str, Any]:
    """Metrics of a model that is right for so many of the rows."""
    labels = ["good", "bad"] * (rows // 2)
    sure = np.array([[0.2, 0.8], [0.8, 0.2]] * (rows // 2))
    sure[right:] = sure[right:, ::-1]
    return classification_metrics(labels, sure, ["bad", "good"])


def facts(**more: Any) -> MultiTaskFacts:
    tasks = {"tone": classified(340), "stars": number_metrics(TRUTH, [2.5, 3.0, 1.5, 3.0])}
    return MultiTaskFacts(
        title="Tone & stars",
        kinds={"tone": "classification", "stars": "regression"},
        test={"count": 400, "tasks": tasks},
        mistakes={"stars": [NumberMistake("<b>great", 4.0, 3.0, "a.csv:3")]},
        answers={"stars": {"truth": TRUTH, "predicted": [2.5, 3.0, 1.5, 3.0]}},
        **more,
    )


def rows_of(page: str) -> list[list[str]]:
    return [
        [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
        for row in re.findall(r"<tr>(.*?)</tr>", page)
    ]


def test_tasks_stand_beside_models_of_one_task_and_baselines() -> None:
    single = {"tone": classified(280), "stars": number_metrics(TRUTH, [2.5, 3.5, 1.5, 3.0])}
    baseline = {"tasks": {"tone": {"name": "B", "accuracy": 0.5, "macro_f1": 0.4}}}
    page = render_page(facts(single=single, baseline=baseline))
    rows = rows_of(page)
    assert rows[0] == [
        "task",
        "figure",
        "together",
        "95% interval",
        "alone",
        "difference",
        "TF-IDF, linear",
    ]
    assert rows[1] == ["tone", "accuracy", "85.0%", "81.2% to 88.2%", "70.0%", "+15.0 points", "50.0%"]
    assert rows[3][:3] == ["stars", "mean absolute error", "0.5000"]
    assert rows[3][4:] == ["0.3750", "-0.1250, which may be chance", "–"]
    nearly = render_page(facts(single={"tone": classified(335)}))
    assert rows_of(nearly)[1][-1] == "+1.2 points, which may be chance"
    assert rows_of(nearly)[3][-2:] == ["–", "–"]


def test_each_task_has_the_sections_of_its_kind() -> None:
    page = render_page(facts())
    headings = re.findall(r"<h[23]>(.*?)</h[23]>", page)
    start = headings.index("Task tone: classification")
    assert headings[start : start + 5] == [
        "Task tone: classification",
        "Test set by class",
        "Task stars: regression",
        "Test set",
        "Texts missed by most",
    ]
    assert "&lt;b&gt;great" in page and "<b>great" not in page
    assert "alone" not in [cell for row in rows_of(page)[:1] for cell in row]


def test_a_run_without_a_test_part_has_no_tasks_to_show() -> None:
    page = render_page(MultiTaskFacts(title="None", kinds={"tone": "classification"}))
    assert "Task tone" not in page and "<h1>None</h1>" in page
