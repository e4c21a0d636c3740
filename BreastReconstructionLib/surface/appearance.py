"""What the cameras say of each vertex: which frames see it, its colour, and its distance to the measured points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import minimum_filter
from scipy.spatial import cKDTree

from ..geometry import Camera, sample_picture
from ..progress import Progress

# Resolution of the depth pictures and tolerance of the depth test, relative to the distance of the vertex.
DEPTH_CELL_PX = 6.0
DEPTH_TOLERANCE = 0.012
SMALLEST_COSINE = 0.15


@dataclass(frozen=True)
class Appearance:
    """Per-vertex results.

    Attributes:
        views: (V,) number of frames that see the vertex.
        colors: (V, 3) uint8 RGB; grey where no frame sees it.
    """

    views: np.ndarray
    colors: np.ndarray


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


def see_vertices(
    vertices: np.ndarray,
    normals: np.ndarray,
    cameras: dict[str, Camera],
    read_picture: Callable[[str], np.ndarray],
    progress: Progress,
) -> Appearance:
    """Count views and average colours, frames that look straight on counting most (squared cosine).

    Args:
        vertices, normals: (V, 3), in the frame of the cameras.
        cameras: name -> Camera.
        read_picture: name -> (H, W, 3) BGR.
        progress: reported a frame.
    """
    views = np.zeros(len(vertices), int)
    total, weight = np.zeros((len(vertices), 3)), np.zeros(len(vertices))
    for done, (name, camera) in enumerate(cameras.items()):
        visible, pixels, cosine = visible_vertices(camera, vertices, normals)
        picture = read_picture(name)
        chosen = np.flatnonzero(visible)
        views[chosen] += 1
        sampled = sample_picture(picture, pixels[chosen] - 0.5)
        share = cosine[chosen] ** 2
        total[chosen] += share[:, None] * sampled[:, ::-1]
        weight[chosen] += share
        progress((done + 1) / len(cameras), f"colours from frame {done + 1} of {len(cameras)}")
    colors = np.full((len(vertices), 3), 128.0)
    seen = weight > 0
    colors[seen] = total[seen] / weight[seen, None]
    return Appearance(views, np.clip(colors, 0, 255).astype(np.uint8))


def distance_to_points(vertices: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the (V,) distance of each vertex to the nearest measured point, in the unit of both."""
    return cKDTree(points).query(vertices, workers=-1)[0]


def keep_vertices(vertices: np.ndarray, faces: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which vertices stay if only faces of kept vertices stay, and those faces, renumbered."""
    faces = faces[kept[faces].all(axis=1)]
    used = np.unique(faces)
    number = np.full(len(vertices), -1)
    number[used] = np.arange(len(used))
    return used, number[faces]
