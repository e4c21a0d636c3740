"""VTK meshes from arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from vtkmodules.vtkCommonCore import vtkDataArray
    from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData


def array(name: str, values: np.ndarray) -> vtkDataArray:
    """Return a named VTK array of (N,) or (N, C) values, which it copies."""
    from vtkmodules.util.numpy_support import numpy_to_vtk

    made = numpy_to_vtk(np.ascontiguousarray(values), deep=True)
    made.SetName(name)
    return made


def triangles(points: np.ndarray, faces: np.ndarray) -> vtkPolyData:
    """Return a vtkPolyData of (N, 3) points and (F, 3) triangles."""
    mesh = with_points(points.astype(np.float64, copy=False))
    mesh.SetPolys(cells(faces))
    return mesh


def with_points(points: np.ndarray) -> vtkPolyData:
    """Return a vtkPolyData of (N, 3) points, in their own precision, without cells."""
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonCore import vtkPoints
    from vtkmodules.vtkCommonDataModel import vtkPolyData

    data, vtk_points = vtkPolyData(), vtkPoints()
    vtk_points.SetData(numpy_to_vtk(np.ascontiguousarray(points), deep=True))
    data.SetPoints(vtk_points)
    return data


def cells(index: np.ndarray) -> vtkCellArray:
    """Return a vtkCellArray of (C, K) point indices, K a cell."""
    from vtkmodules.util.numpy_support import numpy_to_vtkIdTypeArray
    from vtkmodules.vtkCommonDataModel import vtkCellArray

    count, each = index.shape
    offsets = np.arange(0, each * count + 1, each, dtype=np.int64)
    connectivity = np.ascontiguousarray(index, np.int64).ravel()
    result = vtkCellArray()
    result.SetData(numpy_to_vtkIdTypeArray(offsets, deep=True), numpy_to_vtkIdTypeArray(connectivity, deep=True))
    return result
