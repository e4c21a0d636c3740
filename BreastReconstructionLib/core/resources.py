"""Where the files of the repository's `Resources` folder are, from source and installed."""

from __future__ import annotations

import json
from pathlib import Path

from .errors import BreastReconstructionError

DEFAULT_MODEL = "phantom-local-576"
# One global function, trained on the same torsos; what `evaluate` compares with.
COMPARISON_MODEL = "phantom-global-256"
LUNG_MODEL = "phantom-lungs-32"
# Of a right femur: shape model, network that sees it in radiographs, and a mesh with named parts.
FEMUR_MODEL, FEMUR_NETWORK, FEMUR_TEMPLATE = "phantom-femur-32", "phantom-femur-radiograph", "phantom-femur-template.ply"
# Finds the six landmarks in frames.
LANDMARK_NETWORK = "phantom-landmarks"
TORSO = "torso"
_PACKAGE = Path(__file__).resolve().parent.parent


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


def user_models_folder() -> Path:
    """Folder of the models that the user imported or trained; may not exist."""
    return Path.home() / "BreastReconstruction" / "ShapeModels"


def default_model_path() -> Path:
    """Path of the default model's weights: the one that the user chose by `model default`, else the bundled one."""
    chosen = _chosen_file()
    if chosen.is_file():
        path = Path(chosen.read_text().strip())
        if path.is_file():
            return path
    return bundled_model_path()


def bundled_model_path(name: str = DEFAULT_MODEL) -> Path:
    """Path of a bundled model's weights."""
    return resource_path("ShapeModels", f"{name}.safetensors")


def known_models() -> list[Path]:
    """Paths of the bundled models' weights and of those in the user's folder."""
    folder = user_models_folder()
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    own = [path for path in files if "kind" not in _card(path)]  # networks for radiographs and landmarks may lie there too
    return [bundled_model_path(), bundled_model_path(LUNG_MODEL), bundled_model_path(FEMUR_MODEL), *own]


def organ_of(model: Path) -> str:
    """Return what a model is of, by its card; 'torso' where that does not say."""
    return str(_card(model).get("organ", TORSO))


def _card(model: Path) -> dict:
    """What a model's card says; nothing if it cannot be read: whoever uses the model is told."""
    try:
        return dict(json.loads(model.with_suffix(".json").read_text()))
    except (OSError, ValueError):
        return {}


def choose_default_model(path: Path | None) -> None:
    """Make a model file the default; None returns to the bundled one."""
    if path is None:
        _chosen_file().unlink(missing_ok=True)
        return
    _chosen_file().parent.mkdir(parents=True, exist_ok=True)
    _chosen_file().write_text(str(path.resolve()))


def _chosen_file() -> Path:
    return user_models_folder() / "default.txt"
