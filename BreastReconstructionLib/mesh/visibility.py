"""Which vertices of a surface a camera sees, by their depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import minimum_filter

from ..geometry.cameras import Camera

# Resolution of the depth pictures and tolerance of the depth test, relative to the distance of the vertex.
DEPTH_CELL_PX = 6.0
DEPTH_TOLERANCE = 0.012
SMALLEST_COSINE = 0.15


@dataclass(frozen=True)
class Sight:
    """Vertices before a camera, whether or not something hides them.

    Attributes:
        pixels: (V, 2), NaN behind the camera.
        depth: (V,) along the optical axis.
        cosine: (V,) between normal and the direction to the camera.
        inside: (V,) before the camera and in its picture.
    """

    pixels: np.ndarray
    depth: np.ndarray
    cosine: np.ndarray
    inside: np.ndarray

    @classmethod
    def of(cls, camera: Camera, vertices: np.ndarray, normals: np.ndarray, margin_px: float = 0.0) -> Sight:
        """Look at (V, 3) vertices with (V, 3) unit normals; pixels nearer to the picture's edge than the margin are outside."""
        pixels, depth = camera.project(vertices)
        toward = camera.center_world - vertices
        cosine = (toward * normals).sum(axis=1) / np.linalg.norm(toward, axis=1)
        low, high = margin_px, np.array([camera.width, camera.height]) - margin_px
        with np.errstate(invalid="ignore"):
            inside = (depth > 0) & (pixels >= low).all(axis=1) & (pixels < high).all(axis=1)
        return cls(pixels, depth, cosine, inside)


def nearest_depths(cells: np.ndarray, depth: np.ndarray, count: int) -> np.ndarray:
    """Return the (count,) nearest depth a cell, infinite where there is none, for (N,) cells and depths."""
    nearest = np.full(count, np.inf)
    np.minimum.at(nearest, cells, depth)
    return nearest


def is_in_front(depth: np.ndarray, nearest: np.ndarray, slack: np.ndarray | float = 0.0) -> np.ndarray:
    """Tell which depths are not behind the nearest ones, by more than DEPTH_TOLERANCE of themselves and the slack."""
    return depth < nearest + slack + DEPTH_TOLERANCE * depth


def is_at_surface(depth: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    """Tell which depths are those of the surface that is seen there."""
    return np.abs(nearest - depth) < DEPTH_TOLERANCE * depth


def visible_vertices(camera: Camera, vertices: np.ndarray, normals: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tell which vertices a camera sees: in the image, facing it, and not behind nearer vertices.

    Hidden vertices are found by a picture of the nearest depth in cells of a few pixels, which a mesh of 1 to 3 mm fills
    without holes.

    Args:
        camera: in the frame of the vertices.
        vertices: (V, 3).
        normals: (V, 3) unit, outward.

    Returns:
        (V,) visible, (V, 2) pixels, (V,) cosine between normal and the direction to the camera.
    """
    sight = Sight.of(camera, vertices, normals, margin_px=1.0)
    depth, inside, cosine = sight.depth, sight.inside, sight.cosine
    height, width = int(camera.height / DEPTH_CELL_PX) + 2, int(camera.width / DEPTH_CELL_PX) + 2
    cells = np.zeros((len(vertices), 2), int)
    cells[inside] = (sight.pixels[inside] / DEPTH_CELL_PX).astype(int) + 1
    flat = cells[:, 1] * width + cells[:, 0]
    nearest = nearest_depths(flat[inside], depth[inside], height * width).reshape(height, width)
    occluder = minimum_filter(nearest, 3).ravel()[flat]
    # An inclined surface is legitimately deeper than its neighbour cell.
    slope = np.sqrt(np.maximum(1 - cosine**2, 0)) / np.maximum(cosine, SMALLEST_COSINE)
    cell_depth = 1.5 * DEPTH_CELL_PX * depth / camera.intrinsics[0, 0]
    visible = inside & (cosine > SMALLEST_COSINE) & is_in_front(depth, occluder, cell_depth * slope)
    return visible, sight.pixels, cosine
