"""What is listed is what is there: CMake lists, packages, README commands, sizes."""

import json
import re
import subprocess

import pytest

from BreastReconstructionLib import __version__
from Testing.conftest import ROOT

pytestmark = pytest.mark.fast

try:
    import tomllib
except ImportError:
    import tomli as tomllib


def listed(folder, name):
    text = (ROOT / folder / "CMakeLists.txt").read_text().replace("${MODULE_NAME}", folder)
    return sorted(re.search(rf"set\({name}\s+(.*?)\)", text, re.S).group(1).split())


def python_files(folder):
    return sorted(path.relative_to(ROOT / folder).as_posix() for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize(
    ("folder", "name"),
    [("BreastReconstructionLib", "LIBRARY_PYTHON_SCRIPTS"), ("BreastReconstruction", "MODULE_PYTHON_SCRIPTS")],
)
def test_cmake_lists_every_python_file(folder, name):
    assert listed(folder, name) == python_files(folder)


def test_pip_packages_are_the_folders():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = set(project["tool"]["setuptools"]["packages"]) - {"BreastReconstructionLib.Resources"}
    library = ROOT / "BreastReconstructionLib"
    folders = {path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in library.rglob("__init__.py")}
    assert packages == folders
    assert {"slicer", "train", "test"} <= set(project["project"]["optional-dependencies"])
    assert project["project"]["scripts"]["breast-reconstruction"] == "BreastReconstructionLib.cli:main"


def test_top_level_is_the_design_card():
    for name in (
        "CMakeLists.txt",
        "BreastReconstruction",
        "BreastReconstructionLib",
        "Testing",
        "Resources",
        "README.md",
        "LICENSE.txt",
    ):
        assert (ROOT / name).exists(), name
    assert "Apache License" in (ROOT / "LICENSE.txt").read_text()[:300]


def test_ci_calls_the_test_command_of_the_readme():
    readme, ci = (ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()
    assert "bash Testing/run.sh" in readme
    assert "bash Testing/run.sh" in ci
    assert "breast-reconstruction demo" in readme


def test_repository_stays_small():
    finished = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        pytest.skip("not a git checkout")
    sizes = {name: (ROOT / name).stat().st_size for name in finished.stdout.split("\0") if name and (ROOT / name).exists()}
    assert max(sizes.values()) < 20e6
    assert sum(sizes.values()) < 80e6
    assert (ROOT / "Resources/SampleData/phantom/video.mp4").stat().st_size <= 8e6


def test_model_card_is_complete():
    for path in (ROOT / "Resources" / "ShapeModels").glob("*.json"):
        card = json.loads(path.read_text())
        kinds = {"radiograph": ("shape_model", "cortex_mm"), "landmarks": ("bodies",)}
        own = kinds.get(card.get("kind"), ("mm_per_unit", "landmarks"))
        for key in ("population", "phantom_seeds", *own, "metrics", "licence", "use", "command"):
            assert key in card, f"{path.name} lacks {key}"
        assert card["metrics"]["subjects"] >= 10
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)


def test_no_network_in_the_library():
    forbidden = re.compile(r"\b(urllib|requests|http\.client|socket|ftplib|aiohttp)\b")
    for path in (ROOT / "BreastReconstructionLib").rglob("*.py"):
        assert not forbidden.search(path.read_text()), path
