"""The module in the host, used through its widgets: the whole workflow, and everything that can go wrong."""

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PySide6")
pytest.importorskip("slicer")

from BreastReconstructionLib.landmarks.names import LANDMARK_NAMES
from BreastReconstructionLib.measurement.accuracy import read_truth, score
from BreastReconstructionLib.mesh.files import read_mesh
from Testing.SlicerHost import strict
from Testing.SlicerHost.window import picture_of
from Testing.workflow import choose, click_pixel, drop, exact_picks, place_landmarks, start_and_wait_for, wait, wait_for_run

# What the end-to-end figures ask of a phantom video.
LARGEST_MEAN_MM = 1.0


@pytest.fixture(scope="module")
def finished(panel, sample, tmp_path_factory):
    """The sample video, brought to a surface by clicks alone."""
    ui, case = panel.ui, tmp_path_factory.mktemp("Fälle") / "Frau Müller 1"
    strict.slot_seconds.clear()
    drop(ui.videoPathEdit, (sample / "video.mp4").as_uri())
    ui.casePathEdit.currentPath = str(case)
    choose(ui.qualityComboBox, "draft")
    ui.framesButton.click()
    wait_for_run(panel)
    assert ui.videoState.text == "Done."
    ui.casePathEdit.currentPath = f"{case}/"  # the same folder, spelled differently
    assert panel.case_folder == case
    assert ui.frameList.count == 20
    ui.camerasButton.click()
    assert "place the six landmarks" in wait_for_run(panel)
    assert ui.camerasState.text.startswith("20 of 20 frames")
    place_landmarks(panel, sample)
    assert ui.landmarksState.text == "Done: six landmarks."
    choose(ui.scaleComboBox, "marker")
    ui.markerSpinBox.value = 80.0
    ui.runAllButton.click()
    assert wait_for_run(panel) == "Done."
    wait(lambda: panel.result.node() is not None, 10)
    seconds, name = max(strict.slot_seconds)
    print(f"longest callback while the case ran: {seconds:.2f} s ({name})")
    return case


def node_names(case):
    import slicer

    scene = slicer.mrmlScene
    every = [scene.GetNthNode(i) for i in range(scene.GetNumberOfNodes())]
    mine = [node for node in every if node.GetAttribute("BreastReconstruction.case") == str(case)]
    return {node.GetAttribute("BreastReconstruction.role"): node for node in mine}


# The finished case -----------------------------------------------------------------------------------------------------


def test_surface_is_as_accurate_as_the_command_line_is(panel, finished, sample):
    from BreastReconstructionLib.scene.nodes import mesh_of

    truth = read_truth(sample)
    frames = json.loads((finished / "frames" / "frames.json").read_text())["video_frames"]
    landmarks = node_names(finished)["landmarks"]
    points = np.array([landmarks.GetNthControlPointPosition(i) for i in range(6)])
    accuracy = score(mesh_of(panel.result.node()), points, truth, tuple(frames))["as_delivered"]
    print(f"surface by clicks: mean {accuracy['mean_mm']:.2f} mm")
    assert accuracy["mean_mm"] <= LARGEST_MEAN_MM
    assert [landmarks.GetNthControlPointLabel(i) for i in range(6)] == list(LANDMARK_NAMES)


def test_surface_node_is_complete(panel, finished):
    data = panel.result.node().GetPolyData().GetPointData()
    assert {data.GetArrayName(i) for i in range(data.GetNumberOfArrays())} >= {"Normals", "RGB", "residual_mm", "views"}
    assert set(node_names(finished)) >= {"surface", "landmarks", "cloud", "cameras", "frame", "picks"}


def test_case_has_a_folder_with_provenance(panel, finished):
    import slicer

    from BreastReconstructionLib.scene import patient

    assert finished in patient.cases_in_scene()
    assert "DICT_4X4_50" in patient.read_provenance(finished, "scale")
    assert json.loads(patient.read_provenance(finished, "parameters"))["detail_mm"] == 3.0
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item = hierarchy.GetItemByDataNode(panel.result.node())
    assert hierarchy.GetItemParent(item) == patient.folder_item(finished)


def test_result_is_told_in_words(panel, finished):
    assert "of the surface is seen by a frame" in panel.ui.resultText.text
    assert "uncertain by" in panel.ui.scaleText.text
    assert "not for diagnosis" in panel.ui.modelText.text


