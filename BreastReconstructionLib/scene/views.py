"""The views of Slicer's layout, any of which may be missing: the user chooses it, and a script may run without a window."""

from __future__ import annotations

import slicer


def red_slice_widget():
    """Return the Red slice view's widget; where the layout has none, one that has is chosen. None without views."""
    return _found(lambda manager: manager.sliceWidget("Red"))


def three_d_view():
    """Return the first 3D view; where the layout has none, one that has is chosen. None without views."""
    widget = _found(lambda manager: manager.threeDWidget(0) if manager.threeDViewCount else None)
    return None if widget is None else widget.threeDView()


def _found(look):
    manager = slicer.app.layoutManager()
    if manager is None:
        return None
    widget = look(manager)
    if widget is None:
        manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        widget = look(manager)
    return widget
