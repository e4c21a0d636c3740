"""The parameter node, made from the declared options, and its way to settings and back."""

from pathlib import Path
from typing import Annotated

from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

from BreastReconstructionLib.capabilities import STAGES
from BreastReconstructionLib.capabilities.torso.stages import CAMERAS, MARKERS, SCALE
from BreastReconstructionLib.core.options import options_of
from BreastReconstructionLib.core.settings import Settings, every_option
from BreastReconstructionLib.measurement.scale import KnownDistance, KnownMarker, parse_distance, parse_marker

# Options whose parameters are written by hand: what is known in millimetres, and who finds the cameras.
BY_HAND = ("marker", "distance", "approximate_scale", "cameras")
OPTIONS = {option.name: option for option in every_option(STAGES) if option.name not in BY_HAND}


def with_options(cls):
    """Class decorator: add a typed member for each declared option, with its default and range."""
    for name, option in OPTIONS.items():
        kind = str if option.kind is Path else option.kind
        cls.__annotations__[name] = Annotated[kind, WithinRange(*option.within)] if option.within else kind
        setattr(cls, name, option.default if option.default is not None else "")
    return cls


@parameterNodeWrapper
@with_options
class BreastReconstructionParameterNode:
    """What the user has set; saved with the scene."""

    case_folder: str = ""
    backend: str = "colmap"
    camera_path: str = ""
    scale_kind: str = "distance"
    distance_from: str = "left-nipple"
    distance_to: str = "right-nipple"
    distance_mm: Annotated[float, WithinRange(0, 1000)] = 0.0  # 0: nobody has measured it yet
    marker_dictionary: str = "DICT_4X4_50"
    marker_number: Annotated[int, WithinRange(-1, 9999)] = -1  # -1: any
    marker_mm: Annotated[float, WithinRange(0, 500)] = 0.0  # 0: nobody has measured it yet
    further_scales: str = ""  # measures beyond one of each kind, which only a command gives; separated by ';'
    colouring: str = "texture"


PARAMETER_NAMES = tuple(BreastReconstructionParameterNode.__annotations__)


def settings_of(parameters, landmarks) -> Settings:
    """Return the settings that the parameters mean.

    Args:
        parameters: see BreastReconstructionParameterNode.
        landmarks: path of the landmark file to use, or None.

    Raises:
        OptionError: a value is impossible.
    """
    p = parameters
    values = {name: _plain(getattr(p, name), option) for name, option in OPTIONS.items()}
    values["landmarks"] = landmarks
    values["cameras"] = p.camera_path if p.backend == "import" else p.backend
    further = [text for text in p.further_scales.split(";") if text]
    number = f":{p.marker_number}" if p.marker_number >= 0 else ""
    distance = [f"{p.distance_from}:{p.distance_to}={p.distance_mm:g}"] if p.distance_mm > 0 else []
    marker = [f"{p.marker_dictionary}{number}:{p.marker_mm:g}"] if p.marker_mm > 0 else []
    values["distance"] = [*distance, *(t for t in further if "=" in t)] if p.scale_kind in ("distance", "both") else []
    values["marker"] = [*marker, *(t for t in further if "=" not in t)] if p.scale_kind in ("marker", "both") else []
    values["approximate_scale"] = p.scale_kind == "approximate"
    return Settings().with_values(STAGES, values)


def set_parameters(parameters, settings: Settings) -> None:
    """Set the parameters so that they mean the given settings; landmarks within the case stay the panel's own."""
    for stage in STAGES:
        for option in options_of(stage.options):
            if option.name in OPTIONS:
                value = settings.value(stage, option)
                setattr(parameters, option.name, "" if value is None else str(value) if option.kind is Path else value)
    cameras = settings.of(CAMERAS).cameras
    imported = cameras not in ("colmap", "vggsfm")
    parameters.backend, parameters.camera_path = ("import", cameras) if imported else (cameras, "")
    _set_scale(parameters, settings)


def _set_scale(parameters, settings: Settings) -> None:
    distances = [parse_distance(text) for text in settings.of(SCALE).distance]
    markers = [parse_marker(text) for text in settings.of(MARKERS).marker]
    further = [*settings.of(SCALE).distance[1:], *settings.of(MARKERS).marker[1:]]
    if distances and markers:
        parameters.scale_kind = "both"
    elif markers:
        parameters.scale_kind = "marker"
    elif distances or not settings.of(SCALE).approximate_scale:
        parameters.scale_kind = "distance"
    else:
        parameters.scale_kind = "approximate"
    set_distance(parameters, distances[0] if distances else None)
    set_marker(parameters, markers[0] if markers else None)
    parameters.further_scales = ";".join(further)


def set_distance(parameters, known: KnownDistance | None) -> None:
    """Set the measured distance; None for none."""
    if known is not None:
        parameters.distance_from, parameters.distance_to = known.first, known.second
    parameters.distance_mm = 0.0 if known is None else known.mm


def set_marker(parameters, known: KnownMarker | None) -> None:
    """Set the printed marker; None for none."""
    if known is not None:
        parameters.marker_dictionary = known.dictionary
        parameters.marker_number = -1 if known.number is None else known.number
    parameters.marker_mm = 0.0 if known is None else known.side_mm


def _plain(value, option):
    """A parameter's value without what a spin box's decimals add; an empty path is none."""
    if isinstance(value, float):
        return round(value, 6)
    return None if option.kind is Path and value == "" else value
