"""What is installed, and on what device the networks will run; nothing heavy is imported to find out what is installed."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib import metadata, util

# Import name -> name of the package, in the order of pyproject.toml.
PACKAGES = {
    "av": "av",
    "numpy": "numpy",
    "scipy": "scipy",
    "torch": "torch",
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "pycolmap": "pycolmap",
    "trimesh": "trimesh",
    "skimage": "scikit-image",
    "vtk": "vtk",
    "safetensors": "safetensors",
    "tqdm": "tqdm",
    "SimpleITK": "SimpleITK",
    "potpourri3d": "potpourri3d",
    "manifold3d": "manifold3d",
    "reportlab": "reportlab",
    "psutil": "psutil",
}


@dataclass(frozen=True)
class Environment:
    """What this Python has.

    Attributes:
        python: its version.
        packages: package name -> version, '' if installed without saying, None if missing.
        device: in words.
    """

    python: str
    packages: dict[str, str | None]
    device: str


def installed_packages() -> dict[str, str | None]:
    """Return the version of each needed package, None if it is missing; imports none of them."""
    return {package: _version(module, package) for module, package in PACKAGES.items()}


def inspect_environment() -> Environment:
    """Look at packages and device; imports torch if it is there."""
    return Environment(platform.python_version(), installed_packages(), _device())


def _version(module: str, package: str) -> str | None:
    # A package may come under another name, such as opencv-python.
    if util.find_spec(module) is None:
        return None
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _device() -> str:
    if util.find_spec("torch") is None:
        return "unknown until PyTorch is installed"
    import torch

    if torch.cuda.is_available():
        return f"CUDA: {torch.cuda.get_device_name(0)}"
    if torch.backends.mps.is_available():
        return f"CPU, {torch.get_num_threads()} threads (this Mac's GPU is not used)"
    return f"CPU, {torch.get_num_threads()} threads"
