"""Rigid and similarity registration of points to a surface."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from ..geometry.transforms import Similarity


def register_to_surface(
    source: np.ndarray, vertices: np.ndarray, normals: np.ndarray, with_scale: bool, iterations: int = 60
) -> Similarity:
    """Iterative closest points, point to plane for rigid motion (Chen and Medioni 1991), point to point with scale.

    Args:
        source: (N, 3) points, already close to the surface.
        vertices: (V, 3) dense surface vertices.
        normals: (V, 3) their unit normals.
        with_scale: refine the scale too.
        iterations: at most.

    Returns:
        the transform of the source.
    """
    tree = cKDTree(vertices)
    result = Similarity(1.0, np.eye(3), np.zeros(3))
    for _ in range(iterations):
        moved = result.apply(source)
        distance, index = tree.query(moved)
        kept = distance <= np.percentile(distance, 95)
        x, y, n = moved[kept], vertices[index[kept]], normals[index[kept]]
        center = x.mean(axis=0)
        arm = x - center
        rows = np.column_stack([np.cross(arm, n), n] + ([(arm * n).sum(axis=1)] if with_scale else []))
        step = np.linalg.lstsq(rows, ((y - x) * n).sum(axis=1), rcond=None)[0]
        rotation = Rotation.from_rotvec(step[:3]).as_matrix()
        scale = float(np.exp(step[6])) if with_scale else 1.0
        small = Similarity(scale, rotation, center + step[3:6] - scale * rotation @ center)
        result = small.after(result)
        if np.abs(step).max() < 1e-7:
            break
    return result
