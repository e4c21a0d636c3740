"""The fit to the pictures: patches registered between frames that the fitted surface brings together.

Optical flow sees two views of bare skin with hardly any texture, and errs by 1 to 2 pixels. Once a surface is fitted, the
neighbour's picture is warped to the reference's view by way of it; what is left are shifts of about a pixel, and
Lucas-Kanade (Lucas & Kanade 1981) finds those over patches of 15 mm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from ..core.progress import Progress
from ..core.threads import pool
from ..fields.evaluation import Shape
from ..geometry.cameras import Camera
from ..geometry.pictures import sample_picture, shrunk_picture
from ..mesh.mesh import vertex_normals
from ..mesh.visibility import Sight, is_at_surface, is_in_front, nearest_depths
from .fit import FitSettings, ShapeFit
from .model import ShapeModel
from .sampling import level_of_shape
from .track_fit import TrackSettings, refine_by_tracks, usable_tracks
from .tracks import TrackFit, Tracks

# Sought in the frames, before and after the reference, whose directions of view differ by nearest to this; depth noise falls
# with the angle, and the likeness of the pictures too.
ANGLES_DEGREES = (6.0, 12.0, 18.0, 24.0, 36.0)
# Lengths on the patient, in model units: 15 mm and 5 mm.
PATCH_SIDE = 0.05
LARGEST_SHIFT = 0.016
# But a patch has at least these pixels on each side of its centre.
FEWEST_PX = 2
# Cells of the surface from which depth is taken: 3 mm.
SURFACE_CELL = 0.01
# Cosine between a vertex's normal and the direction to the camera.
SMALLEST_FACING = 0.3
# The warp is computed every so many pixels, and interpolated between them.
WARP_STEP = 8
# Grey levels are spread before they are rounded again to whole numbers: skin differs by few.
CONTRAST = 4.0


@dataclass(frozen=True)
class _Surface:
    """Vertices of the fitted surface and unit normals, (V, 3), aligned model frame; mean spacing of the vertices."""

    vertices: np.ndarray
    normals: np.ndarray
    spacing: float


@dataclass(frozen=True)
class _View:
    """A picture with the depth of the fitted surface.

    Attributes:
        camera: in the aligned model frame, of the size of the picture.
        gray: (H, W) uint8; many views are kept at a time.
        inverse_depth: (h, w) float32 along the optical axis, in cells of `cell` pixels; continued where there is no surface.
        covered: (h, w) float32, 1 where the surface is, 0 elsewhere.
        cell: pixels.
    """

    camera: Camera
    gray: np.ndarray
    inverse_depth: np.ndarray
    covered: np.ndarray
    cell: float

    def depth_at(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N,) depth of the surface at (N, 2) pixels, and where there is surface; the first pixel's centre is 0."""
        at = (pixels + 0.5) / self.cell - 0.5
        inverse_depth = np.maximum(sample_picture(self.inverse_depth, at), 1e-6)  # 0 where a frame sees no surface at all
        return 1.0 / inverse_depth, sample_picture(self.covered, at) > 0.5

    def points_at(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, 3) points of the surface at (N, 2) pixels, and where there is surface."""
        depth, covered = self.depth_at(pixels)
        rays = self.camera.rays_of_normalized_world(self.camera.normalized(pixels + 0.5))
        return self.camera.center_world + depth[:, None] * rays, covered


@dataclass(frozen=True)
class Pictures:
    """The frames.

    Attributes:
        cameras: of the F frames, in the aligned model frame.
        read: name of a camera -> (H, W, 3) BGR.
        longest_px: pictures are shrunk to this longer side.
    """

    cameras: list[Camera]
    read: Callable[[str], np.ndarray]
    longest_px: int


def fit_to_pictures(
    fit: ShapeFit,
    references: Tracks,
    pictures: Pictures,
    landmarks_model: np.ndarray,
    model: ShapeModel,
    fit_settings: FitSettings,
    rounds: int,
    progress: Progress,
) -> TrackFit:
    """Refine a fit: register patches by its surface, fit to what was found, and again.

    Args:
        fit: to points.
        references: tracks of one sighting each, in the aligned model frame: where patches shall lie.
        pictures: of the same frame.
        landmarks_model: (6, 3) in the same frame.
        model: the shape model.
        fit_settings: the priors besides the pictures.
        rounds: how often patches are registered by the surface that the last round found.
        progress: reported a frame and an iteration.

    Returns:
        the refined fit with the patient's motion; the given fit, without motion, if too few patches are found.

    Raises:
        FitError: no finite solution.
    """
    settings = TrackSettings()
    cameras = [camera.shrunk(pictures.longest_px) for camera in pictures.cameras]
    with pool() as threads:
        grays = list(threads.map(lambda camera: gray_picture(pictures.read(camera.name), camera), cameras))
    for turn in range(rounds):
        part = progress.part(turn / rounds, (turn + 1) / rounds)
        patches = usable_tracks(fit, references, model, settings)
        tracks = register_patches(patches, cameras, grays, fit, model, part.part(0.0, 0.8))
        found = refine_by_tracks(fit, tracks, landmarks_model, model, fit_settings, settings, part.part(0.8, 1.0))
        if turn and found.tracks == 0:
            break  # what the turn before found stays
        refined, fit = found, found.fit
    return refined


def gray_picture(picture: np.ndarray, camera: Camera) -> np.ndarray:
    """Return the (H, W) uint8 grey of a BGR picture in the size of a camera's."""
    return cv2.cvtColor(shrunk_picture(picture, camera), cv2.COLOR_BGR2GRAY)


