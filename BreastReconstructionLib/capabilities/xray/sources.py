"""What the stage takes from outside the case, by its content; and what is looked at before it runs."""

from __future__ import annotations

import json
from pathlib import Path

from ...core.case import Case
from ...core.errors import ShapeModelError, VolumeError
from ...core.files import hash_of_file
from ...core.resources import FEMUR_NETWORK, FEMUR_TEMPLATE, bundled_model_path, resource_path
from ...core.settings import Settings
from ...geometry.radiograph_file import BeamGeometry, read_radiograph
from .stages import XRAY, XrayOptions


def network_path(model: Path | None) -> Path:
    """Return the file of the network that is used."""
    return model if model is not None else bundled_model_path(FEMUR_NETWORK)


def shape_model_path(network: Path) -> Path:
    """Return the file of the shape model that a network goes with, beside it.

    Raises:
        ShapeModelError: the network's card cannot be read, or the shape model is missing.
    """
    try:
        name = json.loads(network.with_suffix(".json").read_text())["shape_model"]
    except (OSError, ValueError, KeyError) as error:
        raise ShapeModelError(f"{network.name} is no network for radiographs; choose another file.") from error
    path = network.with_name(f"{Path(str(name)).name}.safetensors")
    if not path.is_file():
        raise ShapeModelError(f"The shape model {path.name} is missing beside {network.name}; copy both into one folder.")
    return path


def template_path(options: XrayOptions) -> Path | None:
    """Return the template's file: the bundled one for the bundled network, none for another unless it is given."""
    if options.xray_template is not None:
        return options.xray_template
    return resource_path("ShapeModels", FEMUR_TEMPLATE) if options.xray_model is None else None


def geometry_of(options: XrayOptions) -> BeamGeometry:
    """Return what the options say of the pictures."""
    return BeamGeometry(
        options.xray_pixel_mm, options.xray_source_to_detector_mm, options.xray_source_to_bone_mm, options.xray_side == "left"
    )


def check_xray(settings: Settings) -> None:
    """See that there is a radiograph that can be read, and a network with its shape model.

    Raises:
        VolumeError: nothing is given, or it is no radiograph of known size.
        ShapeModelError: a model that is missing.
    """
    options = settings.of(XRAY)
    if options.xray_picture is None:
        raise VolumeError("No radiograph is given; choose one (--picture).")
    if options.xray_template is not None and not options.xray_template.is_file():
        raise VolumeError(f"The template {options.xray_template.name} does not exist; check the path.")
    shape_model_path(network_path(options.xray_model))
    for path in (options.xray_picture, options.xray_lateral):
        if path is not None:
            read_radiograph(path, geometry_of(options))


def sources_of_xray(settings: Settings, case: Case) -> dict:
    """Return pictures, template and network by their content; a missing file is said by the check."""
    options = settings.of(XRAY)
    paths = {
        "xray_picture": options.xray_picture,
        "xray_lateral": options.xray_lateral,
        "xray_template": template_path(options),
        "xray_model": network_path(options.xray_model),
    }
    return {name: hash_of_file(path) for name, path in paths.items() if path is not None and path.is_file()}
