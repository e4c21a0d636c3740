"""Section Setup, and what pip would do in each supported Slicer."""

import importlib.machinery
import json
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PySide6")
pytest.importorskip("slicer")

from BreastReconstructionLib.core.errors import DependencyError
from BreastReconstructionLib.core.private_python import (
    install_private_python,
    private_interpreter,
    python_problem,
    without_foreign_python,
)
from Testing.conftest import ROOT, run_cli

REQUIREMENTS = ROOT / "BreastReconstruction" / "Resources" / "requirements.txt"
# Python, numpy and scipy of each supported Slicer.
SLICERS = {"5.10": ("3.12", "2.0.2", "1.14.1"), "5.12": ("3.12", "2.4.0", "1.17.0")}
PLATFORMS = {
    "linux": [f"manylinux_2_{n}_x86_64" for n in (28, 27, 26, 24, 17, 12, 5)] + ["manylinux2014_x86_64", "manylinux1_x86_64"],
    "windows": ["win_amd64"],
}


@pytest.fixture
def missing(panel, monkeypatch):
    """Sets what is missing."""
    from BreastReconstructionPanels import setup_section

    packages = {}
    monkeypatch.setattr(setup_section, "installed_packages", lambda: packages)

    def show(**values):
        packages.clear()
        packages.update(values)
        panel.setup_section.refresh()

    yield show
    monkeypatch.undo()
    panel.setup_section.refresh()


def test_setup_says_what_is_missing_and_installs_only_on_a_click(panel, missing, monkeypatch):
    import slicer

    missing(torch=None, numpy="2", pycolmap=None)
    assert panel.ui.setupState.text == "Not ready: torch, pycolmap missing or too old."
    panel.ui.installButton.click()
    assert "Extensions Manager" in panel.ui.statusLabel.text  # without the PyTorch extension nothing is installed
    missing(torch="2.9", numpy="2", pycolmap=None)
    asked, constrained = [], []

    def pip_install(arguments):
        asked.append(arguments)
        constrained.append(Path(arguments[arguments.index("-c") + 1]).read_text())

    monkeypatch.setattr(slicer.util, "pip_install", pip_install)
    panel.ui.installButton.click()
    assert asked[0][:-2] == ["pycolmap>=4.2"]  # what is there, OpenCV under any name above all, is not installed again
    assert f"numpy=={np.__version__}" in constrained[0]  # pip must not change what runs in Slicer
    assert panel.ui.statusLabel.text == "Installed."


def test_what_is_too_old_is_installed_anew(panel, missing, monkeypatch):
    import slicer

    missing(torch="2.9", pycolmap="4.1.1", av="17.10", pillow="", tqdm="5", psutil=None)
    assert panel.ui.setupState.text == "Not ready: pycolmap, psutil missing or too old."
    asked = []
    monkeypatch.setattr(slicer.util, "pip_install", lambda arguments: asked.append(arguments[:-2]))
    panel.ui.installButton.click()
    assert asked == [["pycolmap>=4.2", "psutil>=5.9"]]


def test_every_package_is_looked_for_and_in_the_lists():
    """What Slicer does not bring must be in the module's list, and all of it be looked for."""
    from BreastReconstructionLib.core.environment import PACKAGES
    from BreastReconstructionLib.core.licences import NEEDED

    assert set(PACKAGES.values()) == set(NEEDED)
    listed = {line.partition(">=")[0]: line for line in REQUIREMENTS.read_text().split()}
    assert set(listed) == set(NEEDED) - {"torch", "numpy", "scipy", "vtk", "SimpleITK"}
    project = (ROOT / "pyproject.toml").read_text()
    assert [line for line in listed.values() if f'"{line}"' not in project] == []


def test_setup_is_ready(panel):
    panel.setup_section.refresh()
    assert panel.ui.setupState.text.startswith("Ready")
    assert not panel.ui.installButton.enabled


def test_a_declined_question_is_not_for_ever(panel, missing, monkeypatch):
    declining = types.ModuleType("PyTorchUtils")
    declining.PyTorchUtilsLogic = lambda: types.SimpleNamespace(installTorch=lambda askConfirmation: None)
    declining.__spec__ = importlib.machinery.ModuleSpec("PyTorchUtils", None)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", declining)
    missing(torch=None, pycolmap=None)
    panel.ui.installButton.click()
    assert "PyTorch was not installed" in panel.ui.statusLabel.text


