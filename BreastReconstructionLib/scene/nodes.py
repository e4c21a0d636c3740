"""The nodes of a case: surface, cloud, camera frusta, landmarks, and a frame in the slice view."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from ..geometry.cameras import Camera
from ..geometry.transforms import Frame
from ..landmarks.names import LANDMARK_NAMES
from ..mesh.mesh import TriangleMesh
from ..mesh.polydata import array, cells, with_points
from .patient import make_node

SURFACE, CLOUD, CAMERAS = "surface", "cloud", "cameras"
LANDMARKS, PICKS, PREDICTED, FRAME = "landmarks", "picks", "predicted", "frame"
# Name of a colouring -> point scalar and the range shown, mm or frames.
COLOURINGS = {
    "texture": ("RGB", None),
    "residual_mm": ("residual_mm", (0.0, 3.0)),
    "views": ("views", (0.0, 30.0)),
    "detail_mm": ("detail_mm", (-3.0, 3.0)),
}
SKIN = (0.87, 0.72, 0.63)


def show_surface(case: Path, mesh: TriangleMesh, colouring: str, role: str = SURFACE):
    """Return the model node of a mesh (mm, RAS) with its normals, point scalars and colours.

    Args:
        case: whose node it is.
        mesh: see TriangleMesh.
        colouring: a key of COLOURINGS.
        role: 'surface', or another for a second mesh of the case.
    """
    node = make_node(case, role, "vtkMRMLModelNode", role)
    node.SetAndObservePolyData(mesh.require(Frame.PATIENT).as_polydata())
    colour_surface(node, colouring)
    return node


def mesh_of(node) -> TriangleMesh:
    """Return the mesh of a model node, in the node's own space (mm, RAS)."""
    polydata = node.GetPolyData()
    data = polydata.GetPointData()
    arrays = {data.GetArrayName(i): vtk_to_numpy(data.GetArray(i)) for i in range(data.GetNumberOfArrays())}
    normals, colors = arrays.pop("Normals", None), arrays.pop("RGB", None)
    faces = vtk_to_numpy(polydata.GetPolys().GetConnectivityArray()).reshape(-1, 3)
    scalars = {name: values.astype(float) for name, values in arrays.items() if values.ndim == 1}
    return TriangleMesh(
        vtk_to_numpy(polydata.GetPoints().GetData()).astype(float), faces, Frame.PATIENT, normals, colors, scalars
    )


def colour_surface(node, colouring: str) -> None:
    """Show a surface by its texture, by its distance to the measured points, or by the number of frames that see it."""
    display = node.GetDisplayNode()
    array, limits = COLOURINGS[colouring]
    display.SetColor(*SKIN)
    if node.GetPolyData() is None or not node.GetPolyData().GetPointData().HasArray(array):
        display.SetScalarVisibility(False)
        return
    display.SetActiveScalar(array, vtk.vtkAssignAttribute.POINT_DATA)
    if limits is None:
        display.SetScalarRangeFlag(slicer.vtkMRMLDisplayNode.UseDirectMapping)
    else:
        diverging = "DivergingBlueRed" if limits[0] < 0 else "Viridis"
        display.SetAndObserveColorNodeID(f"vtkMRMLColorTableNodeFile{diverging}.txt")
        if display.GetColorNode() is None:
            display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeRainbow")
        display.SetScalarRangeFlag(slicer.vtkMRMLDisplayNode.UseManualScalarRange)
        display.SetScalarRange(*limits)
    display.SetScalarVisibility(True)


def move_surface(node, points_ras: np.ndarray) -> None:
    """Put the vertices of a model node elsewhere, (V, 3) in its own space."""
    points = node.GetPolyData().GetPoints()
    points.SetData(array("Points", np.ascontiguousarray(points_ras, np.float32)))
    points.Modified()
    node.GetPolyData().Modified()


