"""Fewer vertices of a mesh, none of them moved, its topology kept."""

from __future__ import annotations

import numpy as np

from .polydata import triangles


def decimated(vertices: np.ndarray, faces: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return about `count` of the vertices, and their faces (vertex deletion, Schroeder et al. 1992, by VTK)."""
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkFiltersCore import vtkDecimatePro

    decimate = vtkDecimatePro()
    decimate.SetInputData(triangles(vertices, faces))
    decimate.SetTargetReduction(max(0.0, 1.0 - count / len(vertices)))
    decimate.PreserveTopologyOn()
    decimate.SplittingOff()
    decimate.Update()
    found = decimate.GetOutput()
    points = vtk_to_numpy(found.GetPoints().GetData()).astype(float)
    return points, vtk_to_numpy(found.GetPolys().GetConnectivityArray()).reshape(-1, 3).astype(np.int64)