def test_colouring_buttons(panel, finished):
    display = panel.result.node().GetDisplayNode()
    for button, array in (
        (panel.ui.residualButton, "residual_mm"),
        (panel.ui.viewsButton, "views"),
        (panel.ui.textureButton, "RGB"),
    ):
        button.click()
        assert display.GetActiveScalarName() == array
    assert not panel.ui.detailButton.enabled, "a draft is not refined"
    assert not panel.ui.refinementSlider.enabled
    panel.ui.slicesCheckBox.checked = True
    assert display.GetVisibility2D()
    panel.ui.slicesCheckBox.checked = False


def test_changed_setting_marks_what_depends_on_it_and_back(panel, finished):
    ui = panel.ui
    ui.option_regularisation.value = 2.0
    wait(lambda: "Out of date" in ui.resultState.text, 5)
    assert ui.videoState.text == "Done."
    assert "Out of date" in ui.surfaceState.text or "Ready" in ui.surfaceState.text
    ui.option_regularisation.value = 1.0
    wait(lambda: ui.resultState.text == "Done.", 5)


def test_patient_who_moved_is_told_with_the_video(panel, finished):
    from BreastReconstructionLib.capabilities.torso.motion import motion_warning

    path = finished / "fit" / "motion.json"
    kept = path.read_text()
    assert json.loads(kept)["warning"] == motion_warning(json.loads(kept)["largest_mm"]) == ""  # the sample stands still
    path.write_text(json.dumps({"largest_mm": 8.0, "warning": motion_warning(8.0)}))
    panel.video.show_frames()
    assert "moved by up to 8 mm" in panel.ui.videoWarnings.text
    path.write_text(kept)
    panel.video.show_frames()
    assert "moved" not in panel.ui.videoWarnings.text


def test_outline_is_drawn_on_the_frame(panel, finished):
    import slicer

    view = slicer.app.layoutManager().sliceWidget("Red").view
    panel.ui.frontalFrameButton.click()
    before = picture_of(view)
    panel.ui.outlineCheckBox.checked = True
    after = picture_of(view)
    panel.ui.outlineCheckBox.checked = False
    green = (after[..., 1] > 200) & (after[..., 0] < 120) & (after[..., 2] < 120)
    assert (before != after).any()
    assert green.sum() > 300


def test_browsed_frames_show_where_landmarks_should_be(panel, finished, sample):
    from BreastReconstructionLib.scene.nodes import read_picks

    exact, frames = exact_picks(sample), json.loads((finished / "frames" / "frames.json").read_text())["video_frames"]
    panel.ui.frontalFrameButton.click()
    panel.ui.nextFrameButton.click()
    number = frames[panel.ui.frameComboBox.currentIndex]
    shown = read_picks(node_names(finished)["predicted"])
    together = [name for name in shown if name in exact[number]]
    assert len(together) >= 4
    errors = [np.linalg.norm(shown[name] - exact[number][name]) for name in together]
    assert max(errors) < 12


@pytest.mark.parametrize("ending", ["ply", "stl", "obj"])
def test_export_is_read_back_in_place(panel, finished, tmp_path, ending):
    from BreastReconstructionLib.scene.nodes import mesh_of

    path = tmp_path / f"surface.{ending}"
    panel.result.export(path)
    assert "LPS millimetres" in panel.ui.statusLabel.text
    mesh, read = mesh_of(panel.result.node()), read_mesh(path)
    assert np.allclose(read.vertices.min(axis=0), mesh.vertices.min(axis=0), atol=0.01)
    assert np.allclose(read.vertices.max(axis=0), mesh.vertices.max(axis=0), atol=0.01)


def test_export_into_nowhere_is_one_sentence(panel, finished, tmp_path):
    for ending in ("ply", "stl"):
        panel.result.export(tmp_path / "nowhere" / f"surface.{ending}")
        assert "cannot be written there" in panel.ui.statusLabel.text


