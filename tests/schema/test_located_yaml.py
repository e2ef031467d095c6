from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.errors import RecipeError
from tidegate.schema.located_yaml import dotted, dump_document, parse_document, read_document


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        ("-.5", -0.5),
        ("+12", 12),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("-.inf", float("-inf")),
        ("no", "no"),
        ("on", "on"),
        ("True", True),
        ("false", False),
        ("~", None),
        ("null", None),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        ("2020-01-01", "2020-01-01"),
        ("'5'", "5"),
        ("!!str 5", "5"),
        ("<<", "<<"),
        ("=", "="),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object):
    found = parse_document(f"key: {text}", "f").value["key"]
    assert found == value
    assert type(found) is type(value)


def test_every_value_knows_its_line():
    document = parse_document("a: 1\nb:\n  c: [x,\n      y]\n  # comment\n  d:\n    - 1\n    - {e: 2}\n", "f.yaml")
    assert document.value == {"a": 1, "b": {"c": ["x", "y"], "d": [1, {"e": 2}]}}
    places = {dotted(path): place for path, place in document.places.items() if path}
    assert places == {
        "a": "f.yaml:1",
        "b": "f.yaml:2",
        "b.c": "f.yaml:3",
        "b.c[0]": "f.yaml:3",
        "b.c[1]": "f.yaml:4",
        "b.d": "f.yaml:6",
        "b.d[0]": "f.yaml:7",
        "b.d[1]": "f.yaml:8",
        "b.d[1].e": "f.yaml:8",
    }
    assert document.place(("b", "none", "deeper")) == "f.yaml:2"
    assert document.rank(("a",)) < document.rank(("b", "c")) < document.rank(("b", "d", "x"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", r"f:3: the key a is repeated; it first stands at f:1"),
        ("m:\n  a: 1\n  a: 2", r"f:3: the key m\.a is repeated"),
        ("a: [1", r"f:1: this is not YAML"),
        ("a: 1\n\tb: 2", r"f:2: this is not YAML.*tab"),
        ("a: b: c", r"f:1: this is not YAML: mapping values are not allowed here"),
        ("a: 1\n---\nb: 2", r"f:2: this is not YAML: expected a single document"),
        ("a: 'open\nb: 2", r"f:\d: this is not YAML"),
        ("a: &x 1\nb: *x", r"f:1: a recipe has no anchors"),
        ("a: *x", r"f:1: a recipe has no anchors or aliases"),
        ("x: 1\na: !!python/object/apply:os.system ['true']", r"f:2: a recipe has no tags"),
        ("a: !mine 3", r"f:1: a recipe has no tags, found '!mine'"),
        ("a: !!set {b}", r"f:1: a recipe has no tags"),
        ("a: !!int five", r"f:1: expected a value of the type int, found 'five'"),
        ("a: " + "9" * 5000, r"f:1: expected a value of the type int"),
        ("[a, b]: 1", r"f:1: expected a name before the colon"),
        ("'': 1", r"f:1: expected a name before the colon"),
        ("a: 1\nb: \x00", r"f:2: expected text, found the character '\\x00'"),
        ("[" * 20_000, r"f:1: expected at most 20 levels"),
    ],
)
def test_what_is_no_plain_yaml_is_refused_with_its_line(text: str, message: str):
    with pytest.raises(RecipeError, match=message):
        parse_document(text, "f")


def test_files_that_are_no_text(tmp_path: Path):
    path = tmp_path / "r.yaml"
    path.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(RecipeError, match=r"r\.yaml:2: expected UTF-8, found the byte 0xff"):
        read_document(path)
    path.write_bytes(b"a: " + b"x" * (1 << 20))
    with pytest.raises(RecipeError, match="at most 1,048,576 bytes"):
        read_document(path)
    path.write_bytes("\ufeffa: 坏".encode())
    assert read_document(path).value == {"a": "坏"}
    with pytest.raises(RecipeError, match="could not be read: No such file"):
        read_document(tmp_path / "none.yaml")


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.sampled_from(["1e-3", "no", "~", "0x1", ".5", "&a", "*a", "- x", "a: b", "# c", "<<", "="]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(min_size=1), values, max_size=4))
def test_what_is_dumped_is_read_back(value: dict):
    assert parse_document(dump_document(value, "a comment\n\nof lines"), "f").value == value


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.text(alphabet="ab:-[]{}&*!'\"#\n \t,?|>%@1.e", max_size=40))
def test_any_text_is_read_or_refused_with_a_recipe_error(text: str):
    with contextlib.suppress(RecipeError):
        document = parse_document(text, "f")
        assert set(document.places.values()) <= {f"f:{line}" for line in range(1, len(text) + 2)}
