"""Printed ArUco markers in the frames: which are in view, whether the video is mirrored, and their size in space."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..core.errors import ScaleError
from ..core.threads import pool
from ..geometry.cameras import Camera, triangulate
from .scale import KnownMarker

FEWEST_SIGHTINGS = 3
# Markers of one size: their sides differ by less.
SAME_SIDE = 0.03
# A marker's sides and diagonals differ by less; a card that is bent or moves does not keep that.
LARGEST_UNEVENNESS = 0.1
# Corners of a still, flat card meet to within this, as a share of its side.
LARGEST_MISS, LARGEST_BEND = 0.03, 0.05
# What people print; a wrong dictionary is looked for among them. Frames looked at, of all.
COMMON_DICTIONARIES = (
    "DICT_4X4_50", "DICT_5X5_50", "DICT_6X6_50", "DICT_7X7_50", "DICT_ARUCO_ORIGINAL", "DICT_APRILTAG_36h11",
)  # fmt: skip
SURVEYED_FRAMES = 10
MIRROR_QUESTION = "is this a front camera's mirrored video? Then give --mirrored (in the panel: The video is mirrored)"


@dataclass(frozen=True)
class MarkerSighting:
    """One marker, triangulated.

    Attributes:
        number: its number in the dictionary.
        side_world: mean side in world units.
        side_spread_world: standard error of that mean, from the four sides.
        sightings: frames it was found in.
        reprojection_px: root mean square error of its corners.
    """

    number: int
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


def require_markers(
    names: tuple[str, ...], read_picture: Callable[[str], np.ndarray], known: list[KnownMarker], mirrored: bool
) -> None:
    """Look for the given markers in the chosen frames before the long run; in some of them first.

    Args:
        names: the frames.
        read_picture: name -> (H, W, 3) BGR.
        known: the markers that shall give the scale.
        mirrored: the pictures were flipped.

    Raises:
        ScaleError: a marker is in no frame, though perhaps its mirror image or another marker is.
    """
    some = _some(names)
    for marker in known:
        sharp = _Sharp(marker.dictionary)
        looks = ((some, sharp.near), (names, sharp.near), (names, sharp.anywhere))
        if not any(_in_view(frames, read_picture, marker, look) for frames, look in looks):
            dictionaries = tuple(dict.fromkeys([marker.dictionary, *COMMON_DICTIONARIES]))
            raise ScaleError(_not_in_view(marker, _grays(some, read_picture), dictionaries, mirrored))


def mirror_doubts(names: tuple[str, ...], read_picture: Callable[[str], np.ndarray], mirrored: bool) -> tuple[str, ...]:
    """Ask whether a video is mirrored, if a printed marker in it can be read only in a mirror.

    Args:
        names: the frames.
        read_picture: name -> (H, W, 3) BGR.
        mirrored: the pictures were flipped.
    """
    grays = _grays(_some(names), read_picture)
    if any(_numbers(grays, name) for name in COMMON_DICTIONARIES):
        return ()
    flipped = next((name for name in COMMON_DICTIONARIES if _numbers(grays, name, flip=True)), None)
    return () if flipped is None else (f"A printed marker ({flipped}) can be read only in a mirror; {_question(mirrored)}.",)


def _some(names: tuple[str, ...]) -> tuple[str, ...]:
    return names[:: max(1, len(names) // SURVEYED_FRAMES)]


def _question(mirrored: bool) -> str:
    return "leave out --mirrored (in the panel: The video is mirrored)" if mirrored else MIRROR_QUESTION


def _not_in_view(marker: KnownMarker, grays: list[np.ndarray], dictionaries: tuple[str, ...], mirrored: bool) -> str:
    what = f"The printed marker ({marker.dictionary}{'' if marker.number is None else f' number {marker.number}'})"
    if _numbers(grays, marker.dictionary, flip=True):
        return f"{what} can be read only in a mirror; {_question(mirrored)}."
    for name in dictionaries:
        if found := _numbers(grays, name):
            return (
                f"{what} is seen in 0 frames, but number {' and '.join(map(str, found))} of {name} is in view; give "
                f"{name}:{found[0]}:{marker.side_mm:g} if that one was meant."
            )
    return (
        f"{what} is seen in 0 frames; check the dictionary, or give a known distance between two landmarks instead "
        "(at least 3 frames must show the whole card)."
    )


def _grays(names: tuple[str, ...], read_picture: Callable) -> list[np.ndarray]:
    """Grey pictures of some frames, read once for all dictionaries."""
    return [_gray(read_picture(name)) for name in names]


def _numbers(grays: list[np.ndarray], dictionary: str, flip: bool = False) -> list[int]:
    """Numbers found in at least three of some frames, without correction of errors: texture is not taken for a marker."""
    counts: Counter = Counter()
    detector = _detector(dictionary, exact=True)
    for gray in grays:
        counts.update(_detect(detector, gray[:, ::-1] if flip else gray).keys())
    return [number for number, count in counts.most_common() if count >= FEWEST_SIGHTINGS]


def _in_view(names: tuple[str, ...], read_picture: Callable, marker: KnownMarker, look: Callable) -> bool:
    """True as soon as enough frames show the marker."""
    counts: Counter = Counter()
    for name in names:
        counts.update(n for n in look(_gray(read_picture(name))) if marker.number in (None, n))
        if counts and counts.most_common(1)[0][1] >= FEWEST_SIGHTINGS:
            return True
    return False


def _gray(picture: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)


def _detector(dictionary: str, exact: bool = False, lines: bool = False):
    import cv2

    parameters = cv2.aruco.DetectorParameters()
    if exact:
        parameters.errorCorrectionRate = 0.0
    if lines:
        # Lines fitted to the sides: makes phantoms' markers 0.05 % too large; refined corners make them 0.3 % too small.
        parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_APRILTAG
    return cv2.aruco.ArucoDetector(aruco_dictionary(dictionary), parameters)


class _Sharp:
    """Finds markers with corners from lines fitted to their sides.

    Looking for such lines in a whole picture takes ten times as long as finding the marker, so it is done around it; where
    that finds too few (blur), in the whole.
    """

    def __init__(self, dictionary: str):
        self._quick, self._lines = _detector(dictionary), _detector(dictionary, lines=True)

    def near(self, gray: np.ndarray) -> dict[int, np.ndarray]:
        """Number -> (4, 2) corners in pixels, looked for around those that are found without lines."""
        found = {}
        for number, quad in _detect(self._quick, gray).items():
            side = np.linalg.norm(quad - np.roll(quad, 1, axis=0), axis=1).max()
            low = np.maximum(np.floor(quad.min(axis=0) - side), 0).astype(int)
            high = np.ceil(quad.max(axis=0) + side).astype(int)
            again = _detect(self._lines, gray[low[1] : high[1], low[0] : high[0]])
            if number in again:
                found[number] = again[number] + low
        return found

    def anywhere(self, gray: np.ndarray) -> dict[int, np.ndarray]:
        """The same, looked for in the whole picture."""
        return _detect(self._lines, gray)


def _detect(detector, gray: np.ndarray) -> dict[int, np.ndarray]:
    """Number -> (4, 2) corners in pixels; a number found twice in one picture is not told apart and left out."""
    corners, ids, _ = detector.detectMarkers(np.ascontiguousarray(gray))
    numbers = [] if ids is None else [int(number) for number in ids.ravel()]
    # OpenCV puts integer pixels at pixel centres; cameras here put them at +0.5.
    quads = [quad.reshape(4, 2).astype(float) + 0.5 for quad in corners]
    return {number: quad for number, quad in zip(numbers, quads, strict=True) if numbers.count(number) == 1}


def find_markers(
    cameras: dict[str, Camera], read_picture: Callable[[str], np.ndarray], known: KnownMarker
) -> tuple[MarkerSighting, list[MarkerSighting]]:
    """Find the markers of a dictionary in posed frames; returns the one that was meant, and all, the one seen most first.

    Raises:
        ScaleError: it is seen in fewer than 3 frames, is not square, flat and still, or several sizes are in view and the
            number was not given.
    """
    sharp = _Sharp(known.dictionary)
    for look in (sharp.near, sharp.anywhere):
        seen: dict[int, list[tuple[Camera, np.ndarray]]] = {}
        with pool() as threads:
            found_in = list(threads.map(lambda name, look=look: look(_gray(read_picture(name))), cameras))
        for camera, quads in zip(cameras.values(), found_in, strict=True):
            for number, quad in quads.items():
                seen.setdefault(number, []).append((camera, quad))
        enough = {number: sightings for number, sightings in seen.items() if len(sightings) >= FEWEST_SIGHTINGS}
        if enough and known.number in (None, *enough):
            break
    if (known.number is None and not enough) or (known.number is not None and known.number not in enough):
        sought = seen if known.number is None else {known.number: seen.get(known.number, [])}
        most = max((len(sightings) for sightings in sought.values()), default=0)
        others = ", ".join(f"number {number} in {len(sightings)}" for number, sightings in sorted(enough.items()))
        raise ScaleError(
            f"The printed marker ({known.dictionary}{'' if known.number is None else f' number {known.number}'}) is seen in "
            f"{most} frames, at least {FEWEST_SIGHTINGS} are needed"
            + (f" (in view are {others})" if others else "")
            + "; check the dictionary, or give a known distance between two landmarks instead."
        )
    found, faults = {}, {}
    for number, sightings in enough.items():
        try:
            found[number] = _measure(number, sightings)
        except ScaleError as error:
            faults[number] = error
    meant = known.number if known.number is not None else max(enough, key=lambda number: len(enough[number]))
    if meant in faults:
        raise faults[meant]
    every = sorted(found.values(), key=lambda marker: -marker.sightings)
    others = [m for m in every if abs(np.log(m.side_world / found[meant].side_world)) > SAME_SIDE]
    if known.number is None and others:
        listing = ", ".join(
            f"number {m.number} ({m.sightings} frames, {m.side_world / found[meant].side_world:.2g} times as large)"
            for m in others
        )
        raise ScaleError(
            f"Markers of several sizes are in view: number {meant} ({found[meant].sightings} frames) and {listing}; say which "
            f"one measures {known.side_mm:g} mm, for instance --marker {known.dictionary}:{meant}:{known.side_mm:g}."
        )
    return found[meant], every


def marker_words(marker: MarkerSighting, dictionary: str, mm_per_world: float) -> str:
    """What is said of a marker in view."""
    return f"{dictionary} number {marker.number}: {marker.side_world * mm_per_world:.1f} mm, seen in {marker.sightings} frames"


def _measure(number: int, sightings: list[tuple[Camera, np.ndarray]]) -> MarkerSighting:
    """Triangulate a marker and check that it is a flat, still square.

    Raises:
        ScaleError: it is not, and in what way.
    """
    what = f"The printed marker (number {number}) was found"
    sightings = _consistent(sightings)
    if len(sightings) < FEWEST_SIGHTINGS:
        raise ScaleError(f"{what}, but at another place in every frame; is it a pattern of the room that only looks like it?")
    corners, errors = _corners(sightings)
    sides = np.linalg.norm(corners - np.roll(corners, -1, axis=0), axis=1)
    side = float(sides.mean())
    error_px = float(np.sqrt((errors**2).mean()))
    # How large the marker appears, to turn pixels into shares of its side.
    apparent = np.mean([np.linalg.norm(quad - np.roll(quad, 1, axis=0), axis=1).mean() for _, quad in sightings])
    normal = np.linalg.svd(corners - corners.mean(axis=0))[2][2]
    bend = float(np.abs((corners - corners.mean(axis=0)) @ normal).max()) / side
    across, up = (sides[0] + sides[2]) / 2, (sides[1] + sides[3]) / 2
    if error_px > max(LARGEST_MISS * apparent, 3.0):
        raise ScaleError(
            f"{what}, but its corners do not stay in one place ({error_px:.0f} px off between frames): it moves against the "
            "patient and the room; fix the card, and film again, or give a known distance instead."
        )
    if bend > LARGEST_BEND:
        raise ScaleError(f"{what}, but it is not flat; put it on stiff card and film again, or give a known distance instead.")
    if abs(np.log(across / up)) > LARGEST_UNEVENNESS / 2 and np.ptp([sides[0], sides[2]]) < LARGEST_UNEVENNESS / 2 * side:
        raise ScaleError(
            f"{what}, but it measures {across / up:.2f} times as much across as up: either it was printed stretched, or the "
            "video's pixels are; print it square, give the original video, or give a known distance instead."
        )
    if sides.std() > LARGEST_UNEVENNESS * side:
        raise ScaleError(
            f"{what}, but its four sides differ by {100 * np.ptp(sides) / side:.0f} %; is it cut, folded or covered?"
        )
    return MarkerSighting(number, side, float(sides.std(ddof=1) / 2), len(sightings), error_px)


def _corners(sightings: list[tuple[Camera, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Triangulate the (4, 3) corners; returns also the (S, 4) reprojection errors in pixels."""
    cameras = [camera for camera, _ in sightings]
    corners = np.array([triangulate(cameras, np.array([quad[k] for _, quad in sightings])) for k in range(4)])
    errors = np.array([np.linalg.norm(camera.project(corners)[0] - quad, axis=1) for camera, quad in sightings])
    return corners, errors


def _consistent(sightings: list[tuple[Camera, np.ndarray]]) -> list[tuple[Camera, np.ndarray]]:
    """Drop sightings whose corners err by more than three times the median (blurred or very oblique).

    Corners that fall behind a camera err without bound: texture that was read as a marker in a few frames.
    """
    _, errors = _corners(sightings)
    worst = np.nan_to_num(errors.max(axis=1), nan=np.inf)
    kept = np.isfinite(worst) & (worst <= max(3 * np.median(worst), 1.0))
    return [sighting for sighting, keep in zip(sightings, kept, strict=True) if keep]