def test_slicers_own_packaging_asks_and_is_constrained(panel, missing, monkeypatch):
    asked = []

    def pip_ensure(requirements, constraints=None, requester=None):
        asked.append((requirements, Path(constraints).read_text(), requester))
        if len(asked) > 1:
            raise RuntimeError("declined")

    packaging = types.ModuleType("slicer.packaging")  # importable, and no attribute of slicer before that
    packaging.pip_ensure = pip_ensure
    monkeypatch.setitem(sys.modules, "slicer.packaging", packaging)
    missing(torch="2", pycolmap=None, av=None)
    panel.ui.installButton.click()
    assert panel.ui.statusLabel.text == "Installed."
    assert sorted(asked[0][0]) == ["av>=17.0", "pycolmap>=4.2"]
    assert "numpy==" in asked[0][1]
    panel.ui.installButton.click()
    assert "Nothing was installed" in panel.ui.statusLabel.text


@pytest.mark.parametrize("system", PLATFORMS)
@pytest.mark.parametrize("slicer_version", SLICERS)
def test_pip_changes_nothing_of_slicers(slicer_version, system, tmp_path):
    """A dry run for Slicer's Python with its numpy and scipy held: everything that is needed has wheels that fit."""
    python, numpy, scipy = SLICERS[slicer_version]
    constraints = tmp_path / "constraints.txt"
    constraints.write_text(f"numpy=={numpy}\nscipy=={scipy}\n")
    report = tmp_path / "report.json"
    platforms = [word for name in PLATFORMS[system] for word in ("--platform", name)]
    command = [
        sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed", "--report", str(report),
        "--target", str(tmp_path / "none"), "--python-version", python, *platforms,
        "--only-binary=:all:", "-r", str(REQUIREMENTS), "-c", str(constraints),
    ]  # fmt: skip
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert finished.returncode == 0, finished.stderr
    chosen = {item["metadata"]["name"].lower(): item["metadata"]["version"] for item in json.loads(report.read_text())["install"]}
    assert chosen["numpy"] == numpy
    assert chosen.get("scipy", scipy) == scipy
    assert {"av", "pycolmap", "trimesh", "safetensors"} <= set(chosen)


# A private Python ------------------------------------------------------------------------------------------------------


def test_slicers_whose_python_cannot_hold_the_packages():
    assert python_problem((3, 12), "Linux", "x86_64") == ""
    assert python_problem((3, 12), "Windows", "AMD64") == ""
    assert python_problem((3, 12), "Darwin", "arm64") == ""
    assert "private Python" in python_problem((3, 12), "Darwin", "x86_64")
    assert "3.9" in python_problem((3, 9), "Linux", "x86_64")
    assert without_foreign_python({"PYTHONHOME": "/slicer", "HOME": "/root"}) == {"HOME": "/root"}


def test_such_a_slicer_is_told_before_pip_starts_and_offered_a_private_python(panel, missing, monkeypatch):
    import qt
    from BreastReconstructionPanels import setup_section

    problem = python_problem((3, 12), "Darwin", "x86_64")
    monkeypatch.setattr(setup_section, "problem_here", lambda: problem)
    missing(torch=None)
    assert problem in panel.ui.setupState.text
    assert not panel.ui.installButton.enabled
    started, answers = [], [qt.QMessageBox.No, qt.QMessageBox.Yes]
    monkeypatch.setattr(panel.setup_section.maker, "start", started.append)
    monkeypatch.setattr(setup_section, "ask", lambda *arguments: answers.pop(0) == qt.QMessageBox.Yes)
    panel.ui.privatePythonButton.click()
    assert panel.ui.statusLabel.text == "Nothing was installed."
    assert started == []
    panel.ui.privatePythonButton.click()
    assert started[0][0] == "private-python"
    assert {"torch", "SimpleITK", "av>=17.0", "pycolmap>=4.2"} <= set(Path(started[0][1]).read_text().splitlines())


def test_a_private_python_is_made_by_uv(tmp_path):
    """With a small package and this Python in place of one that is fetched."""
    (tmp_path / "requirements.txt").write_text("tqdm\n")
    folder = tmp_path / "Python"
    finished = run_cli("private-python", tmp_path / "requirements.txt", "--folder", folder, "--python", sys.executable)
    assert finished.returncode == 0, finished.stderr
    interpreter = private_interpreter(folder)
    code = "import sys, tqdm; print(sys.prefix)"
    printed = subprocess.run([interpreter, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert printed == str(folder / "environment")
    assert not (folder / "cache").exists()


def test_a_private_python_that_fails_is_one_sentence_and_not_used(tmp_path):
    with pytest.raises(DependencyError, match="could not be made"):
        install_private_python(["no-such-package-of-ours-2026"], lambda fraction, words: None, tmp_path / "P", sys.executable)
    assert private_interpreter(tmp_path / "P") is None
