"""VTK meshes from arrays."""

from __future__ import annotations

import numpy as np


def triangles(points: np.ndarray, faces: np.ndarray):
    """Return a vtkPolyData of (N, 3) points and (F, 3) triangles."""
    mesh = with_points(points.astype(np.float64, copy=False))
    mesh.SetPolys(cells(faces))
    return mesh


def with_points(points: np.ndarray):
    """Return a vtkPolyData of (N, 3) points, in their own precision, without cells."""
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonCore import vtkPoints
    from vtkmodules.vtkCommonDataModel import vtkPolyData

    data, vtk_points = vtkPolyData(), vtkPoints()
    vtk_points.SetData(numpy_to_vtk(np.ascontiguousarray(points), deep=True))
    data.SetPoints(vtk_points)
    return data


def cells(index: np.ndarray):
    """Return a vtkCellArray of (C, K) point indices, K a cell."""
    from vtkmodules.util.numpy_support import numpy_to_vtkIdTypeArray
    from vtkmodules.vtkCommonDataModel import vtkCellArray

    count, each = index.shape
    offsets = np.arange(0, each * count + 1, each, dtype=np.int64)
    connectivity = np.ascontiguousarray(index, np.int64).ravel()
    result = vtkCellArray()
    result.SetData(numpy_to_vtkIdTypeArray(offsets, deep=True), numpy_to_vtkIdTypeArray(connectivity, deep=True))
    return result
