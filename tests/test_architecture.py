"""The house rules that a machine can hold: who may import whom, what is free of torch, what the package shows."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import tidegate

PACKAGE = Path(tidegate.__file__).parent
# Each package may import those named; every one but the command line's own side goes to the right of this line:
# cli -> commands -> jobs -> estimators -> training, reporting, deploy -> heads, features -> layers -> kernels.
BELOW = {"reporting", "deploy", "features", "heads", "layers", "kernels", "data"}
MAY_IMPORT = {
    "cli": {"commands"},
    "commands": {"jobs", "config", "recipes", "reporting", "features", "data"},
    "jobs": {"config", "schema", "estimators", "training", *BELOW},
    "recipes": {"config"},
    "config": {"schema", "data"},
    "schema": {"reporting", "data"},
    "estimators": {"training", *BELOW},
    "training": BELOW - {"deploy"},
    "reporting": BELOW - {"deploy", "reporting"},
    "deploy": BELOW - {"deploy", "reporting"},
    "features": {"layers", "kernels", "data"},
    "heads": {"layers", "kernels"},
    "layers": {"kernels"},
    "kernels": set(),
    "data": set(),
}
# Modules beside the packages that anyone may import.
COMMON = {"_native", "atomic_files", "errors", "native", "environment", "__version__"}
WITHOUT_TORCH = [
    "data/sources.py",
    "data/text.py",
    "data/vocabulary.py",
    "data/seeds.py",
    "data/bundled.py",
    "data/columns.py",
    "data/language_words.py",
    "data/raw_text.py",
    "data/span_lines.py",
    "data/tag_schemes.py",
    "data/tagged.py",
    "data/targets.py",
    "data/text_targets.py",
    "data/token_encoder.py",
    "data/word_tags.py",
    "data/retrieval.py",
    "features/bag_of_words.py",
    "features/bm25.py",
    "features/linear_model.py",
    "features/vector_files.py",
    "features/vector_writing.py",
    "features/vectors.py",
    "deploy/bundle.py",
    "deploy/bundle_members.py",
    "features/stacking.py",
    "atomic_files.py",
    "errors.py",
    "native.py",
]


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Dotted names of every import in a file, at the top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    place = path.relative_to(PACKAGE).parts
    mine = place[0].removesuffix(".py")
    if mine == "__init__":
        return
    legal = COMMON | {mine} | MAY_IMPORT.get(mine, set())
    if place in (("data", "batch.py"), ("data", "tagging_batch.py")):
        legal |= {"kernels"}
    for name in imports(path):
        if name.startswith("tidegate."):
            target = name.split(".")[1]
            assert target in legal, f"{'/'.join(place)} imports {name}"


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_what_a_model_needs_to_run_is_free_of_torch(name):
    heavy = {"torch", "lightning", "sklearn", "matplotlib", "pandas", "polars"}
    module = ast.parse((PACKAGE / name).read_text(encoding="utf-8"))
    top = {alias.name.split(".")[0] for node in module.body if isinstance(node, ast.Import) for alias in node.names}
    top |= {node.module.split(".")[0] for node in module.body if isinstance(node, ast.ImportFrom) and node.module}
    assert not top & heavy


def test_importing_tidegate_is_light():
    code = (
        "import sys, tidegate, tidegate.cli, tidegate.config, tidegate.deploy.bundle, tidegate.data.encoder;"
        "heavy = {'torch', 'lightning', 'sklearn', 'matplotlib', 'pandas'} & set(sys.modules);"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_public_names_load_and_are_documented():
    for name in tidegate.__all__:
        value = getattr(tidegate, name)
        if name != "__version__":
            assert inspect.getdoc(value), name
    assert set(tidegate.__all__) <= set(dir(tidegate))
    with pytest.raises(AttributeError, match="no attribute 'GUR'"):
        tidegate.GUR  # noqa: B018


def test_without_torch_a_public_name_says_which_extra_brings_it(monkeypatch):
    code = (
        "import sys; sys.modules['torch'] = None; import tidegate\n"
        "try: tidegate.TextClassifier\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "tidegate[train]"' in done.stdout


def test_files_stay_readable():
    long = {str(p.relative_to(PACKAGE)): n for p in sources() if (n := len(p.read_text().splitlines())) > 450}
    assert not long
