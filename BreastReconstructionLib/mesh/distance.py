"""Distances between surfaces, rigid registration, and their summary."""

from __future__ import annotations

from typing import Any

import numpy as np


def closest_on_mesh(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (N,) exact unsigned distances to a triangle mesh and the (N, 3) closest points (VTK's cell locator)."""
    from vtkmodules.vtkCommonCore import mutable
    from vtkmodules.vtkCommonDataModel import vtkGenericCell, vtkStaticCellLocator

    from .polydata import triangles

    locator: Any = vtkStaticCellLocator()
    locator.SetDataSet(triangles(vertices, faces))
    locator.BuildLocator()
    closest, square = np.empty((len(points), 3)), np.empty(len(points))
    cell, found, cell_id, sub = vtkGenericCell(), [0.0] * 3, mutable(0), mutable(0)
    distance2: Any = mutable(0.0)
    for i, point in enumerate(points):  # VTK has no vectorised closest point; 15 microseconds each
        locator.FindClosestPoint(point, found, cell, cell_id, sub, distance2)
        closest[i], square[i] = found, distance2.get()
    return np.sqrt(square), closest


def summary_mm(distances_mm: np.ndarray) -> dict[str, float]:
    """Return mean, median, root mean square and 95th percentile."""
    return {
        "mean_mm": float(distances_mm.mean()),
        "median_mm": float(np.median(distances_mm)),
        "rms_mm": float(np.sqrt((distances_mm**2).mean())),
        "p95_mm": float(np.percentile(distances_mm, 95)),
    }
