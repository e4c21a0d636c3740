"""The main job through the command line: the demo, its files, and what happens when things go wrong on the way."""

import csv
import json
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
import trimesh

from BreastReconstructionLib.capabilities.torso.results import Report
from BreastReconstructionLib.core.case import read_case_file
from BreastReconstructionLib.landmarks.files import read_landmarks
from BreastReconstructionLib.landmarks.names import LANDMARK_NAMES
from BreastReconstructionLib.measurement.accuracy import read_truth
from BreastReconstructionLib.mesh.distance import closest_on_mesh
from BreastReconstructionLib.mesh.files import read_mesh
from BreastReconstructionLib.sfm.dense import DenseCloud
from BreastReconstructionLib.sfm.reconstruction import CameraReconstruction
from Testing.cases import made_once
from Testing.conftest import ROOT, STAGES, assert_one_sentence, run_cli, small_arguments


@pytest.fixture(scope="module")
def other_case(shared):
    """The draft of a short video of another body: phantom video --seed 9302 --population wide --frames 36."""
    video = ROOT / "Testing" / "Data" / "wide-9302"

    def make(folder):
        marker = json.loads((video / "truth.json").read_text())["marker"]
        given = ["--landmarks", video / "picks.csv", "--marker", marker, "--truth", video]
        finished = run_cli("reconstruct", video / "video.mp4", *given, "--quality", "draft", "-o", folder / "case")
        assert finished.returncode == 0, finished.stderr

    return made_once(shared, "other", [video], make) / "case"


@pytest.mark.parametrize(("made", "column"), [("demo_case", "sample_mm"), ("draft_case", "draft_mm"), ("other_case", "other_mm")])
def test_no_worse_than_the_release_before(request, made, column):
    """docs/releases.csv holds the mean errors of each release; COLMAP's own scatter is a few hundredths."""
    with open(ROOT / "docs" / "releases.csv", newline="") as file:
        last = list(csv.DictReader(file))[-1]
    accuracy = json.loads((request.getfixturevalue(made) / "accuracy.json").read_text())
    assert accuracy["as_delivered"]["mean_mm"] < float(last[column]) + 0.06


@pytest.mark.parametrize("quality", ["normal", "draft"])
def test_what_is_stated_is_what_is_true(demo_case, draft_case, quality):
    case = demo_case if quality == "normal" else draft_case
    rows = json.loads((case / "accuracy.json").read_text())["calibration"]
    assert 0.6 < rows["all"]["within_one"] < 0.97
    assert rows["all"]["within_two"] > 0.92
    assert rows["front"]["within_two"] > 0.88
    assert rows["sides"]["stated_mm"] > 1.3 * rows["front"]["stated_mm"]


def stages_before(stage):
    """Names of the stages that come before one."""
    return list(STAGES[: STAGES.index(stage)])


# The demo --------------------------------------------------------------------------------------------------------------


def test_demo_error_is_within_its_figures(demo_case):
    accuracy = json.loads((demo_case / "accuracy.json").read_text())
    assert accuracy["as_delivered"]["mean_mm"] <= 0.5
    assert accuracy["after_similarity"]["mean_mm"] <= 0.5
    assert accuracy["surface_to_truth"]["mean_mm"] <= 0.5
    assert abs(accuracy["scale_error_percent"]) <= 0.5
    for part in ("as_delivered", "after_similarity"):
        assert set(accuracy[part]) == {"mean_mm", "median_mm", "rms_mm", "p95_mm"}
        assert 0.05 < accuracy[part]["median_mm"] <= accuracy[part]["mean_mm"] <= accuracy[part]["rms_mm"]
    assert list(accuracy["landmarks_mm"]) == list(LANDMARK_NAMES)
    assert max(accuracy["landmarks_mm"].values()) < 4
    assert accuracy["scored_share_of_skin"] > 0.6
    assert "Error against the phantom's truth" in (demo_case.parent / "stdout.txt").read_text()


def test_demo_error_is_not_an_artefact_of_its_score(demo_case, sample):
    """An independent measure: landmarks alone carry the truth to the surface, without closest-point registration."""
    from BreastReconstructionLib.geometry.transforms import fit_similarity

    truth, surface = read_truth(sample), read_mesh(demo_case / "surface.ply")
    delivered = read_landmarks(demo_case / "landmarks.mrk.json").points
    landmarks = np.array([delivered[name] for name in LANDMARK_NAMES])
    rigid = fit_similarity(truth.landmarks_ras, landmarks, with_scale=False)
    front = truth.skin & (truth.vertices_ras[:, 1] > truth.landmarks_ras[0, 1])
    distance, _ = closest_on_mesh(rigid.apply(truth.vertices_ras[front])[::5], surface.vertices, surface.faces)
    assert distance.mean() < 3.0
    assert np.linalg.norm(rigid.apply(truth.landmarks_ras) - landmarks, axis=1).mean() < 4.0


