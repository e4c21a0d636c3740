"""The mid-sagittal plane of a chest, and how far its sides differ."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..geometry.transforms import Similarity, fit_similarity
from ..landmarks.names import EXCHANGED
from ..mesh.mesh import TriangleMesh
from ..mesh.registration import register_robustly
from .change import signed_distances_mm

KERNELS_MM = (25.0, 10.0, 6.0)
SAMPLES = 3000
MIRROR = np.diag([-1.0, 1.0, 1.0])


@dataclass(frozen=True)
class MirrorPlane:
    """A plane of symmetry.

    Attributes:
        point_ras, normal_ras: (3,) each; the normal points to the patient's left.
        residual_mm: median distance of the mirrored stable skin to the skin.
    """

    point_ras: np.ndarray
    normal_ras: np.ndarray
    residual_mm: float

    def mirrored(self, points_ras: np.ndarray) -> np.ndarray:
        """Return (N, 3) points on the other side."""
        return points_ras - 2 * self.distance(points_ras)[:, None] * self.normal_ras

    def distance(self, points_ras: np.ndarray) -> np.ndarray:
        """(N,) signed distance, positive on the patient's left."""
        return (points_ras - self.point_ras) @ self.normal_ras


def find_mirror_plane(surface: TriangleMesh, stable: np.ndarray, landmarks_ras: np.ndarray) -> MirrorPlane:
    """Register the mirrored skin of sternum and ribs to itself; the plane lies half-way.

    Args:
        surface: patient space, mm, with normals.
        stable: (V,) True where the skin is used: neither breasts nor arms decide.
        landmarks_ras: (6, 3), the start.
    """
    assert surface.normals is not None
    flipped = landmarks_ras @ MIRROR
    # Not by the nipples, which may differ.
    start = fit_similarity(flipped[[0, 1, 5, 4]], landmarks_ras[[0, 1, 4, 5]], with_scale=False)
    places = surface.vertices[stable]
    places = places[:: max(1, len(places) // SAMPLES)]
    found = register_robustly(places @ MIRROR, surface.vertices[stable], surface.normals[stable], KERNELS_MM, start=start)
    whole = Similarity(1.0, found.transform.rotation @ MIRROR, found.transform.translation)
    images = whole.apply(places)
    # The reflection nearest to what was found: its normal is the eigenvector of -1.
    matrix = 0.5 * (whole.rotation + whole.rotation.T)
    normal = np.linalg.eigh(matrix)[1][:, 0]
    normal = normal if normal[0] < 0 else -normal  # the patient's left is -R
    used = found.weight > 0.1
    return MirrorPlane((0.5 * (places + images))[used].mean(axis=0), normal, float(np.median(np.abs(found.residual[used]))))


def mirrored_distance_mm(surface: TriangleMesh, plane: MirrorPlane) -> np.ndarray:
    """(V,) signed distance of each vertex to the mirrored surface along the normal; positive: this side stands out more."""
    assert surface.normals is not None
    mirrored = replace(surface, vertices=plane.mirrored(surface.vertices), faces=surface.faces[:, ::-1], normals=None)
    return signed_distances_mm(surface.vertices, surface.normals, mirrored)


def landmark_asymmetry_mm(landmarks_ras: np.ndarray) -> float:
    """Root mean square distance of the landmarks from their mirrored selves after Procrustes (Klingenberg et al. 2002)."""
    flipped = (landmarks_ras @ MIRROR)[EXCHANGED]
    placed = fit_similarity(flipped, landmarks_ras, with_scale=False).apply(flipped)
    return float(np.sqrt(((placed - landmarks_ras) ** 2).sum(axis=1).mean()) / 2)
