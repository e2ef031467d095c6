"""The bundle NAME.tg: a trained model in one file that holds no code and no pickle, checked before it is used."""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from tidegate.atomic_files import replacing
from tidegate.deploy.bundle_members import MOST_LEVELS, MOST_MEMBERS, count_members, member_folders, without_members
from tidegate.environment import installed_versions
from tidegate.errors import BundleError

__all__ = ["FORMAT", "Bundle", "installed_versions", "load_bundle", "save_bundle"]

FORMAT = 2  # 1 where there are no members, so that older versions read what they can
MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"

# Every entry that a bundle has, in the order of the file, with the largest size that is read, in bytes.
ENTRY_LIMITS = {
    MANIFEST: 1 << 20,
    "config.json": 1 << 20,
    "tokenizer.json": 1 << 28,
    "labels.json": 1 << 24,
    "metrics.json": 1 << 26,
    WEIGHTS: 3 << 29,
}
_JSON_TYPES = {"config.json": dict, "tokenizer.json": dict, "labels.json": list, "metrics.json": dict}
_DTYPES = frozenset(
    ["bool", "float16", "float32", "float64", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))]
)
_END_RECORD = struct.Struct("<4s4H2LH")  # the last 22 bytes of a zip without a comment
_ENCRYPTED_FLAGS = 0x1 | 0x20 | 0x40
# What zipfile raises on bytes that are not a sound zip file.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    OSError,
    ValueError,
    EOFError,
    OverflowError,
    struct.error,
    LookupError,
)


@dataclass(frozen=True)
class Bundle:
    """What a trained model is, as plain values.

    Attributes:
        kind: Which estimator it is, e.g. ``"text-classifier"``.
        config: The estimator's arguments, JSON-safe.
        tokenizer: The text encoder's state, JSON-safe.
        labels: The classes, in the order of the model's outputs.
        metrics: Figures measured when the model was made, JSON-safe.
        weights: Parameter name -> array.
        versions: Package -> version that made the file; see :func:`installed_versions`.
        members: The models that this one is made of, in folders ``members/0``, ``members/1``... of the file.
    """

    kind: str
    config: dict[str, Any]
    tokenizer: dict[str, Any]
    labels: list[str | int]
    metrics: dict[str, Any]
    weights: dict[str, np.ndarray]
    versions: dict[str, str] = field(default_factory=dict)
    members: tuple[Bundle, ...] = ()


def save_bundle(path: str | os.PathLike[str], bundle: Bundle) -> Path:
    """Write a bundle; equal bundles give equal bytes.

    The file is written beside its destination, flushed to the disk and moved there, so that ``path`` never holds half
    a model. Numbers that are not finite become null in the metrics, since JSON has none.

    Args:
        path: Where to write, e.g. ``sentiment.tg``; the folder must exist.
        bundle: The model.

    Returns:
        The path.

    Raises:
        BundleError: A value is not JSON-safe, a weight has a type that safetensors cannot hold, an entry is larger than
            the format allows, or the folder cannot be written.
    """
    path = Path(path)
    entries = _encode(path, bundle)
    try:
        with replacing(path) as file:
            _write_zip(file, entries)
    except OSError as error:
        raise BundleError(
            f"{path}: the model could not be written: {error.strerror or error}. "
            "Free some space or choose a folder that exists and may be written to."
        ) from error
    return path


def load_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Read a bundle; every name, size and checksum is verified before a value is used, and nothing is unpacked.

    Args:
        path: A file that :func:`save_bundle` wrote.

    Raises:
        BundleError: The file is missing, truncated, foreign, corrupted, written by a newer format, or differs from its
            own manifest; the message says which.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            _check_end_record(path, file, size)
            file.seek(0)
            entries, manifest = _read_entries(path, file, size)
    except FileNotFoundError:
        raise BundleError(f"{path}: no such file. Give the path of a .tg file that tidegate saved.") from None
    except IsADirectoryError:
        raise BundleError(f"{path}: expected a .tg file, found a folder. Give the model.tg inside it.") from None
    except OSError as error:
        raise BundleError(f"{path}: the file could not be read: {error.strerror or error}.") from error
    return _parse_bundle(path, entries, manifest, manifest["versions"], "")


