"""What the stage takes from outside the case, by its content; and what is looked at before it runs."""

from __future__ import annotations

from pathlib import Path

from ...core.case import Case
from ...core.errors import ShapeModelError, VolumeError
from ...core.files import hash_of_file
from ...core.resources import LUNG_MODEL, TORSO, bundled_model_path
from ...core.settings import Settings
from .stages import ORGAN


def model_path(model: Path | None) -> Path:
    """Return the file of the model that is used."""
    return model if model is not None else bundled_model_path(LUNG_MODEL)


def check_organ(settings: Settings) -> None:
    """See that there is something to fit to, and a model of an organ.

    Raises:
        VolumeError: nothing is given.
        ShapeModelError: the model cannot be read, or is the torso's.
    """
    options = settings.of(ORGAN)
    if options.organ_input is None:
        raise VolumeError("Nothing is given to fit to; choose a segmentation, a mesh, points or contours (--input).")
    if not options.organ_input.is_file():
        raise VolumeError(f"The file {options.organ_input.name} does not exist; check the path.")
    if options.organ_landmarks is not None and not options.organ_landmarks.is_file():
        raise VolumeError(f"The landmark file {options.organ_landmarks.name} does not exist; check the path.")
    from ...shape_model.model_file import load_model

    model = load_model(model_path(options.organ_model))
    if model.organ == TORSO:
        raise ShapeModelError(f"{model.card['name']} is a model of the torso; choose a model of an organ.")


def sources_of_organ(settings: Settings, case: Case) -> dict:
    """Return input, landmarks and model by their content; a missing file is said by the check."""
    options = settings.of(ORGAN)
    paths = {
        "organ_input": options.organ_input,
        "organ_landmarks": options.organ_landmarks,
        "organ_model": model_path(options.organ_model),
    }
    return {name: hash_of_file(path) for name, path in paths.items() if path is not None and path.is_file()}