def register_patches(
    tracks: Tracks, cameras: list[Camera], grays: list[np.ndarray], fit: ShapeFit, model: ShapeModel, progress: Progress
) -> Tracks:
    """Look for the tracks' reference pixels in the neighbouring pictures.

    Args:
        tracks: only their reference sightings are used.
        cameras: of the tracks' frames.
        grays: their (H, W) uint8 pictures.
        fit: it should not be wrong by more than some mm.
        model: the fit's model.
        progress: reported a frame.

    Returns:
        those tracks that lie on the surface and are found in at least one other frame.
    """
    surface, neighbours = _fitted_surface(fit, model), _neighbours(cameras)
    reference, slots = tracks.frames[:, 0], 1 + 2 * len(ANGLES_DEGREES)
    frames, seen = np.full((len(reference), slots), -1), np.full((len(reference), slots, 2), np.nan)
    frames[:, 0], seen[:, 0] = reference, tracks.seen[:, 0]

    def find_in_neighbours(i: int) -> None:
        """Fill the rows of the tracks of a frame."""
        own, camera = np.flatnonzero(reference == i), cameras[i]
        pixels = camera.project(camera.center_world + camera.rays_of_normalized_world(tracks.seen[own, 0]))[0] - 0.5
        points, covered = views[i].points_at(pixels)
        own, pixels, points = own[covered], pixels[covered], points[covered]
        if len(own) == 0:
            return
        patches = _Patches.about(views[i], pixels)
        for slot, j in enumerate(neighbours[i], start=1):
            there, found = _find(patches, points, views[i], views[j])
            frames[own[found], slot] = j
            seen[own[found], slot] = cameras[j].normalized(there[found] + 0.5)

    with pool() as threads:
        views = list(threads.map(lambda camera, gray: _view(camera, gray, surface), cameras, grays))
        for i, _ in enumerate(threads.map(find_in_neighbours, range(len(cameras)))):
            progress(i / len(cameras), f"patches of frame {i + 1} of {len(cameras)}")
    return replace(tracks, frames=frames, seen=seen).only((frames[:, 1:] >= 0).any(axis=1))


def _neighbours(cameras: list[Camera]) -> list[list[int]]:
    """Of each frame, those before and after it that see the origin at about ANGLES_DEGREES from its own direction."""
    directions = np.array([camera.center_world / np.linalg.norm(camera.center_world) for camera in cameras])
    degrees = np.degrees(np.arccos(np.clip(directions @ directions.T, -1.0, 1.0)))
    chosen = []
    for i, row in enumerate(degrees):
        sides = [side for side in (np.arange(i), np.arange(i + 1, len(row))) if len(side)]
        nearest = [side[np.argmin(np.abs(row[side] - angle))] for side in sides for angle in ANGLES_DEGREES]
        chosen.append(sorted({int(j) for j in nearest if row[j] < 1.5 * max(ANGLES_DEGREES)}))
    return chosen


def _fitted_surface(fit: ShapeFit, model: ShapeModel) -> _Surface:
    """Its vertices are not brought onto the zero level: in cells of 3 mm they are 0.02 mm off, and that costs as much again."""
    to_aligned = fit.refinement.inverse()
    level = level_of_shape(Shape.of(model, torch.from_numpy(fit.code)), SURFACE_CELL)
    normals = to_aligned.apply_directions(vertex_normals(level.vertices, level.faces))
    return _Surface(to_aligned.apply(level.vertices), normals, SURFACE_CELL * to_aligned.scale)


