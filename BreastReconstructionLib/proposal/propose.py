"""The six landmarks in space, from what a network sees in the frames; each with how far it is to be believed."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree

from ..core.progress import Progress
from ..geometry.cameras import Camera, triangulate
from ..landmarks.locate import most_frontal
from ..landmarks.names import LANDMARK_NAMES
from ..landmarks.proposal import Proposal
from .network import CELL_PX, MULTIPLE_PX, SEEN_PX, LandmarkNetwork, Sightings, normalised, sightings

# So many frames are looked at, spread over the way of the phone.
LOOKED_AT = 20
# A frame's word counts from this probability on; frames agree within this share of what the network was shown.
LEAST_SEEN, AGREEMENT_SHARE = 0.2, 0.035
FEWEST_FRAMES = 3
# The second look: a square about the landmarks, so many times as large as what they span, and not less than a share of the frame.
ROOM, LEAST_PART = 1.5, 0.3
# A landmark faces a camera, if its skin is turned toward it by less than this.
FACING = np.cos(np.radians(65.0))
# Points of the cloud about a landmark, over which its depth is averaged; no farther off than this share of the body.
NEIGHBOURS, NEAR_SHARE = 30, 0.06
# What less of the frames shows that should is not proposed.
LEAST_SHOWN = 0.3
# Probability of one cell from which on a place is told as sharply as the network can.
SHARP_PEAK = 0.25
SIDE_DEGREES = 45.0


def propose_landmarks(
    network: LandmarkNetwork,
    cameras: dict[str, Camera],
    read_picture: Callable[[str], np.ndarray],
    points_world: np.ndarray,
    normals_world: np.ndarray,
    progress: Progress | None = None,
) -> Proposal:
    """Find the landmarks in the frames, bring them into space, look again closely, and lay them on the points.

    Args:
        network: that sees landmarks.
        cameras: of the frames, by name, in world.
        read_picture: (H, W, 3) BGR of a name.
        points_world, normals_world: (N, 3) measured points of the skin, and its normals, toward the cameras.
        progress: reported a frame.
    """
    progress = progress or Progress()
    names = list(cameras)
    names = [names[k] for k in np.unique(np.linspace(0, len(names) - 1, LOOKED_AT).round().astype(int))]
    seen_from = [cameras[name] for name in names]
    pictures = []
    for number, name in enumerate(names):
        progress(0.6 * number / len(names), f"frame {number + 1} of {len(names)}")
        pictures.append(read_picture(name)[..., ::-1])
    first = in_space(seen_from, seen_in(network, pictures))
    progress(0.8, "looks closely")
    windows = [_close_window(camera, first.points) for camera in seen_from]
    closely = seen_in(network, pictures, windows)
    found = in_space(seen_from, closely)
    skin = _Skin.of(points_world, normals_world)
    points = np.array([skin.laid_on(point) for point in found.points])
    shown = np.array([_shown(found, k, points[k], skin, seen_from, windows) for k in range(len(LANDMARK_NAMES))])
    points[(shown < LEAST_SHOWN) | (found.agree.sum(axis=1) < FEWEST_FRAMES)] = np.nan
    return Proposal(points, shown * _sharpness(found, closely), found.agree.sum(axis=1), looked_at(cameras))


def looked_at(cameras: dict[str, Camera]) -> tuple[str, ...]:
    """Return the names of the most frontal frame and of one about 45 degrees to each side, without repetition."""
    frontal = most_frontal(cameras)
    right, _, forward = cameras[frontal].rotation
    angles = {}
    for name, camera in cameras.items():
        direction = camera.viewing_direction_world
        angles[name] = np.degrees(np.arctan2(direction @ right, direction @ forward))
    sides = [min(angles, key=lambda name: abs(angles[name] - wanted)) for wanted in (-SIDE_DEGREES, SIDE_DEGREES)]
    return tuple(dict.fromkeys([frontal, *sides]))


@dataclass(frozen=True)
class Window:
    """A part of a frame, in its pixels."""

    left: float
    top: float
    width: float
    height: float

    def shown(self, picture: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the (H, W, 3) part of a picture, shrunk to what the network learned, and the factor; its edge goes on."""
        import cv2

        factor = SEEN_PX / max(self.width, self.height)
        columns, rows = (int(MULTIPLE_PX * np.ceil(side * factor / MULTIPLE_PX)) for side in (self.width, self.height))
        # OpenCV has the first pixel's centre at 0.
        matrix = np.array(
            [[factor, 0, 0.5 * factor - 0.5 - factor * self.left], [0, factor, 0.5 * factor - 0.5 - factor * self.top]]
        )
        if factor < 1:  # or single pixels would speak for all that they stand for
            picture = cv2.GaussianBlur(picture, (0, 0), 0.4 / factor)
        flags = cv2.INTER_LINEAR
        return cv2.warpAffine(picture, matrix, (columns, rows), flags=flags, borderMode=cv2.BORDER_REPLICATE), factor


