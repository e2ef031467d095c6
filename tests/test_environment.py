from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys

import pytest

import tidegate
from tidegate import native
from tidegate.environment import describe_environment


def test_the_environment_says_what_is_here():
    found = describe_environment()
    assert found.versions["tidegate"] == tidegate.__version__
    assert found.versions["torch"] == importlib.import_module("torch").__version__
    assert found.cores == len(os.sched_getaffinity(0))
    assert found.native["isa"] == native.extension().isa()
    assert found.native["threads"] == importlib.import_module("torch").get_num_threads()
    served = {(row["cell"], row["device"], row["dtype"]): row["backend"] for row in found.backends}
    assert served["gru", "cpu", "float32"] == "native"
    assert found.notes == []
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict()


def test_the_summary_is_flat_text():
    summary = describe_environment().summary()
    assert summary["instruction set"] == native.extension().isa()
    assert all(isinstance(value, str) for value in summary.values())


def test_without_torch_it_says_so_and_goes_on():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from tidegate.environment import describe_environment\n"
        "found = describe_environment()\n"
        "print(found.native['isa'], found.backends, found.notes)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{native.extension().isa()} [] ")
    assert 'pip install "tidegate[train]"' in done.stdout


def test_an_extension_that_does_not_load_is_noted(monkeypatch: pytest.MonkeyPatch):
    def broken() -> None:
        raise ImportError("tidegate's native extension does not load: no libgomp")

    monkeypatch.setattr(native, "extension", broken)
    found = describe_environment()
    assert found.native == {}
    assert found.backends == []
    assert found.notes == ["tidegate's native extension does not load: no libgomp"]
