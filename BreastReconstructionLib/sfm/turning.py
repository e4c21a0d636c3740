"""A patient who turns before a phone that stands still: which part of a frame is the patient, and where its skin goes.

The room stays where it is in the picture, but for what the hand trembles; what moves otherwise between frames is the patient.
About the outline flow is carried on into the room: what looks there like the room does in the other frames is left out.

Skin alone shows too little for SIFT (80 features a frame, half of the frames lost), so places on it are followed by the optical
flow that also gives the dense points, from frame to frame, and handed to COLMAP as matches.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..core.errors import CameraError
from ..core.progress import Progress
from ..geometry.pictures import sample_picture, shrunk_to
from .flow import EDGE_PX, flow, skin_texture

# Longer side of the pictures that are compared, and the border of them that is taken for room, as a share.
LOOK_PX, BORDER_SHARE = 480, 0.12
# What moves by more than this, beyond the room, turns with the patient; holes and gaps of this size are closed.
MOVES_PX, CLOSED_PX, GROWN_PX = 0.7, 15, 5
# What differs from the room by less than this, of 255, after smoothing over so many pixels, is room.
ROOM_GREY, SMOOTH_PX = 10.0, 1.5
# The room behind a place is known if so many frames show it.
ROOM_FRAMES = 4
# A patient fills at least this share of a frame, and at most the other.
SMALLEST_SHARE, LARGEST_SHARE = 0.04, 0.85
# Places are followed in pictures of this longer side: so far apart, if they come back so near, through so many frames, and at
# most so many new ones a frame.
FOLLOWED_PX, APART_PX, BACK_PX, LONGEST, MOST_PLACES = 1440, 12, 0.5, 12, 3000


@dataclass(frozen=True)
class FollowedPlaces:
    """Places on the patient, followed from frame to frame.

    Attributes:
        pixels: of each frame, (N, 2) where its places are; continuous, the upper left pixel's centre at 0.5.
        places: of each frame, (N,) their numbers, ascending: the same place has the same number in all frames.
        masks: of each frame, (h, w) bool, small, true where the patient is.
    """

    pixels: list[np.ndarray]
    places: list[np.ndarray]
    masks: list[np.ndarray]

    def matches(self, first: int, second: int) -> np.ndarray:
        """(M, 2) rows of the first frame's and of the second frame's places that are the same."""
        _, rows, other = np.intersect1d(self.places[first], self.places[second], assume_unique=True, return_indices=True)
        return np.column_stack([rows, other])


def follow_patient(read_picture: Callable[[str], np.ndarray], names: tuple[str, ...], progress: Progress) -> FollowedPlaces:
    """Follow places on a patient who turns, through pictures in which the room stands still.

    Args:
        read_picture: (H, W, 3) BGR of a name.
        names: of the frames, in order of time.
        progress: reported a frame.

    Raises:
        CameraError: nothing moves, or everything does.
    """
    masks = patient_masks(read_picture, names, progress.part(0.0, 0.2))
    return _followed(read_picture, names, masks, progress.part(0.2, 1.0))


def _followed(
    read_picture: Callable[[str], np.ndarray], names: tuple[str, ...], masks: list[np.ndarray], progress: Progress
) -> FollowedPlaces:
    import cv2

    alive = np.empty((0, 2), np.float32)  # where places are in the present picture
    numbers, born = np.empty(0, int), np.empty(0, int)
    pixels: list[np.ndarray] = []
    places: list[np.ndarray] = []
    before, count = None, 0
    for k, name in enumerate(names):
        picture, factor = shrunk_to(read_picture(name), FOLLOWED_PX)
        gray = skin_texture(picture, masks[k])
        inside = cv2.resize(masks[k].astype(np.uint8), gray.shape[::-1], interpolation=cv2.INTER_NEAREST)
        inside = cv2.erode(inside, np.ones((EDGE_PX, EDGE_PX), np.uint8))
        if before is not None:
            alive, kept = _step(alive, flow(before, gray), flow(gray, before), inside)
            numbers, born = numbers[kept], born[kept]
        young = k - born < LONGEST
        alive, numbers, born = alive[young], numbers[young], born[young]
        taken = inside.copy()
        for x, y in alive.round().astype(int):
            cv2.circle(taken, (int(x), int(y)), APART_PX, 0, cv2.FILLED)
        new = cv2.goodFeaturesToTrack(gray, MOST_PLACES, 0.002, APART_PX, mask=taken)
        new = np.empty((0, 2), np.float32) if new is None else new[:, 0]
        alive = np.concatenate([alive, new])
        numbers = np.concatenate([numbers, count + np.arange(len(new))])
        born = np.concatenate([born, np.full(len(new), k)])
        count += len(new)
        pixels.append((alive + 0.5) / factor)
        places.append(numbers)
        before = gray
        progress((k + 1) / len(names), f"follows the skin, frame {k + 1} of {len(names)}")
    return FollowedPlaces(pixels, places, masks)


def _step(places: np.ndarray, forward: np.ndarray, backward: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Move places to the next picture; return those that come back to where they were, inside, and which they are."""
    end = places + sample_picture(forward, places)
    back = end + sample_picture(backward, end)
    height, width = inside.shape
    at = end.round().astype(int)
    kept = (at >= 0).all(axis=1) & (at < [width, height]).all(axis=1) & (np.linalg.norm(back - places, axis=1) < BACK_PX)
    kept[kept] = inside[at[kept, 1], at[kept, 0]] > 0
    return end[kept], kept


