"""A Python of its own, for a Slicer whose Python cannot hold the packages; made on the user's click, in the user's folder.

uv (from PyPI) fetches a native interpreter and installs the packages; Slicer's own Python is left as it is.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from .errors import DependencyError
from .progress import Progress

PYTHON_VERSION = "3.12"
OLDEST_PYTHON = (3, 10)
# Written last: a folder without it was not finished.
FINISHED = "finished.txt"
# What Slicer's launcher sets for its own Python and libraries, and another Python must not see.
FOREIGN = ("PYTHONHOME", "PYTHONPATH", "PYTHONNOUSERSITE", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "QT_PLUGIN_PATH")


def private_python_folder() -> Path:
    """Folder of the private Python; may not exist."""
    return Path.home() / "BreastReconstruction" / "Python"


def private_interpreter(folder: Path | None = None) -> str | None:
    """Return the path of the private interpreter, or None if there is none or its installation was not finished."""
    folder = folder or private_python_folder()
    path = _interpreter(folder / "environment")
    return str(path) if (folder / FINISHED).exists() and path.exists() else None


def _interpreter(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def without_foreign_python(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without what Slicer's launcher put into it."""
    return {name: value for name, value in environment.items() if name not in FOREIGN}


def python_problem(version: tuple[int, int], system: str, machine: str) -> str:
    """Say why a Slicer's own Python cannot hold the packages, '' if it can.

    Args:
        version: of Python.
        system: platform.system().
        machine: platform.machine() of that Python, not of the computer.
    """
    if version < OLDEST_PYTHON:
        return (
            f"This Slicer's Python {version[0]}.{version[1]} is too old for the packages; use Slicer 5.10 or later, or a private "
            "Python."
        )
    if system == "Darwin" and machine == "x86_64":
        return "PyTorch and pycolmap are not made any more for the Python of Slicer on a Mac (x86_64); use a private Python."
    return ""


def problem_here() -> str:
    """`python_problem` of the Python that runs this."""
    return python_problem(sys.version_info[:2], platform.system(), platform.machine())


def install_private_python(
    requirements: list[str],
    progress: Progress,
    folder: Path | None = None,
    python: str | None = None,
) -> str:
    """Make the private Python anew; returns the path of its interpreter.

    Args:
        requirements: lines of packages.
        progress: reported a step.
        folder: where; the user's own unless given.
        python: what uv takes for an interpreter; a native one of PYTHON_VERSION unless given.

    Raises:
        DependencyError: something could not be fetched or installed.
    """
    folder = folder or private_python_folder()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    environment = without_foreign_python(os.environ)
    environment |= {
        "UV_CACHE_DIR": str(folder / "cache"),
        "UV_PYTHON_INSTALL_DIR": str(folder / "interpreters"),
        "UV_NO_PROGRESS": "1",
    }
    tool = folder / "uv"
    # In Slicer's own environment: this is Slicer's own pip.
    _run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(tool), "uv"],
        dict(os.environ),
        progress,
        0.02,
        "fetching uv",
    )
    uv = str(tool / "bin" / ("uv.exe" if os.name == "nt" else "uv"))
    _run(
        [uv, "venv", "--python", python or _native_python(), str(folder / "environment")],
        environment,
        progress,
        0.1,
        "fetching Python",
    )
    interpreter = str(_interpreter(folder / "environment"))
    words = "installing packages; this takes some minutes"
    backend = [] if python else ["--torch-backend", "auto"]  # the CPU's PyTorch where there is no graphics card: a tenth as large
    _run([uv, "pip", "install", "--python", interpreter, *backend, *requirements], environment, progress, 0.2, words)
    shutil.rmtree(folder / "cache", ignore_errors=True)
    (folder / FINISHED).write_text("\n".join(requirements) + "\n")
    return interpreter


def remove_private_python(folder: Path | None = None) -> None:
    """Return to Slicer's own Python."""
    shutil.rmtree(folder or private_python_folder(), ignore_errors=True)


def _native_python() -> str:
    """uv's name of the interpreter to fetch: on a Mac with its own processor that one, though this Python is translated."""
    if platform.system() == "Darwin":
        native = subprocess.run(["sysctl", "-n", "hw.optional.arm64"], capture_output=True, text=True, check=False).stdout.strip()
        return f"cpython-{PYTHON_VERSION}-macos-{'aarch64' if native == '1' else 'x86_64'}-none"
    return PYTHON_VERSION


def _run(command: list[str], environment: dict[str, str], progress: Progress, fraction: float, words: str) -> None:
    """Run a program; `progress` is reported meanwhile, so that the user can cancel."""
    progress(fraction, words)
    try:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError as error:
        raise DependencyError(f"The private Python could not be made ({error.strerror}); is the disk full?") from error
    try:
        while True:
            try:
                output, _ = process.communicate(timeout=0.5)
                break
            except subprocess.TimeoutExpired:
                progress(fraction, words)
    except BaseException:
        process.kill()
        raise
    if process.returncode != 0:
        last = next((line.strip() for line in reversed(output.splitlines()) if line.strip()), "no message")
        raise DependencyError(f"The private Python could not be made ({last[:200]}); is this computer connected to the internet?")
