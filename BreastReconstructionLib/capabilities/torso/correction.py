"""Small smooth corrections of a finished surface."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

# Half the width of a nipple's surroundings that move with it, and the largest move that is still a correction.
REACH_MM = 25.0
LARGEST_MM = 15.0


def move_smoothly(vertices_ras: np.ndarray, anchors_ras: np.ndarray, placed_ras: np.ndarray) -> np.ndarray:
    """Move the surface so that the points next to `anchors_ras` come to lie at `placed_ras`.

    Displacements are Gaussian radial basis functions about the points, solved so that all are met together.

    Args:
        vertices_ras: (V, 3) mm.
        anchors_ras: (K, 3) mm, where the shape model has the points.
        placed_ras: (K, 3) mm, where the user placed them; moves beyond LARGEST_MM are shortened to it.

    Returns:
        (V, 3) mm.
    """
    on_surface = vertices_ras[cKDTree(vertices_ras).query(anchors_ras)[1]]
    moves = placed_ras - on_surface
    length = np.linalg.norm(moves, axis=1, keepdims=True)
    moves = moves * np.minimum(1.0, LARGEST_MM / np.maximum(length, 1e-9))
    weights = np.linalg.solve(_gaussian(on_surface, on_surface), moves)
    return vertices_ras + _gaussian(vertices_ras, on_surface) @ weights


def _gaussian(points: np.ndarray, centers: np.ndarray) -> np.ndarray:
    squared = ((points[:, None] - centers) ** 2).sum(axis=2)
    return np.exp(-0.5 * squared / REACH_MM**2)