# --- writing


def _encode(path: Path, bundle: Bundle) -> dict[str, bytes]:
    entries = _encode_parts(path, bundle, "")
    manifest = {
        "format": FORMAT if bundle.members else 1,
        "kind": bundle.kind,
        "versions": dict(sorted(bundle.versions.items())),
        "entries": {
            name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in entries.items()
        },
        **({"members": _describe_members(bundle)} if bundle.members else {}),
    }
    if count_members(manifest.get("members", [])) > MOST_MEMBERS:
        raise BundleError(f"{path}: a model may have {MOST_MEMBERS} members, in {MOST_LEVELS} levels. Join fewer.")
    entries = {MANIFEST: _json_bytes(path, MANIFEST, manifest), **entries}
    for name, data in entries.items():
        if len(data) > _limit(name):
            raise BundleError(
                f"{path}: {name} has {len(data):,} bytes, more than the {_limit(name):,} that a bundle may hold. "
                "Make the model or its vocabulary smaller."
            )
    return entries


def _encode_parts(path: Path, bundle: Bundle, folder: str) -> dict[str, bytes]:
    parts = {
        "config.json": bundle.config,
        "tokenizer.json": bundle.tokenizer,
        "labels.json": bundle.labels,
        "metrics.json": _finite(bundle.metrics),
    }
    entries = {folder + name: _json_bytes(path, folder + name, value) for name, value in parts.items()}
    entries[folder + WEIGHTS] = _weight_bytes(path, bundle.weights)
    for number, member in enumerate(bundle.members):
        entries |= _encode_parts(path, member, f"{folder}members/{number}/")
    return entries


def _describe_members(bundle: Bundle) -> list[dict[str, Any]]:
    return [{"kind": member.kind, "members": _describe_members(member)} for member in bundle.members]


def _limit(name: str) -> int:
    """The largest size of an entry, of a member's as of the model's own."""
    return ENTRY_LIMITS.get(without_members(name), max(ENTRY_LIMITS.values()))


def _json_bytes(path: Path, name: str, value: object) -> bytes:
    problem = _json_problem(value, name)
    if problem:
        raise BundleError(f"{path}: {problem}. Convert it before saving.")
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")


def _json_problem(value: object, where: str) -> str | None:
    """The first value that would not come back from JSON as it is, with its place."""
    if value is None or isinstance(value, str | bool | int):
        return None
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{where} is {value}, which JSON cannot hold"
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                return f"{where} has the key {key!r}, and the keys of JSON are texts"
            if problem := _json_problem(item, f"{where}: {key}"):
                return problem
        return None
    if isinstance(value, list | tuple):
        problems = (_json_problem(item, f"{where}[{index}]") for index, item in enumerate(value))
        return next((problem for problem in problems if problem), None)
    return f"{where} is a {type(value).__name__}, which JSON cannot hold"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _weight_bytes(path: Path, weights: Mapping[str, np.ndarray]) -> bytes:
    arrays = {}
    for name, value in weights.items():
        array = np.asarray(value, order="C")
        if array.dtype.name not in _DTYPES:
            raise BundleError(
                f"{path}: the weight {name!r} has the type {array.dtype}; expected one of {', '.join(sorted(_DTYPES))}."
            )
        arrays[name] = array
    return safetensors.numpy.save(arrays)


def _write_zip(file: BinaryIO, entries: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=False) as archive:
        for name, data in entries.items():
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            archive.writestr(info, data)


# --- reading