def patient_masks(read_picture: Callable[[str], np.ndarray], names: tuple[str, ...], progress: Progress) -> list[np.ndarray]:
    """Return (h, w) bool masks of the frames, small, true where the patient is.

    Raises:
        CameraError: nothing moves, or everything does.
    """
    import cv2

    pictures = []
    for number, name in enumerate(names):
        pictures.append(cv2.cvtColor(shrunk_to(read_picture(name), LOOK_PX)[0], cv2.COLOR_BGR2GRAY))
        progress((number + 1) / len(names), f"looks for the patient, frame {number + 1} of {len(names)}")
    moving = [_moving(first, second) for first, second in itertools.pairwise(pictures)]
    around = [moving[0], *moving, moving[-1]]
    wide = [_patient(around[k] + around[k + 1]) for k in range(len(names))]
    smooth = np.array([cv2.GaussianBlur(picture.astype(np.float32), (0, 0), SMOOTH_PX) for picture in pictures])
    seen = np.ma.array(smooth, mask=np.array(wide))
    room = np.ma.median(seen, axis=0).filled(np.inf)
    room[(seen.std(axis=0).filled(np.inf) > ROOM_GREY) | (seen.count(axis=0) < ROOM_FRAMES)] = np.inf
    masks = [_without_room(mask, np.abs(picture - room) < ROOM_GREY) for mask, picture in zip(wide, smooth, strict=True)]
    shares = [mask.mean() for mask in masks]
    if not SMALLEST_SHARE < float(np.median(shares)) < LARGEST_SHARE:
        raise CameraError(
            "The phone stood still, but no patient can be told from the room; let the patient turn slowly, alone in the picture, "
            "in even light."
        )
    return masks


def _moving(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(H, W) by how many pixels places move from a picture to the next, beyond the room's own movement."""
    import cv2

    moved = flow(first, second)
    height, width = first.shape
    y, x = np.mgrid[0:height:6, 0:width:6]
    edge = BORDER_SHARE * width
    room = ((x < edge) | (x > width - edge) | (y < BORDER_SHARE * height)).ravel()
    start = np.column_stack([x.ravel(), y.ravel()])[room].astype(np.float32)
    end = start + moved[start[:, 1].astype(int), start[:, 0].astype(int)]
    matrix = cv2.estimateAffinePartial2D(start, end, ransacReprojThreshold=0.5)[0]
    if matrix is None:
        return np.linalg.norm(moved, axis=2)
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    own = np.stack([columns, rows, np.ones_like(columns)], axis=2) @ matrix.T - np.stack([columns, rows], axis=2)
    return np.linalg.norm(moved - own, axis=2)


def _patient(moved: np.ndarray) -> np.ndarray:
    """(H, W) the one large thing that moves, its holes and gaps filled."""
    import cv2

    ellipse = lambda side: cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    mask = (moved > MOVES_PX).astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, ellipse(GROWN_PX))
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, ellipse(CLOSED_PX))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    if count < 2:
        return np.zeros(mask.shape, bool)
    largest = (labels == 1 + stats[1:, cv2.CC_STAT_AREA].argmax()).astype(np.uint8)
    outline = cv2.findContours(largest, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    filled = cv2.drawContours(np.zeros_like(largest), outline, -1, 1, cv2.FILLED)
    return cv2.dilate(filled, ellipse(GROWN_PX)).astype(bool)


def _without_room(mask: np.ndarray, like_room: np.ndarray) -> np.ndarray:
    """(H, W) a mask less what looks like the room, as far as that reaches in from the mask's outside."""
    import cv2

    count, labels = cv2.connectedComponents((~mask | like_room).astype(np.uint8))
    outside = np.zeros(count, bool)
    outside[np.unique(labels[~mask])] = True
    outside[0] = False
    left = (~outside[labels]).astype(np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (GROWN_PX, GROWN_PX))
    return cv2.morphologyEx(left, cv2.MORPH_OPEN, kernel).astype(bool)
