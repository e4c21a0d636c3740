"""Where a breast ends on a surface: proposed by the atlas, or drawn; and its fold."""

from __future__ import annotations

import numpy as np

from ...core.errors import MeasurementError
from ...mesh.distance import closest_on_mesh
from ...mesh.mesh import TriangleMesh
from ...mesh.polydata import triangles, with_points
from ...shape_model.atlas import AtlasFit, AtlasPlaces

# A drawn curve farther from the surface than this belongs to another one.
FARTHEST_MM = 15.0


def proposed_values(fit: AtlasFit, places: AtlasPlaces, side: str) -> np.ndarray:
    """(V,) distance from a breast's proposed boundary in mm, roughly: by the breast's own radius on this body."""
    skin, edge = fit.points_ras.skin, fit.atlas.breast[0 if side == "left" else 1]
    rim = skin[np.abs(edge - 1.0) < 0.08]
    radius = float(np.linalg.norm(rim - rim.mean(axis=0), axis=1).mean())
    return (places.breast[side] - 1.0) * radius


def drawn_values(mesh: TriangleMesh, curve_ras: np.ndarray) -> np.ndarray:
    """(V,) distance from a closed curve on the surface, negative on its smaller side (VTK's selection along edges).

    Raises:
        MeasurementError: the curve lies off the surface, or crosses a hole.
    """
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkFiltersModeling import vtkSelectPolyData

    distance, onto = closest_on_mesh(curve_ras, mesh.vertices, mesh.faces)
    if distance.max() > FARTHEST_MM:
        raise MeasurementError(
            f"The boundary lies {distance.max():.0f} mm off this surface; was it drawn on another one, or before a transform?"
        )
    select = vtkSelectPolyData()
    select.SetInputData(triangles(mesh.vertices, mesh.faces))
    select.SetLoop(with_points(dense_curve(onto)).GetPoints())
    select.GenerateSelectionScalarsOn()
    select.SetSelectionModeToSmallestRegion()
    select.SetEdgeSearchModeToDijkstra()
    select.Update()
    scalars = select.GetOutput().GetPointData().GetScalars()
    if scalars is None or scalars.GetNumberOfTuples() != len(mesh.vertices):
        raise MeasurementError(
            "The boundary does not enclose a part of the surface; draw it as one closed curve without crossings."
        )
    return vtk_to_numpy(scalars).astype(float)


def dense_curve(curve: np.ndarray, step_mm: float = 3.0) -> np.ndarray:
    """Return a closed curve with points no farther apart than a step."""
    parts = []
    for start, stop in zip(curve, np.roll(curve, -1, axis=0), strict=True):
        count = max(1, int(np.ceil(np.linalg.norm(stop - start) / step_mm)))
        parts.append(start + np.linspace(0, 1, count, endpoint=False)[:, None] * (stop - start))
    return np.concatenate(parts)


def snapped_fold(fold_ras: np.ndarray, mesh: TriangleMesh) -> np.ndarray:
    """Bring the (Q, 3) points of a proposed fold onto the surface."""
    _, onto = closest_on_mesh(fold_ras, mesh.vertices, mesh.faces)
    return onto
