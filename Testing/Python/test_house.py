"""The house: arrows between folders go one way, files stay small, nothing is written twice, and a stage is one new file."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from Testing.conftest import ROOT

pytestmark = pytest.mark.fast
LIBRARY, MODULE = ROOT / "BreastReconstructionLib", ROOT / "BreastReconstruction"
# A folder imports itself and those before it.
ORDER = (
    "core", "geometry", "fields", "mesh", "optimise", "video", "landmarks", "sfm", "measurement", "phantom", "shape_model",
    "proposal", "neural_surface", "radiograph", "capabilities", "cli",
)  # fmt: skip
HEAVY = ("torch", "cv2", "pycolmap", "vtkmodules", "trimesh", "SimpleITK", "scipy")


def imports_of(path):
    """(names of folders of the library, other top-level packages) that a file imports anywhere."""
    relative = path.relative_to(LIBRARY).parts
    inside, outside = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = relative[: len(relative) - node.level]
            target = (*base, *(node.module.split(".") if node.module else ()))
            inside.add(target)
        elif isinstance(node, ast.ImportFrom):
            outside.add(node.module.split(".")[0])
        elif isinstance(node, ast.Import):
            outside |= {alias.name.split(".")[0] for alias in node.names}
    return inside, outside


@pytest.mark.parametrize("folder", [*ORDER, "scene"])
def test_arrows_go_one_way(folder):
    allowed = {*ORDER[: ORDER.index(folder)], folder} if folder in ORDER else {"core", "geometry", "mesh", "landmarks", "scene"}
    for path in (LIBRARY / folder).rglob("*.py"):
        inside, outside = imports_of(path)
        wrong = {target[0] for target in inside if target and target[0] not in allowed}
        assert not wrong, f"{path.relative_to(LIBRARY)} imports {wrong}"
        assert folder == "scene" or "slicer" not in outside, path


def test_capabilities_import_no_other():
    for folder in (path for path in (LIBRARY / "capabilities").iterdir() if path.is_dir() and (path / "__init__.py").exists()):
        for path in folder.rglob("*.py"):
            # But its declarations: stages are needed across capabilities.
            inside = {t for t in imports_of(path)[0] if len(t) > 1 and t[0] == "capabilities" and t[2:] != ("stages",)}
            others = {t[1] for t in inside} - {folder.name}
            assert not others, f"{path.relative_to(LIBRARY)} imports {others}"


@pytest.mark.parametrize(("folder", "limit"), [(LIBRARY, 400), (MODULE, 300)], ids=["library", "module"])
def test_files_stay_small(folder, limit):
    long = {path.relative_to(folder).as_posix(): len(path.read_text().splitlines()) for path in folder.rglob("*.py")}
    assert {name: lines for name, lines in long.items() if lines > limit} == {}


def test_sections_of_the_panel_spell_no_file_of_a_case():
    names = re.compile(r"\.(json|npz|ply|png|csv)\"")
    for path in (MODULE / "BreastReconstructionPanels").glob("*_section.py"):
        written = [line for line in path.read_text().splitlines() if names.search(line) and "(*." not in line]
        kept = [line for line in written if "getSaveFileName" not in line and "Export" not in line and "Save" not in line]
        kept = [line for line in kept if "Guides" not in line and "endswith" not in line and "suffix" not in line]
        assert kept == [], path.name


def test_an_option_is_written_in_one_place():
    """Its name stands where it is declared, where its stage uses it, and where old cases are read."""
    for name, declared in (("correct_nipples", "options.py"), ("first_order_fit", "options.py"), ("remove_unseen", "options.py")):
        files = {p.name for d in (LIBRARY, MODULE) for p in d.rglob("*.py") if name in p.read_text()}
        assert declared in files
        assert files <= {declared, "surface.py", "shape.py", "migration.py"}, files


def test_importing_the_package_and_the_stages_is_light():
    code = f"import sys, BreastReconstructionLib, BreastReconstructionLib.cli; print([m for m in {HEAVY} if m in sys.modules])"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert finished.stdout.strip() == "[]"


def test_help_of_a_stage_is_light():
    code = (
        "import sys\nfrom BreastReconstructionLib.cli import main\n"
        f"try: main(['fit', '--help'])\nexcept SystemExit: print([m for m in {HEAVY} if m in sys.modules])"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert finished.stdout.strip().endswith("[]")


# A stage, as the architecture page adds it -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_letter(tmp_path_factory):
    """A copy of the project with the stage of the architecture page."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page.split("## Add a stage")[1].split("## Add a camera")[0], re.S)
    copy = tmp_path_factory.mktemp("letter")
    shutil.copytree(LIBRARY, copy / "BreastReconstructionLib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(MODULE, copy / "BreastReconstruction", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "Testing", copy / "Testing", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "docs").mkdir()
    os.symlink(ROOT / "Resources", copy / "Resources")
    (copy / "BreastReconstructionLib" / "capabilities" / "torso" / "letter.py").write_text(code)
    listed = copy / "BreastReconstructionLib" / "capabilities" / "torso" / "__init__.py"
    text = listed.read_text().replace("from .stages", "from .letter import LETTER\nfrom .stages", 1)
    listed.write_text(text.replace("        REPORT,\n", "        REPORT,\n        LETTER,\n", 1))
    return copy


def in_copy(copy, *words):
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    return subprocess.run(words, capture_output=True, text=True, cwd=copy, env=environment, check=False)


def test_the_new_stage_is_a_command_with_its_options(with_letter):
    finished = in_copy(with_letter, sys.executable, "-m", "BreastReconstructionLib", "letter", "--help")
    assert finished.returncode == 0, finished.stderr
    assert "--greeting" in finished.stdout
    assert "digits after the point; from 0 to 3" in " ".join(finished.stdout.split())


def test_the_new_stage_is_in_the_reference(with_letter):
    finished = in_copy(with_letter, sys.executable, "-m", "Testing.option_reference")
    assert finished.returncode == 0, finished.stderr
    page = (with_letter / "docs" / "option-reference.md").read_text()
    assert "## Letter: `letter`" in page
    assert "| `letter_digits` | `--letter-digits` | 1 |" in page


def test_the_new_stage_is_in_the_panel_and_in_the_settings(with_letter):
    pytest.importorskip("PySide6")
    pytest.importorskip("slicer")
    code = (
        "from Testing.workflow import open_panel\npanel = open_panel()\n"
        "from BreastReconstructionPanels.parameters import settings_of\n"
        "from BreastReconstructionLib.capabilities import STAGES\n"
        "from BreastReconstructionLib.core.settings import write_settings\nfrom pathlib import Path\n"
        "panel.ui.option_letter_digits.value = 3\n"
        "(section,) = panel.further_sections\nprint(section.state.text, section.button.text)\n"
        "write_settings(Path('.'), STAGES, settings_of(panel.parameters, None))\npanel.cleanup()\n"
    )
    finished = in_copy(with_letter, sys.executable, "-c", code)
    assert finished.returncode == 0, finished.stderr
    assert "Needs a video. Run" in finished.stdout
    assert json.loads((with_letter / "settings.json").read_text())["letter"] == {"letter_digits": 3}


def test_the_new_stage_passes_the_family_tests(with_letter):
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "letter or greeting"]
    finished = in_copy(with_letter, *words, "Testing/Python/test_declarations.py")
    assert finished.returncode == 0, finished.stdout[-3000:]
    assert re.search(r"[1-9]\d* passed", finished.stdout)