def test_every_selected_frame_is_registered_and_cameras_are_right(demo_case, sample):
    cameras = CameraReconstruction.load(demo_case / "cameras")
    frames = json.loads((demo_case / "frames" / "frames.json").read_text())
    assert len(cameras.cameras) == len(frames["names"]) == 30
    from BreastReconstructionLib.geometry.transforms import fit_similarity

    truth = read_truth(sample)
    number = dict(zip(frames["names"], frames["video_frames"], strict=True))
    found = np.array([camera.center_world for camera in cameras.cameras.values()])
    exact = np.array([truth.cameras[number[name]].center_world for name in cameras.cameras])
    to_truth = fit_similarity(found, exact)
    assert np.linalg.norm(to_truth.apply(found) - exact, axis=1).max() < 2.0
    cloud = DenseCloud.load(demo_case / "dense")
    points = to_truth.apply(cloud.points_world[::20].astype(float))
    distance, _ = closest_on_mesh(points, truth.vertices_ras, truth.faces)
    on_torso = distance[distance < 20]
    assert len(on_torso) > 2000
    assert np.median(on_torso) < 2.5


def test_surface_file_is_lps_millimetres_with_scalars(demo_case):
    header = (demo_case / "surface.ply").read_bytes()[:600].decode("ascii", "ignore")
    assert "comment SPACE=LPS" in header
    mesh = read_mesh(demo_case / "surface.ply")
    assert {"residual_mm", "views", "uncertainty_mm"} <= set(mesh.scalars)
    front = mesh.scalars["views"] > 3
    assert 0.1 < np.median(mesh.scalars["uncertainty_mm"][front]) < 1.0
    assert np.median(mesh.scalars["uncertainty_mm"][~front]) > np.median(mesh.scalars["uncertainty_mm"][front])
    assert mesh.colors.std() > 3
    assert trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).is_watertight
    extent = np.ptp(mesh.vertices, axis=0)
    assert (extent > [300, 80, 300]).all()
    assert (extent < [800, 400, 800]).all()
    # RAS: the left nipple lies at smaller R than the right one, in front of the coracoids, below the notch.
    points = read_landmarks(demo_case / "landmarks.mrk.json").points
    assert points["left-nipple"][0] < points["right-nipple"][0]
    assert points["left-nipple"][1] > points["left-coracoid"][1]
    assert points["sternal-notch"][2] > points["left-nipple"][2] > points["navel"][2]
    loaded = trimesh.load(demo_case / "surface.ply", process=False)
    np.testing.assert_allclose(np.asarray(loaded.vertices), mesh.vertices * [-1, -1, 1], atol=1e-4)
    residual = mesh.scalars["residual_mm"]
    assert residual.min() >= 0
    assert np.median(residual[mesh.scalars["views"] > 3]) < 4
    # The flat back was filmed by no camera.
    back = mesh.normals[:, 1] < -0.95
    assert mesh.scalars["views"][back].mean() < 0.5


def test_scale_comes_from_the_marker_with_its_uncertainty(demo_case, sample):
    report = json.loads((demo_case / "report.json").read_text())
    assert "printed marker" in report["scale"]["source"]
    assert 0 < report["scale"]["relative_uncertainty"] < 0.01
    assert not report["scale"]["approximate"]
    exact = json.loads((sample / "truth.json").read_text())["nipple_distance_mm"]
    assert report["distances_mm"]["left-nipple to right-nipple"] == pytest.approx(exact, rel=0.03)
    assert any("not for diagnosis" in warning for warning in report["warnings"])


def test_the_report_says_first_how_much_is_measured(demo_case):
    report = Report.load(demo_case / "report")
    shares = report.numbers["surface"]["shares_of_torso"]
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["measured"] > 0.75
    assert shares["contradicted"] < 0.04
    assert report.lines()[0].startswith(f"Of the torso, {100 * shares['measured']:.0f} % is measured")
    assert not any("unusual" in warning or "contradict" in warning for warning in report.numbers["warnings"])
    mesh = read_mesh(demo_case / "surface.ply")
    assert {"agreement", "evidence", "torso"} <= set(mesh.scalars)
    assert set(np.unique(mesh.scalars["evidence"])) <= {0.0, 1.0, 2.0}
    landmarks = report.numbers["landmarks"].values()
    assert max(landmark["distance_to_fitted_shape_mm"] for landmark in landmarks) < 3.0


