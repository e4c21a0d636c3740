"""What is known of bodies and of filming before anything is measured, set against every length that a person types."""

from __future__ import annotations

import math
from dataclasses import dataclass

# Beyond so many standard deviations a length is warned of, or refused.
WARNED, REFUSED = 3.0, 5.0
# Mean and standard deviation in mm on 300 synthetic bodies of both populations: python -m Testing.body_sizes 150
USUAL_DISTANCE_MM = {
    ("sternal-notch", "navel"): (379, 37),
    ("sternal-notch", "left-nipple"): (233, 30),
    ("sternal-notch", "right-nipple"): (231, 30),
    ("sternal-notch", "left-coracoid"): (155, 16),
    ("sternal-notch", "right-coracoid"): (149, 15),
    ("navel", "left-nipple"): (216, 30),
    ("navel", "right-nipple"): (216, 30),
    ("navel", "left-coracoid"): (417, 40),
    ("navel", "right-coracoid"): (416, 40),
    ("left-nipple", "right-nipple"): (208, 29),
    ("left-nipple", "left-coracoid"): (230, 32),
    ("left-nipple", "right-coracoid"): (337, 34),
    ("right-nipple", "left-coracoid"): (339, 34),
    ("right-nipple", "right-coracoid"): (229, 30),
    ("left-coracoid", "right-coracoid"): (297, 31),
}
# A phone is held at 0.4 to 2 m from the patient; nobody films a torso from nearer or farther than the second pair.
USUAL_CAMERA_MM, POSSIBLE_CAMERA_MM = (400.0, 2000.0), (200.0, 4000.0)
# What people type instead of millimetres: factor from the typed number to the true one, and what it would have been.
SLIPS_OF_UNIT = ((10.0, "centimetres"), (25.4, "inches"), (0.1, "tenths of a millimetre"), (1000.0, "metres"))
# A marker's card has a white edge; its side over that of the black square.
SLIPS_OF_MARKER = (
    (1 / 1.5, "the side of the white card, not of the black square"),
    (1 / 1.25, "the side of the white card, not of the black square"),
    (0.5, "the side of another marker, twice as large"),
    (2.0, "the side of another marker, half as large"),
)
# A slip is named if it explains the factor to within this (natural logarithm).
SLIP_TOLERANCE = 0.2


@dataclass(frozen=True)
class Doubt:
    """Something that speaks against a number.

    Attributes:
        sentence: what, and the likely slip.
        refused: True if the number is not believed without the user's confirmation.
    """

    sentence: str
    refused: bool


def usual_distance_mm(first: str, second: str) -> tuple[float, float]:
    """Return mean and standard deviation in mm of the straight distance between two landmarks."""
    return USUAL_DISTANCE_MM.get((first, second)) or USUAL_DISTANCE_MM[second, first]


def doubt_of_distance(first: str, second: str, typed_mm: float) -> Doubt | None:
    """Set a typed distance between two landmarks against what bodies have."""
    mean, deviation = usual_distance_mm(first, second)
    off = abs(typed_mm - mean) / deviation
    if off <= WARNED:
        return None
    return Doubt(
        f"{typed_mm:g} mm between {first} and {second} would be unlike any usual body ({mean:.0f} ± {deviation:.0f} mm)"
        + likely_slip(typed_mm, mean / typed_mm, SLIPS_OF_UNIT),
        off > REFUSED,
    )


def doubt_of_body(typed: str, typed_mm: float, mm_per_unit: float, mean: float, deviation: float, marker: bool) -> Doubt | None:
    """Set a scale against the size that the shape model knows of bodies.

    Args:
        typed: what the scale comes from, in words.
        typed_mm: the length that a person typed for it.
        mm_per_unit: of the fitted body, by that scale.
        mean, deviation: of the model's population.
        marker: the length is a marker's side.
    """
    off = abs(mm_per_unit - mean) / deviation
    if off <= WARNED:
        return None
    factor = mean / mm_per_unit
    slips = (*SLIPS_OF_UNIT, *SLIPS_OF_MARKER) if marker else SLIPS_OF_UNIT
    size = f"{1 / factor:.2g} times as large as" if factor < 1 else f"{factor:.2g} times smaller than"
    return Doubt(
        f"By the {typed} the body would be {size} the usual one ({off:.0f} standard deviations off); a usual body asks for "
        f"about {typed_mm * factor:.3g} mm" + likely_slip(typed_mm, factor, slips),
        off > REFUSED,
    )


def doubt_of_camera(distance_mm: float) -> Doubt | None:
    """Set a scale against the distance from which people film."""
    low, high = USUAL_CAMERA_MM
    if low <= distance_mm <= high:
        return None
    nearest, farthest = POSSIBLE_CAMERA_MM
    return Doubt(
        f"By this scale the phone was {distance_mm / 10:.0f} cm from the patient's middle, where {low / 10:.0f} to "
        f"{high / 10:.0f} cm are usual",
        not nearest <= distance_mm <= farthest,
    )


def likely_slip(typed: float, factor: float, slips: tuple[tuple[float, str], ...]) -> str:
    """Return '; was … typed …?' for the slip that explains best why a number should be `factor` times as large, or ''."""
    off, slip, what = min((abs(math.log(factor / slip)), slip, what) for slip, what in slips)
    if off > SLIP_TOLERANCE:
        return ""
    true = f" ({typed * slip:g} mm)" if (slip, what) in SLIPS_OF_UNIT else ""
    return f"; is {typed:g} {'typed in ' if true else ''}{what}{true}?"
