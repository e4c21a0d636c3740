"""What the cameras say of each vertex: which frames see it, its colour, and its distance to the measured points."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import minimum_filter

from ..geometry.cameras import Camera

# Resolution of the depth pictures and tolerance of the depth test, relative to the distance of the vertex.
DEPTH_CELL_PX = 6.0
DEPTH_TOLERANCE = 0.012
SMALLEST_COSINE = 0.15


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
    pixels, depth = camera.project(vertices)
    toward = camera.center_world - vertices
    cosine = (toward * normals).sum(axis=1) / np.linalg.norm(toward, axis=1)
    inside = (depth > 0) & (pixels >= 1).all(axis=1) & (pixels < [camera.width - 1, camera.height - 1]).all(axis=1)
    shape = (int(camera.height / DEPTH_CELL_PX) + 2, int(camera.width / DEPTH_CELL_PX) + 2)
    cells = np.zeros((len(vertices), 2), int)
    cells[inside] = (pixels[inside] / DEPTH_CELL_PX).astype(int) + 1
    nearest = np.full(shape, np.inf)
    np.minimum.at(nearest, (cells[inside, 1], cells[inside, 0]), depth[inside])
    nearest = minimum_filter(nearest, 3)
    occluder = nearest[cells[:, 1], cells[:, 0]]
    # An inclined surface is legitimately deeper than its neighbour cell.
    slope = np.sqrt(np.maximum(1 - cosine**2, 0)) / np.maximum(cosine, SMALLEST_COSINE)
    cell_depth = 1.5 * DEPTH_CELL_PX * depth / camera.intrinsics[0, 0]
    visible = inside & (cosine > SMALLEST_COSINE) & (depth < occluder + cell_depth * slope + DEPTH_TOLERANCE * depth)
    return visible, pixels, cosine