def show_cloud(case: Path, points_ras: np.ndarray, colors: np.ndarray):
    """Return the model node of a coloured point cloud, (N, 3) mm RAS and (N, 3) uint8 RGB."""
    polydata = with_points(points_ras.astype(np.float32))
    polydata.SetVerts(cells(np.arange(len(points_ras))[:, None]))
    polydata.GetPointData().AddArray(array("RGB", np.ascontiguousarray(colors, np.uint8)))
    node = make_node(case, CLOUD, "vtkMRMLModelNode", "points")
    node.SetAndObservePolyData(polydata)
    colour_surface(node, "texture")
    node.GetDisplayNode().SetPointSize(3)
    node.GetDisplayNode().SetVisibility2D(False)
    return node


def show_cameras(case: Path, cameras: dict[str, Camera], size_mm: float = 40.0):
    """Return the model node of the camera frusta, for cameras posed in mm RAS; point order follows the names' order."""
    points, lines = [], []
    for camera in cameras.values():
        corners = np.array([[0, 0], [camera.width, 0], [camera.width, camera.height], [0, camera.height]], float)
        first = len(points)
        points += [camera.center_world, *(camera.center_world + size_mm * camera.rays_world(corners))]
        lines += [(first, first + k) for k in range(1, 5)]
        lines += [(first + 1 + k, first + 1 + (k + 1) % 4) for k in range(4)]
    polydata = with_points(np.array(points, np.float32).reshape(-1, 3))
    polydata.SetLines(cells(np.array(lines, np.int64).reshape(-1, 2)))
    node = make_node(case, CAMERAS, "vtkMRMLModelNode", "cameras")
    node.SetAndObservePolyData(polydata)
    node.GetDisplayNode().SetColor(0.2, 0.5, 1.0)
    node.GetDisplayNode().SetLighting(False)
    node.GetDisplayNode().SetVisibility2D(False)
    return node


def show_landmarks(case: Path, landmarks_ras: np.ndarray):
    """Return the markups node of the six landmarks, (6, 3) mm RAS."""
    node = make_node(case, LANDMARKS, "vtkMRMLMarkupsFiducialNode", "landmarks")
    node.RemoveAllControlPoints()
    for name, point in zip(LANDMARK_NAMES, landmarks_ras, strict=True):
        node.AddControlPoint(*map(float, point), name)
    node.SetLocked(True)
    return node


def show_frame(case: Path, picture: Path, outline_px: np.ndarray | None = None):
    """Return the vector volume of a frame, one pixel a millimetre, its upper left corner at the origin.

    `outline_px`, (N, 2) pixels close to each other, is drawn into the picture.

    Pixels run to the patient's left (-R) and downwards (-A), so that the axial slice view shows the picture upright.
    """
    reader = vtk.vtkPNGReader()
    reader.SetFileName(str(picture))
    reader.Update()
    image = reader.GetOutput()
    if outline_px is not None:
        _draw(image, outline_px)
    node = make_node(case, FRAME, "vtkMRMLVectorVolumeNode", "frame")
    with slicer.util.NodeModify(node):
        node.SetIJKToRASDirections(-1, 0, 0, 0, 1, 0, 0, 0, -1)
        node.SetOrigin(-0.5, 0.5 - image.GetDimensions()[1], 0.0)
        node.SetAndObserveImageData(image)
        node.SetAttribute("BreastReconstruction.frame", picture.name)
    return node


def _draw(image: vtk.vtkImageData, pixels: np.ndarray) -> None:
    width, height, _ = image.GetDimensions()
    values = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)
    around = np.stack(np.meshgrid(np.arange(-3, 4), np.arange(-3, 4)), axis=-1).reshape(-1, 2)
    spots = (pixels[:, None] + around).reshape(-1, 2)
    values[height - 1 - np.clip(spots[:, 1], 0, height - 1), np.clip(spots[:, 0], 0, width - 1), :3] = (60, 255, 60)


