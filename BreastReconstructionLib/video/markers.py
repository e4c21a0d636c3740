"""A printed ArUco marker of known size, found in the posed frames, gives the metric scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import ScaleError
from ..geometry import Camera, triangulate

FEWEST_SIGHTINGS = 3


@dataclass(frozen=True)
class MarkerSighting:
    """The marker, triangulated.

    Attributes:
        side_world: mean side in world units.
        side_spread_world: standard error of that mean, from the four sides.
        sightings: frames it was found in.
        reprojection_px: root mean square error of its corners.
    """

    side_world: float
    side_spread_world: float
    sightings: int
    reprojection_px: float


def aruco_dictionary(name: str):
    """Return OpenCV's dictionary of that name, such as DICT_4X4_50.

    Raises:
        ScaleError: there is none.
    """
    import cv2

    number = getattr(cv2.aruco, name, None)
    if not name.startswith("DICT_") or number is None:
        raise ScaleError(f"{name} is not a marker dictionary; use one of OpenCV's, for instance DICT_4X4_50.")
    return cv2.aruco.getPredefinedDictionary(number)


def find_marker(cameras: dict[str, Camera], read_picture: Callable[[str], np.ndarray], dictionary: str) -> MarkerSighting:
    """Find the marker seen in most frames and triangulate its corners.

    Raises:
        ScaleError: it is seen in fewer than 3 frames.
    """
    import cv2

    parameters = cv2.aruco.DetectorParameters()
    # Lines fitted to the sides: makes phantoms' markers 0.05 % too large; refined corners make them 0.3 % too small.
    parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_APRILTAG
    detector = cv2.aruco.ArucoDetector(aruco_dictionary(dictionary), parameters)
    seen: dict[int, list[tuple[Camera, np.ndarray]]] = {}
    for name, camera in cameras.items():
        gray = cv2.cvtColor(read_picture(name), cv2.COLOR_BGR2GRAY)
        corners, ids, _ = detector.detectMarkers(gray)
        for quad, number in zip(corners, [] if ids is None else ids.ravel(), strict=True):
            # OpenCV puts integer pixels at pixel centres; cameras here put them at +0.5.
            seen.setdefault(int(number), []).append((camera, quad.reshape(4, 2).astype(float) + 0.5))
    if not seen or max(len(sightings) for sightings in seen.values()) < FEWEST_SIGHTINGS:
        most = max((len(sightings) for sightings in seen.values()), default=0)
        raise ScaleError(
            f"The printed marker ({dictionary}) is seen in {most} frames, at least {FEWEST_SIGHTINGS} are needed; check the "
            "dictionary, or give a known distance between two landmarks instead."
        )
    sightings = max(seen.values(), key=len)
    sightings = _consistent(sightings)
    corners, errors = _corners(sightings)
    sides = np.linalg.norm(corners - np.roll(corners, 1, axis=0), axis=1)
    if sides.std() > 0.1 * sides.mean():
        raise ScaleError("The printed marker was found but is not flat or not still; keep it flat and still, and film again.")
    return MarkerSighting(float(sides.mean()), float(sides.std(ddof=1) / 2), len(sightings), float(np.sqrt((errors**2).mean())))


def _corners(sightings: list[tuple[Camera, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Triangulate the (4, 3) corners; returns also the (S, 4) reprojection errors in pixels."""
    cameras = [camera for camera, _ in sightings]
    corners = np.array([triangulate(cameras, np.array([quad[k] for _, quad in sightings])) for k in range(4)])
    errors = np.array([np.linalg.norm(camera.project(corners)[0] - quad, axis=1) for camera, quad in sightings])
    return corners, errors


def _consistent(sightings: list[tuple[Camera, np.ndarray]]) -> list[tuple[Camera, np.ndarray]]:
    """Drop sightings whose corners err by more than three times the median (blurred or very oblique)."""
    _, errors = _corners(sightings)
    worst = errors.max(axis=1)
    kept = worst <= max(3 * np.median(worst), 1.0)
    return [sighting for sighting, keep in zip(sightings, kept, strict=True) if keep]