@dataclass(frozen=True)
class Seen:
    """What the network sees in F frames.

    Attributes:
        pixels: (F, 6, 2) where each landmark is, in pixels of the frames.
        chances: (F, 6) probability that it is seen, there.
        peaks: (F, 6) probability of the likeliest cell alone.
        tolerance_px: (F,) how far apart two words of one place may lie.
    """

    pixels: np.ndarray
    chances: np.ndarray
    peaks: np.ndarray
    tolerance_px: np.ndarray

    def only(self, frames: slice) -> Seen:
        """Of some frames."""
        return Seen(self.pixels[frames], self.chances[frames], self.peaks[frames], self.tolerance_px[frames])


def seen_in(network: LandmarkNetwork, pictures: list[np.ndarray], windows: list[Window] | None = None) -> Seen:
    """Return what the network sees in (H, W, 3) RGB pictures, or in parts of them."""
    windows = windows or [Window(0, 0, picture.shape[1], picture.shape[0]) for picture in pictures]
    chances, pixels, peaks = [], [], []
    for picture, window in zip(pictures, windows, strict=True):
        small, factor = window.shown(picture)
        found = look(network, small)
        chances.append(found.seen[0])
        peaks.append(found.peak[0])
        pixels.append(found.pixels[0] / factor + [window.left, window.top])
    tolerance = AGREEMENT_SHARE * np.array([max(window.width, window.height) for window in windows])
    return Seen(np.array(pixels), np.array(chances), np.array(peaks), tolerance)


@dataclass(frozen=True)
class Located:
    """(6, 3) points in world, NaN where none; (6, F) probability in each frame, and whether the frame agrees with the point."""

    points: np.ndarray
    seen: np.ndarray
    agree: np.ndarray


def in_space(cameras: list[Camera], seen: Seen) -> Located:
    """Bring what is seen in frames into space."""
    each = [agreed(cameras, seen.pixels[:, k], seen.chances[:, k], seen.tolerance_px) for k in range(len(LANDMARK_NAMES))]
    return Located(np.array([point for point, _ in each]), seen.chances.T, np.array([agree for _, agree in each]))