def test_report_names_no_path_of_the_patient(demo_case, sample):
    text = (demo_case / "report.json").read_text() + (demo_case / "case.json").read_text()
    assert str(sample) not in text
    assert str(demo_case) not in text


def test_report_sheet_is_a_picture_with_content(demo_case):
    sheet = cv2.imread(str(demo_case / "report.png"))
    assert sheet.shape[0] > 1200
    assert sheet.shape[1] > 1800
    green = (sheet[..., 1].astype(int) > 200) & (sheet[..., 0] < 120) & (sheet[..., 2] < 120)
    assert green.sum() > 500, "the outline is drawn on the frames"


def test_running_again_skips_every_stage(demo_case):
    before = {stage: record["finished"] for stage, record in read_case_file(demo_case)["stages"].items()}
    finished = run_cli("demo", "-o", demo_case, "--json-progress")
    assert finished.returncode == 0, finished.stderr
    events = [json.loads(line) for line in finished.stdout.splitlines()]
    assert [e["stage"] for e in events if e.get("outcome") == "skipped"] == list(STAGES)
    assert {stage: r["finished"] for stage, r in read_case_file(demo_case)["stages"].items()} == before


def test_inspect(demo_case):
    finished = run_cli("inspect", demo_case)
    assert finished.returncode == 0
    for stage in STAGES:
        assert stage in finished.stdout
    assert "30 of 30" in finished.stdout


# Changes and scale on the small case -----------------------------------------------------------------------------------


def test_approximate_scale_is_called_approximate(small_case):
    report = json.loads((small_case / "report.json").read_text())
    assert report["scale"]["approximate"]
    assert report["scale"]["relative_uncertainty"] > 0.03
    assert any("approximate" in warning for warning in report["warnings"])
    assert report["frames"] == {"selected": 16, "registered": 16, "lost": []}


def test_a_new_scale_redoes_only_the_surface(small_input, case, sample):
    arguments = [a for a in small_arguments(small_input) if a != "--approximate-scale"]
    finished = run_cli(*arguments, "--distance", "left-nipple:right-nipple=205", "--remove-unseen", "-o", case, "--json-progress")
    assert finished.returncode == 0, finished.stderr
    events = [json.loads(line) for line in finished.stdout.splitlines()]
    assert [e["stage"] for e in events if e.get("outcome") == "skipped"] == [*stages_before("scale"), "fit", "refine"]
    points = read_landmarks(case / "landmarks.mrk.json").points
    assert np.linalg.norm(points["left-nipple"] - points["right-nipple"]) == pytest.approx(205, abs=0.01)
    mesh = read_mesh(case / "surface.ply")
    assert mesh.scalars["views"].min() >= 1
    assert 0.01 < json.loads((case / "report.json").read_text())["scale"]["relative_uncertainty"] < 0.05


def with_scale(small_input, *scale):
    return [*(a for a in small_arguments(small_input) if a != "--approximate-scale"), *scale]


def test_an_odd_scale_is_doubted_first_everywhere(small_input, case):
    finished = run_cli(*with_scale(small_input, "--distance", "left-nipple:right-nipple=310"), "-o", case)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("WARNING: 310 mm between left-nipple and right-nipple would be unlike any usual body")
    report = json.loads((case / "report.json").read_text())
    assert report["doubts"][0] == report["scale"]["doubts"][0]
    assert "patient's left" in report["handedness"]
    assert "WARNING: 310 mm" in run_cli("inspect", case).stdout


def test_a_scale_unlike_any_body_is_refused_and_can_be_confirmed(small_input, case):
    """Half of what it is, as of a tape that was laid double."""
    arguments = with_scale(small_input, "--distance", "sternal-notch:left-coracoid=70")
    assert_one_sentence(run_cli(*arguments, "-o", case), 6, "unlike any usual body", "--trust-scale")
    finished = run_cli(*arguments, "--trust-scale", "-o", case)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("WARNING") >= 2  # the pair, and the body


