from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import random
import stat
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from tidegate.deploy import bundle as bundle_module
from tidegate.deploy.bundle import ENTRY_LIMITS, FORMAT, Bundle, installed_versions, load_bundle, save_bundle
from tidegate.errors import BundleError


def make_bundle() -> Bundle:
    random_numbers = np.random.default_rng(7)
    return Bundle(
        kind="text-classifier",
        config={"cell": "gru", "hidden_size": 8, "max_tokens": None, "learning_rate": 1e-3, "bidirectional": True},
        tokenizer={"tokenizer": "words", "vocabulary": ["<unk>", "good", "坏", "\ud800 lone surrogate", "a\x00b"]},
        labels=["negative", "positive", "好"],
        metrics={"accuracy": 0.75, "history": [{"epoch": 1, "loss": 0.5}]},
        weights={
            "embedding.weight": random_numbers.normal(size=(5, 4)).astype(np.float32),
            "scale": np.array(2.5, dtype=np.float64),
            "empty": np.zeros((0, 3), dtype=np.float32),
            "counts": np.arange(6, dtype=np.int64).reshape(2, 3).T,
        },
        versions={"tidegate": "0.1.0", "python": "3.11.7"},
    )


def assert_equal(left: Bundle, right: Bundle) -> None:
    for name in ("kind", "config", "tokenizer", "labels", "metrics", "versions"):
        assert getattr(left, name) == getattr(right, name), name
    assert sorted(left.weights) == sorted(right.weights)
    for name, array in left.weights.items():
        assert array.dtype == right.weights[name].dtype
        assert array.shape == right.weights[name].shape
        np.testing.assert_array_equal(array, right.weights[name])


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_bundle(tmp_path / "model.tg", make_bundle())


def entries_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewrite(path: Path, entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


def restate(entries: dict[str, bytes], /, **changes: object) -> dict[str, bytes]:
    """The same entries under a manifest that states their sizes and checksums truly, with the given keys changed."""
    manifest = json.loads(entries["manifest.json"])
    manifest["entries"] = {
        name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in entries.items()
        if name != "manifest.json"
    }
    manifest.update(changes)
    return {**entries, "manifest.json": json.dumps(manifest).encode()}


def test_round_trip_gives_every_value_back(saved: Path):
    assert_equal(load_bundle(saved), make_bundle())
    assert load_bundle(saved).weights["scale"].shape == ()


def test_equal_bundles_give_equal_bytes(tmp_path: Path, saved: Path):
    shuffled = replace(make_bundle(), weights=dict(reversed(make_bundle().weights.items())))
    assert save_bundle(tmp_path / "other.tg", shuffled).read_bytes() == saved.read_bytes()


def test_other_programs_read_the_entries(saved: Path):
    with zipfile.ZipFile(saved) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == list(ENTRY_LIMITS)
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    entries = entries_of(saved)
    assert json.loads(entries["labels.json"]) == ["negative", "positive", "好"]
    weights = safetensors.numpy.load(entries["weights.safetensors"])
    np.testing.assert_array_equal(weights["embedding.weight"], make_bundle().weights["embedding.weight"])


def test_a_file_repacked_by_another_zip_program_still_loads(saved: Path):
    rewrite(saved, dict(reversed(entries_of(saved).items())))
    assert_equal(load_bundle(saved), make_bundle())


def test_numbers_that_are_not_finite_become_null_in_metrics_and_are_refused_elsewhere(tmp_path: Path):
    kept = replace(make_bundle(), metrics={"loss": [float("nan"), 1.0], "best": float("-inf")})
    assert load_bundle(save_bundle(tmp_path / "a.tg", kept)).metrics == {"loss": [None, 1.0], "best": None}
    with pytest.raises(BundleError, match=r"config\.json: rate is nan"):
        save_bundle(tmp_path / "b.tg", replace(make_bundle(), config={"rate": float("nan")}))
    assert not (tmp_path / "b.tg").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": {"a": {1: 2}}}, r"config\.json: a has the key 1"),
        ({"tokenizer": {"tokens": [1, {2}]}}, r"tokenizer\.json: tokens\[1\] is a set"),
        ({"labels": [np.int64(3)]}, r"labels\.json\[0\] is a int64"),
        ({"weights": {"w": np.array(["text"])}}, "'w' has the type <U4"),
        ({"weights": {"w": np.zeros(2, dtype=complex)}}, "'w' has the type complex128"),
    ],
)
def test_values_that_would_not_come_back_are_refused(tmp_path: Path, change: dict, message: str):
    with pytest.raises(BundleError, match=message):
        save_bundle(tmp_path / "model.tg", replace(make_bundle(), **change))
    assert list(tmp_path.iterdir()) == []


def test_big_endian_and_strided_weights_are_saved_by_value(tmp_path: Path):
    array = np.arange(12, dtype=">f4").reshape(3, 4)[:, ::2]
    loaded = load_bundle(save_bundle(tmp_path / "m.tg", replace(make_bundle(), weights={"w": array})))
    np.testing.assert_array_equal(loaded.weights["w"], array)