def look(network: LandmarkNetwork, picture: np.ndarray) -> Sightings:
    """Return what the network sees in one (H, W, 3) RGB picture, whose sides are multiples of 32."""
    with torch.no_grad():
        return sightings(network(normalised(picture[None])), picture.shape[0] // CELL_PX, picture.shape[1] // CELL_PX)


def agreed(
    cameras: list[Camera], pixels: np.ndarray, seen: np.ndarray, tolerance_px: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the (3,) place in world on which most frames agree, and (F,) which they are; NaN if there are none.

    Every pair of frames that see it proposes a place (RANSAC, Fischler and Bolles 1981, here without chance, the pairs being
    few); the one that has the most probability behind it is refined on the frames that agree with it.

    Args:
        cameras: F.
        pixels: (F, 2) where each sees it.
        seen: (F,) with what probability.
        tolerance_px: (F,) how far a place may lie from where a frame sees it.
    """
    speaks = np.flatnonzero(seen > LEAST_SEEN)
    best, support, agree = np.full(3, np.nan), 0.0, np.zeros(len(cameras), bool)
    for pair in itertools.combinations(speaks, 2):
        if abs(cameras[pair[0]].viewing_direction_world @ cameras[pair[1]].viewing_direction_world) > 0.995:
            continue
        point = triangulate([cameras[k] for k in pair], pixels[list(pair)])
        near = _near(point, cameras, pixels, tolerance_px) & (seen > LEAST_SEEN)
        if (weight := float(seen[near].sum())) > support and near.sum() > 1:
            best, support, agree = point, weight, near
    for _ in range(2):
        if agree.sum() < 2:
            break
        best = triangulate([cameras[k] for k in np.flatnonzero(agree)], pixels[agree])
        agree = _near(best, cameras, pixels, tolerance_px) & (seen > LEAST_SEEN)
    return best, agree


def _near(point: np.ndarray, cameras: list[Camera], pixels: np.ndarray, tolerance_px: np.ndarray) -> np.ndarray:
    projected = np.array([camera.project(point[None])[0][0] for camera in cameras])
    off = np.linalg.norm(projected - pixels, axis=1)
    return np.nan_to_num(off, nan=np.inf) < tolerance_px


def _close_window(camera: Camera, points: np.ndarray) -> Window:
    """Return a square about the landmarks that were found; the whole frame if they are too few."""
    whole = Window(0, 0, camera.width, camera.height)
    known = points[np.isfinite(points[:, 0])]
    if len(known) < 3:
        return whole
    pixels = camera.project(known)[0]
    low, high = np.nanmin(pixels, axis=0), np.nanmax(pixels, axis=0)
    longer = max(camera.width, camera.height)
    side = min(max(ROOM * float((high - low).max()), LEAST_PART * longer), longer)
    if not np.isfinite(side):
        return whole
    left, top = 0.5 * (low + high) - 0.5 * side
    return Window(float(left), float(top), side, side)


@dataclass(frozen=True)
class _Skin:
    """Measured points of the skin, to lay places on."""

    points: np.ndarray
    normals: np.ndarray
    tree: cKDTree
    reach: float

    @classmethod
    def of(cls, points: np.ndarray, normals: np.ndarray) -> _Skin:
        points = points.astype(float)
        extent = float(np.linalg.norm(np.percentile(points, 95, axis=0) - np.percentile(points, 5, axis=0)))
        return cls(points, normals.astype(float), cKDTree(points), NEAR_SHARE * extent)

    def normal_at(self, point: np.ndarray) -> np.ndarray:
        """(3,) mean normal about a place."""
        normal = self.normals[self.tree.query(point, NEIGHBOURS)[1]].mean(axis=0)
        return normal / max(float(np.linalg.norm(normal)), 1e-12)

    def laid_on(self, point: np.ndarray) -> np.ndarray:
        """Return a place moved along the normal to the median of the points about it; as it is where there are none."""
        if not np.isfinite(point).all():
            return point
        distance, near = self.tree.query(point, NEIGHBOURS)
        if np.median(distance) > self.reach:
            return point
        normal = self.normal_at(point)
        return point + np.median((self.points[near] - point) @ normal) * normal


def _sharpness(found: Located, seen: Seen) -> np.ndarray:
    """(6,) how sharply the agreeing frames tell each place, 0 to 1: the errors of frames that agree are alike, and only the width
    of the network's maps tells of them."""
    peaks = [np.median(seen.peaks[agree, k]) if agree.any() else 0.0 for k, agree in enumerate(found.agree)]
    return np.minimum(1.0, np.array(peaks) / SHARP_PEAK)


def _shown(found: Located, k: int, point: np.ndarray, skin: _Skin, cameras: list[Camera], windows: list[Window]) -> float:
    """Of the frames toward which the place faces, and that hold it, the mean probability with which they show it there."""
    if not np.isfinite(point).all():
        return 0.0
    normal = skin.normal_at(point)
    should = np.zeros(len(cameras), bool)
    for i, (camera, window) in enumerate(zip(cameras, windows, strict=True)):
        ray = camera.center_world - point
        offset = camera.project(point[None])[0][0] - [window.left, window.top]
        inside = bool(((offset > 0) & (offset < [window.width, window.height])).all())
        should[i] = inside and normal @ ray > FACING * np.linalg.norm(ray)
    return float((found.seen[k] * found.agree[k])[should].mean()) if should.any() else 0.0
