"""The zero level of values on a grid of voxels; for a field that can be asked anywhere, see `extraction`."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..geometry.transforms import Frame
from .mesh import TriangleMesh, vertex_normals

COMPARED_VERTICES = 2000


def level_of_volume(height: np.ndarray, ijk_to_ras: np.ndarray) -> TriangleMesh:
    """Return the zero level of (K, J, I) values, patient space, facing lower values; empty if there is none.

    VTK's flying edges in indices, carried by the whole matrix, so that oblique and mirrored grids are handled.
    """
    from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
    from vtkmodules.vtkCommonDataModel import vtkImageData
    from vtkmodules.vtkFiltersCore import vtkFlyingEdges3D

    image = vtkImageData()
    image.SetDimensions(*height.shape[::-1])
    scalars = numpy_to_vtk(np.ascontiguousarray(height, np.float32).ravel(), deep=False)
    image.GetPointData().SetScalars(scalars)
    contour = vtkFlyingEdges3D()
    contour.SetInputData(image)
    contour.SetValue(0, 0.0)
    contour.ComputeNormalsOff()
    contour.ComputeScalarsOff()
    contour.Update()
    found = contour.GetOutput()
    if found.GetNumberOfPolys() == 0:
        return TriangleMesh(np.empty((0, 3)), np.empty((0, 3), np.int64), Frame.PATIENT, np.empty((0, 3)))
    indices = vtk_to_numpy(found.GetPoints().GetData()).astype(float)
    vertices = indices @ ijk_to_ras[:3, :3].T + ijk_to_ras[:3, 3]
    faces = vtk_to_numpy(found.GetPolys().GetConnectivityArray()).reshape(-1, 3).astype(np.int64)
    normals = vertex_normals(vertices, faces)
    # The sense of the faces depends on VTK and on the matrix's determinant.
    sample = np.linspace(0, len(vertices) - 1, COMPARED_VERTICES).astype(int)
    step = normals[sample] @ np.linalg.inv(ijk_to_ras[:3, :3]).T
    step /= np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-12)  # at a degenerate vertex there is no normal
    ahead, behind = (
        ndimage.map_coordinates(height, (indices[sample] + sign * step).T[::-1], order=1, mode="nearest") for sign in (1, -1)
    )
    if np.median(np.nan_to_num(ahead - behind)) > 0:
        faces, normals = faces[:, ::-1], -normals
    return TriangleMesh(vertices, faces, Frame.PATIENT, normals)
