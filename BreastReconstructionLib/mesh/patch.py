"""A part of a surface inside a closed curve, and sheets that span the same curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sparse
from scipy.sparse.linalg import spsolve

from .boundary import boundary_loops
from .mesh import connected_parts, keep_vertices
from .polydata import array, triangles

# Twice the area of a face over the square of its longest side, at least: clipping leaves slivers, of infinite weights.
THINNEST = 1e-6


@dataclass(frozen=True)
class Patch:
    """A disc cut out of a surface.

    Attributes:
        vertices: (V, 3).
        faces: (F, 3), oriented as the surface.
        rim: (R,) vertices of its edge, in order along the faces' orientation.
        data: name -> (V, ...) values carried along from the surface.
    """

    vertices: np.ndarray
    faces: np.ndarray
    rim: np.ndarray
    data: dict[str, np.ndarray]

    @property
    def area(self) -> float:
        """In the square of its unit."""
        a, b, c = self.vertices[self.faces].transpose(1, 0, 2)
        return float(0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1).sum())


def cut_patch(
    vertices: np.ndarray, faces: np.ndarray, values: np.ndarray, inside: np.ndarray, data: dict[str, np.ndarray]
) -> Patch | None:
    """Cut out where values are negative, in the part nearest to a point; holes in it are left open.

    Args:
        vertices, faces: the surface.
        values: (V,) whose zero level is the curve.
        inside: (3,) the part that is meant is nearest to it.
        data: name -> (V, C) or (V,) values that are carried along.

    Returns:
        the patch, or None if no value is negative.
    """
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkFiltersCore import vtkClipPolyData

    near = values[faces].min(axis=1) < 0
    if not near.any():
        return None
    reached = np.zeros(len(vertices), bool)
    reached[faces[near]] = True
    used, cells = keep_vertices(vertices, faces, reached)
    mesh = triangles(vertices[used], cells)
    scalars = array("values", values[used].astype(float))
    mesh.GetPointData().SetScalars(scalars)
    for name, carried in data.items():
        mesh.GetPointData().AddArray(array(name, carried[used].astype(float)))
    clip = vtkClipPolyData()
    clip.SetInputData(mesh)
    clip.SetValue(0.0)
    clip.InsideOutOn()
    clip.Update()
    found = clip.GetOutput()
    points = vtk_to_numpy(found.GetPoints().GetData()).astype(float)
    cells = _triangulated(found)
    carried_along = {name: vtk_to_numpy(found.GetPointData().GetArray(name)).astype(float) for name in data}
    points, cells, carried_along = _merged(points, cells, carried_along)
    parts = connected_parts(cells, len(points))
    part = parts[np.linalg.norm(points - inside, axis=1).argmin()]
    kept, cells = keep_vertices(points, cells, parts == part)
    if len(cells) < 10:
        return None
    loops = boundary_loops(cells)
    return Patch(points[kept], cells, loops[0] if loops else np.empty(0, int), {k: v[kept] for k, v in carried_along.items()})


def _triangulated(polydata: Any) -> np.ndarray:
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkFiltersCore import vtkTriangleFilter

    filtered = vtkTriangleFilter()
    filtered.SetInputData(polydata)
    filtered.PassLinesOff()
    filtered.PassVertsOff()
    filtered.Update()
    return vtk_to_numpy(filtered.GetOutput().GetPolys().GetConnectivityArray()).reshape(-1, 3).astype(np.int64)


def _merged(
    points: np.ndarray, cells: np.ndarray, data: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Join points that lie in one place, and drop faces that lose their area by it: clipping leaves both."""
    _, first, index = np.unique(np.round(points, 6), axis=0, return_index=True, return_inverse=True)
    cells = index.ravel()[cells]
    cells = cells[(cells[:, 0] != cells[:, 1]) & (cells[:, 1] != cells[:, 2]) & (cells[:, 2] != cells[:, 0])]
    return points[first], cells, {name: values[first] for name, values in data.items()}


def harmonic(patch: Patch, at_rim: np.ndarray) -> np.ndarray:
    """Return (V, C) values that are given at the rim and harmonic inside (cotangent weights, Pinkall and Polthier 1993).

    Args:
        patch: a disc, whose holes count as inside.
        at_rim: (R, C) in the order of its rim.
    """
    count = len(patch.vertices)
    a, b, c = patch.vertices[patch.faces].transpose(1, 0, 2)
    longest = np.max([((b - a) ** 2).sum(axis=1), ((c - b) ** 2).sum(axis=1), ((a - c) ** 2).sum(axis=1)], axis=0)
    doubled = np.maximum(np.linalg.norm(np.cross(b - a, c - a), axis=1), THINNEST * longest)
    rows, columns, weights = [], [], []
    for i, (corner, left, right) in enumerate(((a, b, c), (b, c, a), (c, a, b))):
        cotangent = ((left - corner) * (right - corner)).sum(axis=1) / doubled
        j, k = patch.faces[:, (i + 1) % 3], patch.faces[:, (i + 2) % 3]
        rows += [j, k]
        columns += [k, j]
        weights += [0.5 * cotangent] * 2
    matrix = sparse.coo_matrix((np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))), (count, count)).tocsr()
    laplacian = sparse.diags(np.asarray(matrix.sum(axis=1)).ravel()) - matrix
    free = np.setdiff1d(np.arange(count), patch.rim)
    result = np.zeros((count, at_rim.shape[1]))
    result[patch.rim] = at_rim
    system = laplacian.tocsr()[free]
    result[free] = np.asarray(spsolve(system[:, free].tocsc(), -(system[:, patch.rim] @ at_rim))).reshape(len(free), -1)
    return result


def closed_between(patch: Patch, sheet: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return vertices and faces of the closed mesh between a patch and a sheet of the same topology behind it.

    Args:
        patch: in front.
        sheet: (V, 3) where each of its vertices lies on the sheet.
    """
    count = len(patch.vertices)
    faces = [patch.faces, patch.faces[:, ::-1] + count]
    for start in boundary_loops(patch.faces):
        stop = np.roll(start, -1)
        faces.append(np.column_stack([start, start + count, stop]))
        faces.append(np.column_stack([stop, start + count, stop + count]))
    return np.concatenate([patch.vertices, sheet]), np.concatenate(faces)


def signed_volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    """Volume of a closed mesh by the divergence theorem; positive if its faces look outward."""
    a, b, c = (vertices - vertices.mean(axis=0))[faces].transpose(1, 0, 2)
    return float(np.einsum("fi,fi->", a, np.cross(b, c)) / 6.0)
