"""Whether all parts of a video show the patient in one place: who turns while the phone goes around is filmed in two movements.

COLMAP then finds the phone's way in the room; what is measured of the patient agrees between neighbouring frames, and drifts from
one part of the video to the next.
"""

from __future__ import annotations

import itertools

import numpy as np
from scipy.spatial import cKDTree

from ..core.errors import CameraError
from ..geometry.cameras import Camera
from .dense import SUBJECT_SHARE, References
from .reconstruction import subject_sphere, sweep_degrees

# Parts of the video that are set against each other: so many at least, and each a turn of so much at most.
FEWEST_PARTS, LARGEST_PART_DEGREES = 3, 60.0
FEWEST_POINTS = 200
# How far points of neighbouring parts lie apart, over points of one part: 1.4 in sound videos, of patients who turn before a
# tripod too, 2.5 where patient and phone both went half of the way.
LARGEST_RATIO = 1.9


def drift_ratio(references: References, cameras: list[Camera]) -> float:
    """Return how much farther points of neighbouring parts of the video lie apart than those of one part; 1 if too few tell.

    Points of every other frame are set against the rest in both cases, so that chance and density count alike.

    Args:
        references: points with the frames that they were measured from.
        cameras: of the frames.
    """
    center, distance = subject_sphere(cameras)
    near = np.linalg.norm(references.points_world - center, axis=1) < 0.6 * SUBJECT_SHARE * distance
    parts = max(FEWEST_PARTS, int(np.ceil(sweep_degrees(cameras) / LARGEST_PART_DEGREES)))
    part = references.frames.astype(int) * parts // len(references.names)
    odd = references.frames % 2 == 1
    halves = [[references.points_world[near & (part == k) & (odd == which)] for which in (False, True)] for k in range(parts)]
    if min(len(half) for pair in halves for half in pair) < FEWEST_POINTS:
        return 1.0
    within = [_apart(*pair) for pair in halves]
    across = [_apart(first[0], second[1]) for first, second in itertools.pairwise(halves)]
    return float(np.mean(across) / np.mean(within))


def _apart(first: np.ndarray, second: np.ndarray) -> float:
    """Median distance from points to the nearest of others, mean of both directions."""
    there, back = cKDTree(second).query(first)[0], cKDTree(first).query(second)[0]
    return float(0.5 * (np.median(there) + np.median(back)))


def refuse_two_movements(references: References, cameras: list[Camera]) -> None:
    """Raise CameraError if the parts of the video do not show the patient in one place."""
    if drift_ratio(references, cameras) > LARGEST_RATIO:
        raise CameraError(
            "The parts of the video show the patient in different places: the patient turned or stepped while the phone went "
            "around; film again, and let either the patient or the phone stand still."
        )
