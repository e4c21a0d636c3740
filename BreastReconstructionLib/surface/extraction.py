"""The zero level of a signed distance function, coarse to fine: only cells that the surface may cross are evaluated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import FitError

# |gradient| of a trained network stays below this near the surface; a true distance has 1. A cell is dropped only if
# its centre is farther from the surface than this bound allows any point of the cell to be.
LIPSCHITZ = 1.25
# Second derivative along a cell's edge is below this (a nipple's tip of 5 mm radius); it bounds the error of trilinear
# interpolation over a surface (two such directions), h^2 / 4 times it, by which the finest cells are chosen.
CURVATURE = 60.0
COARSEST = 32
BOX = (-1.0, 1.0)


@dataclass(frozen=True)
class ZeroLevel:
    """A triangle mesh in model space.

    Attributes:
        vertices_model: (V, 3).
        faces: (F, 3), outward by the right-hand rule.
        normals_model: (V, 3) unit, outward.
        evaluated: points at which the function was evaluated.
    """

    vertices_model: np.ndarray
    faces: np.ndarray
    normals_model: np.ndarray
    evaluated: int


def extract_zero_level(distance: Callable[[np.ndarray], np.ndarray], cells: int = 256) -> ZeroLevel:
    """Extract the surface that a dense grid of `cells` cells a side over [-1, 1]^3 would give.

    A component is found if it crosses, or lies inside, a cell that the Lipschitz bound keeps; where |gradient| <= 1.25
    none is missed.

    Args:
        distance: (N, 3) points -> (N,) signed distances, negative inside.
        cells: cells a side, 32 times a power of two.

    Raises:
        FitError: the function has no zero level in the box.
    """
    from skimage.measure import marching_cubes

    corners, values, evaluated = _narrow_band(distance, cells)
    if len(values) == 0 or values.min() >= 0 or values.max() <= 0:
        raise FitError("The fitted shape has no surface; check the landmarks and fit again.")
    volume = np.full((cells + 1,) * 3, np.nan, np.float32)
    volume.reshape(-1)[corners] = values
    known = np.isfinite(volume)
    # Only cells with eight evaluated corners are meshed; skimage asks for the mask at a cell's last corner.
    mask = np.zeros_like(known)
    mask[1:, 1:, 1:] = known[1:, 1:, 1:]
    for dx, dy, dz in np.ndindex(2, 2, 2):
        mask[1:, 1:, 1:] &= known[dx : cells + dx, dy : cells + dy, dz : cells + dz]
    volume[~known] = 1.0
    vertices, faces, normals, _ = marching_cubes(volume, 0.0, spacing=(2.0 / cells,) * 3, mask=mask, gradient_direction="ascent")
    return ZeroLevel(vertices.astype(float) + BOX[0], faces.astype(np.int64), normals.astype(float), evaluated)


def project_to_zero_level(
    level: ZeroLevel, distance_and_gradient: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], cells: int
) -> ZeroLevel:
    """Move the vertices onto the zero level by one Newton step along the gradient, which also gives their normals.

    Args:
        level: from `extract_zero_level`.
        distance_and_gradient: (N, 3) points -> (N,) signed distances and (N, 3) gradients.
        cells: cells a side; a step is at most half a cell long.
    """
    value, gradient = distance_and_gradient(level.vertices_model)
    length = np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-6)
    normals = gradient / length
    step = np.clip(-value[:, None] / length, -1.0 / cells, 1.0 / cells) * normals
    faces = _outward(level.vertices_model, level.faces, normals)
    return ZeroLevel(level.vertices_model + step, faces, normals, level.evaluated + len(value))


def dense_zero_level(distance: Callable[[np.ndarray], np.ndarray], cells: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """The published way, for comparison: evaluate every grid point, then marching cubes; (V, 3) vertices, (F, 3) faces."""
    from skimage.measure import marching_cubes

    axis = np.linspace(*BOX, cells + 1)
    volume = np.empty((cells + 1,) * 3, np.float32)
    for i, x in enumerate(axis):
        y, z = np.meshgrid(axis, axis, indexing="ij")
        volume[i] = distance(np.stack([np.full_like(y, x), y, z], axis=-1).reshape(-1, 3)).reshape(y.shape)
    vertices, faces, _, _ = marching_cubes(volume, 0.0, spacing=(2.0 / cells,) * 3)
    return vertices + BOX[0], faces


def _narrow_band(distance: Callable[[np.ndarray], np.ndarray], cells: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return flat indices of grid corners near the surface, their values, and the number of evaluations."""
    levels = int(np.log2(cells / COARSEST))
    if levels < 1 or COARSEST * 2**levels != cells:
        raise ValueError(f"the number of cells must be {COARSEST} times a power of two, not {cells}")
    octants = np.stack(np.meshgrid(*((0, 1),) * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    count = COARSEST
    active = np.stack(np.meshgrid(*(np.arange(count),) * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    evaluated = 0
    while True:
        size = 2.0 / count
        value = distance(BOX[0] + (active + 0.5) * size)
        evaluated += len(active)
        active = active[np.abs(value) <= LIPSCHITZ * size * np.sqrt(3) / 2]
        if 2 * count == cells:
            break
        active = (2 * active[:, None] + octants).reshape(-1, 3)
        count *= 2
    if len(active) == 0:
        return np.empty(0, int), np.empty(0), evaluated
    # The finest cells are chosen by interpolating the corner values of their parents.
    corner = np.ravel_multi_index((active[:, None] + octants).reshape(-1, 3).T, (count + 1,) * 3)
    unique, index = np.unique(corner, return_inverse=True)
    at_corners = distance(_grid_points(unique, count))
    evaluated += len(unique)
    kept = _crossing_children(at_corners[index].reshape(-1, 2, 2, 2), margin=0.25 * CURVATURE * size**2)
    parent, child = np.nonzero(kept)
    fine = 2 * active[parent] + octants[child]
    flat = np.unique(np.ravel_multi_index((fine[:, None] + octants).reshape(-1, 3).T, (cells + 1,) * 3))
    return flat, distance(_grid_points(flat, cells)), evaluated + len(flat)


def _grid_points(flat: np.ndarray, count: int) -> np.ndarray:
    return BOX[0] + np.stack(np.unravel_index(flat, (count + 1,) * 3), axis=1) * (2.0 / count)


def _crossing_children(corners: np.ndarray, margin: float) -> np.ndarray:
    """Tell which of the eight children of each cell may hold a zero, from (N, 2, 2, 2) corner values; (N, 8)."""
    lattice = corners
    for axis in (1, 2, 3):
        first, last = np.take(lattice, [0], axis), np.take(lattice, [-1], axis)
        lattice = np.concatenate([first, 0.5 * (first + last), last], axis=axis)
    kept = []
    for x, y, z in np.ndindex(2, 2, 2):
        child = lattice[:, x : x + 2, y : y + 2, z : z + 2].reshape(len(corners), 8)
        kept.append((child.min(axis=1) <= margin) & (child.max(axis=1) >= -margin))
    return np.stack(kept, axis=1)


def _outward(vertices: np.ndarray, faces: np.ndarray, normals: np.ndarray) -> np.ndarray:
    corners = vertices[faces]
    geometric = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    if np.median((geometric * normals[faces[:, 0]]).sum(axis=1)) < 0:
        return faces[:, ::-1].copy()
    return faces