def pixel_to_ras(pixels: np.ndarray) -> np.ndarray:
    """Return (N, 3) positions on the frame's volume of (N, 2) pixels (the centre of the upper left one is (0.5, 0.5))."""
    return np.column_stack([-pixels, np.zeros(len(pixels))])


def ras_to_pixel(points_ras: np.ndarray) -> np.ndarray:
    """Return the (N, 2) pixels of (N, 3) positions on the frame's volume."""
    return -points_ras[:, :2]


def show_picks(case: Path, pixels: dict[str, np.ndarray], unconfirmed: bool = False):
    """Return the markups node in which a frame's landmarks are placed; those without a pixel are left to be placed in turn.

    Orange while some are proposed that nobody has confirmed, yellow else.
    """
    node = make_node(case, PICKS, "vtkMRMLMarkupsFiducialNode", "picks on this frame")
    fill_landmarks(node, {name: pixel_to_ras(pixel[None])[0] for name, pixel in pixels.items()})
    _flat_markers(node, (1.0, 0.5, 0.1) if unconfirmed else (1.0, 0.85, 0.1))
    return node


def fill_landmarks(node, places: dict[str, np.ndarray]) -> None:
    """Let a markups node hold the six landmarks; those without a (3,) place are left to be placed in turn."""
    with slicer.util.NodeModify(node):
        node.SetFixedNumberOfControlPoints(False)
        node.RemoveAllControlPoints()
        for name in LANDMARK_NAMES:
            index = node.AddControlPoint(*map(float, places.get(name, np.zeros(3))), name)
            if name not in places:
                node.UnsetNthControlPointPosition(index)
        node.SetFixedNumberOfControlPoints(True)


def placed_points(node) -> dict[str, np.ndarray]:
    """Return the placed (3,) points of a markups node, in its own space, by label."""
    return {
        node.GetNthControlPointLabel(i): np.array(node.GetNthControlPointPosition(i))
        for i in range(node.GetNumberOfControlPoints())
        if node.GetNthControlPointPositionStatus(i) == slicer.vtkMRMLMarkupsNode.PositionDefined
    }


def read_picks(node) -> dict[str, np.ndarray]:
    """Return the placed pixels of the picks node, by landmark."""
    return {name: ras_to_pixel(point[None])[0] for name, point in placed_points(node).items()}


def show_predicted(case: Path, pixels: dict[str, np.ndarray]):
    """Return the locked markups node that shows where landmarks placed in other frames should be in this one."""
    node = make_node(case, PREDICTED, "vtkMRMLMarkupsFiducialNode", "expected on this frame")
    with slicer.util.NodeModify(node):
        node.RemoveAllControlPoints()
        for name, pixel in pixels.items():
            node.AddControlPoint(*map(float, pixel_to_ras(pixel[None])[0]), name)
        node.SetLocked(True)
    _flat_markers(node, (0.3, 0.8, 1.0))
    return node


def interaction_node():
    """Return the node that says what clicks in views do."""
    return slicer.app.applicationLogic().GetInteractionNode()


def start_placing(node) -> None:
    """Let the next clicks in a view place the points of a markups node in turn."""
    selection = slicer.app.applicationLogic().GetSelectionNode()
    interaction = interaction_node()
    selection.SetReferenceActivePlaceNodeClassName(node.GetClassName())
    selection.SetActivePlaceNodeID(node.GetID())
    interaction.SetPlaceModePersistence(1)
    interaction.SetCurrentInteractionMode(interaction.Place)


def stop_placing() -> None:
    """Let clicks in views do what they did before."""
    interaction = interaction_node()
    interaction.SetCurrentInteractionMode(interaction.ViewTransform)


def _flat_markers(node, color: tuple[float, float, float]) -> None:
    """Markers of a picture: shown in slice views only, small and labelled."""
    display = node.GetDisplayNode()
    display.SetSelectedColor(*color)
    display.SetColor(*color)
    display.SetVisibility3D(False)
    display.SetTextScale(2.5)
    display.SetGlyphScale(2.0)