def test_two_measures_that_contradict_each_other(small_input, case):
    both = ["--distance", "left-nipple:right-nipple=205", "--distance", "sternal-notch:navel=460"]
    assert_one_sentence(run_cli(*with_scale(small_input, *both), "-o", case), 6, "Two measures disagree", "one of them is wrong")
    both[3] = "sternal-notch:navel=362"
    finished = run_cli(*with_scale(small_input, *both), "-o", case)
    assert finished.returncode == 0, finished.stderr
    assert "left-nipple" in finished.stdout
    assert "sternal-notch to navel, 362 mm" in finished.stdout


def test_a_distance_typed_in_centimetres_stops_before_anything_runs(small_input, tmp_path):
    finished = run_cli(*with_scale(small_input, "--distance", "left-nipple:right-nipple=21"), "-o", tmp_path / "case")
    assert_one_sentence(finished, 6, "21 typed in centimetres (210 mm)?")
    assert not (tmp_path / "case").exists()


def test_a_results_own_landmarks_given_back(small_input, case):
    own = case / "landmarks.mrk.json"
    arguments = [own if a == small_input[1] else a for a in small_arguments(small_input, "landmarks")]
    before = json.loads((case / "landmarks" / "landmarks.json").read_text())["points_world"]
    kept = own.read_text()
    finished = run_cli(*arguments, "-o", case)
    assert finished.returncode == 0, finished.stderr
    after = json.loads((case / "landmarks" / "landmarks.json").read_text())["points_world"]
    np.testing.assert_allclose(after, before, atol=1e-6)
    document = json.loads(kept)
    del document["BreastReconstruction"]  # as another program saves it
    (case.parent / "saved.mrk.json").write_text(json.dumps(document))
    arguments = [case.parent / "saved.mrk.json" if a == own else a for a in arguments]
    assert_one_sentence(run_cli(*arguments, "-o", case), 5, "not in the coordinates of this case's cameras")


def test_a_lost_stage_is_redone_with_all_that_was_made_from_it(small_input, case):
    shutil.rmtree(case / "align")
    finished = run_cli(*small_arguments(small_input), "-o", case, "--json-progress")
    assert finished.returncode == 0, finished.stderr
    events = [json.loads(line) for line in finished.stdout.splitlines()]
    assert [e["stage"] for e in events if e.get("outcome") == "skipped"] == stages_before("align")


def test_cameras_from_a_colmap_model_folder(small_input, small_case, tmp_path):
    model = small_case / "cameras" / "colmap" / "model"
    text = tmp_path / "text"
    text.mkdir()
    import pycolmap

    pycolmap.Reconstruction(model).write_text(text)
    expected = CameraReconstruction.load(small_case / "cameras")
    for folder in (model, text):
        case = tmp_path / f"case-{folder.name}"
        finished = run_cli(*small_arguments(small_input, "cameras"), "--cameras", folder, "-o", case)
        assert finished.returncode == 0, finished.stderr
        found = CameraReconstruction.load(case / "cameras")
        assert set(found.cameras) == set(expected.cameras)
        for name, camera in found.cameras.items():
            np.testing.assert_allclose(camera.rotation, expected.cameras[name].rotation, atol=1e-6)
            np.testing.assert_allclose(camera.intrinsics, expected.cameras[name].intrinsics, rtol=1e-6)


def copied_model(small_case, folder, rename=lambda name: name, factor=1.0):
    """The small case's COLMAP model with other image names, and cameras of pictures of another size."""
    import pycolmap

    model = pycolmap.Reconstruction(small_case / "cameras" / "colmap" / "model")
    for image in model.images.values():
        image.name = rename(image.name)
    for camera in model.cameras.values():
        camera.rescale(factor)
    folder.mkdir()
    model.write(folder)
    return folder


def renumbered(small_input, folder):
    """The small pictures as 001.png … in a folder: names that are those of our frames, one off."""
    pictures = folder / "numbered"
    pictures.mkdir()
    for i, path in enumerate(sorted(small_input[0].iterdir())):
        shutil.copy(path, pictures / f"{i + 1:03d}.png")
    return [pictures if a == small_input[0] else a for a in small_arguments(small_input, "cameras")]


def one_later(name):
    return f"{int(name[:3]) + 1:03d}.png"


def test_imported_cameras_go_by_the_users_names_of_pictures(small_input, small_case, tmp_path):
    arguments = renumbered(small_input, tmp_path)
    model = copied_model(small_case, tmp_path / "model", one_later)
    finished = run_cli(*arguments, "--cameras", model, "-o", tmp_path / "case")
    assert finished.returncode == 0, finished.stderr
    found = CameraReconstruction.load(tmp_path / "case" / "cameras")
    expected = CameraReconstruction.load(small_case / "cameras")
    for name, camera in found.cameras.items():
        np.testing.assert_allclose(camera.rotation, expected.cameras[name].rotation, atol=1e-6)
    assert any("matched to 16 of 16 frames by name (001.png is frame 000.png)" in words for words in found.warnings)