def _check_end_record(path: Path, file: BinaryIO, size: int) -> None:
    """Count and extent of the zip directory, from its last record, before zipfile reads the directory itself."""
    head = file.read(4)
    if head != b"PK\x03\x04":
        found = f"a file that starts with {head!r}" if head else "an empty file"
        raise BundleError(f"{path}: expected a tidegate model (.tg), found {found}. {_whole_file_hint()}")
    file.seek(max(size - _END_RECORD.size, 0))
    last = file.read(_END_RECORD.size)
    if len(last) < _END_RECORD.size or last[:4] != b"PK\x05\x06":
        raise BundleError(
            f"{path}: expected a zip directory at the end of the file, found none: the file is truncated, damaged, or "
            f"no tidegate model. {_whole_file_hint()}"
        )
    _, disk, first_disk, count_here, count, length, offset, comment = _END_RECORD.unpack(last)
    if (disk, first_disk, comment) != (0, 0, 0) or count_here != count or offset + length + _END_RECORD.size != size:
        raise _damaged(path, "a zip directory that ends with the file", "one that does not")
    if count > 1024 or length > 1 << 20:
        raise _damaged(path, f"{len(ENTRY_LIMITS)} entries", f"{count} entries in a directory of {length} bytes")


def _read_entries(path: Path, file: BinaryIO, size: int) -> tuple[dict[str, bytes], dict[str, Any]]:
    try:
        archive = zipfile.ZipFile(file)
    except _ZIP_ERRORS as error:
        raise _damaged(path, "a sound zip directory", str(error) or type(error).__name__) from error
    with archive:
        infos = archive.infolist()
        _check_infos(path, infos, size)
        by_name = {info.filename: info for info in infos}
        if MANIFEST not in by_name:
            raise _foreign(path, by_name)
        manifest = _parse_manifest(path, _read_entry(path, archive, by_name[MANIFEST]))
        members = manifest.get("members", [])
        if count_members(members) > MOST_MEMBERS:
            raise _damaged(path, f"the kinds of at most {MOST_MEMBERS} members in {MANIFEST}", repr(members)[:80])
        parts = [name for name in ENTRY_LIMITS if name != MANIFEST]
        if set(by_name) != {MANIFEST, *(folder + name for folder in member_folders(members) for name in parts)}:
            raise _foreign(path, by_name)
        _check_manifest(path, manifest, by_name)
        entries = {}
        for name, stated in manifest["entries"].items():
            data = _read_entry(path, archive, by_name[name])
            digest = hashlib.sha256(data).hexdigest()
            if digest != stated["sha256"]:
                raise _damaged(path, f"{name} with the sha256 {stated['sha256'][:16]}...", f"{digest[:16]}...")
            entries[name] = data
    return entries, manifest


def _check_infos(path: Path, infos: list[zipfile.ZipInfo], size: int) -> None:
    names = [info.filename for info in infos]
    for info in infos:
        name = info.filename
        if info.orig_filename != name or name.startswith("/") or "\\" in name or ":" in name or ".." in name.split("/"):
            raise _damaged(path, "plain entry names", f"the name {info.orig_filename!r}")
        if info.flag_bits & _ENCRYPTED_FLAGS:
            raise _damaged(path, f"{name} unencrypted", "an encrypted entry")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise _damaged(path, f"{name} stored uncompressed", "a compressed entry")
        if info.file_size > (limit := _limit(name)):
            raise _damaged(path, f"{name} of at most {limit:,} bytes", f"{info.file_size:,} bytes")
    if len(set(names)) != len(names):
        repeated = sorted({name for name in names if names.count(name) > 1})
        raise _damaged(path, "each entry once", f"{', '.join(repeated)} more than once")
    if sum(info.file_size for info in infos) > size:
        raise _damaged(path, f"entries of at most {size:,} bytes in all", "larger ones")