def test_landmarks_are_saved_and_loaded(panel, finished, tmp_path):
    for ending in ("csv", "pp", "mrk.json"):
        panel.landmarks.files.save(tmp_path / f"landmarks.{ending}")
        assert (tmp_path / f"landmarks.{ending}").exists()
    before = (finished / "landmarks.csv").read_text()
    assert (tmp_path / "landmarks.csv").read_text() == before
    for ending in ("pp", "mrk.json"):
        panel.landmarks.files.load(tmp_path / f"landmarks.{ending}")
        assert panel.ui.landmarksState.text == "Done: six landmarks."
        assert f"landmarks.{ending}" in panel.ui.landmarksText.text
    (tmp_path / "wrong.csv").write_text("a,b\n1,2\n")
    panel.landmarks.files.load(tmp_path / "wrong.csv")
    assert "must begin with the header" in panel.ui.statusLabel.text
    panel.parameters.landmarks = ""
    panel.landmarks.open_case()
    panel.refresh()
    wait(lambda: panel.ui.resultState.text == "Done.", 5)


def test_exchanged_sides_are_noticed(panel, finished):
    kept = (finished / "landmarks.csv").read_bytes()
    swapped = kept.replace(b"left-", b"x-").replace(b"right-", b"left-").replace(b"x-", b"right-")
    (finished / "landmarks.csv").write_bytes(swapped)
    panel.landmarks.open_case()
    panel.refresh()
    assert "exchanged" in panel.ui.landmarksState.text
    (finished / "landmarks.csv").write_bytes(kept)
    panel.landmarks.open_case()
    panel.refresh()
    assert panel.ui.landmarksState.text == "Done: six landmarks."


def test_scene_is_saved_cleared_and_loaded(panel, finished, tmp_path):
    import slicer

    vertices = panel.result.node().GetPolyData().GetNumberOfPoints()
    bundle = tmp_path / "scene.mrb"
    assert slicer.mrmlScene.WriteToMRB(str(bundle), None)
    slicer.mrmlScene.Clear(0)
    wait(lambda: not panel.ui.videoPathEdit.currentPath, 5)
    assert node_names(finished) == {}
    assert slicer.mrmlScene.ReadFromMRB(str(bundle))
    wait(lambda: panel.parameters.case_folder == str(finished), 5)
    wait(lambda: panel.ui.resultState.text == "Done.", 5)
    assert panel.result.node().GetPolyData().GetNumberOfPoints() == vertices
    assert panel.parameters.scale_kind == "marker"
    assert panel.ui.option_detail_mm.value == 3.0
    roles = [node.GetAttribute("BreastReconstruction.role") for node in node_names(finished).values()]
    assert sorted(roles) == sorted(set(roles))


def test_opening_a_case_from_disk(panel, finished):
    import slicer

    slicer.mrmlScene.Clear(0)
    wait(lambda: not panel.ui.casePathEdit.currentPath, 5)
    started = time.perf_counter()
    panel.ui.casePathEdit.currentPath = str(finished)
    wait(lambda: panel.result.node() is not None, 20)
    print(f"20-frame case opened in {time.perf_counter() - started:.2f} s")
    assert panel.ui.frameList.count == 20
    assert panel.cameras.reconstruction is not None
    wait(lambda: panel.ui.resultState.text == "Done.", 5)  # with the settings of its last run
    assert panel.ui.videoPathEdit.currentPath.endswith("video.mp4")


def test_case_whose_video_was_moved_is_still_shown(panel, finished):
    kept = panel.parameters.video
    panel.parameters.video = "/moved/away.mp4"
    panel.refresh()
    assert panel.ui.resultState.text == "Done."
    panel.parameters.video = kept
    panel.refresh()


def test_two_patients_share_a_scene_and_one_is_removed(panel, finished, own_case):
    from BreastReconstructionLib.scene import patient

    panel.ui.casePathEdit.currentPath = str(own_case)
    wait(lambda: panel.result.node() is not None, 20)
    assert set(patient.cases_in_scene()) >= {finished, own_case}
    assert panel.ui.patientComboBox.count == 3
    choose(panel.ui.patientComboBox, str(finished))
    wait(lambda: panel.case_folder == finished, 5)
    choose(panel.ui.patientComboBox, str(own_case))
    panel.ui.removePatientButton.click()
    assert node_names(own_case) == {}
    assert "case folder is kept" in panel.ui.statusLabel.text
    assert (own_case / "surface.ply").exists()
    assert node_names(finished)


