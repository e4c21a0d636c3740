"""A window as in Slicer: the module's panel on the left, the Red slice view and the 3D view on the right."""

from __future__ import annotations

import numpy as np
import vtk
from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QImage, QPixmap
from PySide6.QtWidgets import QHBoxLayout, QLabel, QScrollArea, QSplitter, QWidget
from vtk.util.numpy_support import vtk_to_numpy


def picture_of(view) -> np.ndarray:
    """Return the (H, W, 3) uint8 RGB picture of a view, rendered now."""
    view.render_window().Render()
    grabber = vtk.vtkWindowToImageFilter()
    grabber.SetInput(view.render_window())
    grabber.ReadFrontBufferOff()
    grabber.Update()
    image = grabber.GetOutput()
    width, height, _ = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)[::-1, :, :3].copy()


class ViewLabel(QLabel):
    """An off-screen view, shown as a picture that takes clicks."""

    def __init__(self, view):
        super().__init__()
        self._view = view
        self.setMouseTracking(True)
        self.setFixedSize(*view.render_window().GetSize())

    def show_now(self) -> None:
        picture = picture_of(self._view)
        height, width, _ = picture.shape
        self.setPixmap(QPixmap.fromImage(QImage(picture.data, width, height, 3 * width, QImage.Format.Format_RGB888)))

    def _send(self, event, name: str) -> None:
        position = event.position()
        interactor = self._view.interactor()
        interactor.SetEventInformation(int(position.x()), self.height() - 1 - int(position.y()), 0, 0)
        interactor.InvokeEvent(name)

    def mousePressEvent(self, event) -> None:
        left = event.button() == Qt.MouseButton.LeftButton
        self._send(event, "LeftButtonPressEvent" if left else "RightButtonPressEvent")

    def mouseReleaseEvent(self, event) -> None:
        left = event.button() == Qt.MouseButton.LeftButton
        self._send(event, "LeftButtonReleaseEvent" if left else "RightButtonReleaseEvent")

    def mouseMoveEvent(self, event) -> None:
        self._send(event, "MouseMoveEvent")


class HostWindow(QWidget):
    """Panel and views; the views are drawn ten times a second while the window is open."""

    def __init__(self, widget, layout_manager):
        super().__init__()
        self.setWindowTitle(f"SlicerHost: {widget.moduleName}")
        self.views = [ViewLabel(layout_manager.sliceWidget("Red").view), ViewLabel(layout_manager.threeDWidget(0).view)]
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setWidget(widget.parent._qt)
        scroll.setMinimumWidth(520)
        splitter = QSplitter()
        for part in (scroll, *self.views):
            splitter.addWidget(part)
        row = QHBoxLayout(self)
        row.addWidget(splitter)
        self.scroll = scroll
        self.resize(1760, 760)

    def live(self) -> None:
        """Draw the views from now on."""
        timer = QTimer(self)
        timer.timeout.connect(self.draw)
        timer.start(100)

    def draw(self) -> None:
        for view in self.views:
            view.show_now()
