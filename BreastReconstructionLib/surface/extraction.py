"""The zero level of a signed distance function, coarse to fine: only cells that the surface may cross are evaluated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import FitError

# |gradient| of a trained network stays below this near the surface; a true distance has 1. A cell is dropped only if
# its centre is farther from the surface than this bound allows any point of the cell to be.
LIPSCHITZ = 1.5
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


def extract_zero_level(
    distance: Callable[[np.ndarray], np.ndarray],
    distance_and_gradient: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    cells: int = 256,
) -> ZeroLevel:
    """Extract the surface that a dense grid of `cells` cells a side over [-1, 1]^3 would give.

    A component is found if it crosses, or lies inside, a cell that the Lipschitz bound keeps; where |gradient| <= 1.5 none
    is missed. Vertices are then moved onto the zero level by one Newton step.

    Args:
        distance: (N, 3) points -> (N,) signed distances, negative inside.
        distance_and_gradient: the same with (N, 3) gradients.
        cells: cells a side, a multiple of 32 by a power of two.

    Raises:
        FitError: the function has no zero level in the box.
    """
    from skimage.measure import marching_cubes

    corners, values, evaluated = _narrow_band(distance, cells)
    if len(values) == 0 or values.min() >= 0 or values.max() <= 0:
        raise FitError("The fitted shape has no surface; check the landmarks and fit again.")
    size = 2.0 / cells
    volume, mask = np.full((cells + 1,) * 3, np.nan, np.float32), np.zeros((cells + 1,) * 3, bool)
    volume.reshape(-1)[corners] = values
    known = np.isfinite(volume)
    # A cell is meshed if all of its eight corners were evaluated; skimage asks for the mask at the cell's first corner.
    whole = known[:-1, :-1, :-1].copy()
    for dx, dy, dz in np.ndindex(2, 2, 2):
        whole &= known[dx : cells + dx, dy : cells + dy, dz : cells + dz]
    mask[:-1, :-1, :-1] = whole
    volume[~known] = 1.0
    vertices, faces, _, _ = marching_cubes(volume, 0.0, spacing=(size,) * 3, mask=mask, gradient_direction="ascent")
    vertices = vertices + BOX[0]
    value, gradient = distance_and_gradient(vertices)
    square = np.maximum((gradient**2).sum(axis=1), 0.25)
    step = -(value / square)[:, None] * gradient
    length = np.linalg.norm(step, axis=1, keepdims=True)
    step *= np.minimum(1.0, 0.5 * size / np.maximum(length, 1e-12))
    normals = gradient / np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-12)
    return ZeroLevel((vertices + step).astype(float), _outward(vertices, faces, normals), normals, evaluated + len(vertices))


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
    if COARSEST * 2**levels != cells:
        raise ValueError(f"the number of cells must be {COARSEST} times a power of two, not {cells}")
    count = COARSEST
    active = np.stack(np.meshgrid(*(np.arange(count),) * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    evaluated = 0
    for level in range(levels + 1):
        size = 2.0 / count
        value = distance(BOX[0] + (active + 0.5) * size)
        evaluated += len(active)
        active = active[np.abs(value) <= LIPSCHITZ * size * np.sqrt(3) / 2]
        if level < levels:
            children = np.stack(np.meshgrid(*((0, 1),) * 3, indexing="ij"), axis=-1).reshape(-1, 3)
            active = (2 * active[:, None] + children).reshape(-1, 3)
            count *= 2
    offsets = np.stack(np.meshgrid(*((0, 1),) * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    corner = (active[:, None] + offsets).reshape(-1, 3)
    flat = np.unique(np.ravel_multi_index(corner.T, (cells + 1,) * 3))
    points = BOX[0] + np.stack(np.unravel_index(flat, (cells + 1,) * 3), axis=1) * (2.0 / cells)
    return flat, distance(points), evaluated + len(flat)


def _outward(vertices: np.ndarray, faces: np.ndarray, normals: np.ndarray) -> np.ndarray:
    corners = vertices[faces]
    geometric = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    if np.median((geometric * normals[faces[:, 0]]).sum(axis=1)) < 0:
        return faces[:, ::-1].copy()
    return faces
