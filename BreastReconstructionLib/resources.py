"""Where the files of the repository's `Resources` folder are, from source and installed."""

from __future__ import annotations

from pathlib import Path

from .errors import BreastReconstructionError

DEFAULT_MODEL = "phantom-local-576"
_PACKAGE = Path(__file__).resolve().parent


def resource_path(*parts: str) -> Path:
    """Return the path of a shipped file, given its parts below `Resources`.

    `pip install` puts the folder inside the package; the source tree and Slicer's extension put it beside it.

    Raises:
        BreastReconstructionError: the installation is incomplete.
    """
    for root in (_PACKAGE / "Resources", _PACKAGE.parent / "Resources"):
        path = root.joinpath(*parts)
        if path.exists():
            return path
    raise BreastReconstructionError(
        f"The installation lacks the file Resources/{'/'.join(parts)}; install BreastReconstruction again."
    )


def default_model_path() -> Path:
    """Path of the bundled default model's weights."""
    return resource_path("ShapeModels", f"{DEFAULT_MODEL}.safetensors")
