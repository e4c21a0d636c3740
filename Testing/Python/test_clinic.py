"""Combining and measuring, at the doors: the command line on a reconstructed case, and the panel in the host."""

import base64
import csv
import json
import re
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest

from BreastReconstructionLib.capabilities.clinic.bending import apply_grid
from BreastReconstructionLib.capabilities.clinic.stages import COMPARE, MEASURE, REGISTER, SCAN_WALL
from BreastReconstructionLib.capabilities.torso.stages import SURFACE
from BreastReconstructionLib.core.case import Case
from BreastReconstructionLib.geometry.volume import Volume, read_volume, write_volume
from BreastReconstructionLib.landmarks.curves import CLOSED_CURVE, read_curve_points, write_curve
from BreastReconstructionLib.landmarks.files import read_landmarks, write_landmarks_mrk_json
from BreastReconstructionLib.measurement.accuracy import read_truth
from BreastReconstructionLib.mesh.distance import closest_on_mesh
from BreastReconstructionLib.mesh.files import read_mesh
from Testing.cases import made_once
from Testing.conftest import assert_one_sentence, run_cli

SEED = 1  # of the bundled sample


@pytest.fixture(scope="module")
def scan(shared):
    """A CT of the sample's body, lying."""

    def make(folder):
        finished = run_cli("phantom", "scan", "--seed", SEED, "--spacing", 1.6, 3, "-o", folder / "scan")
        assert finished.returncode == 0, finished.stderr

    return made_once(shared, "scan", [SEED], make) / "scan"


@pytest.fixture(scope="module")
def measured_case(shared, demo_case, scan):
    """The demo's case, registered, bent, measured and compared with itself."""

    def make(folder):
        case = shutil.copytree(demo_case, folder / "case")
        for words in (
            ["register", "--volume", scan / "volume.nrrd", "--deformable"],
            ["measure"],
            ["compare", "--earlier", demo_case],
            ["summary", "--capture-date", "27 November 2026"],
        ):
            finished = run_cli(*words, "-o", case)
            assert finished.returncode == 0, finished.stderr
            (folder / f"{words[0]}.txt").write_text(finished.stdout)

    return made_once(shared, "measured", [demo_case, scan], make) / "case"


@pytest.fixture
def own(measured_case, tmp_path):
    """A copy that a test may change."""
    return Path(shutil.copytree(measured_case, tmp_path / "case"))


def test_the_surface_lies_in_the_volume_where_the_body_does(measured_case, scan, sample):
    found = Case(measured_case).result(REGISTER)
    truth, surface = read_truth(sample), read_landmarks(measured_case / "landmarks.mrk.json").points
    where = read_landmarks(scan / "landmarks.mrk.json").points
    for name in ("sternal-notch", "navel"):  # which lying leaves alone, or nearly
        error = np.linalg.norm(found.surface_to_scan.apply(surface[name]) - where[name])
        assert error < (6 if name == "sternal-notch" else 25)
    assert found.numbers["median_mm"] < 1.0
    assert found.doubts == ()
    assert "3 to 7 cm" in " ".join(found.warnings)
    assert "90 % within" in (measured_case.parent / "register.txt").read_text()
    assert len(truth.landmarks_ras) == 6
    assert {"scan_distance_mm", "stable"} <= found.mesh.scalars.keys()


def test_landmarks_are_proposed_on_the_skin_of_the_volume(measured_case, scan):
    """What lying moves is not proposed from where it was."""
    where, skin = read_landmarks(scan / "landmarks.mrk.json").points, read_mesh(scan / "skin.ply")
    proposed = Case(measured_case).result(REGISTER).scan_landmarks
    assert {"sternal-notch", "navel", "left-coracoid", "right-coracoid"} <= set(proposed)
    assert not {"left-nipple", "right-nipple"} & set(proposed), "nipples that moved must be placed by a person"
    for name, point in proposed.items():
        assert np.linalg.norm(point - where[name]) < 9, name
        assert closest_on_mesh(point[None], skin.vertices, skin.faces)[0] < 1.0