def test_a_case_is_deleted_after_a_question(panel, finished, own_case, monkeypatch):
    import slicer

    asked = []
    panel.ui.casePathEdit.currentPath = str(own_case)
    wait(lambda: panel.result.node() is not None, 20)
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text, **options: asked.append(text) or len(asked) > 1)
    panel.ui.deleteCaseButton.click()
    assert (own_case / "surface.ply").exists()
    panel.ui.deleteCaseButton.click()
    wait(lambda: True, 5)
    assert not own_case.exists()
    assert node_names(own_case) == {}
    assert "is deleted" in panel.ui.statusLabel.text
    assert not panel.ui.deleteCaseButton.enabled
    assert own_case.name in asked[0]
    assert "solid state disk" in " ".join(asked[0].split())
    panel.ui.casePathEdit.currentPath = str(finished)
    wait(lambda: panel.result.node() is not None, 20)


def test_explored_shapes_follow_the_sliders(panel):
    from BreastReconstructionPanels.explore_section import EXPLORED

    from BreastReconstructionLib.scene import nodes, patient

    ui = panel.ui
    ui.exploreButton.checked = True
    wait(lambda: patient.find_node(EXPLORED, "explored") is not None, 60)
    mean = nodes.mesh_of(patient.find_node(EXPLORED, "explored")).vertices
    panel.explore.refresh_seconds.clear()
    for value in (0.2, 0.4):
        asked = len(panel.explore.refresh_seconds)
        ui.direction1Slider.value = value
        wait(lambda asked=asked: len(panel.explore.refresh_seconds) > asked, 20)
    print(f"slider refreshed in {max(panel.explore.refresh_seconds):.2f} s")
    moved = nodes.mesh_of(patient.find_node(EXPLORED, "explored")).vertices
    assert moved.shape == mean.shape
    assert 0.5 < np.abs(moved - mean).max() < 60
    ui.meanShapeButton.click()
    wait(lambda: abs(ui.direction1Slider.value) < 1e-6 and not panel.explore.busy, 20)
    ui.exploreButton.checked = False
    assert ui.exploreState.text == "Ready."


# What can go wrong -----------------------------------------------------------------------------------------------------


def test_cancel_leaves_a_case_that_goes_on(fresh, small_input):
    panel = fresh
    panel.landmarks.files.load(small_input[1])
    start_and_wait_for(panel, panel.ui.reconstructButton, "cameras")
    started = time.perf_counter()
    panel.ui.cancelButton.click()
    assert wait_for_run(panel, 30).startswith("Cancelled")
    print(f"cancelled in {time.perf_counter() - started:.2f} s")
    assert not (panel.case_folder / "case.lock").exists() or panel.ui.reconstructButton.enabled
    assert panel.ui.videoState.text == "Done."
    panel.ui.reconstructButton.click()
    assert wait_for_run(panel) == "Done."
    wait(lambda: panel.result.node() is not None, 10)
    assert "unchanged" not in panel.ui.statusLabel.text


def test_node_deleted_while_running_comes_back(fresh, own_case, small_input):
    import slicer

    panel = fresh
    panel.ui.casePathEdit.currentPath = str(own_case)
    wait(lambda: panel.result.node() is not None, 20)
    panel.landmarks.files.load(small_input[1])
    panel.ui.reconstructButton.click()
    slicer.mrmlScene.RemoveNode(panel.result.node())
    wait_for_run(panel)
    wait(lambda: panel.result.node() is not None, 20)


def test_worker_killed_from_outside(fresh):
    panel = fresh
    start_and_wait_for(panel, panel.ui.camerasButton, "cameras")
    os.kill(panel.current_run.process.worker, signal.SIGKILL)
    assert "ended from outside" in wait_for_run(panel, 30)
    panel.ui.framesButton.click()
    assert wait_for_run(panel).startswith("Done")  # the dead process's lock was taken over


def test_scene_closed_while_running(fresh):
    import slicer

    panel = fresh
    start_and_wait_for(panel, panel.ui.camerasButton, "cameras")
    slicer.mrmlScene.Clear(0)
    wait_for_run(panel, 30)
    assert not panel.running
    assert panel.ui.runAllButton.enabled


def test_second_job_on_a_case_is_refused(fresh):
    panel = fresh
    panel.case_folder.mkdir(exist_ok=True)
    (panel.case_folder / "case.lock").write_text("1")  # process 1 always lives
    panel.ui.framesButton.click()
    assert "Another job" in wait_for_run(panel, 60)


