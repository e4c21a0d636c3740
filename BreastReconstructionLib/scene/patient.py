"""One case in the scene: its folder in the subject hierarchy, and its nodes by role.

Every node of a case carries the attributes below, so that it is found again after the scene was saved, cleared and loaded,
and several patients can share one scene.
"""

from __future__ import annotations

from pathlib import Path

import slicer

CASE = "BreastReconstruction.case"
ROLE = "BreastReconstruction.role"


def find_node(case: Path, role: str):
    """Return the node of a case that has a role, or None."""
    for node in nodes_of(case):
        if node.GetAttribute(ROLE) == role:
            return node
    return None


def make_node(case: Path, role: str, class_name: str, name: str):
    """Return the node of a case that has a role; it is made, and put into the case's folder, if there is none."""
    node = find_node(case, role)
    if node is None:
        node = slicer.mrmlScene.AddNewNodeByClass(class_name, f"{case.name} {name}")
        node.SetAttribute(CASE, str(case))
        node.SetAttribute(ROLE, role)
        if node.IsA("vtkMRMLDisplayableNode"):
            node.CreateDefaultDisplayNodes()
        hierarchy = _hierarchy()
        item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
        hierarchy.SetItemParent(item, folder_item(case))
    return node


def folder_item(case: Path) -> int:
    """Return the subject hierarchy item of a case's folder; it is made if there is none."""
    hierarchy, item = _hierarchy(), _find_folder(case)
    if item is not None:
        return item
    item = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), case.name)
    hierarchy.SetItemAttribute(item, CASE, str(case))
    return item


def write_provenance(case: Path, values: dict[str, str]) -> None:
    """Keep values as attributes of the case's folder."""
    hierarchy, item = _hierarchy(), folder_item(case)
    for key, value in values.items():
        hierarchy.SetItemAttribute(item, f"BreastReconstruction.{key}", str(value))


def read_provenance(case: Path, key: str) -> str:
    """Return a value kept by `write_provenance`, '' if there is none."""
    item = _find_folder(case)
    return "" if item is None else _hierarchy().GetItemAttribute(item, f"BreastReconstruction.{key}")


def cases_in_scene() -> list[Path]:
    """Return the cases that have a folder in the scene."""
    hierarchy = _hierarchy()
    return [Path(hierarchy.GetItemAttribute(item, CASE)) for item in _folder_items()]


def remove_case(case: Path) -> None:
    """Take a case's nodes and folder out of the scene, so that Undo brings them back; its files stay."""
    folder = _find_folder(case)
    if folder is None:
        return
    slicer.mrmlScene.SaveStateForUndo()
    for node in nodes_of(case):
        slicer.mrmlScene.RemoveNode(node)
    _hierarchy().RemoveItem(folder)


def show_only(case: Path) -> None:
    """Show the nodes of one case and hide those of the others."""
    for other in cases_in_scene():
        for node in nodes_of(other):
            display = node.GetDisplayNode() if node.IsA("vtkMRMLDisplayableNode") else None
            if display is not None and other != case:
                display.SetVisibility(False)


def _hierarchy():
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)


def _folder_items() -> list[int]:
    import vtk

    hierarchy, items = _hierarchy(), vtk.vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, False)
    every = [items.GetId(i) for i in range(items.GetNumberOfIds())]
    return [item for item in every if hierarchy.HasItemAttribute(item, CASE)]


def _find_folder(case: Path) -> int | None:
    """Subject hierarchy item of a case's folder, or None."""
    hierarchy = _hierarchy()
    return next((item for item in _folder_items() if hierarchy.GetItemAttribute(item, CASE) == str(case)), None)


def nodes_of(case: Path) -> list:
    """Return all nodes of a case."""
    scene = slicer.mrmlScene
    every = [scene.GetNthNode(i) for i in range(scene.GetNumberOfNodes())]
    return [node for node in every if node.GetAttribute(CASE) == str(case)]