def test_bent_it_lies_on_the_skin_of_the_other_posture(measured_case, scan):
    found = Case(measured_case).result(REGISTER)
    skin = read_mesh(scan / "skin.ply")
    surface = read_mesh(measured_case / "surface.ply")
    breast = Case(measured_case).result(MEASURE).places["left_mm"] < -10
    torso = surface.scalars["torso"] > 0.5
    used = np.unique(surface.faces[torso[surface.faces].all(axis=1)])
    points = found.surface_to_scan.apply(surface.vertices[used][breast][::40])
    rigid = closest_on_mesh(points, skin.vertices, skin.faces)[0]
    bent = closest_on_mesh(apply_grid(points, read_volume(found.deformation, vectors=True)), skin.vertices, skin.faces)[0]
    assert np.median(rigid) > 4
    assert np.median(bent) < 1.5


def test_distances_and_volumes_are_those_of_the_body(measured_case, sample):
    rows = {(r.name, r.side, r.method.split(",")[0]): r for r in Case(measured_case).result(MEASURE).rows}
    exact = read_truth(sample).landmarks_ras
    for name, side, ends in (
        ("notch to nipple", "left", (0, 2)),
        ("notch to nipple", "right", (0, 3)),
        ("nipple to nipple", "", (2, 3)),
    ):
        straight = rows[name, side, "straight"]
        assert straight.value == pytest.approx(np.linalg.norm(exact[ends[0]] - exact[ends[1]]), abs=3.0)
        assert straight.value < rows[name, side, "along the surface"].value
        assert 0.5 < straight.uncertainty < 6
    volumes = [row for row in rows.values() if row.name == "volume"]
    assert len(volumes) == 6
    assert all(row.unit == "ml" and "wall" in row.method and row.uncertainty > 5 for row in volumes)
    with open(measured_case / "measurements.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(Case(measured_case).result(MEASURE).rows)
    assert {row["unit"] for row in table} == {"mm", "ml"}


def test_curves_are_slicers_and_meshes_are_closed(measured_case):
    from BreastReconstructionLib.mesh.boundary import boundary_loops

    found = Case(measured_case).result(MEASURE)
    along = next(r for r in found.rows if r.name == "notch to nipple" and r.side == "left" and r.method.startswith("along"))
    points = read_curve_points(found.curves["left-notch-to-nipple-along"])
    assert np.linalg.norm(np.diff(points, axis=0), axis=1).sum() == pytest.approx(along.value, abs=0.02)
    for side in ("left", "right"):
        mesh = read_mesh(found.meshes[f"{side}-breast-population"])
        assert boundary_loops(mesh.faces) == []


def test_the_same_surface_has_not_changed(measured_case):
    found = Case(measured_case).result(COMPARE)
    assert not any(found.exceeding)
    assert all(abs(row.value) < 3 for row in found.rows if row.unit == "ml")
    assert np.abs(found.mesh.scalars["change_mm"]).max() < 0.5


def test_the_pdf_names_nobody(measured_case):
    content = (measured_case / "summary.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert len(content) > 20_000
    assert str(measured_case).encode() not in content


def words_of(pdf: bytes) -> str:
    """The text that reportlab wrote; not its pictures, in whose megabytes a search for brackets takes minutes."""
    found = []
    for stream in re.findall(rb"stream\r?\n(.*?)endstream", pdf, re.DOTALL):
        if stream.rstrip().endswith(b"~>"):
            content = zlib.decompress(base64.a85decode(stream.strip()[:-2]))
            if content.lstrip().startswith((b"1 0 0 1", b"q", b"BT")):
                found += re.findall(rb"\(((?:[^()\\]|\\.)*)\) Tj", content)
    return b" ".join(found).decode("latin-1")


def test_the_pdf_holds_the_comparison_while_it_is_true(own):
    assert "Change since the earlier visit" in words_of((own / "summary.pdf").read_bytes())
    shutil.rmtree(own / "compare")
    finished = run_cli("summary", "-o", own)
    assert finished.returncode == 0, finished.stderr
    assert "Change since" not in words_of((own / "summary.pdf").read_bytes())


def test_a_drawn_boundary_and_placed_points_are_used(own):
    found = Case(own).result(MEASURE)
    write_curve(own / "b.mrk.json", read_curve_points(found.curves["left-breast-boundary"]), CLOSED_CURVE)
    named = dict(read_landmarks(own / "landmarks.mrk.json").points)
    nipple, half = named["left-nipple"], np.array([18.0, 0.0, 0.0])
    points = {"left-areola-medial": nipple + half, "left-areola-lateral": nipple - half}
    write_landmarks_mrk_json(own / "p.mrk.json", points)
    finished = run_cli("measure", "--breast-boundaries", own / "b.mrk.json", "--measure-points", own / "p.mrk.json", "-o", own)
    assert finished.returncode == 0, finished.stderr
    rows = Case(own).result(MEASURE).rows
    (areola,) = [row for row in rows if row.name == "areola diameter" and row.method.startswith("straight")]
    assert areola.value == pytest.approx(36, abs=1)
    assert {row.side for row in rows if "boundary drawn" in row.method and row.side} == {"left"}
    before = {r.method: r.value for r in found.rows if r.name == "volume" and r.side == "left"}
    for row in rows:
        if row.name == "volume" and row.side == "left":
            assert row.value == pytest.approx(before[row.method.replace("drawn", "proposed")], rel=0.15, abs=15)


def test_the_volume_to_a_drawn_wall_is_that_of_the_twin(own, scan, tmp_path):
    """A chest wall that is the body's twin without breasts, in a CT of the standing body."""
    from BreastReconstructionLib.phantom.posture import Body, twin_volume_ml
    from BreastReconstructionLib.phantom.scan import solid_labels
    from BreastReconstructionLib.phantom.torso import sample_torso

    torso, parameters = sample_torso(SEED)
    twin = Body(parameters).twin()
    finished = run_cli("phantom", "scan", "--seed", SEED, "--posture", "standing", "--spacing", 2, 3, "-o", tmp_path / "standing")
    assert finished.returncode == 0, finished.stderr
    grid = read_volume(tmp_path / "standing" / "volume.nrrd")
    write_volume(tmp_path / "wall.nrrd", solid_labels(twin.body_ras, grid))
    finished = run_cli("register", "--volume", tmp_path / "standing" / "volume.nrrd", "-o", own)
    assert finished.returncode == 0, finished.stderr
    finished = run_cli("scanwall", "--chest-wall", tmp_path / "wall.nrrd", "-o", own)
    assert finished.returncode == 0, finished.stderr
    exact = twin_volume_ml(torso, twin)
    for row in Case(own).result(SCAN_WALL).rows:
        assert row.value == pytest.approx(exact[row.side], abs=25)
        assert "wall.nrrd" in row.method
    write_volume(tmp_path / "none.nrrd", Volume(np.zeros_like(grid.values), grid.ijk_to_ras))
    assert_one_sentence(run_cli("scanwall", "--chest-wall", tmp_path / "none.nrrd", "-o", own), 13, "is empty")
    far = np.zeros_like(grid.values)
    far[:, -6:, :] = 1
    write_volume(tmp_path / "far.nrrd", Volume(far, grid.ijk_to_ras))
    assert_one_sentence(run_cli("scanwall", "--chest-wall", tmp_path / "far.nrrd", "-o", own), 13, "does not lie behind")


# Bad input -------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_registered_is_said(own, scan, tmp_path):
    assert_one_sentence(run_cli("register", "--volume", tmp_path / "no.nrrd", "-o", own), 11, "does not exist")
    shutil.rmtree(own / "skin")
    settings = json.loads((own / "settings.json").read_text())
    settings.pop("skin")
    (own / "settings.json").write_text(json.dumps(settings))
    assert_one_sentence(run_cli("skin", "-o", own), 11, "No CT or MRI is given")
    landmarks = read_landmarks(scan / "landmarks.mrk.json").points
    few = {name: landmarks[name] for name in ("navel", "left-nipple")}
    write_landmarks_mrk_json(tmp_path / "few.mrk.json", few)
    words = ["--volume", scan / "volume.nrrd", "--scan-landmarks", tmp_path / "few.mrk.json"]
    assert_one_sentence(run_cli("register", *words, "-o", own), 12, "three or more")
    wrong = {name: point * [1.0, 1.0, 1.5] for name, point in landmarks.items()}
    write_landmarks_mrk_json(tmp_path / "wrong.mrk.json", wrong)
    words[-1] = tmp_path / "wrong.mrk.json"
    assert_one_sentence(run_cli("register", *words, "-o", own), 12, "do not match")


def test_another_patient_and_a_mirrored_volume_are_said(own, scan, tmp_path):
    finished = run_cli("phantom", "scan", "--seed", 12, "--population", "clinic", "--spacing", 2, 4, "-o", tmp_path / "other")
    assert finished.returncode == 0, finished.stderr
    finished = run_cli("register", "--volume", tmp_path / "other" / "volume.nrrd", "-o", own)
    said = finished.stdout + finished.stderr
    assert "WARNING" in said or finished.returncode == 12, said
    volume = read_volume(scan / "volume.nrrd")
    larger = volume.ijk_to_ras @ np.diag([1.25, 1.25, 1.25, 1.0])
    write_volume(tmp_path / "larger.nrrd", Volume(volume.values, larger))
    finished = run_cli("register", "--volume", tmp_path / "larger.nrrd", "-o", own)
    said = finished.stdout + finished.stderr
    assert ("larger" in said and "WARNING" in said) or finished.returncode == 12, said


def test_an_earlier_visit_that_is_gone_is_said(own, tmp_path):
    assert_one_sentence(run_cli("compare", "-o", own, "--earlier", tmp_path / "gone"), 9, "moved or renamed")
    (tmp_path / "empty").mkdir()
    assert_one_sentence(run_cli("compare", "-o", own, "--earlier", tmp_path / "empty"), 9, "has no surface yet")


def test_a_cancelled_stage_leaves_the_case_as_it_was(own, tmp_path):
    (tmp_path / "stop").touch()
    (own / "boundaries.mrk.json").write_text((own / "measure" / "curves" / "left-breast-boundary.mrk.json").read_text())
    before = (own / "case.json").read_text()
    words = ["measure", "--breast-boundaries", own / "boundaries.mrk.json", "--cancel-file", tmp_path / "stop", "-o", own]
    assert_one_sentence(run_cli(*words), 130, "Cancelled")
    assert (own / "case.json").read_text() == before
    assert not list(own.glob("*.partial"))
    assert Case(own).result(MEASURE).rows


def test_a_case_without_a_surface_is_said(tmp_path):
    (tmp_path / "case").mkdir()
    assert_one_sentence(run_cli("measure", "-o", tmp_path / "case"), 9, "has no surface yet")
    assert_one_sentence(run_cli("measure", "-o", tmp_path / "nowhere"), 9, "does not exist")


# The panel -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shown(panel, measured_case, tmp_path_factory):
    """The panel with the measured case open."""
    import slicer

    from BreastReconstructionLib.scene import clinic, patient
    from Testing.workflow import wait

    case = Path(shutil.copytree(measured_case, tmp_path_factory.mktemp("shown") / "case"))
    slicer.mrmlScene.Clear(0)
    panel.choose_case(str(case))
    wait(lambda: patient.find_node(case, clinic.TO_SCAN) is not None and panel.result.node() is not None, 60)
    wait(lambda: panel.result.node().GetParentTransformNode() is not None, 60)
    return panel, case


def test_results_are_native_nodes_under_one_transform(shown):
    from BreastReconstructionLib.scene import clinic, patient

    panel, case = shown
    node = patient.find_node(case, clinic.TO_SCAN)
    assert node.GetClassName() == "vtkMRMLLinearTransformNode"
    assert node.GetParentTransformNode().GetClassName() == "vtkMRMLGridTransformNode"
    moved = [n for n in patient.nodes_of(case) if n.IsA("vtkMRMLMarkupsNode") and n.GetParentTransformNode() is node]
    assert len(moved) > 25
    assert patient.find_node(case, clinic.SCAN_SKIN).GetParentTransformNode() is None
    earlier = patient.find_node(case, clinic.EARLIER)
    assert earlier.GetParentTransformNode().GetParentTransformNode() is node, "the earlier visit lies on this one, in the volume"
    assert patient.find_node(case, clinic.SCAN_DISTANCE).GetDisplayNode().GetVisibility() == 0
    assert patient.find_node(case, clinic.SEGMENTATION).GetSegmentation().GetNumberOfSegments() == 3  # both breasts and the torso
    table = patient.find_node(case, clinic.MEASUREMENTS).GetTable()
    assert table.GetNumberOfRows() == len(panel.result_of(MEASURE).rows)
    curve = patient.find_node(case, clinic.MARK + "left-notch-to-nipple-along")
    row = next(r for r in panel.result_of(MEASURE).rows if r.key == "left-notch-to-nipple" and r.method.startswith("along"))
    curve.SetAndObserveTransformNodeID(None)  # its own length, not that of the bent one
    assert curve.GetCurveLengthWorld() == pytest.approx(row.value, abs=0.05)
    curve.SetAndObserveTransformNodeID(node.GetID())


def test_a_slider_goes_from_the_shape_model_to_the_refined_surface(shown):
    panel, _ = shown
    surface, node = panel.result_of(SURFACE), panel.result.node()
    points = lambda: np.array([node.GetPolyData().GetPoint(k) for k in some])
    some = np.abs(surface.mesh.scalars["detail_mm"]).argsort()[::-20_000]
    assert abs(surface.mesh.scalars["detail_mm"][some[0]]) > 1.0
    panel.ui.detailButton.click()
    assert node.GetDisplayNode().GetActiveScalarName() == "detail_mm"
    panel.ui.refinementSlider.value = 0.0
    np.testing.assert_allclose(points(), surface.unrefined_ras[some], atol=0.01)
    panel.ui.refinementSlider.value = 0.5
    np.testing.assert_allclose(points(), (surface.unrefined_ras + surface.mesh.vertices)[some] / 2, atol=0.01)
    panel.ui.refinementSlider.value = 1.0
    np.testing.assert_allclose(points(), surface.mesh.vertices[some], atol=0.01)


def test_the_bent_transform_moves_and_survives_a_file(shown, tmp_path):
    import slicer

    from BreastReconstructionLib.scene import clinic, patient

    panel, case = shown
    node = patient.find_node(case, clinic.BENT_TO_SCAN)
    field = read_volume(panel.result_of(REGISTER).deformation, vectors=True)
    place = field.to_ras(np.array([[4.0, 5.0, 6.0], [7.5, 8.5, 3.5]]))
    wanted = apply_grid(place, field)
    assert np.linalg.norm(wanted - place, axis=1).max() > 0.5
    storage = slicer.vtkMRMLTransformStorageNode()
    storage.SetFileName(str(tmp_path / "bent.h5"))
    assert storage.WriteData(node)
    again = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGridTransformNode")
    assert storage.ReadData(again)
    for each in (node, again):
        got = np.array([each.GetTransformToParent().TransformPoint(point) for point in place])
        np.testing.assert_allclose(got, wanted, atol=0.05)


def test_dragging_a_line_moves_the_numbers(shown):
    from BreastReconstructionLib.scene import clinic, patient

    panel, case = shown
    rows = panel.result_of(MEASURE).rows
    table = patient.find_node(case, clinic.MEASUREMENTS)
    line = patient.find_node(case, clinic.MARK + "left-notch-to-nipple")
    numbers = [k for k, row in enumerate(rows) if row.key == "left-notch-to-nipple"]
    end = np.array(line.GetNthControlPointPosition(1))
    line.SetNthControlPointPosition(1, *(end - [0.0, 0.0, 15.0]))
    straight, along = (float(table.GetCellText(k, clinic.VALUE_COLUMN)) for k in numbers)
    first, second = (np.array(line.GetNthControlPointPosition(k)) for k in (0, 1))
    assert straight == pytest.approx(np.linalg.norm(first - second), abs=0.06)
    assert straight > rows[numbers[0]].value + 5
    assert along > rows[numbers[1]].value + 5
    moved = clinic.moved_points(case, panel.result_of(MEASURE).curves)
    assert list(moved) == ["left-nipple"]
    line.SetNthControlPointPosition(1, *end)
    assert clinic.moved_points(case, panel.result_of(MEASURE).curves) == {}


def test_visits_side_by_side(shown, measured_case, tmp_path):
    import slicer

    from BreastReconstructionLib.scene import clinic, patient
    from Testing.workflow import wait

    panel, case = shown
    panel.clinic.show_visits()
    assert "two visits or more" in panel.ui.statusLabel.text
    second = Path(shutil.copytree(measured_case, tmp_path / "second visit"))
    panel.choose_case(str(second))
    wait(lambda: patient.find_node(second, clinic.MEASUREMENTS) is not None, 60)
    panel.clinic.show_visits()
    table = patient.find_node(second, clinic.VISITS).GetTable()
    assert table.GetNumberOfColumns() == 5
    assert table.GetNumberOfRows() == len(panel.result_of(MEASURE).rows)
    chart = patient.find_node(second, clinic.VISITS_PLOT)
    assert chart.GetNumberOfPlotSeriesNodes() == 2
    assert slicer.mrmlScene.GetNodeByID(chart.GetNthPlotSeriesNodeID(0)).GetYColumnName() == "left"
    patient.remove_case(second)
    panel.choose_case(str(case))
    wait(lambda: panel.result.node() is not None, 60)
    finished = run_cli("visits", case, second, "-o", tmp_path / "visits.csv")
    assert finished.returncode == 0, finished.stderr
    with open(tmp_path / "visits.csv", newline="") as file:
        head, *rows = list(csv.reader(file))
    assert head[3:] == ["1: 27 November 2026", "2: 27 November 2026"]
    assert all("±" in row[3] for row in rows)
    assert_one_sentence(run_cli("visits", case, "-o", tmp_path / "one.csv"), 13, "two visits or more")


def placed_by_hand(panel, case, scan):
    """Landmarks on the volume and a curve around the skin that decides, placed, used and taken away again."""
    import qt
    import slicer

    from BreastReconstructionLib.scene import clinic, nodes, patient
    from Testing.workflow import wait_for_run

    section, known = panel.clinic, panel.result_of(REGISTER).scan_landmarks
    node = patient.find_node(case, clinic.SCAN_LANDMARKS)
    assert node.GetParentTransformNode() is None, "it is the volume's"
    assert set(nodes.placed_points(node)) == set(known)
    truth = read_landmarks(scan / "landmarks.mrk.json").points
    nodes.fill_landmarks(node, {**truth, "navel": truth["navel"] + [0.0, 0.0, 4.0]})
    section.widget.findChild(qt.QPushButton, "regionButton").click()
    surface = panel.result_of(SURFACE)
    notch = surface.landmarks_ras[0]
    near = surface.mesh.vertices - notch
    ring = [[60.0, -30.0], [70.0, -70.0], [0.0, -120.0], [-70.0, -70.0], [-60.0, -30.0]]
    front = (surface.mesh.scalars["torso"] > 0.5) & (surface.mesh.normals[:, 1] > 0.5)
    corners = [surface.mesh.vertices[front][np.linalg.norm(near[front][:, [0, 2]] - at, axis=1).argmin()] for at in ring]
    clinic.set_points(patient.find_node(case, clinic.REGION), np.array(corners))
    section.buttons[REGISTER].click()
    assert wait_for_run(panel).startswith("Done")
    numbers = panel.result_of(REGISTER).numbers
    assert numbers["decided_by"] == "curve"
    assert set(numbers["landmarks_mm"]) == set(truth)
    assert "within the drawn curve" in section.text.text
    assert np.linalg.norm(nodes.placed_points(node)["navel"] - truth["navel"]) == pytest.approx(4, abs=0.01)
    nodes.fill_landmarks(node, {})
    slicer.mrmlScene.RemoveNode(patient.find_node(case, clinic.REGION))
    section.buttons[REGISTER].click()
    assert wait_for_run(panel).startswith("Done")
    numbers = panel.result_of(REGISTER).numbers
    assert (numbers["decided_by"], numbers["landmarks_mm"]) == ("ribs", {})
    assert set(nodes.placed_points(node)) == set(known)


def test_registering_and_measuring_by_clicks(shown, scan):
    import slicer

    from BreastReconstructionLib.scene import clinic, patient
    from Testing.workflow import wait_for_run

    panel, case = shown
    section = panel.clinic
    section.register()
    assert "Choose the CT or MRI" in panel.ui.statusLabel.text
    storage = slicer.vtkMRMLNRRDStorageNode()
    storage.SetFileName(str(scan / "volume.nrrd"))
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    assert storage.ReadData(volume)
    panel.refresh()
    section.volume.setCurrentIndex(section.volume.findData(volume.GetID()))
    bent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGridTransformNode")
    grid = patient.find_node(case, clinic.BENT_TO_SCAN).GetTransformToParent()
    bent.SetAndObserveTransformToParent(grid)
    volume.SetAndObserveTransformNodeID(bent.GetID())
    section.register()
    assert "bends it" in panel.ui.statusLabel.text
    volume.SetAndObserveTransformNodeID(None)
    panel.ui.option_deformable.checked = False
    section.buttons[REGISTER].click()
    assert wait_for_run(panel).startswith("Done")
    assert "Skin over ribs and sternum lies" in section.text.text
    assert (case / "scan" / "volume.nrrd").exists(), "a volume without a file of its own is kept with the case"
    placed_by_hand(panel, case, scan)
    boundary = patient.find_node(case, clinic.MARK + "right-breast-boundary")
    for i in range(boundary.GetNumberOfControlPoints()):
        x, y, z = boundary.GetNthControlPointPosition(i)
        centre = np.mean([boundary.GetNthControlPointPosition(k) for k in (0, boundary.GetNumberOfControlPoints() // 2)], axis=0)
        boundary.SetNthControlPointPosition(i, *(centre + 0.9 * (np.array([x, y, z]) - centre)))
    line = patient.find_node(case, clinic.MARK + "right-notch-to-nipple")
    end = np.array(line.GetNthControlPointPosition(1))
    before = next(row.value for row in panel.result_of(MEASURE).rows if row.key == "right-notch-to-nipple")
    line.SetNthControlPointPosition(1, *(end - [0.0, 0.0, 10.0]))
    section.buttons[MEASURE].click()
    assert wait_for_run(panel).startswith("Done")
    assert next(row.value for row in panel.result_of(MEASURE).rows if row.key == "right-notch-to-nipple") > before + 5
    assert any("boundary drawn" in row.method for row in panel.result_of(MEASURE).rows)
    slicer.mrmlScene.Clear(0)