def test_picture_folder_is_chosen_in_a_dialog(fresh, monkeypatch, tmp_path):
    import qt

    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", staticmethod(lambda *arguments: str(tmp_path)))
    fresh.ui.pictureFolderButton.click()
    assert fresh.parameters.video == str(tmp_path)


@pytest.mark.parametrize(
    ("path", "words"),
    [("", "Choose a video first"), ("C:\\Users\\Anna\\video.mp4", "does not exist"), ("/no/such/video.mp4", "does not exist")],
)
def test_video_that_is_not_there(fresh, path, words):
    fresh.ui.videoPathEdit.currentPath = path
    fresh.ui.framesButton.click()
    assert words in fresh.ui.statusLabel.text


def test_broken_video_is_told_by_the_library(fresh, tmp_path):
    broken = tmp_path / "brüchig.mp4"
    broken.write_bytes(b"not a video")
    fresh.ui.videoPathEdit.currentPath = str(broken)
    fresh.ui.casePathEdit.currentPath = str(tmp_path / "case2")
    fresh.ui.framesButton.click()
    assert "cannot be read as a video" in wait_for_run(fresh, 60)


def test_case_folder_that_cannot_be_written(fresh, tmp_path):
    (tmp_path / "file").write_text("")
    fresh.ui.casePathEdit.currentPath = str(tmp_path / "file" / "case")
    fresh.ui.framesButton.click()
    assert "case folder cannot be written" in fresh.ui.statusLabel.text


def test_incomplete_landmarks_stop_before_the_surface(fresh, own_case, small_input, tmp_path):
    fresh.ui.casePathEdit.currentPath = str(own_case)
    wait(lambda: fresh.ui.camerasState.text.startswith("16 of 16"), 20)
    (own_case / "landmarks.csv").unlink(missing_ok=True)
    fresh.parameters.landmarks = ""  # its last run had one
    fresh.landmarks.open_case()
    fresh.refresh()
    fresh.ui.runAllButton.click()
    assert "Needs landmarks: sternal-notch" in fresh.ui.statusLabel.text
    fresh.landmarks.files.save(tmp_path / "x.csv")
    assert "missing: sternal-notch" in fresh.ui.statusLabel.text


def test_landmarks_are_proposed_dragged_and_confirmed(fresh, own_case):
    from BreastReconstructionLib.scene import nodes

    panel, ui = fresh, fresh.ui
    ui.casePathEdit.currentPath = str(own_case)
    wait(lambda: ui.camerasState.text.startswith("16 of 16"), 20)
    (own_case / "landmarks.csv").unlink(missing_ok=True)
    panel.parameters.landmarks = ""  # its last run had one
    panel.landmarks.open_case()
    panel.refresh()
    assert not ui.confirmButton.enabled
    ui.proposeButton.click()
    assert "press 'They are right'" in wait_for_run(panel, 120)
    wait(lambda: ui.confirmButton.enabled, 5)
    assert panel.landmarks.missing() == []
    assert panel.complete_landmarks() is None  # nothing is fitted before a person says so
    ui.runAllButton.click()
    assert "press 'They are right'" in ui.statusLabel.text
    assert not panel.running

    # A point is dragged: what was proposed for it on the other frames goes, the others stay.
    frame = panel.landmarks._frame
    number = panel.landmarks.picks.frames[frame]
    placed = dict(panel.landmarks.picks.on(frame))
    placed["navel"] = placed["navel"] + 6.0
    nodes.show_picks(own_case, placed)
    panel.landmarks._on_placed(nodes.show_picks(own_case, placed), None)
    rows = [line.split(",") for line in (own_case / "landmarks.csv").read_text().splitlines()[1:]]
    assert [row[1:2] + row[4:] for row in rows if row[0] == "navel"] == [[str(number), ""]]
    assert {row[4] for row in rows if row[0] != "navel"} == {"proposed"}
    assert "navel" not in panel.landmarks.picks.unconfirmed()

    ui.confirmButton.click()
    assert not ui.confirmButton.enabled
    rows = [line.split(",") for line in (own_case / "landmarks.csv").read_text().splitlines()[1:]]
    assert {row[4] for row in rows if row[0] != "navel"} == {"confirmed"}
    assert panel.complete_landmarks() == own_case / "landmarks.csv"


