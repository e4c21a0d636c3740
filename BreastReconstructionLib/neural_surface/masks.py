"""Masks: pictures in which the object is white and all else black, given by the user or made from the pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np

from ..core.errors import VideoError
from ..core.progress import Progress
from ..geometry.cameras import Camera
from ..geometry.pictures import shrunk_picture
from ..video.pictures import every_picture, read_picture

# Less of a picture than this is no object; more of its border than the other is no background.
SMALLEST_SHARE, LARGEST_BORDER = 0.002, 0.75
# GrabCut works on pictures of this size; its rounds; and the share of the ball's radius that is taken for the object at first.
CUT_PX, CUT_ROUNDS, CORE = 480, 5, 0.35
# Cells a side of the ball in which the pictures' masks are brought together, and the share of the pictures that must agree.
HULL_CELLS, AGREEING = 90, 0.85


def read_masks(folder: Path, names: Mapping[str, str], size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Read the (H, W) bool mask of every frame.

    Args:
        folder: of pictures named like the frames, or like the user's own pictures; their ending may differ.
        names: frame -> name of the user's picture ('' for a video).
        size: width and height of the frames.

    Raises:
        VideoError: one is missing, damaged, of another size, empty, or they are inverted.
    """
    if not folder.is_dir():
        raise VideoError(f"The folder of masks {folder.name} does not exist; check the path.")
    files = {path.stem: path for path in every_picture(folder)}
    # The user's own names come first: 000.png may be the tenth picture of the folder.
    if all(own and Path(own).stem in files for own in names.values()):
        found = {frame: files.get(Path(own).stem) for frame, own in names.items()}
    else:
        found = {frame: files.get(Path(frame).stem, files.get(Path(own).stem) if own else None) for frame, own in names.items()}
    if missing := [names[frame] or frame for frame, path in found.items() if path is None]:
        raise VideoError(
            f"{len(missing)} of {len(names)} pictures have no mask in {folder.name} ({', '.join(missing[:4])}); masks are named "
            "like the pictures."
        )
    masks = {frame: _read(path, size) for frame, path in found.items() if path is not None}
    borders = [np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).mean() for mask in masks.values()]
    if np.median(borders) > LARGEST_BORDER:
        raise VideoError(f"The masks in {folder.name} mark the background; they must be white on the object and black beside it.")
    if empty := [names[frame] or frame for frame, mask in masks.items() if mask.mean() < SMALLEST_SHARE]:
        raise VideoError(f"The mask of {empty[0]} is empty ({len(empty)} such); mark the object, or leave that picture out.")
    return masks


def _read(path: Path, size: tuple[int, int]) -> np.ndarray:
    picture = read_picture(path)
    if picture.shape[1::-1] != size:
        width, height = picture.shape[1::-1]
        raise VideoError(
            f"The mask {path.name} has {width} x {height} pixels, its picture {size[0]} x {size[1]}; export both alike."
        )
    return picture.max(axis=2) > 127


def make_masks(
    cameras: Mapping[str, Camera], read: Callable[[str], np.ndarray], ball: tuple[np.ndarray, float], progress: Progress
) -> dict[str, np.ndarray]:
    """Tell object and background apart by their colours (GrabCut: two mixtures of Gaussians and a smooth border).

    What lies outside the ball's outline teaches what the background looks like, the ball's middle what the object does.

    Args:
        cameras: of the pictures, world.
        read: (H, W, 3) BGR picture of a name.
        ball: middle and radius of what the cameras look at, world.
        progress: reported a picture.

    Returns:
        (H, W) bool by name.

    Raises:
        VideoError: in a picture nothing is told apart.
    """
    masks, small_cameras = {}, {name: camera.shrunk(CUT_PX) for name, camera in cameras.items()}
    for number, (name, small) in enumerate(small_cameras.items()):
        progress(number / len(cameras), f"object of picture {number + 1} of {len(cameras)}")
        labels = np.full((small.height, small.width), cv2.GC_BGD, np.uint8)
        for share, label in ((1.0, cv2.GC_PR_BGD), (0.7, cv2.GC_PR_FGD), (CORE, cv2.GC_FGD)):
            labels[_outline(small, ball[0], share * ball[1])] = label
        cut, models = shrunk_picture(read(name), small), (np.zeros((1, 65)), np.zeros((1, 65)))
        cv2.grabCut(cut, labels, None, *models, CUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
        masks[name] = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))
    for name, mask in _agreed(small_cameras, masks, ball).items():
        if mask.mean() < SMALLEST_SHARE:
            raise VideoError(f"In {name} the object looks like what is behind it; give masks, or film before another background.")
        size = (cameras[name].width, cameras[name].height)
        masks[name] = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_LINEAR) > 0
    return masks


