"""The shape of the package: which folders there are, and which may use which."""

from __future__ import annotations

import ast
import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import pytest

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="says the same on every backend"
)

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "keras_lap"
# Each may use what stands in the lines before it; those of one line, not each other.
ORDER = (
    {"_checks", "_command", "_extras"},
    {"_drawing", "_losses"},
    {"blocks", "networks", "datasets", "symmetry"},
    {"trajectory"},
    {"energies"},
    {"running_costs"},
    {"training"},
    {"transport", "depth"},
    {"callbacks", "compare"},
    {"tuning"},
    {"__init__", "__main__"},
)
# Beside the others: they use numbers, extras and drawing, and nobody before them.
BESIDE = {"networks", "datasets", "symmetry"}
RANK = {unit: rank for rank, units in enumerate(ORDER) for unit in units}
EXTRAS = {
    *("ot", "scipy", "matplotlib", "pydot", "keras_tuner", "sklearn", "joblib"),
    *("tensorflow_datasets", "pandas", "tensorboardX"),
}
FOLDERS = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}


def unit_of(module: str) -> str:
    """The folder or file of the package that a module belongs to."""
    return [*module.split("."), "__init__"][1]


def imports(file: Path, package: Path) -> set[str]:
    """The modules of the package that a file imports, whole names."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:  # relative to where it stands: nobody sees where it goes
                found.add(f"keras_lap.__init__.{'.' * node.level}{module}")
                continue
            for alias in node.names:
                inner = package.parent.joinpath(*module.split("."), alias.name)
                is_module = inner.is_dir() or inner.with_suffix(".py").exists()
                found.add(f"{module}.{alias.name}" if is_module else module)
    return {name for name in found if name.split(".")[0] in ("keras_lap", "studies")}


def faults(package: Path) -> list[str]:
    """Imports that go against the order, or past the contract of a folder."""
    found = []
    for file in sorted(package.rglob("*.py")):
        place = file.relative_to(package)
        # A command of a folder stands where the user does.
        is_command = place.name == "__main__.py"
        unit = "__main__" if is_command else place.parts[0].removesuffix(".py")
        for name in sorted(imports(file, package)):
            other = unit_of(name)
            if name.startswith("studies"):
                found.append(f"{place} uses {name}, which is not in the wheel")
            elif other == unit:
                continue
            elif RANK[other] >= RANK[unit] or (
                RANK[unit] < RANK["callbacks"] and other in BESIDE
            ):
                found.append(f"{place} uses {name}, which comes after it")
            elif other in FOLDERS and name.count(".") > 1 and unit != "__main__":
                found.append(f"{place} uses {name}, past keras_lap.{other}.__all__")
    return found


def test_imports_go_one_way_and_through_the_contracts():
    assert faults(PACKAGE) == []


TURNED = {
    "blocks/graph.py": "from keras_lap.trajectory import Recorder",
    "trajectory/plan.py": "import keras_lap.energies",
    "energies/displacement.py": "from keras_lap import training",
    "training/model.py": "from keras_lap.callbacks import MultiplierUpdate",
    "transport/report.py": "import studies.engine",
    "networks/layers.py": "from keras_lap.blocks import Graph",
    "training/terms.py": "from keras_lap.blocks.graph import Call",
    "blocks/views.py": "from ..trajectory import Recorder",
    "blocks/search.py": "from .. import training",
}


@pytest.mark.parametrize(("place", "line"), TURNED.items(), ids=TURNED)
def test_an_import_turned_round_is_a_fault(place, line, tmp_path):
    package = tmp_path / "keras_lap"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    file = package / place
    file.write_text(f"{line}\n{file.read_text(encoding='utf-8')}", encoding="utf-8")
    (fault,) = faults(package)
    assert fault.startswith(place)


def test_definition_and_search_know_no_keras_and_raise_nothing():
    for name in ("graph", "views", "definition", "search"):
        tree = ast.parse((PACKAGE / "blocks" / f"{name}.py").read_text("utf-8"))
        for node in ast.walk(tree):
            assert not isinstance(node, (ast.Raise, ast.Try)), name
            names = [alias.name for alias in getattr(node, "names", ())]
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                assert "keras" not in {each.partition(".")[0] for each in names}, name


def test_the_root_is_small_and_folders_keep_nothing_hidden():
    assert len(list(PACKAGE.glob("*.py"))) <= 10
    hidden = [p for p in PACKAGE.glob("*/*") if p.name.startswith("_")]
    allowed = {"__init__.py", "__main__.py", "__pycache__"}
    assert {p.name for p in hidden} <= allowed
    lengths = {p: len(p.read_text("utf-8").splitlines()) for p in PACKAGE.rglob("*.py")}
    assert {p.name: n for p, n in lengths.items() if n > 400} == {}


@pytest.mark.parametrize("folder", sorted(FOLDERS))
def test_every_folder_has_a_contract(folder):
    module = importlib.import_module(f"keras_lap.{folder}")
    assert len((module.__doc__ or "").strip().splitlines()) >= 4
    assert module.__all__ == sorted(module.__all__, key=all_order)
    for name in module.__all__:
        assert getattr(module, name, None) is not None, name


def all_order(name: str) -> tuple[int, str]:
    """Constants, classes, functions, as ruff sorts `__all__`."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def test_the_tests_mirror_the_package():
    own = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()}
    assert own >= FOLDERS | {"support"}
    for file in (ROOT / "tests").rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                assert node.module != "conftest", file
            if isinstance(node, ast.Import):
                assert "conftest" not in {alias.name for alias in node.names}, file


def test_what_needs_an_extra_is_loaded_when_it_is_used():
    code = (
        "import sys, keras\n"  # which loads some of them itself on some backends
        "before = set(sys.modules)\n"
        "import keras_lap\n"
        "print(sorted(set(sys.modules) - before))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    loaded = {name.partition(".")[0] for name in ast.literal_eval(printed)}
    assert loaded.isdisjoint(EXTRAS)