def _read_entry(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        data = archive.read(info)
    except _ZIP_ERRORS as error:
        raise _damaged(path, f"{info.filename} whole", str(error) or type(error).__name__) from error
    if len(data) != info.file_size:
        raise _damaged(path, f"{info.file_size:,} bytes of {info.filename}", f"{len(data):,}")
    return data


def _parse_manifest(path: Path, data: bytes) -> dict[str, Any]:
    manifest = _parse_json(path, MANIFEST, data)
    number = manifest.get("format") if isinstance(manifest, dict) else None
    if isinstance(number, bool) or not isinstance(number, int):
        raise _damaged(path, f"a format number in {MANIFEST}", repr(number))
    if number > FORMAT:
        raise BundleError(
            f"{path}: this model has the format {number}, and this version of tidegate reads up to format {FORMAT}. "
            "It was saved by a newer tidegate; upgrade with: pip install --upgrade tidegate"
        )
    if number < 1:
        raise _damaged(path, f"a format number from 1 to {FORMAT}", str(number))
    return manifest


def _check_manifest(path: Path, manifest: Mapping[str, Any], by_name: Mapping[str, zipfile.ZipInfo]) -> None:
    versions, stated = manifest.get("versions"), manifest.get("entries")
    if not isinstance(manifest.get("kind"), str):
        raise _damaged(path, f"the kind of model in {MANIFEST}", repr(manifest.get("kind")))
    if not isinstance(versions, dict) or not all(isinstance(version, str) for version in versions.values()):
        raise _damaged(path, f"versions in {MANIFEST}", repr(versions)[:80])
    expected = set(by_name) - {MANIFEST}
    if not isinstance(stated, dict) or set(stated) != expected:
        found = ", ".join(sorted(stated)) if isinstance(stated, dict) else repr(stated)[:80]
        raise _damaged(path, f"the entries {', '.join(sorted(expected))} in {MANIFEST}", found)
    for name, fact in stated.items():
        if not isinstance(fact, dict) or set(fact) != {"size", "sha256"} or not isinstance(fact["sha256"], str):
            raise _damaged(path, f"size and sha256 of {name} in {MANIFEST}", repr(fact)[:80])
        if fact["size"] != by_name[name].file_size:
            raise _damaged(path, f"{name} of {fact['size']} bytes, as {MANIFEST} says", str(by_name[name].file_size))


def _parse_bundle(
    path: Path, entries: Mapping[str, bytes], stated: Mapping[str, Any], versions: dict[str, str], folder: str
) -> Bundle:
    """The model of a folder of the file, as the manifest states it, with its members."""
    values = {name: _parse_json(path, folder + name, entries[folder + name]) for name in _JSON_TYPES}
    for name, kind in _JSON_TYPES.items():
        if not isinstance(values[name], kind):
            raise _damaged(path, f"a JSON {_json_word(kind)} in {folder}{name}", f"a {type(values[name]).__name__}")
    if any(isinstance(label, bool) or not isinstance(label, str | int) for label in values["labels.json"]):
        raise _damaged(path, f"texts or whole numbers in {folder}labels.json", "something else")
    return Bundle(
        kind=stated["kind"],
        config=values["config.json"],
        tokenizer=values["tokenizer.json"],
        labels=values["labels.json"],
        metrics=values["metrics.json"],
        weights=_parse_weights(path, folder + WEIGHTS, entries[folder + WEIGHTS]),
        versions=versions,
        members=tuple(
            _parse_bundle(path, entries, member, versions, f"{folder}members/{number}/")
            for number, member in enumerate(stated.get("members", []))
        ),
    )


def _parse_json(path: Path, name: str, data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"JSON in {name}", str(error)) from None


def _parse_weights(path: Path, name: str, data: bytes) -> dict[str, np.ndarray]:
    try:
        return safetensors.numpy.load(data)
    except (SafetensorError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise _damaged(path, f"arrays in {name}", f"{type(error).__name__}: {error}") from error


# --- wording


def _damaged(path: Path, expected: str, found: str) -> BundleError:
    return BundleError(
        f"{path}: damaged or no tidegate model: expected {expected}, found {found}. {_whole_file_hint()}"
    )


def _foreign(path: Path, names: Iterable[str]) -> BundleError:
    names = sorted(names)
    found = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    return BundleError(
        f"{path}: expected a tidegate model with the entries {', '.join(ENTRY_LIMITS)}, found a zip file with "
        f"{found or 'no entries'}. {_whole_file_hint()}"
    )


def _whole_file_hint() -> str:
    return "Copy the file again, or save the model again with model.save()."


def _json_word(kind: type) -> str:
    return "object" if kind is dict else "list"
