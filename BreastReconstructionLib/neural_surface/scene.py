"""What pictures, masks and sparse points say of one object, brought into the unit ball."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..core.errors import CameraError
from ..geometry.cameras import Camera, triangulate
from ..geometry.pictures import shrunk_picture
from ..geometry.transforms import Similarity
from ..sfm.reconstruction import CameraReconstruction, subject_sphere
from .masks import share_inside, shrunk_mask
from .rendering import Rays

# The ball is so much larger than the object in it. Sparse points are the object's that lie in so many of its masks.
ROOM, FEWEST_INSIDE = 1.15, 0.9
# By how much the window of a picture that is searched for the ball is larger than the ball.
WINDOW = 1.2
# Of the rays of a step, where there are masks: drawn from the object, and from what is beside it within so many pixels, where
# outlines and holes are decided; the rest from all that is not the object.
ON_OBJECT, BESIDE, BESIDE_PX = 0.55, 0.3, 6


_FIELDS = ("view", "normalized", "color", "masked", "beside")


@dataclass(frozen=True)
class Pixels:
    """N pixels whose rays meet the ball.

    Attributes:
        view: (N,) number of the picture.
        normalized: (N, 2) undistorted, on the plane z = 1 of its camera.
        color: (N, 3) uint8 RGB.
        masked: (N,) whether it shows the object; None without masks.
        beside: (N,) whether it does not, but is near it; None without masks.
    """

    view: np.ndarray
    normalized: np.ndarray
    color: np.ndarray
    masked: np.ndarray | None
    beside: np.ndarray | None


@dataclass(frozen=True)
class Scene:
    """Pictures of one object.

    Attributes:
        names: of the pictures.
        cameras: of the unit ball, in that order, of the shrunk pictures.
        pixels: of all pictures.
        points: (P, 3) sparse points of the object, in the ball.
        seen: (V, P) which picture saw which point.
        world_to_ball: from the cameras' world.
    """

    names: tuple[str, ...]
    cameras: tuple[Camera, ...]
    pixels: Pixels
    points: np.ndarray
    seen: np.ndarray
    world_to_ball: Similarity

    def rays(self, chosen: np.ndarray, spread: torch.Tensor, device: str) -> Rays:
        """Return the rays of (R,) chosen pixels; `spread` says where samples lie, see Rays."""
        pixels = self.pixels
        view = pixels.view[chosen]
        rotations = np.array([camera.rotation for camera in self.cameras])[view]
        directions = np.einsum("ni,nij->nj", np.column_stack([pixels.normalized[chosen], np.ones(len(chosen))]), rotations)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        origins = np.array([camera.center_world for camera in self.cameras])[view]
        nearest, half = _through_ball(origins, directions)
        on = lambda values: torch.as_tensor(values, dtype=torch.float32, device=device)
        return Rays(
            on(origins),
            on(directions),
            on(np.maximum(nearest - half, 0.0)),
            on(nearest + half),
            torch.as_tensor(view.astype(np.int64), device=device),
            on(pixels.color[chosen] / 255.0),
            None if pixels.masked is None else on(pixels.masked[chosen]),
            spread.to(device),
        )

    def of_object(self) -> Scene:
        """Return the scene of those pixels alone that show the object."""
        assert self.pixels.masked is not None
        kept = self.pixels.masked
        values = {name: getattr(self.pixels, name)[kept] for name in _FIELDS}
        return replace(self, pixels=Pixels(**values))

    def draw(self, count: int, generator: np.random.Generator) -> np.ndarray:
        """Draw pixels, with masks more of them on the object."""
        masked = self.pixels.masked
        if masked is None:
            return generator.integers(len(self.pixels.view), size=count)
        kinds = [np.flatnonzero(masked), np.flatnonzero(self.pixels.beside), np.flatnonzero(~masked)]
        shares = np.array([ON_OBJECT, BESIDE, 1 - ON_OBJECT - BESIDE]) * [len(kind) > 0 for kind in kinds]
        ends = np.round(np.cumsum(shares) / shares.sum() * count).astype(int)
        numbers = np.diff(ends, prepend=0)
        return np.concatenate([generator.choice(kind, number) for kind, number in zip(kinds, numbers, strict=True) if number])


def _through_ball(origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) lengths to the point of each ray that is nearest to the middle of the unit ball, and from there to its surface; the
    second is NaN where the ray misses it.
    """
    nearest = -(origins * directions).sum(axis=1)
    squared = 1 - ((origins + nearest[:, None] * directions) ** 2).sum(axis=1)
    return nearest, np.sqrt(np.where(squared > 0, squared, np.nan))


