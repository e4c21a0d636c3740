"""The metric scale: where it came from, how sure it is, and what speaks against it."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from ..core.errors import ScaleError
from ..core.files import write_json
from ..landmarks.names import LANDMARK_NAMES
from .plausibility import REFUSED, WARNED, Doubt, doubt_of_body, doubt_of_camera, doubt_of_distance

MM_PER = {"": 1.0, "mm": 1.0, "cm": 10.0, "m": 1000.0, "in": 25.4, "inch": 25.4}
SCALE_FILE = "scale.json"
LARGEST_MM = 5000.0
SMALLEST_MARKER_MM, LARGEST_MARKER_MM = 5.0, 500.0
# A tape over skin is read to about this; it enters the stated uncertainty.
TAPE_UNCERTAINTY_MM = 2.0
PRINT_UNCERTAINTY = 0.002
# A landmark found by a single ray, as a share of its distance to the camera (about 5 mm at 0.9 m).
SINGLE_VIEW_UNCERTAINTY = 0.0055
# Two sources that differ by less agree, however sure each says to be; by more than the second, one of them is wrong.
SMALLEST_DISAGREEMENT, LARGEST_DISAGREEMENT = 0.02, 0.05
CONFIRM = "check it, or confirm it by --trust-scale (in the panel: I have checked the scale)"


@dataclass(frozen=True)
class KnownDistance:
    """A distance that somebody measured between two landmarks, in mm, in a straight line."""

    first: str
    second: str
    mm: float

    @property
    def words(self) -> str:
        """What was measured."""
        return f"measured distance {self.first} to {self.second}, {self.mm:g} mm"

    @property
    def typed_mm(self) -> float:
        """The number that a person typed."""
        return self.mm


@dataclass(frozen=True)
class KnownMarker:
    """A printed ArUco marker: OpenCV's dictionary name, the side of its black square in mm, and its number if one is meant."""

    dictionary: str
    side_mm: float
    number: int | None = None

    @property
    def words(self) -> str:
        """What was printed."""
        number = "" if self.number is None else f" number {self.number}"
        return f"printed marker {self.dictionary}{number} of {self.side_mm:g} mm"

    @property
    def typed_mm(self) -> float:
        """The number that a person typed."""
        return self.side_mm


@dataclass(frozen=True)
class Scale:
    """The scale of the reconstruction.

    Attributes:
        mm_per_world: millimetres a world unit.
        relative_uncertainty: one standard deviation, as a share.
        source: where it came from, in words.
        approximate: True if nothing was measured.
        doubts: what speaks against it, in sentences.
        markers_in_view: every printed marker that was found, in words.
    """

    mm_per_world: float
    relative_uncertainty: float
    source: str
    approximate: bool
    doubts: tuple[str, ...] = ()
    markers_in_view: tuple[str, ...] = ()

    def as_dict(self) -> dict:
        """Return plain numbers, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> Scale:
        """Read what `as_dict` gave."""
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})

    def save(self, folder: Path) -> None:
        """Write one JSON."""
        write_json(folder / SCALE_FILE, self.as_dict())

    @classmethod
    def load(cls, folder: Path) -> Scale:
        """Read what `save` wrote."""
        return cls.from_dict(json.loads((folder / SCALE_FILE).read_text()))


def parse_length_mm(text: str) -> float:
    """Read `80`, `80mm`, `8 cm`, `21,5 cm`: millimetres unless a unit is named; NaN if it is no length."""
    found = re.fullmatch(r"\s*([-+]?\d+(?:[.,]\d+)?)\s*([a-z]*)\s*", text.lower())
    if found is None or found[2] not in MM_PER:
        return math.nan
    return float(found[1].replace(",", ".")) * MM_PER[found[2]]


def parse_distance(text: str) -> KnownDistance:
    """Read `left-nipple:right-nipple=210`; a unit may follow (`21 cm`).

    Raises:
        ScaleError: not of that form, unknown landmarks, or an impossible distance.
    """
    pair, equals, number = text.partition("=")
    first, colon, second = (part.strip().lower() for part in pair.partition(":"))
    if not (equals and colon):
        raise ScaleError(f"The distance '{text}' must have the form left-nipple:right-nipple=210 (millimetres).")
    for name in (first, second):
        if name not in LANDMARK_NAMES:
            raise ScaleError(f"The distance names an unknown landmark '{name}'; the names are {', '.join(LANDMARK_NAMES)}.")
    if first == second:
        raise ScaleError(f"The distance names {first} twice; name two different landmarks.")
    mm = parse_length_mm(number)
    if not math.isfinite(mm) or not 0 < mm <= LARGEST_MM:
        raise ScaleError(
            f"A distance of {number.strip() or 'nothing'} mm between {first} and {second} is impossible; measure again and give "
            "millimetres."
        )
    return KnownDistance(first, second, mm)


def parse_marker(text: str) -> KnownMarker:
    """Read `DICT_4X4_50:80`, or `DICT_4X4_50:7:80` for the marker with the number 7; a unit may follow (`8 cm`).

    Raises:
        ScaleError: not of that form, or an impossible size.
    """
    parts = [part.strip() for part in text.split(":")]
    side = parse_length_mm(parts[-1])
    number = parts[1] if len(parts) == 3 else None
    sound = len(parts) in (2, 3) and (number is None or number.isdecimal()) and parts[0] != ""
    if not sound or not SMALLEST_MARKER_MM <= side <= LARGEST_MARKER_MM:
        raise ScaleError(
            f"The marker '{text}' must have the form DICT_4X4_50:80 (dictionary, side of the black square in mm from "
            f"{SMALLEST_MARKER_MM:.0f} to {LARGEST_MARKER_MM:.0f}), or DICT_4X4_50:7:80 for the marker with the number 7."
        )
    return KnownMarker(parts[0].upper().replace("APRILTAG_36H", "APRILTAG_36h"), side, None if number is None else int(number))


def check_typed(known: tuple[KnownDistance | KnownMarker, ...], trusted: bool) -> tuple[str, ...]:
    """Set each typed distance against its own pair of landmarks; returns what is doubtful.

    Args:
        known: what the user gave.
        trusted: the user has confirmed the numbers.

    Raises:
        ScaleError: a distance is unlike any body's and not confirmed.
    """
    doubts = [doubt_of_distance(k.first, k.second, k.mm) for k in known if isinstance(k, KnownDistance)]
    return _told([doubt for doubt in doubts if doubt is not None], trusted)


def _told(doubts: list[Doubt], trusted: bool) -> tuple[str, ...]:
    """Sentences of doubts; refused ones are raised unless the user confirmed the numbers.

    Raises:
        ScaleError: a doubt is refused.
    """
    refused = next((doubt for doubt in doubts if doubt.refused), None)
    if refused is not None and not trusted:
        mark = "" if refused.sentence.endswith("?") else ";"
        raise ScaleError(f"{refused.sentence}{mark} {CONFIRM[0].upper() + CONFIRM[1:] if not mark else CONFIRM}.")
    return tuple(doubt.sentence + ("" if doubt.sentence.endswith("?") else ".") for doubt in doubts)


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
    return Scale(known.mm / length, math.sqrt(variance), known.words, approximate=False)


def scale_from_marker(known: KnownMarker, side_world: float, side_spread_world: float, sightings: int) -> Scale:
    """Scale by a printed marker; its uncertainty adds the printer and the spread of the four sides."""
    relative = math.hypot(side_spread_world / side_world, PRINT_UNCERTAINTY)
    return Scale(known.side_mm / side_world, relative, f"{known.words}, seen in {sightings} frames", approximate=False)


def approximate_scale(mm_per_unit: float, mm_per_unit_spread: float, model_units_per_world: float) -> Scale:
    """Scale by the shape model's mean body size; its uncertainty is the spread of its population."""
    return Scale(
        mm_per_unit * model_units_per_world,
        mm_per_unit_spread / mm_per_unit,
        "approximate: mean body size of the shape model, nothing was measured",
        approximate=True,
    )


