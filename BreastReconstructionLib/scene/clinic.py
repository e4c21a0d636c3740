"""Nodes of what is combined and measured: the volume's skin, transforms, curves, tables, segments."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from ..core.errors import VolumeError
from ..geometry.transforms import RAS_TO_LPS, Frame, Similarity
from ..geometry.volume import SUFFIXES, Volume, read_volume, write_volume
from ..landmarks.curves import CLOSED_CURVE, LINE, read_curve_points, read_kind
from ..mesh.mesh import TriangleMesh, vertex_normals
from .nodes import FRAME, PICKS, PREDICTED, fill_landmarks, placed_points
from .patient import ROLE, find_node, make_node, nodes_of

SCAN_SKIN, CHANGE, TO_SCAN, BENT_TO_SCAN, SEGMENTATION = "scan skin", "change", "to the volume", "bent to the volume", "segments"
SCAN_LANDMARKS, REGION = "landmarks on the volume", "skin that decides"
SCAN_DISTANCE, EARLIER, TO_LATER = "distance to the volume", "earlier surface", "earlier to later"
VISITS, VISITS_PLOT, MIRRORED = "visits", "volumes by visit", "distance to the mirrored side"
MEASUREMENTS, CHANGES, MARK = "measurements", "changes", "measured "
LARGEST_CHANGE_MM = 10.0
# Of the table of measurements.
VALUE_COLUMN = 2
_CURVE_CLASSES = {LINE: "vtkMRMLMarkupsLineNode", CLOSED_CURVE: "vtkMRMLMarkupsClosedCurveNode"}


def volumes_in_scene() -> list:
    """Return the scalar volumes that a person loaded: no vector volumes, no label maps, no frames of a video."""
    scene = slicer.mrmlScene
    every = [
        scene.GetNthNodeByClass(i, "vtkMRMLScalarVolumeNode")
        for i in range(scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode"))
    ]
    return [node for node in every if node.GetClassName() == "vtkMRMLScalarVolumeNode" and not node.GetAttribute(ROLE)]


def file_of_volume(node, folder: Path) -> Path:
    """Return a file of a volume node: its own where it lies as it was read, else one that is written into a folder.

    Raises:
        VolumeError: a transform above it bends it.
    """
    storage, parent = node.GetStorageNode(), node.GetParentTransformNode()
    if parent is None and storage is not None and not node.GetModifiedSinceRead():
        path = Path(storage.GetFileName() or "")
        if path.is_file() and path.name.endswith(SUFFIXES):
            return path
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    if parent is not None:
        if not parent.IsTransformToWorldLinear():
            raise VolumeError(f"A transform above the volume {node.GetName()} bends it; harden it, or take the volume out of it.")
        world = vtk.vtkMatrix4x4()
        parent.GetMatrixTransformToWorld(world)
        vtk.vtkMatrix4x4.Multiply4x4(world, matrix, matrix)
    image = node.GetImageData()
    if image is None:
        raise VolumeError(f"The volume {node.GetName()} holds no values; load it again.")
    values = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
    ijk_to_ras = np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "volume.nrrd"
    write_volume(path, Volume(values, ijk_to_ras).checked(node.GetName()), compressed=False)
    return path


def show_mesh(
    case: Path, mesh: TriangleMesh, role: str, color: tuple[float, float, float], opacity: float = 1.0, shown: bool = True
):
    """Return the model node of a mesh of a case (mm, RAS), in one colour, outlined in the slice views."""
    node = make_node(case, role, "vtkMRMLModelNode", role)
    node.SetAndObservePolyData(mesh.require(Frame.PATIENT).as_polydata())
    display = node.GetDisplayNode()
    display.SetColor(*color)
    display.SetOpacity(opacity)
    display.SetVisibility2D(True)
    display.SetVisibility(shown)
    return node


def show_map(case: Path, mesh: TriangleMesh, scalar: str, role: str, shown: bool = True):
    """Return the model node of a mesh coloured by a signed distance, blue over white to red."""
    node = show_mesh(case, mesh, role, (1.0, 1.0, 1.0), shown=shown)
    display = node.GetDisplayNode()
    display.SetActiveScalar(scalar, vtk.vtkAssignAttribute.POINT_DATA)
    for name in ("vtkMRMLColorTableNodeFileDivergingBlueRed.txt", "vtkMRMLColorTableNodeRainbow"):
        display.SetAndObserveColorNodeID(name)
        if display.GetColorNode() is not None:
            break
    display.SetScalarRangeFlag(slicer.vtkMRMLDisplayNode.UseManualScalarRange)
    display.SetScalarRange(-LARGEST_CHANGE_MM, LARGEST_CHANGE_MM)
    display.SetScalarVisibility(True)
    return node


def place_in_scan(case: Path, surface_to_scan: Similarity, deformation: Path | None = None):
    """Put a transform above all of a case that is in the surface's space; nothing is hardened. Returns the transform's node.

    Args:
        case: whose nodes.
        surface_to_scan: from the surface's space to the volume's.
        deformation: displacements to apply after it, or None.
    """
    node = _linear(case, TO_SCAN, surface_to_scan)
    bent = None
    if deformation is not None:
        bent = make_node(case, BENT_TO_SCAN, "vtkMRMLGridTransformNode", BENT_TO_SCAN)
        bent.SetAndObserveTransformToParent(_grid_transform(read_volume(deformation, vectors=True)))
    node.SetAndObserveTransformNodeID(None if bent is None else bent.GetID())
    for other in _in_surface_space(case):
        other.SetAndObserveTransformNodeID(node.GetID())
    return node


def _linear(case: Path, role: str, transform: Similarity):
    """The node of a similarity."""
    node = make_node(case, role, "vtkMRMLLinearTransformNode", role)
    matrix = vtk.vtkMatrix4x4()
    linear = transform.scale * transform.rotation
    for row in range(3):
        for column in range(3):
            matrix.SetElement(row, column, float(linear[row, column]))
        matrix.SetElement(row, 3, float(transform.translation[row]))
    node.SetMatrixTransformToParent(matrix)
    return node


def show_scan_landmarks(case: Path, places_ras: dict[str, np.ndarray]):
    """Return the markups node of the landmarks on the volume; those without a place are left to be placed in turn."""
    node = make_node(case, SCAN_LANDMARKS, "vtkMRMLMarkupsFiducialNode", SCAN_LANDMARKS)
    fill_landmarks(node, places_ras)
    return node


def moved_scan_landmarks(case: Path, known: dict[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    """Return the landmarks on the volume as they are in the scene, None if nobody placed or moved any since they were shown."""
    node = find_node(case, SCAN_LANDMARKS)
    placed = known if node is None else placed_points(node)
    same = set(placed) == set(known) and all(np.abs(placed[name] - known[name]).max() < 0.01 for name in placed)
    return None if same else placed


def region_node(case: Path):
    """Return the closed curve, on the surface, around the skin that shall decide the registration; it may be empty."""
    node = find_node(case, REGION)
    if node is None:
        node = make_node(case, REGION, "vtkMRMLMarkupsClosedCurveNode", REGION)
        place_new_nodes(case)
    return node


def drawn_region(case: Path) -> np.ndarray | None:
    """Return the (N, 3) points of that curve, in the surface's own space; None if nobody drew it."""
    node = find_node(case, REGION)
    points = [] if node is None else list(placed_points(node).values())
    return np.array(points) if len(points) > 3 else None


