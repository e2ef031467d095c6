"""What this machine and this installation can do: versions, processor, the native extension, the backends."""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from tidegate import native

# Those that a saved model depends on, and then the others.
_MODEL_PACKAGES = ("numpy", "safetensors", "tokenizers", "torch")
_OTHER_PACKAGES = ("pydantic", "pyyaml", "typer", "rich", "lightning", "scikit-learn", "matplotlib", "jieba")
# Of the hundred flags of a processor, those that decide how fast these kernels run.
_FEATURES = {
    "x86-64": ("sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "amx_tile", "amx_bf16", "amx_int8"),
    "AVX-512": ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    "Arm": ("asimd", "asimdhp", "bf16", "i8mm", "sve", "sve2"),
}


@dataclass(frozen=True)
class Environment:
    """One machine and installation.

    Attributes:
        versions: Package -> version, of those that are installed.
        platform: The operating system.
        processor: Name of the processor.
        features: Its instruction sets that matter here.
        cores: Processor cores that this process may use.
        native: Facts of the native extension (``isa``, ``available_isas``, ``threads``); empty where it does not load.
        backends: Which backend serves which cell, device and type; empty without torch.
        notes: What is missing, and what to do about it.
    """

    versions: dict[str, str]
    platform: str
    processor: str
    features: list[str]
    cores: int
    native: dict[str, Any]
    backends: list[dict[str, str]]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self)

    def summary(self) -> dict[str, str]:
        """The facts that belong beside a measured result."""
        threads = {"threads": str(self.native["threads"])} if "threads" in self.native else {}
        isa = {"instruction set": str(self.native["isa"])} if "isa" in self.native else {}
        machine = {"platform": self.platform, "processor": self.processor, "cores": str(self.cores)}
        return {**machine, **isa, **threads, **self.versions}


def installed_versions(packages: Iterable[str] = _MODEL_PACKAGES) -> dict[str, str]:
    """Versions of Python, of tidegate and of those of the packages that are installed; imports none of them."""
    import tidegate

    versions = {"python": sys.version.split()[0], "tidegate": tidegate.__version__}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


def describe_environment() -> Environment:
    """Look at the machine; works without torch, and without the native extension."""
    processor, features = _processor()
    facts: dict[str, Any] = {}
    backends: list[dict[str, str]] = []
    notes: list[str] = []
    try:
        kernels = importlib.import_module("tidegate.kernels")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "torch":
            raise
        kernels = None
        notes.append('torch is not installed, so nothing can be trained here: pip install "tidegate[train]"')
    try:
        extension = native.extension()
        facts = {"isa": extension.isa(), "available_isas": list(extension.available_isas())}
        if kernels is not None:
            facts = dict(kernels.native_info())
            backends = [dict(row) for row in kernels.describe_backends()]
    except ImportError as error:
        notes.append(str(error))
    return Environment(
        versions=installed_versions(_MODEL_PACKAGES + _OTHER_PACKAGES),
        platform=platform.platform(),
        processor=processor,
        features=features,
        cores=_usable_cores(),
        native=facts,
        backends=backends,
        notes=notes,
    )


def _processor() -> tuple[str, list[str]]:
    """Name and features, from /proc/cpuinfo where there is one."""
    facts: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, colon, value = line.partition(":")
            if colon:
                facts.setdefault(name.strip().lower(), value.strip())
    except OSError:
        pass
    flags = (facts.get("flags") or facts.get("features") or "").split()
    name = facts.get("model name") or platform.processor() or platform.machine()
    return name, [feature for family in _FEATURES.values() for feature in family if feature in flags]


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
