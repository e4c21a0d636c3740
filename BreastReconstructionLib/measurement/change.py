"""What changed between two surfaces of one patient: distance along the normal, and volume inside one boundary without a wall."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from ..core.errors import MeasurementError
from ..mesh.distance import closest_on_mesh
from ..mesh.mesh import TriangleMesh
from ..mesh.patch import Patch, closed_between, cut_patch, harmonic, signed_volume

# The boundary is drawn so much wider: what grows must not reach it.
WIDER_MM = 8.0


def signed_distances_mm(points_ras: np.ndarray, normals_ras: np.ndarray, other: TriangleMesh) -> np.ndarray:
    """(N,) distance from another surface, positive where the points lie in front of it along their own normals."""
    distance, closest = closest_on_mesh(points_ras, other.vertices, other.faces)
    return np.sign(((points_ras - closest) * normals_ras).sum(axis=1)) * distance


def volume_between_ml(
    later: TriangleMesh, earlier: TriangleMesh, values_mm: np.ndarray, inside_ras: np.ndarray, side: str
) -> tuple[float, float, Patch]:
    """Return how much the skin inside a boundary grew from the earlier surface to the later one, the later volume, and its patch.

    Each patch is closed by the membrane through its own rim, and the boundary is the same curve on both: the wall cancels, and so
    does what the alignment leaves at the rim.

    Args:
        later, earlier: aligned, patient space, mm.
        values_mm: (V,) distance of the later surface's vertices from its boundary, negative inside.
        inside_ras: (3,) the breast's middle.
        side: for the message.

    Raises:
        MeasurementError: the boundary leaves one of the surfaces.
    """
    values = values_mm - WIDER_MM
    patch = cut_patch(later.vertices, later.faces, values, inside_ras, {})
    # The same curve on the earlier surface: by the nearest places, which near the rim are the same skin.
    nearest = cKDTree(later.vertices).query(earlier.vertices)[1]
    other = cut_patch(earlier.vertices, earlier.faces, values[nearest], inside_ras, {})
    if patch is None or other is None or min(len(patch.rim), len(other.rim)) < 10:
        raise MeasurementError(f"The boundary of the {side} breast does not lie on both surfaces; draw it farther inside.")
    after, before = (signed_volume(*closed_between(one, harmonic(one, one.vertices[one.rim]))) / 1000.0 for one in (patch, other))
    return after - before, after, patch
