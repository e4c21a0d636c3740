"""What can be known of an organ: a segmentation, whole or damaged, a mesh, points, or contours of a few slices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.errors import VolumeError
from ..geometry.segmentation import read_segmentation
from ..geometry.volume import Volume
from ..landmarks.curves import read_curves, read_points
from ..mesh.boundary import boundary_loops
from ..mesh.files import read_mesh
from ..mesh.mesh import sample_surface, triangle_areas
from ..mesh.patch import signed_volume
from ..mesh.segments import BODY_SHARE, SegmentSurface, surface_of_segment
from .organ_data import MESHES, bodies_of_mesh
from .organ_fit import Observation

SURFACE_POINTS = 8000
CONTOUR_STEP_MM = 1.0
# A segment that fills fewer of the slices between its first and its last was drawn in a few slices only.
CONTOUR_SHARE, FEWEST_SLICES = 0.7, 2


@dataclass(frozen=True)
class Observed:
    """What is known of an organ, and the grid that it came on, if it did."""

    observation: Observation
    grid: Volume | None


def observe(path: Path, segments: tuple[str, ...], landmarks: Path | None, parts: int) -> Observed:
    """Read what is known of an organ.

    Args:
        path: segmentation, mesh, points or contours.
        segments: names or labels that are the organ together; empty for all.
        landmarks: markups file, or None.
        parts: bodies that the organ has; more are two patients or another organ.

    Raises:
        VolumeError, CaseError, LandmarkError, ShapeModelError: the file cannot be read or holds something else.
    """
    marks = {} if landmarks is None else read_points(landmarks)
    name = path.name.lower()
    if name.endswith(".json"):
        points = np.concatenate([_along(curve, closed) for curve, closed in read_curves(path)])
        return Observed(Observation(points, marks, notes=("contours were given",)), None)
    if name.endswith(MESHES):
        return Observed(_of_mesh(path, marks, parts), None)
    segmentation = read_segmentation(path)
    mask = segmentation.mask(segments, path.name)
    axis = _drawn_axis(mask)
    if axis is not None:
        points = _contours(mask, segmentation.grid, axis)
        note = f"the segment is drawn in {np.flatnonzero(_occupied(mask, axis)).size} slices: their contours were used"
        return Observed(Observation(points, marks, notes=(note,)), segmentation.grid)
    found = surface_of_segment(mask, segmentation.grid, path.name)
    return Observed(_of_bodies(found, marks, parts, path.name), segmentation.grid)


def _of_mesh(path: Path, marks: dict[str, np.ndarray], parts: int) -> Observation:
    mesh = read_mesh(path)
    if len(mesh.faces) == 0:
        return Observation(mesh.vertices, marks)
    if not boundary_loops(mesh.faces):
        return _of_bodies(bodies_of_mesh(mesh, path.name), marks, parts, path.name)
    points, _ = sample_surface(mesh.vertices, mesh.faces, SURFACE_POINTS, np.random.default_rng(0))
    return Observation(points, marks, notes=("the mesh is open: what is missing of it is predicted",))


def _of_bodies(found: SegmentSurface, marks: dict[str, np.ndarray], parts: int, name: str) -> Observation:
    """Points on the bodies, but not on cuts."""
    volumes = [signed_volume(body.vertices, body.faces) for body in found.bodies]
    large = sum(volume > BODY_SHARE * volumes[0] for volume in volumes)
    if large > parts:
        raise VolumeError(
            f"{name} holds {large} bodies where the organ has {parts}: another organ, or two patients in one file? "
            "Choose the segments."
        )
    mesh, cut = found.mesh, np.concatenate(found.cut)
    of_cut = cut[mesh.faces].all(axis=1)
    area = triangle_areas(mesh.vertices, mesh.faces)
    points, _ = sample_surface(mesh.vertices, mesh.faces[~of_cut], SURFACE_POINTS, np.random.default_rng(0))
    return Observation(points, marks, float(area[of_cut].sum() / area.sum()), found.notes)


def _occupied(mask: np.ndarray, axis: int) -> np.ndarray:
    return mask.any(axis=tuple(other for other in range(3) if other != axis))


def _drawn_axis(mask: np.ndarray) -> int | None:
    """The axis along which a segment was drawn in single slices, with empty ones between them; None if it was not."""
    for axis in range(3):
        filled = np.flatnonzero(_occupied(mask, axis))
        if len(filled) >= FEWEST_SLICES and len(filled) < CONTOUR_SHARE * (filled[-1] - filled[0] + 1):
            return axis
    return None


def _contours(mask: np.ndarray, grid: Volume, axis: int) -> np.ndarray:
    """(N, 3) points, RAS mm, on the outlines of a segment's slices."""
    from skimage.measure import find_contours

    points = []
    for number in np.flatnonzero(_occupied(mask, axis)):
        outline = np.pad(np.take(mask, number, axis), 1).astype(float)
        for contour in find_contours(outline, 0.5):
            indices = np.insert(contour - 1.0, axis, number, axis=1)  # k, j, i
            points.append(_along(grid.to_ras(indices[:, ::-1]), True))
    return np.concatenate(points)


def _along(curve: np.ndarray, closed: bool) -> np.ndarray:
    """Points at equal steps along a polyline (N, 3), mm."""
    corners = np.concatenate([curve, curve[:1]]) if closed else curve
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))])
    at = np.arange(0.0, length[-1], CONTOUR_STEP_MM)
    return np.stack([np.interp(at, length, corners[:, k]) for k in range(3)], axis=1)