def ball_of_masks(cameras: Mapping[str, Camera], masks: Mapping[str, np.ndarray]) -> tuple[np.ndarray, float]:
    """Return middle (3,) and radius of a ball that holds what (H, W) masks show, in world.

    Raises:
        CameraError: the masks' middles do not meet: they do not show one object.
    """
    used = [cameras[name] for name in masks]
    middles = np.array([[np.mean(axis) + 0.5 for axis in np.nonzero(mask)[::-1]] for mask in masks.values()])
    center = triangulate(used, middles)
    radii = []
    for camera, mask in zip(used, masks.values(), strict=True):
        edge = np.argwhere(mask & ~_eroded(mask))[:, ::-1] + 0.5
        rays = camera.rays_world(edge)
        across = np.linalg.norm(np.cross(center - camera.center_world, rays), axis=1)
        radii.append(np.percentile(across, 99))
    depths = np.array([camera.project(center[None])[1][0] for camera in used])
    if max(radii) > 0.9 * np.median(depths) or (depths <= 0).any():
        raise CameraError("The masks do not show one object: what they mark in different pictures does not meet in space.")
    return center, ROOM * float(max(radii))


def _eroded(mask: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0).astype(bool)


def _dilated(mask: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * BESIDE_PX + 1,) * 2, np.uint8)).astype(bool)


def ball_of_cameras(cameras: list[Camera], share: float) -> tuple[np.ndarray, float]:
    """Return middle (3,) and radius of the ball that all cameras look at, its radius as a share of their distance.

    Raises:
        CameraError: they look away from one another: depth and its reversal were confused.
    """
    center, distance = subject_sphere(cameras)
    if np.median([camera.project(center[None])[1][0] for camera in cameras]) <= 0:
        raise CameraError("The cameras came out turned inside out; photograph from nearer, without zoom, and from more heights.")
    return center, share * distance


def scene_of(
    reconstruction: CameraReconstruction,
    read: Callable[[str], np.ndarray],
    masks: Mapping[str, np.ndarray],
    ball: tuple[np.ndarray, float],
    longest_px: int,
) -> Scene:
    """Gather what the pictures show of a ball.

    Args:
        reconstruction: cameras and sparse points, world.
        read: (H, W, 3) BGR picture of a name.
        masks: (H, W) of every picture; empty for none.
        ball: middle and radius, world.
        longest_px: longer side to which pictures are shrunk.

    Raises:
        CameraError: no picture shows the ball.
    """
    center, radius = ball
    to_ball = Similarity(1.0 / radius, np.eye(3), -center / radius)
    cameras, parts = [], []
    for number, (name, camera) in enumerate(reconstruction.cameras.items()):
        small = camera.moved(to_ball).shrunk(longest_px)
        picture = shrunk_picture(read(name), small)
        mask = shrunk_mask(masks[name], small) if masks else None
        cameras.append(small)
        parts.append(_pixels_of(number, small, picture, mask))
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in (_FIELDS if masks else _FIELDS[:3])}
    pixels = Pixels(**{name: joined.get(name) for name in _FIELDS})
    if len(pixels.view) == 0 or (pixels.masked is not None and not pixels.masked.any()):
        raise CameraError("No picture shows what the cameras look at; walk around the object with the camera on it.")
    scene = Scene(
        tuple(reconstruction.cameras), tuple(cameras), pixels, np.empty((0, 3)), np.empty((len(cameras), 0), bool), to_ball
    )
    return _with_points(scene, reconstruction, masks)


def _pixels_of(number: int, camera: Camera, picture: np.ndarray, mask: np.ndarray | None) -> Pixels:
    # Only the window in which the ball is seen is looked at; lenses bend little within it.
    middle, depth = camera.project(np.zeros((1, 3)))
    reach = WINDOW * camera.intrinsics[0, 0] / max(depth[0] - 1.0, 1e-3)
    bounds = [
        (max(int(at - reach), 0), min(int(at + reach) + 2, size)) for at, size in zip(middle[0], (camera.width, camera.height))
    ]
    columns, rows = (np.arange(low, max(high, low)) for low, high in bounds)
    x, y = (values.ravel() for values in np.meshgrid(columns, rows))
    normalized = camera.normalized(np.column_stack([x, y]) + 0.5)
    rays = camera.rays_of_normalized_world(normalized)
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    _, half = _through_ball(np.broadcast_to(camera.center_world, rays.shape), rays)
    kept = np.flatnonzero(np.isfinite(half))
    return Pixels(
        np.full(len(kept), number, np.int32),
        normalized[kept].astype(np.float32),
        picture[y[kept], x[kept], ::-1],
        None if mask is None else mask[y[kept], x[kept]],
        None if mask is None else (_dilated(mask) & ~mask)[y[kept], x[kept]],
    )


def _with_points(scene: Scene, reconstruction: CameraReconstruction, masks: Mapping[str, np.ndarray]) -> Scene:
    """Add the sparse points in the ball, and with masks those that lie in the object's masks."""
    points = scene.world_to_ball.apply(reconstruction.points_world)
    kept = np.linalg.norm(points, axis=1) < 1.0
    if masks:
        kept &= share_inside(reconstruction.cameras, masks, reconstruction.points_world) >= FEWEST_INSIDE
    seen = reconstruction.seen(scene.names)
    return replace(scene, points=points[kept], seen=seen[:, kept])
