"""The panel in a real Slicer's manners: drops, layouts, placing, and what people type or leave empty."""

import csv
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PySide6")
pytest.importorskip("slicer")

from Testing.workflow import choose, click_pixel, drop, wait, wait_for_run


@pytest.mark.parametrize("before", ["", "/old/place/video.mp4"])
@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("file:///data/M%C3%BCller%20%231.mp4", "/data/Müller #1.mp4"),
        ("file:///C:/Users/Anna/video.mp4", "C:/Users/Anna/video.mp4"),
        ("file://server/share/video.mp4", "//server/share/video.mp4"),
    ],
)
def test_a_dropped_video_replaces_what_was_there(fresh, before, address, path):
    fresh.ui.videoPathEdit.currentPath = before
    drop(fresh.ui.videoPathEdit, address)
    assert fresh.parameters.video == path
    assert fresh.ui.videoPathEdit.currentPath == path


def test_views_that_the_layout_lacks(fresh, own_case, monkeypatch):
    import slicer

    from BreastReconstructionLib.scene import views

    manager, layouts = slicer.app.layoutManager(), slicer.vtkMRMLLayoutNode
    manager.setLayout(layouts.SlicerLayoutOneUp3DView)
    fresh.ui.casePathEdit.currentPath = str(own_case)
    wait(lambda: fresh.ui.camerasState.text.startswith("16 of 16"), 20)
    wait(lambda: fresh.result.node() is not None, 20)
    fresh.ui.frontalFrameButton.click()
    assert manager.sliceWidget("Red") is not None  # a layout that has it was chosen
    manager.setLayout(layouts.SlicerLayoutOneUpRedSliceView)
    fresh.result.show()
    wait(lambda: manager.threeDWidget(0) is not None, 5)
    monkeypatch.setattr(views, "_found", lambda look: None)  # Slicer without a window
    fresh.ui.nextFrameButton.click()
    assert "no Red slice view" in fresh.ui.statusLabel.text
    fresh.result.show()
    wait(lambda: "no 3D view" in fresh.ui.statusLabel.text, 5)
    assert fresh.ui.resultState.text != ""  # the refresh was finished


def test_place_is_let_go_when_slicer_ends_placing(fresh, own_case):
    from BreastReconstructionLib.scene import nodes

    fresh.ui.casePathEdit.currentPath = str(own_case)
    wait(lambda: fresh.ui.camerasState.text.startswith("16 of 16"), 20)
    fresh.ui.clearFrameButton.click()
    fresh.ui.placeButton.checked = True
    interaction = nodes.interaction_node()
    assert interaction.GetCurrentInteractionMode() == interaction.Place
    interaction.SetCurrentInteractionMode(interaction.ViewTransform)  # what Esc and a right click do
    assert not fresh.ui.placeButton.checked


def test_sample_data_from_python(panel):
    import SampleData

    paths = SampleData.SampleDataLogic().downloadSamples("BreastReconstructionPhantom")
    assert [Path(path).stat().st_size > 500 for path in paths] == [True, True]
    assert SampleData.SampleDataLogic().downloadSample("BreastReconstructionPhantom").endswith("video.mp4")


def test_nothing_is_measured_until_somebody_measures(fresh, small_input):
    from BreastReconstructionPanels.parameters import settings_of

    from BreastReconstructionLib.capabilities.torso.stages import MARKERS, SCALE

    panel, ui = fresh, fresh.ui
    panel.landmarks.files.load(small_input[1])
    choose(ui.scaleComboBox, "distance")
    assert ui.distanceSpinBox.text == "not measured"
    assert ui.markerSpinBox.text == "not measured"
    assert "Needs the distance" in ui.scaleState.text
    ui.reconstructButton.click()
    assert "Needs the distance" in ui.statusLabel.text
    assert not ui.cancelButton.enabled  # nothing runs
    choose(ui.scaleComboBox, "both")
    ui.distanceSpinBox.value = 210.0
    wait(lambda: "black square" in ui.scaleState.text, 5)
    ui.markerSpinBox.value, ui.markerNumberSpinBox.value = 80.0, 6
    wait(lambda: ui.scaleState.text == "Ready.", 5)
    settings = settings_of(panel.parameters, "picks.csv")
    assert settings.of(MARKERS).marker == ("DICT_4X4_50:6:80",)
    assert settings.of(SCALE).distance == ("left-nipple:right-nipple=210",)
    ui.distanceSpinBox.value = ui.markerSpinBox.value = 0.0