# --- writing


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_else(saved: Path, monkeypatch: pytest.MonkeyPatch):
    before = saved.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(bundle_module.os, "fsync", full)
    with pytest.raises(BundleError, match=r"model\.tg: the model could not be written: No space left on device"):
        save_bundle(saved, replace(make_bundle(), kind="other"))
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
def test_a_full_disk_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real_open = open
    monkeypatch.setattr("tidegate.atomic_files.open", lambda *_: real_open("/dev/full", "wb"), raising=False)
    with pytest.raises(BundleError, match="No space left on device"):
        save_bundle(tmp_path / "model.tg", make_bundle())


def test_a_missing_folder_says_so(tmp_path: Path):
    with pytest.raises(BundleError, match="could not be written: No such file or directory"):
        save_bundle(tmp_path / "nowhere" / "model.tg", make_bundle())


def test_the_file_has_the_usual_permissions(saved: Path):
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(saved.stat().st_mode) == 0o666 & ~umask


def test_an_entry_over_its_limit_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(ENTRY_LIMITS, "config.json", 10)
    with pytest.raises(BundleError, match=r"config\.json has \d+ bytes, more than the 10"):
        save_bundle(tmp_path / "model.tg", make_bundle())


# --- reading what is not a sound bundle


def refused(path: Path, message: str) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        load_bundle(path)
    assert str(path) in str(caught.value)


def test_missing_empty_folder_and_foreign_files(tmp_path: Path):
    refused(tmp_path / "none.tg", "no such file")
    refused(tmp_path, "found a folder")
    path = tmp_path / "model.tg"
    path.write_bytes(b"")
    refused(path, "found an empty file")
    path.write_bytes(pickle.dumps({"weights": [1, 2, 3]}))
    refused(path, "found a file that starts with b'\\\\x80")
    rewrite(path, {"archive/data.pkl": b"\x80\x04.", "archive/version": b"3"})
    refused(path, "found a zip file with archive/data.pkl, archive/version")
    with zipfile.ZipFile(path, "w"):
        pass
    refused(path, "expected a tidegate model")


def test_newer_format_asks_for_an_upgrade_even_with_other_entries(saved: Path):
    entries = restate(entries_of(saved), format=FORMAT + 1)
    rewrite(saved, entries)
    refused(saved, f"format {FORMAT + 1}, .* upgrade with: pip install --upgrade tidegate")
    rewrite(saved, {**entries, "members/0/weights.safetensors": b""})
    refused(saved, "saved by a newer tidegate")


@pytest.mark.parametrize("number", [0, -1, True, "1", 1.0, None])
def test_a_format_that_never_was_is_refused(saved: Path, number: object):
    rewrite(saved, restate(entries_of(saved), format=number))
    refused(saved, "expected (a|the) format number")


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "..\\evil", "C:evil", "extra.bin"])
def test_names_outside_the_legal_set_are_refused_and_nothing_is_written(saved: Path, name: str):
    rewrite(saved, restate({**entries_of(saved), name: b"x"}))
    before = sorted(saved.parent.parent.rglob("*"))
    refused(saved, "expected")
    assert sorted(saved.parent.parent.rglob("*")) == before


def test_missing_entry_is_named(saved: Path):
    entries = entries_of(saved)
    del entries["tokenizer.json"]
    rewrite(saved, restate(entries))
    with pytest.raises(BundleError, match="found a zip file with") as caught:
        load_bundle(saved)
    assert "tokenizer.json" not in str(caught.value).split("found a zip file with")[1]


