"""The metric scale: where it came from, and how sure it is."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np

from ..errors import ScaleError
from ..landmarks.names import LANDMARK_NAMES

# No two of the six landmarks of an adult lie outside these bounds.
SMALLEST_DISTANCE_MM, LARGEST_DISTANCE_MM = 40.0, 800.0
# A tape over skin is read to about this; it enters the stated uncertainty.
TAPE_UNCERTAINTY_MM = 2.0
PRINT_UNCERTAINTY = 0.002
# A landmark found by a single ray, as a share of its distance to the camera (about 5 mm at 0.9 m).
SINGLE_VIEW_UNCERTAINTY = 0.0055


@dataclass(frozen=True)
class KnownDistance:
    """A distance that somebody measured between two landmarks, in mm, in a straight line."""

    first: str
    second: str
    mm: float


@dataclass(frozen=True)
class KnownMarker:
    """A printed ArUco marker: OpenCV's dictionary name, and the side of its black square in mm."""

    dictionary: str
    side_mm: float


@dataclass(frozen=True)
class Scale:
    """The scale of the reconstruction.

    Attributes:
        mm_per_world: millimetres a world unit.
        relative_uncertainty: one standard deviation, as a share.
        source: where it came from, in words.
        approximate: True if nothing was measured.
    """

    mm_per_world: float
    relative_uncertainty: float
    source: str
    approximate: bool

    def as_dict(self) -> dict:
        """Return plain numbers, for JSON."""
        return asdict(self)


def parse_distance(text: str) -> KnownDistance:
    """Read `left-nipple:right-nipple=210`.

    Raises:
        ScaleError: not of that form, unknown landmarks, or an impossible distance.
    """
    pair, equals, number = text.partition("=")
    first, colon, second = (part.strip() for part in pair.partition(":"))
    try:
        mm = float(number)
    except ValueError:
        mm = math.nan
    if not (equals and colon):
        raise ScaleError(f"The distance '{text}' must have the form left-nipple:right-nipple=210 (millimetres).")
    for name in (first, second):
        if name not in LANDMARK_NAMES:
            raise ScaleError(f"The distance names an unknown landmark '{name}'; the names are {', '.join(LANDMARK_NAMES)}.")
    if first == second:
        raise ScaleError(f"The distance names {first} twice; name two different landmarks.")
    if not math.isfinite(mm) or not SMALLEST_DISTANCE_MM <= mm <= LARGEST_DISTANCE_MM:
        raise ScaleError(
            f"A distance of {number.strip() or 'nothing'} mm between {first} and {second} is impossible; measure again and "
            f"give millimetres between {SMALLEST_DISTANCE_MM:.0f} and {LARGEST_DISTANCE_MM:.0f}."
        )
    return KnownDistance(first, second, mm)


def parse_marker(text: str) -> KnownMarker:
    """Read `DICT_4X4_50:80`.

    Raises:
        ScaleError: not of that form, or an impossible size.
    """
    dictionary, colon, number = text.rpartition(":")
    try:
        side = float(number)
    except ValueError:
        side = math.nan
    if not colon or not math.isfinite(side) or not 5 <= side <= 500:
        raise ScaleError(f"The marker '{text}' must have the form DICT_4X4_50:80 (dictionary, side in mm from 5 to 500).")
    return KnownMarker(dictionary, side)


def scale_from_distance(
    known: KnownDistance,
    landmarks_world: np.ndarray,
    reprojection_px: np.ndarray,
    views: np.ndarray,
    focal_px: float,
    camera_distance_world: float,
) -> Scale:
    """Scale by a measured distance; its uncertainty adds the tape and the two landmarks' own.

    Args:
        known: the distance.
        landmarks_world: (6, 3).
        reprojection_px, views: (6,) how well each landmark is known.
        focal_px: focal length.
        camera_distance_world: typical distance of the cameras.

    Raises:
        ScaleError: the two landmarks coincide.
    """
    a, b = LANDMARK_NAMES.index(known.first), LANDMARK_NAMES.index(known.second)
    length = float(np.linalg.norm(landmarks_world[a] - landmarks_world[b]))
    if length < 1e-9:
        raise ScaleError(f"{known.first} and {known.second} lie in the same place; pick them again.")
    variance = (TAPE_UNCERTAINTY_MM / known.mm) ** 2
    for k in (a, b):
        if views[k] >= 2:
            pixels = max(float(reprojection_px[k]), 1.0) / math.sqrt(views[k])
            sigma = pixels / focal_px * camera_distance_world
        else:
            sigma = SINGLE_VIEW_UNCERTAINTY * camera_distance_world
        variance += (sigma / length) ** 2
    source = f"measured distance {known.first} to {known.second}, {known.mm:g} mm"
    return Scale(known.mm / length, math.sqrt(variance), source, approximate=False)


def scale_from_marker(known: KnownMarker, side_world: float, side_spread_world: float, sightings: int) -> Scale:
    """Scale by a printed marker; its uncertainty adds the printer and the spread of the four sides."""
    relative = math.hypot(side_spread_world / side_world, PRINT_UNCERTAINTY)
    source = f"printed marker {known.dictionary} of {known.side_mm:g} mm, seen in {sightings} frames"
    return Scale(known.side_mm / side_world, relative, source, approximate=False)


def approximate_scale(mm_per_unit: float, mm_per_unit_spread: float, model_units_per_world: float) -> Scale:
    """Scale by the shape model's mean body size; its uncertainty is the spread of its population."""
    return Scale(
        mm_per_unit * model_units_per_world,
        mm_per_unit_spread / mm_per_unit,
        "approximate: mean body size of the shape model, nothing was measured",
        approximate=True,
    )
