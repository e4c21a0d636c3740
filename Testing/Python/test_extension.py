"""The extension, configured and installed against a stub of Slicer's CMake macros, runs in the host from there."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from Testing.conftest import ROOT

pytestmark = pytest.mark.fast

STUB = ROOT / "Testing" / "SlicerHost" / "cmake"

FROM_INSTALLED = """
import json, sys, time
from pathlib import Path
from Testing.SlicerHost import application
application.start()
before = set(sys.modules)
started = time.perf_counter()
panel = application.load_module(Path(sys.argv[1]) / "BreastReconstruction.py")
seconds = time.perf_counter() - started
import slicer, BreastReconstructionLib
from BreastReconstructionLib.core.resources import resource_path
print(json.dumps({
    "seconds": seconds,
    "imported": sorted(set(sys.modules) - before),
    "library": BreastReconstructionLib.__file__,
    "data": str(resource_path("SampleData", "phantom", "video.mp4")),
    "icon": Path(slicer.modules.breastreconstruction.module.resourcePath("Icons/BreastReconstruction.png")).exists(),
    "title": slicer.modules.breastreconstruction.title,
    "samples": [s.sampleName for s in slicer.modules.sampleDataSources["BreastReconstruction"]],
    "state": panel.ui.setupState.text,
}))
panel.cleanup()
"""


def in_host(program, *arguments, **options):
    command = [sys.executable, "-c", program, *map(str, arguments)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120, **options)
    assert finished.returncode == 0, finished.stderr[-3000:]
    return json.loads(finished.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    if shutil.which("cmake") is None:
        pytest.fail("cmake is missing; Testing/install.sh installs it")
    folder = tmp_path_factory.mktemp("extension")
    configure = ["cmake", "-S", str(ROOT), "-B", str(folder / "build"), f"-DSlicer_DIR={STUB}"]
    for command in (configure, ["cmake", "--install", str(folder / "build"), "--prefix", str(folder / "installed")]):
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        assert finished.returncode == 0, finished.stdout + finished.stderr
    return folder / "installed" / "lib" / "Slicer-5.11" / "qt-scripted-modules"


def test_installed_module_runs_and_finds_its_own_files(installed):
    report = in_host(FROM_INSTALLED, installed)
    assert report["library"].startswith(str(installed))
    assert report["data"].startswith(str(installed))
    assert report["icon"]
    assert report["title"] == "Breast Reconstruction"
    assert report["samples"] == ["BreastReconstructionPhantom", "BreastReconstructionPhantomCT"]
    assert report["state"].startswith("Ready")


def test_module_loads_without_what_is_heavy():
    report = in_host(FROM_INSTALLED, ROOT / "BreastReconstruction")
    print(f"module load: {report['seconds']:.2f} s")
    heavy = {"torch", "cv2", "pycolmap", "trimesh", "skimage", "safetensors", "tqdm"}
    assert not heavy & set(report["imported"])
    assert report["library"].startswith(str(ROOT))


def test_nothing_runs_at_file_scope_and_nothing_installs_at_import():
    for path in (ROOT / "BreastReconstruction").rglob("*.py"):
        text = path.read_text()
        top_level = [line for line in text.splitlines() if line and not line.startswith((" ", "#", '"', ")", "]"))]
        for line in top_level:
            assert not line.startswith(("print", "slicer.", "subprocess", "os.system")), (path.name, line)
        if path.name != "setup_section.py":
            assert "pip_install" not in text
            assert "pip_ensure" not in text


def test_catalogue_entry_is_complete():
    entry = json.loads((ROOT / "Resources" / "BreastReconstruction.json").read_text())
    assert {"$schema", "build_dependencies", "build_subdirectory", "category", "scm_revision", "scm_url", "tier"} == set(entry)
    assert "PyTorch" in entry["build_dependencies"]


def test_catalogue_entry_follows_its_checklist():
    """Repository 'Slicer' + name, addresses that download the files themselves, one or two sentences for people."""
    text = (ROOT / "CMakeLists.txt").read_text()
    meta = dict(re.findall(r'set\(EXTENSION_(\w+) "?([^")]+)"?\)', text))
    assert re.fullmatch(r"https://github\.com/[\w-]+/SlicerBreastReconstruction", meta["HOMEPAGE"])
    raw = r"https://raw\.githubusercontent\.com/[\w-]+/SlicerBreastReconstruction/main/(.+\.png)"
    for name in ("ICONURL", "SCREENSHOTURLS"):
        assert (ROOT / re.fullmatch(raw, meta[name])[1]).exists()
    assert 1 <= meta["DESCRIPTION"].count(".") <= 2
    entry = json.loads((ROOT / "Resources" / "BreastReconstruction.json").read_text())
    assert entry["scm_url"] == meta["HOMEPAGE"] + ".git"
    assert "cmake_minimum_required(VERSION 3.20.6...3.22.6 FATAL_ERROR)" in text  # as Slicer's own template has it
    readme = (ROOT / "README.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text()
    assert "3d-slicer-extension" in readme
    assert "Apache-2.0" in readme


def test_icon_has_the_size_of_the_catalogue():
    import cv2

    icon = cv2.imread(str(ROOT / "BreastReconstruction/Resources/Icons/BreastReconstruction.png"), cv2.IMREAD_UNCHANGED)
    assert icon.shape == (128, 128, 4)


def test_every_resource_is_listed():
    text = (ROOT / "BreastReconstruction" / "CMakeLists.txt").read_text().replace("${MODULE_NAME}", "BreastReconstruction")
    for path in (ROOT / "BreastReconstruction" / "Resources").rglob("*.*"):
        assert path.relative_to(ROOT / "BreastReconstruction").as_posix() in text, path.name


def test_host_pictures_the_module(tmp_path):
    import cv2

    picture = tmp_path / "panel.png"
    command = [sys.executable, "-m", "Testing.SlicerHost", "--module", "BreastReconstruction", "--screenshot", str(picture)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert finished.returncode == 0, finished.stderr[-2000:]
    image = cv2.imread(str(picture))
    assert image.shape[0] > 600
    assert image.std() > 20  # a panel and views, not an empty window