def _view(camera: Camera, gray: np.ndarray, surface: _Surface) -> _View:
    """Draw the depth of the surface: at a cell's centre, the mean over the tangent planes of the vertices in it."""
    sight = Sight.of(camera, surface.vertices, surface.normals)
    pixels, depth = sight.pixels, sight.depth
    cell = max(1.3 * camera.intrinsics[0, 0] * surface.spacing / float(np.median(depth)), 1.0)
    width, height = int(np.ceil(camera.width / cell)), int(np.ceil(camera.height / cell))
    from_center = surface.vertices - camera.center_world
    drawn = np.flatnonzero(sight.inside & (sight.cosine > SMALLEST_FACING))
    index = np.floor(pixels[drawn] / cell).astype(int)
    flat = index[:, 1] * width + index[:, 0]
    rays = camera.rays_of_normalized_world(camera.normalized((index + 0.5) * cell))
    normals = surface.normals[drawn]
    inverse_depth = (rays * normals).sum(axis=1) / (from_center[drawn] * normals).sum(axis=1)
    nearest = nearest_depths(flat, depth[drawn], width * height)[flat]
    front = is_in_front(depth[drawn], nearest) & (np.abs(inverse_depth * depth[drawn] - 1.0) < 0.02)
    count = np.bincount(flat[front], minlength=width * height)
    mean = np.bincount(flat[front], inverse_depth[front], width * height) / np.maximum(count, 1)
    covered = (count > 0).reshape(height, width)
    continued = distance_transform_edt(~covered, return_distances=False, return_indices=True)
    filled = mean.reshape(height, width)[tuple(continued)].astype(np.float32)
    return _View(camera, gray, cv2.GaussianBlur(filled, (0, 0), 0.7), covered.astype(np.float32), cell)


@dataclass(frozen=True)
class _Patches:
    """A reference picture's texture where the patches lie.

    Attributes:
        low: (2,) upper left pixel of the part of the picture.
        texture: (h, w) uint8, see `_texture`.
        pixels: (N, 2) patches' centres in the whole picture; the first pixel's centre is 0.
        side: of a patch, pixels, odd.
    """

    low: np.ndarray
    texture: np.ndarray
    pixels: np.ndarray
    side: int

    @classmethod
    def about(cls, view: _View, pixels: np.ndarray) -> _Patches:
        """Cut out the part of the picture that holds the patches."""
        depth, _ = view.depth_at(pixels)
        half = round(0.5 * PATCH_SIDE * view.camera.intrinsics[0, 0] / float(np.median(depth)))
        side = 2 * max(half, FEWEST_PX) + 1
        size = [view.camera.width, view.camera.height]
        low = np.maximum(np.floor(pixels.min(axis=0)).astype(int) - side, 0)
        high = np.minimum(np.ceil(pixels.max(axis=0)).astype(int) + side, size)
        return cls(low, _texture(view.gray[low[1] : high[1], low[0] : high[0]], side), pixels, side)


def _texture(gray: np.ndarray, side: int) -> np.ndarray:
    """Grey less the mean over a patch: light and exposure change from frame to frame, and are no texture."""
    gray = gray.astype(np.float32)
    return np.clip(CONTRAST * (gray - cv2.blur(gray, (side, side))) + 128.0, 0, 255).astype(np.uint8)


def _find(patches: _Patches, points: np.ndarray, view: _View, other: _View) -> tuple[np.ndarray, np.ndarray]:
    """Find patches in another picture: (N, 2) pixels there, and which of them are found."""
    warp = _warp(patches, view, other)
    gray = cv2.remap(other.gray.astype(np.float32), warp[..., 0], warp[..., 1], cv2.INTER_LINEAR)
    warped = _texture(gray, patches.side)
    start = (patches.pixels - patches.low).astype(np.float32)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 0.01)
    window = (patches.side, patches.side)
    moved, status, _ = cv2.calcOpticalFlowPyrLK(
        patches.texture, warped, start[:, None], None, winSize=window, maxLevel=0, criteria=stop, minEigThreshold=1e-6
    )
    moved = moved[:, 0]
    there = sample_picture(warp, moved)
    pixels, depth = other.camera.project(points)
    nearest, covered = other.depth_at(np.nan_to_num(pixels - 0.5, nan=-1e4))
    visible = covered & is_at_surface(depth, nearest)
    largest_px = LARGEST_SHIFT * patches.side / PATCH_SIDE
    near = np.linalg.norm(moved - start, axis=1) < largest_px
    margin = patches.side / 2
    inside = ((there >= margin) & (there < np.array([other.camera.width, other.camera.height]) - margin)).all(axis=1)
    return there, (status[:, 0] > 0) & visible & near & inside


def _warp(patches: _Patches, view: _View, other: _View) -> np.ndarray:
    """(h, w, 2) float32: where the pixels of the patches' part of a picture lie in another, by way of the surface."""
    height, width = patches.texture.shape
    x, y = np.arange(0, width + WARP_STEP, WARP_STEP), np.arange(0, height + WARP_STEP, WARP_STEP)
    grid = np.stack(np.meshgrid(x, y), axis=2).reshape(-1, 2) + patches.low.astype(float)
    points, _ = view.points_at(grid)
    pixels, _ = other.camera.project(points)
    coarse = np.nan_to_num(pixels - 0.5, nan=-1e4).astype(np.float32).reshape(len(y), len(x), 2)
    column, row = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return cv2.remap(coarse, column / WARP_STEP, row / WARP_STEP, cv2.INTER_LINEAR)
