from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import matplotlib as mpl
import pytest

from tidegate.reporting import plots

SVG = "{http://www.w3.org/2000/svg}"
HISTORY = [
    {"epoch": 1, "train_loss": 0.7, "validation_loss": 0.6, "validation_accuracy": 0.70},
    {"epoch": 2, "train_loss": 0.5, "validation_loss": 0.5, "validation_accuracy": 0.80},
    {"epoch": 3, "train_loss": 0.3, "validation_loss": 0.55, "validation_accuracy": 0.75},
]


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def words(svg: str) -> list[str]:
    return [element.text or "" for element in parsed(svg).iter(f"{SVG}text")]


def points(svg: str, colour: str) -> list[list[tuple[float, float]]]:
    """The corners of every curve drawn in this colour."""
    paths = [path for path in parsed(svg).iter(f"{SVG}path") if f"stroke: var({colour})" in path.get("style", "")]
    numbers = [[float(number) for number in re.findall(r"-?[\d.]+", path.get("d", ""))] for path in paths]
    return [list(zip(row[::2], row[1::2], strict=True)) for row in numbers if "C" not in row]


def test_learning_curves_draw_the_values_they_are_given():
    loss, accuracy = plots.learning_curves(HISTORY, best_epoch=2)
    training = points(loss, "--series-1")[0]
    assert len(training) == 3
    steps = [below[1] - above[1] for above, below in pairwise(training)]
    assert steps[0] > 0  # a falling loss goes down the page
    assert steps[0] == pytest.approx(steps[1], rel=1e-3)  # 0.7, 0.5, 0.3 lie on a line
    validation = points(accuracy, "--series-2")[0]
    assert validation[1][1] < validation[2][1] < validation[0][1]
    assert {"training", "validation", "kept", "epoch", "Loss"} <= set(words(loss))
    assert any(word.endswith("%") for word in words(accuracy))


def test_values_that_were_not_measured_are_left_out_of_the_curves():
    only_training = [{"epoch": 1, "train_loss": 0.7}, {"epoch": 2, "train_loss": float("nan")}, {"epoch": 3}]
    (loss,) = plots.learning_curves(only_training)
    assert "kept" not in words(loss)
    assert "validation" not in words(loss)
    assert plots.learning_curves([{"epoch": 1, "train_loss": None}]) == []
    assert plots.learning_curves([]) == []


def test_confusion_matrix_writes_counts_and_any_labels_as_text():
    labels = ["正面 & 好", "<script>alert('$x$')</script>", "@@0@@ \x00\udc80"]
    svg = plots.confusion_matrix([[5, 1234, 0], [2, 7, 0], [0, 0, 0]], labels)
    found = words(svg)
    assert {"5", "1,234", "2", "7"} <= set(found)
    assert found.count("正面 & 好") == 2  # at its row and at its column
    assert found.count("<script>alert('$x$')</s…") == 2
    assert found.count("@@0@@ \ufffd\ufffd") == 2
    assert "<script" not in svg
    shades = [float(opacity) for opacity in re.findall(r"[^-]opacity: ([\d.]+)", svg)]
    assert shades == pytest.approx([0.12 + 0.88 * s for s in (5 / 1239, 1234 / 1239, 2 / 9, 7 / 9)], abs=1e-5)