def test_a_slip_is_told_in_the_panel_and_a_doubt_goes_with_the_surface(fresh, own_case, small_input):
    panel, ui = fresh, fresh.ui
    ui.casePathEdit.currentPath = str(own_case)
    wait(lambda: ui.camerasState.text.startswith("16 of 16"), 20)
    panel.parameters.video = str(small_input[0])
    panel.landmarks.files.load(small_input[1])
    choose(ui.scaleComboBox, "distance")
    ui.distanceSpinBox.value = 21.0
    ui.runAllButton.click()
    assert "typed in centimetres (210 mm)?" in wait_for_run(panel, 60)
    ui.distanceSpinBox.value = 310.0
    ui.runAllButton.click()
    assert "DOUBTFUL: 310 mm between left-nipple and right-nipple" in wait_for_run(panel)
    wait(lambda: panel.result.node() is not None, 10)
    wait(lambda: "unlike any usual body" in (panel.result.node().GetAttribute("BreastReconstruction.doubts") or ""), 5)
    assert "DOUBTFUL" in ui.resultText.text
    assert "DOUBTFUL" in ui.scaleText.text
    assert "not mirrored" in ui.resultText.text
    ui.distanceSpinBox.value = 0.0


def test_picks_on_flipped_frames_are_kept_as_the_video_was_filmed(fresh):
    panel, ui = fresh, fresh.ui
    ui.option_mirrored.checked = True
    ui.framesButton.click()
    assert wait_for_run(panel).startswith("Done")
    ui.frontalFrameButton.click()
    ui.placeButton.checked = True
    click_pixel(np.array([170.0, 300.0]))
    ui.placeButton.checked = False
    with open(panel.case_folder / "landmarks.csv", newline="") as file:
        (row,) = list(csv.DictReader(file))
    assert float(row["x_px"]) == pytest.approx(540 - 170, abs=2)
    panel.landmarks.open_case()
    (placed,) = panel.landmarks.picks.by_frame.values()
    assert placed["sternal-notch"][0] == pytest.approx(170, abs=2)
    ui.option_mirrored.checked = False


class Recorder:
    """A worker that is told what to do and does nothing; what it hears is said by the test."""

    def __init__(self, on_event, on_end, interpreter=None):
        self.on_event, self.on_end, self.arguments = on_event, on_end, None

    @property
    def running(self):
        return self.arguments is not None

    def start(self, arguments):
        self.arguments = arguments


def test_a_run_is_settings_and_a_command_whatever_the_process(fresh):
    """Skipped, failed and cancelled come as values; no word of an event is compared."""
    from BreastReconstructionPanels.process import CANCELLED, Outcome
    from BreastReconstructionPanels.runs import Run

    from BreastReconstructionLib.capabilities import STAGES
    from BreastReconstructionLib.capabilities.torso.stages import DENSE, FRAMES, MARKERS
    from BreastReconstructionLib.core.settings import read_settings

    run = Run(fresh, Recorder)
    fresh.ui.option_frame_count.value = 17
    run.start((MARKERS, DENSE))
    assert run.process.arguments == ["run", str(fresh.case_folder), "--until", "markers", "--until", "dense"]
    assert read_settings(fresh.case_folder, STAGES).of(FRAMES).frame_count == 17
    event = {"event": "progress", "stage": "frames", "fraction": 0.5, "overall": 0.1, "words": "in any language"}
    run.process.on_event({**event, "outcome": "running"})
    assert (run.stage, run.percent, run.running) == ("frames", 50, True)
    run.process.on_event({**event, "fraction": 0.0, "outcome": "cancelled"})
    run.process.on_end(Outcome(CANCELLED, "Stopped."))
    assert fresh.ui.statusLabel.text == "Stopped."
