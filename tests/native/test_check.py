from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "needed"),
    [("check-native", ["c++"]), ("check-aarch64", ["aarch64-linux-gnu-g++", "qemu-aarch64-static"])],
)
def test_the_kernels_equal_plain_loops(target, needed):
    missing = [tool for tool in needed if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed")
    made = subprocess.run(["make", "-s", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    assert re.match(r"0 of \d{4,} comparisons failed", made.stdout.splitlines()[-1])