def agreed_scale(scales: list[Scale], trusted: bool) -> Scale:
    """Return the mean of scales from several sources, weighted by their variances; its uncertainty grows where they disagree.

    Raises:
        ScaleError: two of them differ by more than 5 standard deviations and 5 %, and the user has not confirmed them.
    """
    best = min(scales, key=lambda scale: scale.relative_uncertainty)
    doubts, spread = [], 0.0
    for other in scales:
        apart = abs(math.log(other.mm_per_world / best.mm_per_world))
        deviations = apart / math.hypot(other.relative_uncertainty, best.relative_uncertainty)
        if other is best or deviations <= WARNED or apart <= SMALLEST_DISAGREEMENT:
            continue
        spread = max(spread, apart)
        percent = 100 * math.expm1(apart)
        doubts.append(
            Doubt(
                f"Two measures disagree by {percent:.0f} %: by the {best.source}, lengths are "
                f"{'smaller' if other.mm_per_world > best.mm_per_world else 'larger'} than by the {other.source}; one of them is "
                "wrong",
                deviations > REFUSED and apart > LARGEST_DISAGREEMENT,
            )
        )
    told = _told(doubts, trusted)
    weights = np.array([scale.relative_uncertainty**-2 for scale in scales])
    logarithms = np.log([scale.mm_per_world for scale in scales])
    return Scale(
        float(np.exp((weights * logarithms).sum() / weights.sum())) if len(scales) > 1 else best.mm_per_world,
        math.hypot(weights.sum() ** -0.5, spread / 2),
        " and ".join(scale.source for scale in scales),
        approximate=False,
        doubts=told,
        markers_in_view=tuple(dict.fromkeys(words for scale in scales for words in scale.markers_in_view)),
    )


def doubted_scale(
    scale: Scale,
    known: tuple[KnownDistance | KnownMarker, ...],
    mm_per_unit: float,
    prior: tuple[float, float],
    camera_distance_mm: float,
    trusted: bool,
) -> Scale:
    """Return the scale with what the body's size and the phone's distance say against it.

    Args:
        scale: by what was measured.
        known: what the user typed for it.
        mm_per_unit: of the fitted body.
        prior: mean and standard deviation of that in the shape model's population.
        camera_distance_mm: mean distance of the cameras to the subject.
        trusted: the user has confirmed the numbers.

    Raises:
        ScaleError: it is unlike any body or any filming, and not confirmed.
    """
    first = known[0]
    body = doubt_of_body(first.words, first.typed_mm, mm_per_unit, *prior, isinstance(first, KnownMarker))
    doubts = [doubt for doubt in (body, doubt_of_camera(camera_distance_mm)) if doubt is not None]
    told = (*scale.doubts, *check_typed(known, trusted), *_told(doubts, trusted))
    return replace(scale, doubts=tuple(dict.fromkeys(told)))
