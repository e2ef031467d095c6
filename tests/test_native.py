from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tidegate
from tidegate.native import extension

EXTENSION = Path(extension().__file__)


def test_links_to_no_torch_library():
    needed = subprocess.run(["readelf", "-d", EXTENSION], capture_output=True, text=True, check=True).stdout
    libraries = {line.split("[")[1].rstrip("]") for line in needed.splitlines() if "(NEEDED)" in line}
    assert not {name for name in libraries if "torch" in name or "c10" in name}
    assert "libgomp.so.1" in libraries


def test_shares_torchs_openmp_runtime():
    """Two runtimes would fight for the cores; the maps of a process of its own show how many are loaded."""
    if not Path("/proc/self/maps").exists():
        pytest.skip("needs /proc/self/maps")
    for order in ("extension(); import torch", "import torch; extension()"):
        code = (
            f"from tidegate.native import extension; {order};"
            "print(*{line.split()[-1] for line in open('/proc/self/maps') if 'libgomp' in line})"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert len(done.stdout.split()) == 1, f"{order} loads {done.stdout}"


def test_the_stub_is_that_of_the_extension(tmp_path):
    made = tmp_path / "_native.pyi"
    # In a process of its own: the generator imports and inspects the module.
    code = (
        "from tidegate.native import extension; extension(); from nanobind.stubgen import main;"
        f"main(['-m', 'tidegate._native', '-o', {str(made)!r}, '-q'])"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    committed = Path(tidegate.__file__).with_name("_native.pyi")
    assert made.read_text() == committed.read_text(), "run `make stubs`"


def test_the_instruction_set_is_chosen_by_the_variable():
    for isa in extension().available_isas():
        code = "from tidegate.native import extension; print(extension().isa())"
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "TIDEGATE_ISA": isa},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == isa


def test_an_unknown_instruction_set_is_refused():
    with pytest.raises(ValueError, match=r"no instruction set 'altivec' .* expected one of"):
        extension().set_isa("altivec")
    done = subprocess.run(
        [sys.executable, "-c", "from tidegate.native import extension; extension()"],
        env={**os.environ, "TIDEGATE_ISA": "altivec"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "no instruction set 'altivec'" in done.stderr


@pytest.mark.parametrize(
    ("failure", "advice"),
    [
        ("libgomp.so.1: cannot open shared object file", "libgomp1"),
        ("No module named", "pip install --force-reinstall"),
    ],
)
def test_an_extension_that_does_not_load_says_what_to_do(failure, advice):
    code = f"""
import sys
class Broken:
    def find_spec(self, name, path=None, target=None):
        if name == "tidegate._native":
            raise ImportError({failure!r})
sys.meta_path.insert(0, Broken())
from tidegate.native import extension
try:
    extension()
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "native extension does not load" in done.stdout
    assert advice in done.stdout


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_does_not_hang():
    layer = tidegate.GRU(3, 70)
    with torch.no_grad():
        layer(torch.ones(5, 16, 3))  # the pool of the parent has started
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_run_kernel_only, args=(queue,))
    child.start()
    child.join(timeout=60)
    hung = child.is_alive()
    if hung:
        child.kill()
    assert not hung
    assert queue.get(timeout=5) == 0.0


def _run_kernel_only(queue):
    """The kernel alone, with many threads asked for: torch's own products may hang in a forked child by themselves."""
    gates, h_0 = torch.zeros(4, 1, 210), torch.zeros(1, 1, 70)
    output = torch.empty(4, 70)
    h_n = torch.empty(1, 1, 70)
    weights = torch.zeros(1, 210, 70)
    sizes = torch.ones(4, dtype=torch.int64)
    layout = ("gru", "float32", sizes.data_ptr(), 4, 4, 1, 1, 70, 70, 4)
    parameters = (weights.data_ptr(), *[0] * 15, 0.0, 0.0, 1e-5)
    arrays = (gates.data_ptr(), h_0.data_ptr(), 0, output.data_ptr(), h_n.data_ptr(), *[0] * 5)
    extension().forward(layout, parameters, arrays)
    queue.put(float(output.abs().max()))
