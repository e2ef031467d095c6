from __future__ import annotations

import json
import random
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deploy.test_bundle import assert_equal, entries_of, make_bundle, restate, rewrite
from tidegate.deploy.bundle import Bundle, load_bundle, save_bundle
from tidegate.deploy.bundle_members import MOST_MEMBERS
from tidegate.errors import BundleError


def nested() -> Bundle:
    one = make_bundle()
    other = replace(one, kind="linear", weights={"w": np.arange(3.0)}, members=())
    return replace(one, kind="stack", weights={}, members=(one, replace(other, members=(other, one)), other))


def test_members_come_back_on_every_level(tmp_path: Path) -> None:
    bundle = nested()
    loaded = load_bundle(save_bundle(tmp_path / "a.tg", bundle))
    assert [part.kind for part in loaded.members] == ["text-classifier", "linear", "linear"]
    for left, right in zip(bundle.members, loaded.members, strict=True):
        assert_equal(left, right)
    for left, right in zip(bundle.members[1].members, loaded.members[1].members, strict=True):
        assert_equal(left, right)
    save_bundle(tmp_path / "b.tg", loaded)
    assert (tmp_path / "a.tg").read_bytes() == (tmp_path / "b.tg").read_bytes()


def test_only_models_with_members_have_the_new_format(tmp_path: Path) -> None:
    formats = []
    for name, bundle in (("plain", make_bundle()), ("nested", nested())):
        manifest = json.loads(entries_of(save_bundle(tmp_path / name, bundle))["manifest.json"])
        formats.append((manifest["format"], "members" in manifest))
    assert formats == [(1, False), (2, True)]


@pytest.mark.parametrize(
    "members",
    [
        [{"kind": "a", "members": []}],  # fewer than stand there
        [{"kind": "a", "members": []}] * 4,
        [{"kind": "a"}] * 3,
        [{"kind": 1, "members": []}] * 3,
        [{"kind": "a", "members": {}}] * 3,
        {"kind": "a"},
        "abc",
        None,
    ],
)
def test_a_manifest_that_lies_about_members_is_refused(members: object, tmp_path: Path) -> None:
    path = save_bundle(tmp_path / "a.tg", nested())
    rewrite(path, restate(entries_of(path), members=members))
    with pytest.raises(BundleError, match=r"a\.tg"):
        load_bundle(path)


def test_too_many_members_or_levels_are_not_written_or_read(tmp_path: Path) -> None:
    small = replace(make_bundle(), weights={})
    wide = replace(small, members=(small,) * (MOST_MEMBERS + 1))
    deep = small
    for _ in range(6):
        deep = replace(small, members=(deep,))
    for bundle in (wide, deep):
        with pytest.raises(BundleError, match=f"may have {MOST_MEMBERS} members, in 4 levels"):
            save_bundle(tmp_path / "a.tg", bundle)
    path = save_bundle(tmp_path / "a.tg", nested())
    told: list[object] = []
    for _ in range(50):
        told = [{"kind": "a", "members": told}]
    rewrite(path, restate(entries_of(path), members=told))
    with pytest.raises(BundleError, match=f"at most {MOST_MEMBERS} members"):
        load_bundle(path)


def test_entries_of_members_are_checked_as_the_models_own(tmp_path: Path) -> None:
    path = save_bundle(tmp_path / "a.tg", nested())
    whole = path.read_bytes()
    entries = entries_of(path)
    rewrite(path, {name: data for name, data in entries.items() if name != "members/1/members/0/labels.json"})
    with pytest.raises(BundleError, match=r"a\.tg"):
        load_bundle(path)
    rewrite(path, {**entries, "members/7/labels.json": b"[]"})
    with pytest.raises(BundleError, match=r"a\.tg"):
        load_bundle(path)
    with zipfile.ZipFile(tmp_path / "a.tg") as archive:
        assert archive.testzip() is None
    path.write_bytes(whole)
    with zipfile.ZipFile(path) as archive:
        places = [(info.header_offset, info.filename) for info in archive.infolist() if info.file_size > 8]
    drawn = random.Random(0)
    for offset, name in places:
        flipped = bytearray(whole)
        flipped[offset + 30 + len(name) + drawn.randrange(4, 8)] ^= 1  # within the entry's content
        path.write_bytes(flipped)
        with pytest.raises(BundleError, match=r"a\.tg"):
            load_bundle(path)
