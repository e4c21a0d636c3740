"""Distances between surfaces, rigid registration, and their summary."""

from __future__ import annotations

from typing import Any

import numpy as np


def closest_on_mesh(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (N,) exact unsigned distances to a triangle mesh and the (N, 3) closest points."""
    distance, closest, _ = closest_faces(points, vertices, faces)
    return distance, closest


def closest_faces(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (N,) exact unsigned distances to a triangle mesh, the (N, 3) closest points, and (N,) their faces.

    VTK's cell locator.
    """
    from vtkmodules.vtkCommonCore import mutable
    from vtkmodules.vtkCommonDataModel import vtkGenericCell, vtkStaticCellLocator

    from .polydata import triangles

    locator: Any = vtkStaticCellLocator()
    locator.SetDataSet(triangles(vertices, faces))
    locator.BuildLocator()
    closest, square, face = np.empty((len(points), 3)), np.empty(len(points)), np.empty(len(points), int)
    cell, found, sub = vtkGenericCell(), [0.0] * 3, mutable(0)
    distance2: Any = mutable(0.0)
    cell_id: Any = mutable(0)
    for i, point in enumerate(points):  # VTK has no vectorised closest point; 15 microseconds each
        locator.FindClosestPoint(point, found, cell, cell_id, sub, distance2)
        closest[i], square[i], face[i] = found, distance2.get(), cell_id.get()
    return np.sqrt(square), closest, face


def barycentric(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Return the (N, 3) barycentric coordinates of (N, 3) points in the planes of (N, 3, 3) triangles."""
    a, b, c = corners.transpose(1, 0, 2)
    normal = np.cross(b - a, c - a)
    square = np.maximum((normal**2).sum(axis=1), 1e-300)
    weights = [(np.cross(q - p, points - p) * normal).sum(axis=1) / square for p, q in ((b, c), (c, a), (a, b))]
    return np.column_stack(weights)


def summary_mm(distances_mm: np.ndarray) -> dict[str, float]:
    """Return mean, median, root mean square and 95th percentile."""
    return {
        "mean_mm": float(distances_mm.mean()),
        "median_mm": float(np.median(distances_mm)),
        "rms_mm": float(np.sqrt((distances_mm**2).mean())),
        "p95_mm": float(np.percentile(distances_mm, 95)),
    }