def _agreed(
    cameras: Mapping[str, Camera], masks: Mapping[str, np.ndarray], ball: tuple[np.ndarray, float]
) -> dict[str, np.ndarray]:
    """What the masks agree on: the outline, in each picture, of the places in the ball that most pictures call object.

    A colour that object and background share misleads one picture, seldom the same place in all.
    """
    axis = np.linspace(-1, 1, HULL_CELLS)
    grid = np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(-1, 3)
    places = ball[0] + ball[1] * grid[np.linalg.norm(grid, axis=1) < 1]
    hull, agreed = places[share_inside(cameras, masks, places) > AGREEING], {}
    for name, camera in cameras.items():
        pixels, _ = _pixels_in(camera, hull)
        marks = np.zeros((camera.height, camera.width), np.uint8)
        marks[pixels[:, 1], pixels[:, 0]] = 1
        depth = np.linalg.norm(camera.center_world - ball[0])
        apart = int(2 * ball[1] / HULL_CELLS * camera.intrinsics[0, 0] / depth) + 2
        agreed[name] = _largest(cv2.morphologyEx(marks, cv2.MORPH_CLOSE, np.ones((apart, apart), np.uint8)))
    return agreed


def share_inside(cameras: Mapping[str, Camera], masks: Mapping[str, np.ndarray], places: np.ndarray) -> np.ndarray:
    """(N,) share of the pictures that show a place, in whose (H, W) masks it lies; 0 where none shows it."""
    votes, looked = np.zeros(len(places)), np.zeros(len(places))
    for name, mask in masks.items():
        pixels, shown = _pixels_in(cameras[name], places)
        looked[shown] += 1
        votes[shown] += mask[pixels[:, 1], pixels[:, 0]]
    return votes / np.maximum(looked, 1)


def _pixels_in(camera: Camera, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(M, 2) whole pixels of those places that a picture shows, and which these are."""
    pixels, depth = camera.project(places)
    with np.errstate(invalid="ignore"):
        inside = (depth > 0) & (pixels >= 0).all(axis=1) & (pixels < [camera.width, camera.height]).all(axis=1)
    return pixels[inside].astype(int), np.flatnonzero(inside)


def _outline(camera: Camera, center: np.ndarray, radius: float) -> np.ndarray:
    """(H, W) where a ball is seen."""
    x, y = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
    rays = camera.rays_world(np.column_stack([x.ravel(), y.ravel()]))
    across = np.linalg.norm(np.cross(center - camera.center_world, rays), axis=1)
    return (across < radius).reshape(camera.height, camera.width)


def _largest(mask: np.ndarray) -> np.ndarray:
    """The largest connected part of a mask."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    if count < 2:
        return mask.astype(bool)
    return labels == 1 + np.argmax(stats[1:, cv2.CC_STAT_AREA])


def shrunk_mask(mask: np.ndarray, camera: Camera) -> np.ndarray:
    """The (h, w) bool mask of a shrunk camera's picture."""
    small = cv2.resize(mask.astype(np.uint8) * 255, (camera.width, camera.height), interpolation=cv2.INTER_AREA)
    return small > 127
