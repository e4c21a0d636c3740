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
        spread: (V,) standard deviation of its hue among the frames that see it, as a factor's logarithm; 0 with one frame.
    """

    views: np.ndarray
    colors: np.ndarray
    spread: np.ndarray


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
    hue_total, hue_square = np.zeros((len(vertices), 2)), np.zeros(len(vertices))
    for done, (name, camera) in enumerate(cameras.items()):
        visible, pixels, cosine = visible_vertices(camera, vertices, normals)
        picture = read_picture(name)
        chosen = np.flatnonzero(visible)
        views[chosen] += 1
        sampled = sample_picture(picture, pixels[chosen] - 0.5)
        share = cosine[chosen] ** 2
        total[chosen] += share[:, None] * sampled[:, ::-1]
        weight[chosen] += share
        hue = _hue(sampled)
        hue_total[chosen] += share[:, None] * hue
        hue_square[chosen] += share * (hue**2).sum(axis=1)
        progress((done + 1) / len(cameras), f"colours from frame {done + 1} of {len(cameras)}")
    colors = np.full((len(vertices), 3), 128.0)
    seen = weight > 0
    colors[seen] = total[seen] / weight[seen, None]
    spread = np.zeros(len(vertices))
    mean = hue_total[seen] / weight[seen, None]
    spread[seen] = np.sqrt(np.maximum(hue_square[seen] / weight[seen] - (mean**2).sum(axis=1), 0.0))
    return Appearance(views, np.clip(colors, 0, 255).astype(np.uint8), spread)


def _hue(sampled: np.ndarray) -> np.ndarray:
    """(N, 2) logarithms of red and blue over green of (N, 3) BGR samples, less the picture's own: white balance drifts."""
    blue, green, red = np.log(np.maximum(sampled, 3.0)).T
    hue = np.column_stack([red - green, blue - green])
    return hue - np.median(hue, axis=0) if len(hue) else hue


def distance_to_points(vertices: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the (V,) distance of each vertex to the nearest measured point, in the unit of both."""
    return cKDTree(points).query(vertices, workers=-1)[0]
