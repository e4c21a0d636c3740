"""Solids: from label maps, and one without another (manifold3d)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.errors import MeasurementError
from ..geometry.volume import Volume
from .patch import signed_volume

# Of the block behind the skin, the breast takes less than this.
UNTOUCHED_SHARE = 0.9


@dataclass(frozen=True)
class Solid:
    """A closed mesh, mm.

    Attributes:
        vertices: (V, 3).
        faces: (F, 3), outward.
        volume_mm3: of it.
    """

    vertices: np.ndarray
    faces: np.ndarray
    volume_mm3: float


def isosurface_of_labels(labels: Volume) -> tuple[np.ndarray, np.ndarray]:
    """Return vertices (RAS mm) and faces, outward, of the surface around all voxels that are not 0.

    Raises:
        MeasurementError: there are none.
    """
    from skimage.measure import marching_cubes

    mask = labels.values != 0
    if not mask.any():
        raise MeasurementError("The segment of the chest wall is empty; export it as a label map again.")
    padded = np.pad(mask, 1).astype(np.float32)
    vertices, faces, _, _ = marching_cubes(padded, 0.5)
    placed = labels.to_ras(vertices[:, ::-1] - 1.0)
    return placed, faces[:, ::-1] if signed_volume(placed, faces) < 0 else faces


def subtracted(
    solid: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray], inside: np.ndarray, side: str
) -> Solid:
    """Return what is left of a solid without another, the part nearest to a place.

    Args:
        solid, other: closed meshes: vertices and outward faces.
        inside: (3,) a place at the part that is meant.
        side: for the message.

    Raises:
        MeasurementError: a mesh is not closed, or the other does not cut through the solid.
    """
    from manifold3d import Manifold, Mesh

    whole, cutter = (Manifold(Mesh(v.astype(np.float32), f.astype(np.uint32))) for v, f in (solid, other))
    if whole.is_empty() or cutter.is_empty():
        raise MeasurementError(f"The {side} breast or the segment is no closed solid; smooth the segment and export it again.")
    parts = []
    for part in (whole - cutter).decompose():
        mesh = part.to_mesh()
        vertices, faces = np.asarray(mesh.vert_properties)[:, :3].astype(float), np.asarray(mesh.tri_verts).astype(int)
        if len(vertices):
            parts.append((np.linalg.norm(vertices - inside, axis=1).min(), Solid(vertices, faces, float(part.volume()))))
    if not parts:
        raise MeasurementError(f"The segment covers the whole {side} breast; it should be the chest wall and what is behind it.")
    nearest = min(parts, key=lambda pair: pair[0])[1]
    if nearest.volume_mm3 > UNTOUCHED_SHARE * float(whole.volume()):
        raise MeasurementError(
            f"The segment does not lie behind the {side} breast; draw the chest wall and all that is behind it in the registered "
            "volume."
        )
    return nearest
