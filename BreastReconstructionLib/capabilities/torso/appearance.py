"""What the frames show of each vertex of the surface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from ...core.progress import Progress
from ...geometry.cameras import Camera
from ...geometry.pictures import sample_picture
from ...mesh.visibility import visible_vertices


@dataclass(frozen=True)
class Appearance:
    """Per-vertex results.

    Attributes:
        views: (V,) number of frames that see the vertex.
        colors: (V, 3) uint8 RGB; grey where no frame sees it.
    """

    views: np.ndarray
    colors: np.ndarray


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
