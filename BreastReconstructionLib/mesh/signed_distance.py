"""Exact signed distances to a closed triangle mesh, and the sample points that a shape model trains on."""

from __future__ import annotations

import numpy as np

from ..core.errors import DependencyError
from .mesh import sample_surface

# Shares of points on the surface, close to it and around it, and their distances (model units; 0.008 is 2.3 mm).
NEAR_SHARES, NEAR_SIGMAS = (0.2, 0.5, 0.3), (0.0, 0.008, 0.04)
ANYWHERE_SHARE = 0.15


def signed_distance(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Exact distances of (N, 3) points to a watertight mesh, negative inside, in the unit of the points.

    libigl; the sign by fast winding numbers (Barill et al. 2018). Pseudonormals gave 1 to 3 % of the points of two in a hundred
    synthetic lungs the wrong sign, where thin triangles meet at an apex or surfaces cross at a sharp edge. Distances and winding
    numbers are asked for by themselves: together, libigl's distances are wrong by some tenths of a millimetre.

    Raises:
        DependencyError: libigl is not installed.
    """
    try:
        import igl
    except ImportError as error:
        raise DependencyError("Exact signed distances need libigl: pip install 'BreastReconstructionLib[train]'.") from error
    places, corners = np.ascontiguousarray(points, np.float64), np.ascontiguousarray(vertices, np.float64)
    triangles = np.ascontiguousarray(faces, np.int64)
    distance = np.sqrt(igl.point_mesh_squared_distance(places, corners, triangles)[0])
    return np.where(igl.fast_winding_number(corners, triangles, places) > 0.5, -distance, distance)


def sample_distances(
    vertices: np.ndarray, faces: np.ndarray, count: int, rng: np.random.Generator, weight: np.ndarray | float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return (count, 3) points about a closed mesh in the cube, most of them close to it, and their exact distances (count,)."""
    points, _ = sample_surface(vertices, faces, count, rng, weight)
    points = points + rng.choice(NEAR_SIGMAS, count, p=NEAR_SHARES)[:, None] * rng.normal(size=(count, 3))
    anywhere = rng.random(count) < ANYWHERE_SHARE
    points[anywhere] = rng.uniform(-1, 1, (anywhere.sum(), 3))
    return points, signed_distance(points, vertices, faces)