def show_earlier(case: Path, mesh: TriangleMesh, earlier_to_later: Similarity):
    """Return the model node of an earlier visit's surface, hidden, under the transform that lays it onto this visit's."""
    node = show_mesh(case, mesh, EARLIER, (0.6, 0.6, 0.9), 0.5, shown=False)
    to_later = _linear(case, TO_LATER, earlier_to_later)
    node.SetAndObserveTransformNodeID(to_later.GetID())
    return node


def thinned(mesh: TriangleMesh, cell_mm: float = 3.0) -> TriangleMesh:
    """Return a closed mesh with fewer, larger triangles, for segments (VTK's quadric clustering)."""
    clustering = vtk.vtkQuadricClustering()
    clustering.SetInputData(mesh.require(Frame.PATIENT).as_polydata())
    clustering.AutoAdjustNumberOfDivisionsOff()
    size = np.ptp(mesh.vertices, axis=0)
    clustering.SetNumberOfDivisions(*(int(max(1, length // cell_mm)) for length in size))
    clustering.Update()
    found = clustering.GetOutput()
    vertices = vtk_to_numpy(found.GetPoints().GetData()).astype(float)
    faces = vtk_to_numpy(found.GetPolys().GetConnectivityArray()).reshape(-1, 3)
    return TriangleMesh(vertices, faces, Frame.PATIENT, vertex_normals(vertices, faces))


def place_new_nodes(case: Path) -> None:
    """Put nodes that were made after the registration below its transform too."""
    node = find_node(case, TO_SCAN)
    if node is not None:
        for other in _in_surface_space(case):
            other.SetAndObserveTransformNodeID(node.GetID())


def _in_surface_space(case: Path) -> list:
    """The nodes of a case that lie where its surface lies: neither the volume's, nor a video frame's."""
    elsewhere = (SCAN_SKIN, SCAN_LANDMARKS, TO_SCAN, BENT_TO_SCAN, EARLIER, FRAME, PICKS, PREDICTED)
    nodes = [node for node in nodes_of(case) if node.GetAttribute(ROLE) not in elsewhere]
    return [node for node in nodes if node.IsA("vtkMRMLTransformableNode")]


def _grid_transform(field: Volume) -> vtk.vtkObject:
    """The displacements as Slicer keeps them: an oriented grid, vectors as point scalars. A plain one is silently no movement."""
    values = field.values @ RAS_TO_LPS.T  # vectors to RAS
    depth, height, width, _ = values.shape
    image = vtk.vtkImageData()
    image.SetDimensions(width, height, depth)
    image.SetSpacing(*map(float, field.spacing_mm))
    image.SetOrigin(*map(float, field.ijk_to_ras[:3, 3]))
    scalars = numpy_to_vtk(np.ascontiguousarray(values.reshape(-1, 3), np.float32), deep=True)
    image.GetPointData().SetScalars(scalars)
    grid = slicer.vtkOrientedGridTransform()
    directions = vtk.vtkMatrix4x4()
    axes = field.ijk_to_ras[:3, :3] / field.spacing_mm
    for row in range(3):
        for column in range(3):
            directions.SetElement(row, column, float(axes[row, column]))
    grid.SetGridDirectionMatrix(directions)
    grid.SetDisplacementGridData(image)
    grid.SetInterpolationModeToLinear()
    return grid


def show_curves(case: Path, files: dict[str, Path], shown: Iterable[str]):
    """Return the markups nodes of measured lines and curves, by name; those whose name holds none of `shown` are hidden."""
    made, shown = {}, tuple(shown)
    for name, path in files.items():
        kind, points = read_kind(path), read_curve_points(path)
        node = make_node(case, MARK + name, _CURVE_CLASSES.get(kind, "vtkMRMLMarkupsCurveNode"), name)
        if kind != LINE:
            node.SetCurveTypeToLinear()  # so that its own length is the path's
        set_points(node, points)
        display = node.GetDisplayNode()
        display.SetPointLabelsVisibility(False)
        display.SetPropertiesLabelVisibility(False)
        display.SetGlyphScale(0.6 if kind != LINE else 1.2)
        display.SetVisibility(any(word in name for word in shown))
        made[name] = node
    return made


def set_points(node, points: np.ndarray) -> None:
    """Replace the control points of a markups node by (N, 3) ones in its own space."""
    with slicer.util.NodeModify(node):
        node.RemoveAllControlPoints()
        for point in points:
            node.AddControlPoint(vtk.vtkVector3d(*map(float, point)))


def show_table(case: Path, role: str, columns: list[str], rows: list[list[str]]):
    """Return the table node of rows of text."""
    node = make_node(case, role, "vtkMRMLTableNode", role)
    node.RemoveAllColumns()
    for number, name in enumerate(columns):
        array = vtk.vtkStringArray()
        array.SetName(name)
        for row in rows:
            array.InsertNextValue(row[number])
        node.AddColumn(array)
    return node


def show_plot(case: Path, role: str, title: str, visits: list[str], series: dict[str, list[float]]):
    """Return the plot chart node of numbers by visit; its table and series are nodes of the case too."""
    table = make_node(case, f"{role} values", "vtkMRMLTableNode", f"{role} values")
    table.RemoveAllColumns()
    words, number = vtk.vtkStringArray(), vtk.vtkDoubleArray()
    words.SetName("visit")
    number.SetName("number")
    for index, visit in enumerate(visits):
        words.InsertNextValue(visit)
        number.InsertNextValue(index + 1)
    table.AddColumn(words)
    table.AddColumn(number)
    chart = make_node(case, role, "vtkMRMLPlotChartNode", role)
    chart.RemoveAllPlotSeriesNodeIDs()
    chart.SetTitle(title)
    chart.SetXAxisTitle("visit")
    for name, values in series.items():
        column = vtk.vtkDoubleArray()
        column.SetName(name)
        for value in values:
            column.InsertNextValue(value)
        table.AddColumn(column)
        line = make_node(case, f"{role} {name}", "vtkMRMLPlotSeriesNode", name)
        line.SetAndObserveTableNodeID(table.GetID())
        line.SetXColumnName("number")
        line.SetYColumnName(name)
        line.SetLabelColumnName("visit")
        line.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
        chart.AddAndObservePlotSeriesNodeID(line.GetID())
    return chart


def show_segments(case: Path, meshes: dict[str, TriangleMesh], role: str = SEGMENTATION):
    """Return the segmentation node of closed meshes, one segment each, which Segment Editor can edit."""
    node = make_node(case, role, "vtkMRMLSegmentationNode", role)
    segmentation = node.GetSegmentation()
    segmentation.RemoveAllSegments()
    for name, mesh in meshes.items():
        node.AddSegmentFromClosedSurfaceRepresentation(mesh.require(Frame.PATIENT).as_polydata(), name)
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetVisibility3D(False)
    return node


def ends_of_lines() -> dict[str, tuple[str, str]]:
    """Return which named points a measured line runs between, by the line's name."""
    found = {"nipple-to-nipple": ("left-nipple", "right-nipple")}
    for side in ("left", "right"):
        found[f"{side}-notch-to-nipple"] = ("sternal-notch", f"{side}-nipple")
        found[f"{side}-midclavicle-to-nipple"] = (f"{side}-midclavicle", f"{side}-nipple")
    return found


def moved_points(case: Path, files: dict[str, Path]) -> dict[str, np.ndarray]:
    """Return the (3,) ends of lines that somebody dragged since they were measured, by the point's name."""
    found = {}
    for name, ends in ends_of_lines().items():
        node = find_node(case, MARK + name)
        if node is None or name not in files or node.GetNumberOfControlPoints() != 2:
            continue
        kept = read_curve_points(files[name])
        for end in (0, 1):
            point = np.array(node.GetNthControlPointPosition(end))
            if np.linalg.norm(point - kept[end]) > 0.01:
                found[ends[end]] = point
    return found


def follow_line(node, changed):
    """Call `changed(first, second)` with the (3,) ends of a line as they are dragged; returns what ends it when called."""

    ends = lambda: np.array([node.GetNthControlPointPosition(end) for end in (0, 1)])
    known = [ends()]

    def moved(caller, event):  # also comes when a transform above the line changes, which moves none of its own points
        if node.GetNumberOfControlPoints() == 2 and np.abs(ends() - known[0]).max() > 1e-6:
            known[0] = ends()
            changed(*known[0])

    tag = node.AddObserver(slicer.vtkMRMLMarkupsNode.PointModifiedEvent, moved)
    return lambda: node.RemoveObserver(tag)


def write_value(case: Path, row: int, value: float) -> None:
    """Write a value into the table of measurements."""
    node = find_node(case, MEASUREMENTS)
    if node is not None:
        node.SetCellText(row, VALUE_COLUMN, f"{value:.1f}")


def read_boundaries(case: Path) -> dict[str, np.ndarray]:
    """Return the (N, 3) points of the boundary curves as they are in the scene now, in the surface's own space, by name."""
    found = {}
    for node in nodes_of(case):
        role = node.GetAttribute(ROLE) or ""
        if role.startswith(MARK) and role.endswith("breast-boundary"):
            count = node.GetNumberOfControlPoints()
            found[role.removeprefix(MARK)] = np.array([node.GetNthControlPointPosition(i) for i in range(count)])
    return found


def differ(drawn: dict[str, np.ndarray], files: dict[str, Path]) -> bool:
    """Tell whether somebody moved a boundary since it was measured, by more than what files round off."""
    for name, points in drawn.items():
        kept = read_curve_points(files[name]) if name in files else np.empty((0, 3))
        if kept.shape != points.shape or np.abs(kept - points).max() > 0.01:
            return True
    return False