def test_the_panel_says_whether_a_video_will_do(fresh, own_case, small_input):
    panel, ui = fresh, fresh.ui
    ui.casePathEdit.currentPath = str(own_case)
    wait(lambda: ui.camerasState.text.startswith("16 of 16"), 20)
    ui.checkVideoButton.click()
    sentence = wait_for_run(panel, 120)
    wait(lambda: "Light" in ui.guidanceText.text, 5)
    assert "✓ Light: bright enough" in ui.guidanceText.text
    assert "✗ The phone went only" in ui.guidanceText.text or "✗ The patient's" in ui.guidanceText.text
    assert sentence.startswith("Film again:")
    assert not ui.arcLabel.pixmap.isNull()


def test_picks_are_taken_back_and_cleared_and_survive_a_deleted_volume(fresh, own_case):
    import slicer

    panel = fresh
    panel.ui.casePathEdit.currentPath = str(own_case)
    wait(lambda: panel.ui.camerasState.text.startswith("16 of 16"), 20)
    panel.ui.placeButton.checked = True
    panel.ui.clearFrameButton.click()
    click_pixel(np.array([270.0, 300.0]))
    click_pixel(np.array([270.0, 600.0]))
    assert "left-nipple" in panel.ui.nextLandmarkLabel.text
    panel.ui.redoButton.click()
    assert "navel" in panel.ui.nextLandmarkLabel.text
    slicer.mrmlScene.RemoveNode(node_names(own_case)["frame"])
    panel.ui.nextFrameButton.click()
    assert "frame" in node_names(own_case)
    panel.ui.previousFrameButton.click()
    assert "navel" in panel.ui.nextLandmarkLabel.text
    panel.ui.clearFrameButton.click()
    assert "sternal-notch" in panel.ui.nextLandmarkLabel.text
    panel.exit()
    assert not panel.ui.placeButton.checked
    (own_case / "landmarks.csv").unlink()


def test_python_slicer_missing_or_broken(fresh, monkeypatch):
    from BreastReconstructionPanels import process

    monkeypatch.setattr(process, "python_slicer", lambda: None)
    fresh.ui.framesButton.click()
    assert "PythonSlicer was not found" in fresh.ui.statusLabel.text
    monkeypatch.setattr(process, "python_slicer", lambda: "/no/such/PythonSlicer")
    fresh.ui.framesButton.click()
    assert "could not be started" in wait_for_run(fresh, 30)


def test_missing_package_points_to_setup(fresh, monkeypatch, tmp_path):
    from BreastReconstructionPanels import process

    # An interpreter for which torch does not exist.
    script = tmp_path / "PythonSlicer"
    hidden = "import sys; sys.modules['pycolmap'] = None; sys.modules['torch'] = None; sys.modules['cv2'] = None;"
    script.write_text(
        f'#!/bin/sh\nshift 2\nexec "{process.python_slicer()}" -c "{hidden} sys.path.insert(0, \'.\'); '
        'from BreastReconstructionLib.cli import main; sys.exit(main(sys.argv[1:]))" "$@"\n'
    )
    script.chmod(0o755)
    monkeypatch.setattr(process, "python_slicer", lambda: str(script))
    fresh.ui.framesButton.click()
    sentence = wait_for_run(fresh, 60)
    assert "is missing" in sentence
    assert "Setup" in sentence


def test_official_model_import_tells_errors(panel, tmp_path):
    (tmp_path / "lirbsm_576.pth").write_bytes(b"nothing")
    (tmp_path / "average_anchors.pt").write_bytes(b"nothing")
    panel.surface.import_official(tmp_path / "lirbsm_576.pth", tmp_path / "average_anchors.pt")
    wait(lambda: not panel.surface.importer.running, 60)
    assert "lirbsm_576.pth" in panel.ui.statusLabel.text


def test_sample_data_fills_the_panel(panel, sample, monkeypatch):
    import slicer

    monkeypatch.setattr(slicer.util, "selectModule", lambda name: None)
    slicer.mrmlScene.Clear(0)
    source = slicer.modules.sampleDataSources["BreastReconstruction"][0]
    source.customDownloader(source)
    assert panel.ui.videoPathEdit.currentPath.endswith("video.mp4")
    assert panel.ui.scaleComboBox.currentIndex == panel.ui.scaleComboBox.findData("marker")
    assert panel.landmarks.missing() == []
    assert Path(source.thumbnailFileName).exists()


def test_the_modules_own_test(panel):
    import BreastReconstruction

    BreastReconstruction.BreastReconstructionTest().runTest()
