"""Segmentations, models and curves of the scene as files for an organ's model, and the whole organ as nodes."""

from __future__ import annotations

from pathlib import Path

import slicer

from ..core.errors import VolumeError
from ..mesh.files import write_ply
from ..mesh.mesh import TriangleMesh
from .clinic import show_mesh, show_segments
from .nodes import mesh_of
from .patient import ROLE

ORGAN, WHOLE = "organ", "whole organ"
_CLASSES = (
    "vtkMRMLSegmentationNode",
    "vtkMRMLLabelMapVolumeNode",
    "vtkMRMLModelNode",
    "vtkMRMLMarkupsCurveNode",
    "vtkMRMLMarkupsClosedCurveNode",
)
_ENDINGS = {"vtkMRMLSegmentationNode": ".seg.nrrd", "vtkMRMLLabelMapVolumeNode": ".nrrd", "vtkMRMLModelNode": ".ply"}
COLOUR = (0.85, 0.6, 0.55)


def sources_in_scene(segmentations_only: bool = False) -> list:
    """Return what a person has in the scene that an organ's model can be fitted to; nothing that this module made."""
    scene, found = slicer.mrmlScene, []
    for name in _CLASSES[:2] if segmentations_only else _CLASSES:
        every = [scene.GetNthNodeByClass(i, name) for i in range(scene.GetNumberOfNodesByClass(name))]
        found += [n for n in every if n.GetClassName() == name and not n.GetAttribute(ROLE) and not n.GetHideFromEditors()]
    return found


def segments_of(node) -> list[str]:
    """Return the names of a segmentation node's segments; of another node, none."""
    if node is None or not node.IsA("vtkMRMLSegmentationNode"):
        return []
    segmentation = node.GetSegmentation()
    return [segmentation.GetNthSegment(i).GetName() for i in range(segmentation.GetNumberOfSegments())]


def file_of_source(node, folder: Path, stem: str = "input") -> Path:
    """Write a node of `sources_in_scene` into a folder and return the file.

    Raises:
        VolumeError: it lies below a transform, is empty, or cannot be written.
    """
    if node.GetParentTransformNode() is not None:
        raise VolumeError(f"{node.GetName()} lies below a transform; harden the transform first (Data, right click).")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (stem + _ENDINGS.get(node.GetClassName(), ".mrk.json"))
    if node.IsA("vtkMRMLModelNode"):
        if node.GetPolyData() is None or node.GetPolyData().GetNumberOfPolys() == 0:
            raise VolumeError(f"The model {node.GetName()} is empty; choose another one.")
        write_ply(path, mesh_of(node))
        return path
    copy = slicer.mrmlScene.CopyNode(node)
    try:
        if node.IsA("vtkMRMLSegmentationNode"):
            if not segments_of(node):
                raise VolumeError(f"The segmentation {node.GetName()} has no segment; draw one in the Segment Editor.")
            if not copy.CreateBinaryLabelmapRepresentation():
                raise VolumeError(f"The segments of {node.GetName()} cannot be turned into label maps; export them as one.")
            copy.SetSourceRepresentationToBinaryLabelmap()
        storage = copy.CreateDefaultStorageNode()
        storage.SetFileName(str(path))
        if not storage.WriteData(copy):
            raise VolumeError(f"{node.GetName()} could not be saved for the fit; save it by hand and look at Slicer's log.")
    finally:
        slicer.mrmlScene.RemoveNode(copy)
    return path


def show_organ(case: Path, bodies: list[TriangleMesh]) -> list:
    """Return the model nodes of an organ's bodies, closed, and a segmentation node with one segment each."""
    named = {f"{ORGAN} {number + 1}": body for number, body in enumerate(bodies)}
    nodes = [show_mesh(case, body, name, COLOUR, 0.8) for name, body in named.items()]
    return [*nodes, show_segments(case, named, WHOLE)]