def test_counts_and_shades_stand_in_their_row_and_column():
    counts = [[5, 1234, 0], [2, 7, 3], [0, 0, 8]]
    svg = plots.confusion_matrix(counts, ["a", "b", "c"])
    place = {
        element.text: (float(element.get("x", "")), float(element.get("y", "")))
        for element in parsed(svg).iter(f"{SVG}text")
        if element.text != "0"
    }
    left, middle, right = (place[figure][0] for figure in ("5", "7", "8"))
    top, centre, bottom = (place[figure][1] for figure in ("5", "7", "8"))
    assert left < middle < right
    assert top < centre < bottom
    assert place["1,234"] == (middle, top)
    assert place["2"] == (left, centre)
    assert place["3"] == (right, centre)
    shaded = {}
    for path in parsed(svg).iter(f"{SVG}path"):
        if "fill: var(--series" in path.get("style", ""):
            numbers = [float(number) for number in re.findall(r"[\d.]+", path.get("d", ""))]
            inside = [
                figure
                for figure, (x, y) in place.items()
                if min(numbers[::2]) < x < max(numbers[::2]) and min(numbers[1::2]) < y < max(numbers[1::2])
            ]
            shaded[inside[0]] = float(path.get("style", "").partition("opacity: ")[2] or 1)
    row_of = {"5": 1239, "1,234": 1239, "2": 12, "7": 12, "3": 12, "8": 8}
    assert shaded == {
        figure: pytest.approx(0.12 + 0.88 * int(figure.replace(",", "")) / total, abs=1e-5)
        for figure, total in row_of.items()
    }


def test_confusion_matrix_of_many_classes_shows_shades_without_figures():
    labels = [f"class {c}" for c in range(50)]
    svg = plots.confusion_matrix([[77 if r == c else 0 for c in range(50)] for r in range(50)], labels)
    assert "77" not in words(svg)
    assert len(re.findall("fill: var\\(--series-1\\)", svg)) == 50


def test_length_histogram_marks_the_cut_and_names_the_splits():
    lengths = {"train": [1, 2, 2, 3, 3, 3], "留出": [3], "unused": []}
    svg = plots.length_histogram(lengths, max_tokens=2)
    assert {"train", "留出", "cut", "tokens"} <= set(words(svg))
    assert "unused" not in words(svg)
    assert "cut" not in words(plots.length_histogram(lengths, max_tokens=500))
    assert "cut" not in words(plots.length_histogram(lengths))


def test_length_histogram_gathers_the_rare_long_texts_in_its_last_bar():
    svg = plots.length_histogram({"train": [3] * 9000 + [10] * 960 + [100_000] * 40})
    ticks = [int(word.replace(",", "")) for word in words(svg) if word.isdigit()]
    assert max(ticks) < 100
    style = "fill: var(--series-1)"
    (bars,) = [path for path in parsed(svg).iter(f"{SVG}path") if style in path.get("style", "")]
    heights = [float(number) for number in re.findall(r"[\d.]+", bars.get("d", ""))][1::2]
    ground = max(heights)
    tall, last = sorted({ground - height for height in heights if height < ground}, reverse=True)
    assert last == pytest.approx(tall * 1000 / 9000, rel=1e-3)
    assert plots.length_histogram({"train": [0, 0]}).startswith("<svg")


def test_drawing_is_repeatable_and_leaves_matplotlib_as_it_was():
    before = dict(mpl.rcParams)
    first = plots.learning_curves(HISTORY, 2)
    assert first == plots.learning_curves(HISTORY, 2)
    assert dict(mpl.rcParams) == before


def test_ids_differ_from_figure_to_figure_and_every_reference_is_met():
    drawings = [*plots.learning_curves(HISTORY, 2), plots.confusion_matrix([[3, 1], [0, 2]], ["a", "b"])]
    ids = [name for svg in drawings for name in re.findall(r'\bid="([^"]+)"', svg)]
    assert len(ids) == len(set(ids)) > 0
    references = {name for svg in drawings for name in re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', svg)}
    assert {first or second for first, second in references} <= set(ids)


def test_colours_and_fonts_are_the_page_s():
    svg = plots.learning_curves(HISTORY)[0]
    assert not re.search(r"#0[1-7]0", svg)
    assert "var(--ink)" in svg
    assert "var(--sans)" in svg
    assert "DejaVu" not in svg
    page = (plots.__file__ or "").replace("plots.py", "page.html")
    with open(page, encoding="utf-8") as stream:
        defined = set(re.findall(r"^\s*(--[\w-]+):|; (--[\w-]+):", stream.read(), flags=re.MULTILINE))
    defined_names = {first or second for first, second in defined}
    assert set(re.findall(r"var\((--[\w-]+)\)", svg)) <= defined_names