def test_compressed_duplicate_and_too_many_entries_are_refused(saved: Path):
    entries = entries_of(saved)
    rewrite(saved, entries, zipfile.ZIP_DEFLATED)
    refused(saved, "stored uncompressed, found a compressed entry")
    rewrite(saved, entries)
    with zipfile.ZipFile(saved, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("labels.json", b"[]")
    refused(saved, r"each entry once, found labels\.json more than once")
    rewrite(saved, {**entries, **{f"e{index}": b"" for index in range(2000)}})
    refused(saved, "found 2006 entries")


def test_sizes_are_checked_before_anything_is_read(saved: Path, monkeypatch: pytest.MonkeyPatch):
    def never(*_: object) -> bytes:
        raise AssertionError("an entry was read")

    monkeypatch.setattr(zipfile.ZipFile, "read", never)
    monkeypatch.setitem(ENTRY_LIMITS, "labels.json", 3)
    refused(saved, r"labels\.json of at most 3 bytes")


def test_a_directory_that_claims_more_than_the_file_holds_is_refused(saved: Path):
    data = bytearray(saved.read_bytes())
    start = data.index(b"PK\x01\x02")
    claimed = (1 << 20) - 1
    for offset in (20, 24):  # compressed and uncompressed size of the first entry in the directory
        data[start + offset : start + offset + 4] = claimed.to_bytes(4, "little")
    saved.write_bytes(data)
    refused(saved, "damaged")


def lie(entries: dict[str, bytes], name: str, key: str, value: object) -> dict[str, bytes]:
    manifest = json.loads(entries["manifest.json"])
    manifest["entries"][name][key] = value
    return {**entries, "manifest.json": json.dumps(manifest).encode()}


def test_lying_manifests_are_refused(saved: Path):
    entries = entries_of(saved)
    rewrite(saved, lie(entries, "weights.safetensors", "sha256", "0" * 64))
    refused(saved, "sha256 0000000000000000")
    rewrite(saved, lie(entries, "weights.safetensors", "size", 12))
    refused(saved, r"weights\.safetensors of 12 bytes, as manifest\.json says")
    rewrite(saved, lie(entries, "labels.json", "sha256", 5))
    refused(saved, r"size and sha256 of labels\.json")
    for change, message in [
        ({"entries": {}}, "expected the entries"),
        ({"entries": [1]}, "expected the entries"),
        ({"kind": 3}, "expected the kind of model"),
        ({"versions": {"numpy": 2}}, "expected versions"),
    ]:
        rewrite(saved, restate(entries, **change))
        refused(saved, message)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("config.json", b"[]", r"a JSON object in config\.json, found a list"),
        ("labels.json", b"{}", r"a JSON list in labels\.json"),
        ("labels.json", b"[1.5]", r"texts or whole numbers in labels\.json"),
        ("labels.json", b"[true]", r"texts or whole numbers in labels\.json"),
        ("metrics.json", b"{", r"JSON in metrics\.json"),
        ("metrics.json", b"\xff\xfe{", r"JSON in metrics\.json"),
        ("tokenizer.json", b"[" * 100_000, r"JSON in tokenizer\.json"),
        ("weights.safetensors", b"", r"arrays in weights\.safetensors"),
        ("weights.safetensors", b"\xff" * 64, r"arrays in weights\.safetensors"),
        (
            "weights.safetensors",
            (lambda header: len(header).to_bytes(8, "little") + header + b"\0\0")(
                b'{"w":{"dtype":"F8_E8M0","shape":[2],"data_offsets":[0,2]}}'
            ),
            r"arrays in weights\.safetensors",
        ),
    ],
)
def test_entries_with_true_checksums_and_false_content_are_refused(saved: Path, name: str, data: bytes, message: str):
    rewrite(saved, restate({**entries_of(saved), name: data}))
    refused(saved, message)


def test_a_zip_with_a_comment_or_a_prefix_is_refused(saved: Path):
    data = saved.read_bytes()
    saved.write_bytes(b"#!/bin/sh\n" + data)
    refused(saved, "found a file that starts with b'#!/b'")
    saved.write_bytes(data + b"tail")
    refused(saved, "truncated, damaged")


def test_every_truncation_is_refused(saved: Path):
    data = saved.read_bytes()
    for length in range(len(data)):
        saved.write_bytes(data[:length])
        refused(saved, "expected")


def test_flipped_bits_give_a_bundle_error_or_the_same_content(saved: Path):
    data, original = saved.read_bytes(), make_bundle()
    drawn = random.Random(20)
    refusals = 0
    # Every byte once, then many at once: nothing but BundleError may come out, and no changed value may go in.
    plans = [[(place, 1 << drawn.randrange(8))] for place in range(len(data))]
    plans += [[(drawn.randrange(len(data)), drawn.randrange(1, 256)) for _ in range(8)] for _ in range(500)]
    for plan in plans:
        damaged = bytearray(data)
        for place, mask in plan:
            damaged[place] ^= mask
        saved.write_bytes(damaged)
        try:
            loaded = load_bundle(saved)
        except BundleError:
            refusals += 1
        else:
            assert_equal(loaded, original)
    assert refusals > 0.8 * len(plans)


def test_flipped_bits_inside_any_entry_are_always_found(saved: Path):
    data = saved.read_bytes()
    for name, content in entries_of(saved).items():
        start = data.index(content)
        for place in random.Random(3).sample(range(len(content)), min(40, len(content))):
            damaged = bytearray(data)
            damaged[start + place] ^= 1 << (place % 8)
            saved.write_bytes(damaged)
            refused(saved, name.replace(".", r"\."))


def test_loading_imports_neither_torch_nor_sklearn(saved: Path):
    code = (
        "import sys; from tidegate.deploy.bundle import load_bundle; load_bundle(sys.argv[1]); "
        "print('torch' in sys.modules, 'sklearn' in sys.modules)"
    )
    source = Path(bundle_module.__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", code, str(saved)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(source)},
    )
    assert result.stdout.split() == ["False", "False"]


def test_installed_versions_names_tidegate_and_leaves_out_what_is_missing():
    versions = installed_versions(["numpy", "no-such-package"])
    assert list(versions) == ["python", "tidegate", "numpy"]
    assert versions["numpy"] == np.__version__
