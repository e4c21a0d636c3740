"""`python -m Testing.tutorial -o Resources/Screenshots`: goes through the panel on the sample and pictures each step."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from BreastReconstructionLib.capabilities.clinic.stages import MEASURE, REGISTER
from BreastReconstructionLib.core.resources import resource_path
from Testing.SlicerHost.application import start
from Testing.SlicerHost.window import HostWindow
from Testing.workflow import choose, open_panel, place_landmarks, wait, wait_for_run


class Pictures:
    """Pictures of the host's window, scrolled to a section."""

    def __init__(self, panel, folder: Path):
        self._panel, self._folder = panel, folder
        self._window = HostWindow(panel, start().layoutManager())
        self._window.show()

    def take(self, name: str, section: str) -> None:
        """Write the picture `name`.png with a section at the top of the panel."""
        ui = self._panel.ui
        for _ in range(3):
            start().processEvents()
        top = getattr(ui, section)._qt
        place = top.mapTo(self._window.scroll.widget(), top.rect().topLeft())
        self._window.scroll.verticalScrollBar().setValue(max(0, place.y() - 8))
        self._window.draw()
        start().processEvents()
        self._window.grab().save(str(self._folder / f"{name}.png"))
        print(self._folder / f"{name}.png")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m Testing.tutorial", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("Resources/Screenshots"), help="existing folder")
    parser.add_argument("--case", type=Path, help="keep the case here and use what is there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        _go_through(options.output, options.case or Path(temporary) / "Patient 1")


def _combine(panel, pictures: Pictures) -> None:
    """Register to the sample's CT, measure, and show a slice with the surface's outline."""
    import slicer

    from BreastReconstructionLib.scene import nodes, patient, views

    storage = slicer.vtkMRMLNRRDStorageNode()
    storage.SetFileName(str(resource_path("SampleData", "phantom-ct", "volume.nrrd")))
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "PhantomCT")
    storage.ReadData(volume)
    volume.CreateDefaultDisplayNodes()
    volume.GetDisplayNode().SetAutoWindowLevel(False)
    volume.GetDisplayNode().SetWindowLevel(500, -50)
    panel.refresh()
    section = panel.clinic
    section.volume.setCurrentIndex(section.volume.findData(volume.GetID()))
    for stage in (REGISTER, MEASURE):
        section.buttons[stage].click()
        wait_for_run(panel)
    case = panel.case_folder
    for role in (nodes.CLOUD, nodes.CAMERAS):
        patient.find_node(case, role).GetDisplayNode().SetVisibility(False)
    panel.result.node().GetDisplayNode().SetVisibility2D(True)
    red = views.red_slice_widget()
    logic = red.sliceLogic()
    logic.GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
    bounds = [0.0] * 6
    volume.GetRASBounds(bounds)
    red.mrmlSliceNode().JumpSliceByCentering(0.0, 0.5 * (bounds[2] + bounds[3]), 0.47 * bounds[4] + 0.53 * bounds[5])
    logic.FitSliceToAll()
    panel.ui.clinicSection = section.widget
    section.widget.collapsed = False
    view = start().layoutManager().threeDWidget(0).threeDView()
    view.resetFocalPoint()
    view.rotateToViewAxis(3)
    view.resetCamera()
    pictures.take("9-combine", "clinicSection")


def _go_through(folder: Path, case: Path) -> None:
    sample = resource_path("SampleData", "phantom")
    panel = open_panel()
    from BreastReconstructionLib.scene import nodes, patient  # only in Slicer or in the host, which is there now

    ui, pictures = panel.ui, Pictures(panel, folder)
    panel.enter()
    wait(lambda: "Computes on" in ui.setupState.text, 60)
    ui.videoPathEdit.currentPath = str(sample / "video.mp4")
    ui.casePathEdit.currentPath = str(case)
    pictures.take("1-setup", "setupSection")
    ui.framesButton.click()
    wait_for_run(panel)
    pictures.take("2-video", "videoSection")
    ui.camerasButton.click()
    wait_for_run(panel)
    view = start().layoutManager().threeDWidget(0).threeDView()
    view.resetFocalPoint()
    view.rotateToViewAxis(3)
    view.resetCamera()
    pictures.take("3-cameras", "camerasSection")
    place_landmarks(panel, sample)
    ui.previousFrameButton.click()
    pictures.take("4-landmarks", "landmarksSection")
    choose(ui.scaleComboBox, "marker")
    ui.markerSpinBox.value = 80.0
    pictures.take("5-scale", "scaleSection")
    ui.runAllButton.click()
    pictures.take("6-surface", "surfaceSection")
    wait_for_run(panel)
    wait(lambda: panel.result.node() is not None, 20)
    ui.outlineCheckBox.checked = True
    pictures.take("7-result", "resultSection")
    ui.outlineCheckBox.checked = False
    _combine(panel, pictures)
    for role in (nodes.SURFACE, nodes.LANDMARKS):
        patient.find_node(case, role).GetDisplayNode().SetVisibility(False)
    ui.exploreSection.collapsed = False
    ui.exploreButton.checked = True
    wait(lambda: ui.exploreState.text.startswith("Shape in"), 60)
    asked = len(panel.explore.refresh_seconds)
    ui.direction1Slider.value = 2.0
    wait(lambda: len(panel.explore.refresh_seconds) > asked, 20)
    pictures.take("8-explore", "exploreSection")
    panel.cleanup()


if __name__ == "__main__":
    main()
