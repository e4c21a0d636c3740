"""Solids: from label maps and into them, and one without another (manifold3d)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.errors import MeasurementError
from ..core.progress import Progress
from ..geometry.volume import Volume
from .level import level_of_volume
from .mesh import TriangleMesh
from .polydata import triangles

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
    mask = labels.values != 0
    if not mask.any():
        raise MeasurementError("The segment of the chest wall is empty; export it as a label map again.")
    found = level_of_volume(np.pad(mask, 1).astype(np.float32) - 0.5, labels.padded_to_ras(1))
    return found.vertices, found.faces


def coverage(
    vertices: np.ndarray, faces: np.ndarray, grid: Volume, finer: int = 1, progress: Progress | None = None
) -> np.ndarray:
    """Return the (K, J, I) share of each voxel that lies inside a closed mesh (RAS mm, outward), by VTK's exact stencil.

    Args:
        vertices, faces: of the mesh.
        grid: whose voxels; its values are not looked at.
        finer: sub-voxels a side that are counted; with 1, a voxel is in or out by its centre.
        progress: told how far it is.
    """
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkImagingStencil import vtkImageStencilToImage, vtkPolyDataToImageStencil

    depth, height, width = grid.values.shape
    progress = progress or Progress()
    fine = (grid.to_ijk(vertices) + 0.5) * finer - 0.5  # indices of sub-voxels
    data = triangles(fine, faces if np.linalg.det(grid.ijk_to_ras[:3, :3]) > 0 else faces[:, ::-1])
    result = np.empty(grid.values.shape, np.float32)
    slab = 8
    for first in range(0, depth, slab):
        progress(first / depth, "drawing the body")
        last = min(first + slab, depth)
        stencil = vtkPolyDataToImageStencil()
        stencil.SetInputData(data)
        stencil.SetTolerance(0.0)
        stencil.SetOutputSpacing(1, 1, 1)
        stencil.SetOutputOrigin(0, 0, 0)
        stencil.SetOutputWholeExtent(0, finer * width - 1, 0, finer * height - 1, finer * first, finer * last - 1)
        image = vtkImageStencilToImage()
        image.SetInputConnection(stencil.GetOutputPort())
        image.SetInsideValue(1)
        image.SetOutsideValue(0)
        image.SetOutputScalarTypeToUnsignedChar()
        image.Update()
        values = vtk_to_numpy(image.GetOutput().GetPointData().GetScalars())
        blocks = values.reshape(last - first, finer, height, finer, width, finer)
        result[first:last] = blocks.mean(axis=(1, 3, 5), dtype=np.float32)
    return result


def intersection_over_union(one: TriangleMesh, other: TriangleMesh, voxels: tuple[int, int, int]) -> float:
    """Return the volume that two closed meshes share, over that of both together, on a grid of so many voxels along each axis."""
    low = np.minimum(one.vertices.min(axis=0), other.vertices.min(axis=0))
    high = np.maximum(one.vertices.max(axis=0), other.vertices.max(axis=0))
    matrix = np.diag([*((high - low) / voxels), 1.0])
    matrix[:3, 3] = low + 0.5 * np.diag(matrix)[:3]
    grid = Volume(np.zeros(voxels[::-1], np.uint8), matrix)
    a, b = (coverage(mesh.vertices, mesh.faces, grid) > 0.5 for mesh in (one, other))
    return float((a & b).sum() / max((a | b).sum(), 1))


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
