"""Using the panel as a person would: widgets, clicks in the slice view, waiting. For tests and the tutorial's pictures."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import numpy as np

from BreastReconstructionLib.landmarks.names import LANDMARK_NAMES
from Testing.SlicerHost.application import load_module, start

ROOT = Path(__file__).resolve().parent.parent
MODULE = ROOT / "BreastReconstruction" / "BreastReconstruction.py"


def open_panel(path: Path = MODULE):
    """Return the module's panel in the host."""
    return load_module(path)


def wait(condition, seconds: float = 900.0) -> None:
    """Let events happen until a condition holds."""
    application = start()
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("waited in vain")
        application.processEvents()
        time.sleep(0.005)
    for _ in range(5):  # what was put off to the next turn
        application.processEvents()


def wait_for_run(panel, seconds: float = 900.0) -> str:
    """Wait until the panel's run has ended; returns what the panel says."""
    wait(lambda: not panel.ui.cancelButton.enabled, seconds)
    return panel.ui.statusLabel.text


def choose(combo, value: str) -> None:
    """Choose the item of a value in a combo box, as a click does."""
    combo.setCurrentIndex(combo.findData(value))


def drop(edit, address: str) -> None:
    """Drop a file's address on a path field, as a file manager does: Qt's line edit gets the event, with what it holds."""
    from PySide6.QtCore import QMimeData, QPointF, Qt, QUrl
    from PySide6.QtGui import QDropEvent
    from PySide6.QtWidgets import QLineEdit

    line = edit._qt.findChild(QLineEdit)
    data = QMimeData()
    data.setUrls([QUrl(address)])
    data.setText(address)
    middle = QPointF(line.width() / 2, line.height() / 2)
    keys = Qt.KeyboardModifier.NoModifier
    line.dropEvent(QDropEvent(middle, Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, keys))
    start().processEvents()


def click_pixel(pixel_px: np.ndarray) -> None:
    """Click with the left button on a frame's pixel in the Red slice view."""
    import slicer
    import vtk

    red = slicer.app.layoutManager().sliceWidget("Red")
    red.view.render()
    to_view = vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Invert(red.mrmlSliceNode().GetXYToRAS(), to_view)
    x, y, _, _ = to_view.MultiplyPoint((-float(pixel_px[0]), -float(pixel_px[1]), 0.0, 1.0))
    interactor = red.view.interactor()
    interactor.SetEventInformation(round(x), round(y), 0, 0)
    for event in ("MouseMoveEvent", "LeftButtonPressEvent", "LeftButtonReleaseEvent"):
        interactor.InvokeEvent(event)
    start().processEvents()


def exact_picks(sample: Path) -> dict[int, dict[str, np.ndarray]]:
    """Return the visible landmarks' pixels of each video frame of a phantom video."""
    picks: dict[int, dict[str, np.ndarray]] = {}
    with open(sample / "landmarks_in_frames.csv", newline="") as file:
        for row in csv.DictReader(file):
            if row["visible"] == "1":
                pixel = np.array([float(row["x_px"]), float(row["y_px"])])
                picks.setdefault(int(row["video_frame"]), {})[row["landmark"]] = pixel
    return picks


def place_landmarks(panel, sample: Path, offsets: tuple[int, ...] = (0, -5, 5)) -> None:
    """Click the six landmarks on the most frontal frame, then again on frames beside it where all of them are visible."""
    exact = exact_picks(sample)
    panel.ui.frontalFrameButton.click()
    names = [panel.ui.frameComboBox.itemData(i) for i in range(panel.ui.frameComboBox.count)]
    frontal = panel.ui.frameComboBox.currentIndex
    for offset in offsets:
        panel.ui.frameComboBox.setCurrentIndex(frontal + offset)
        number = panel.landmarks.picks.frames[names[frontal + offset]]
        panel.ui.placeButton.checked = True
        for name in LANDMARK_NAMES:
            if name in exact[number]:
                click_pixel(exact[number][name])
            else:
                panel.ui.placeButton.checked = False
                break


def start_and_wait_for(panel, button, stage, at_least=1) -> None:
    """Press a button and wait until a stage of its run has come so far, in per cent."""
    button.click()
    wait(lambda: panel.current_run.stage == stage and panel.current_run.percent >= at_least, 120)