def test_imported_cameras_of_other_pictures_are_noticed(small_input, small_case, tmp_path):
    shifted = copied_model(small_case, tmp_path / "shifted", lambda name: f"{(int(name[:3]) + 1) % 16:03d}.png")
    arguments = small_arguments(small_input, "cameras")
    finished = run_cli(*arguments, "--cameras", shifted, "-o", tmp_path / "a")
    assert_one_sentence(finished, 4, "do not fit the frames", "names are shifted")
    larger = copied_model(small_case, tmp_path / "larger", factor=2.0)
    finished = run_cli(*arguments, "--cameras", larger, "-o", tmp_path / "b")
    assert finished.returncode == 0, finished.stderr
    camera = next(iter(CameraReconstruction.load(tmp_path / "b" / "cameras").cameras.values()))
    expected = next(iter(CameraReconstruction.load(small_case / "cameras").cameras.values()))
    assert (camera.width, camera.height) == (540, 960)
    np.testing.assert_allclose(camera.intrinsics, expected.intrinsics, rtol=1e-3)
    import pycolmap

    square = pycolmap.Reconstruction(small_case / "cameras" / "colmap" / "model")
    for camera in square.cameras.values():
        camera.width = camera.height = 960
    (tmp_path / "square").mkdir()
    square.write(tmp_path / "square")
    finished = run_cli(*arguments, "--cameras", tmp_path / "square", "-o", tmp_path / "c")
    assert_one_sentence(finished, 4, "960 x 960 pixels, the frames have 540 x 960")


# The command line itself -----------------------------------------------------------------------------------------------


def test_help_names_every_command_and_exit_code():
    finished = run_cli("--help")
    assert finished.returncode == 0
    for word in ("reconstruct", "demo", "inspect", "phantom", "exit codes", "130", "patient's"):
        assert word in finished.stdout


def test_wrong_command_line_is_exit_code_2():
    assert run_cli("reconstruct").returncode == 2
    assert run_cli("reconstruct", "v.mp4", "--landmarks", "l.csv", "-o", "c").returncode == 2  # no scale given


def test_loading_the_package_imports_nothing_heavy():
    heavy = ("torch", "cv2", "pycolmap", "vtkmodules", "trimesh")
    code = f"import sys, BreastReconstructionLib.cli; print([m for m in {heavy} if m in sys.modules])"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"


# Choices ---------------------------------------------------------------------------------------------------------------


def test_a_draft_is_one_and_says_its_error(draft_case):
    """Twenty frames and a coarse surface; the error is printed."""
    assert "Error against the phantom's truth" in (draft_case.parent / "stdout.txt").read_text()
    accuracy = json.loads((draft_case / "accuracy.json").read_text())
    assert accuracy["as_delivered"]["mean_mm"] < 0.7
    report = json.loads((draft_case / "report.json").read_text())
    assert report["frames"]["selected"] == 20
    assert report["surface"]["vertices"] < 150_000


def test_demo_fit_is_refined_by_tracks_and_the_patient_stood_still(demo_case):
    report = json.loads((demo_case / "report.json").read_text())
    with np.load(demo_case / "fit" / "motion.npz") as file:
        assert file["tracks"] > 4000
        assert file["motion"].shape == (30, 4)
    assert report["fit"]["largest_patient_motion_mm"] < 5
    assert not any("patient moved" in warning for warning in report["warnings"])
    assert report["surface"]["median_uncertainty_mm"] < report["surface"]["p95_uncertainty_mm"]


@pytest.mark.parametrize("detail", ["banana", "0.1", "20", "-1", "nan"])
def test_detail_outside_its_range_is_a_wrong_command_line(sample, tmp_path, detail):
    finished = run_cli(
        "surface", sample / "video.mp4", "--landmarks", sample / "picks.csv", "--approximate-scale", "--detail", detail,
        "-o", tmp_path / "case",
    )  # fmt: skip
    assert finished.returncode == 2
    assert "preview, normal, fine" in finished.stderr
    assert not (tmp_path / "case").exists()


def test_case_below_a_file_is_one_sentence(small_input, tmp_path):
    (tmp_path / "file").write_text("")
    finished = run_cli(*small_arguments(small_input, "frames"), "-o", tmp_path / "file" / "case")
    assert_one_sentence(finished, 9, "cannot be written")
