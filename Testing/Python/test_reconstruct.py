"""The main job through the command line: the demo, its files, and what happens when things go wrong on the way."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh

from BreastReconstructionLib.core.case import read_case_file
from BreastReconstructionLib.landmarks.files import read_landmarks
from BreastReconstructionLib.landmarks.names import LANDMARK_NAMES
from BreastReconstructionLib.measurement.accuracy import read_truth
from BreastReconstructionLib.mesh.distance import closest_on_mesh
from BreastReconstructionLib.mesh.files import read_mesh
from BreastReconstructionLib.sfm.dense import DenseCloud
from BreastReconstructionLib.sfm.reconstruction import CameraReconstruction
from Testing.conftest import STAGES, assert_one_sentence, run_cli, small_arguments


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
    assert 0.3 < np.median(mesh.scalars["uncertainty_mm"][front]) < 2.0
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


@pytest.fixture
def case(small_case, tmp_path):
    """A copy that a test may change."""
    shutil.copytree(small_case, tmp_path / "case")
    return tmp_path / "case"


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
    assert [e["stage"] for e in events if e.get("outcome") == "skipped"] == [*stages_before("scale"), "fit"]
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


# Bad input -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("distance", "words"),
    [("left-nipple:right-nipple=0", "0 mm"), ("left-nipple:right-nipple=-210", "-210 mm"),
     ("left-nipple:right-nipple=2000", "2000 mm"), ("left-nipple:elbow=200", "elbow"), ("210", "form")],
)  # fmt: skip
def test_impossible_distances(small_input, tmp_path, distance, words):
    arguments = [a for a in small_arguments(small_input) if a != "--approximate-scale"]
    finished = run_cli(*arguments, "--distance", distance, "-o", tmp_path / "case")
    assert_one_sentence(finished, 6, words)
    assert not (tmp_path / "case").exists()


def test_a_marker_never_seen(small_input, case):
    arguments = [a for a in small_arguments(small_input) if a != "--approximate-scale"]
    finished = run_cli(*arguments, "--marker", "DICT_7X7_50:80", "-o", case)
    assert_one_sentence(finished, 6, "is seen in 0 frames")
    finished = run_cli(*arguments, "--marker", "DICT_9X9:80", "-o", case)
    assert_one_sentence(finished, 6, "DICT_9X9")


def renamed(row, first, second):
    """Exchange two words."""
    return row.replace(first, "?").replace(second, first).replace("?", second)


def picks_with(small_input, path, change):
    rows = small_input[1].read_text().splitlines()
    path.write_text("\n".join([rows[0], *change(rows[1:])]) + "\n")
    return path


@pytest.mark.parametrize(
    ("words", "change"),
    [
        ("lacks navel", lambda rows: [row for row in rows if not row.startswith("navel")]),
        ("exchanged", lambda rows: [renamed(row, "left-", "right-") for row in rows]),
        ("below the navel", lambda rows: [renamed(row, "sternal-notch,", "navel,") for row in rows]),
        ("outside the image", lambda rows: [*(row for row in rows if not row.startswith("navel,8,")), "navel,8,9000,5"]),
        ("frames 0 to 15", lambda rows: [*rows, "navel,99,10,10"]),
    ],
)  # fmt: skip
def test_bad_landmarks(small_input, case, tmp_path, words, change):
    picks = picks_with(small_input, tmp_path / "bad.csv", change)
    arguments = [picks if a == small_input[1] else a for a in small_arguments(small_input)]
    code = 3 if words.startswith("frames") else 5
    assert_one_sentence(run_cli(*arguments, "-o", case), code, words)


def noise_like(picture):
    """A picture with features that match nothing."""
    rng = np.random.default_rng(int(picture.sum()))
    noise = rng.integers(0, 255, (picture.shape[0] // 6, picture.shape[1] // 6, 3), np.uint8)
    return cv2.resize(noise, picture.shape[1::-1], interpolation=cv2.INTER_CUBIC)


def changed_pictures(small_input, folder, change):
    """Write the small pictures anew, each as `change(index, picture)` gives it; returns the arguments to use them."""
    pictures = folder / "pictures"
    pictures.mkdir()
    for i, path in enumerate(sorted(small_input[0].iterdir())):
        cv2.imwrite(str(pictures / path.name), change(i, cv2.imread(str(path))))
    return [pictures if a == small_input[0] else a for a in small_arguments(small_input)]


def test_landmark_in_an_unregistered_frame(small_input, tmp_path):
    rows = [row for row in small_input[1].read_text().splitlines()[1:] if row.split(",")[1] == "8"]
    assert len(rows) == 6
    picks = picks_with(small_input, tmp_path / "one.csv", lambda _: rows)
    arguments = changed_pictures(small_input, tmp_path, lambda i, picture: noise_like(picture) if i == 8 else picture)
    arguments = [picks if a == small_input[1] else a for a in arguments]
    finished = run_cli(*arguments, "-o", tmp_path / "case")
    assert_one_sentence(finished, 5, "could not be placed in space")
    cameras = CameraReconstruction.load(tmp_path / "case" / "cameras")
    assert cameras.lost == ("008.png",)
    assert "008.png" in cameras.warnings[0]


def test_two_places_are_said_not_hidden(small_input, tmp_path):
    """The second half shows another patient in another room."""
    from BreastReconstructionLib.phantom.video import PhantomVideoSettings, write_phantom_video

    settings = PhantomVideoSettings(seed=13, frames=8, width=540, height=960, focal_px=740, sweep_degrees=50)
    capture = cv2.VideoCapture(str(write_phantom_video(tmp_path / "other", settings)))
    others = [capture.read()[1] for _ in range(8)]
    arguments = changed_pictures(small_input, tmp_path, lambda i, picture: others[i - 8] if i >= 8 else picture)
    finished = run_cli(*arguments, "-o", tmp_path / "case")
    assert_one_sentence(finished, 4, "separate places", "frames")


def test_a_spare_second_model_refuses_nothing():
    from BreastReconstructionLib.core.errors import CameraError
    from BreastReconstructionLib.sfm.colmap import check_one_place

    every = {f"{i:03d}.png" for i in range(30)}
    check_one_place([every, {"003.png", "004.png", "005.png", "006.png", "007.png", "008.png"}])
    check_one_place([every - {"029.png"}, {"028.png", "029.png", "027.png"}])
    with pytest.raises(CameraError, match="separate places"):
        check_one_place([every - {f"{i:03d}.png" for i in range(20, 30)}, {f"{i:03d}.png" for i in range(20, 30)}])


def test_a_zoom_is_called_one(small_input, tmp_path):
    """Enlarging the middle of a picture is what a zoom does."""

    def zoomed(i, picture):
        height, width = picture.shape[:2]
        factor = 1 + 0.6 * i / 15
        matrix = np.array([[factor, 0, (1 - factor) * width / 2], [0, factor, (1 - factor) * height / 2]])
        return cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_CUBIC)

    arguments = changed_pictures(small_input, tmp_path, zoomed)
    arguments[0] = "cameras"
    arguments.remove("--approximate-scale")
    assert_one_sentence(run_cli(*arguments, "-o", tmp_path / "case"), 4, "The phone zoomed while it filmed")


def test_pixels_that_are_not_square_without_a_word_of_it(small_input, tmp_path):
    arguments = changed_pictures(small_input, tmp_path, lambda i, picture: cv2.resize(picture, (405, 960)))
    arguments[0] = "cameras"
    arguments.remove("--approximate-scale")
    finished = run_cli(*arguments, "-o", tmp_path / "case")
    assert finished.returncode == 0, finished.stderr
    cameras = CameraReconstruction.load(tmp_path / "case" / "cameras")
    assert any("pixels are not square" in warning for warning in cameras.warnings)
    intrinsics = next(iter(cameras.cameras.values())).intrinsics
    assert intrinsics[0, 0] / intrinsics[1, 1] == pytest.approx(0.75, rel=0.03)


def test_fewer_than_eight_registered_frames(small_input, tmp_path):
    arguments = changed_pictures(small_input, tmp_path, lambda i, p: p if 5 <= i <= 10 else noise_like(p))
    assert_one_sentence(run_cli(*arguments, "-o", tmp_path / "case"), 4, "Only 6 of 16 frames", "at least 8")


def test_no_texture(small_input, tmp_path):
    def smooth(i, picture):
        x, y = np.meshgrid(np.arange(picture.shape[1]), np.arange(picture.shape[0]))
        gradient = 128 + 60 * np.sin(x / 300 + i / 5) + 40 * np.cos(y / 400)
        return np.repeat(gradient[..., None], 3, axis=2).astype(np.uint8)

    arguments = changed_pictures(small_input, tmp_path, smooth)
    assert_one_sentence(run_cli(*arguments, "-o", tmp_path / "case"), 4, "almost no texture")


@pytest.mark.parametrize(("name", "content", "words"), [
    ("none.mp4", None, "does not exist"), ("empty.mp4", b"", "is empty"), ("letter.mp4", b"Dear doctor, " * 500, "be read"),
])  # fmt: skip
def test_bad_videos_at_the_door(small_input, tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    finished = run_cli(
        "reconstruct", tmp_path / name, "--landmarks", small_input[1], "--approximate-scale", "-o", tmp_path / "case"
    )
    assert_one_sentence(finished, 3, words)


@pytest.mark.parametrize(
    ("option", "name", "code", "words"),
    [
        ("--model", "none.safetensors", 7, "both its"),
        ("--model", "lirbsm_576.pth", 7, "model import"),
        ("--truth", "nowhere", 9, "truth.json"),
        ("--cameras", "nowhere", 4, "does not exist"),
    ],
)
def test_missing_inputs_are_noticed_before_the_long_run(small_input, tmp_path, option, name, code, words):
    finished = run_cli(*small_arguments(small_input), option, tmp_path / name, "-o", tmp_path / "case")
    assert_one_sentence(finished, code, words)
    assert "cameras" not in read_case_file(tmp_path / "case")["stages"]


def test_a_case_of_a_newer_version(small_input, case):
    document = json.loads((case / "case.json").read_text())
    (case / "case.json").write_text(json.dumps({**document, "format": 99}))
    assert_one_sentence(run_cli(*small_arguments(small_input), "-o", case), 9, "newer version")
    assert json.loads((case / "case.json").read_text())["format"] == 99


def test_a_damaged_case_file(small_input, case):
    (case / "case.json").write_text("{")
    assert_one_sentence(run_cli(*small_arguments(small_input), "-o", case), 9, "damaged")


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_a_read_only_case_folder():
    """As an ordinary user: root may write anywhere. The library is imported before the rights are given up."""
    code = (
        "import os, sys; from pathlib import Path; from BreastReconstructionLib.cli import main; import tqdm\n"
        "from BreastReconstructionLib.core.case import Case; from BreastReconstructionLib.core.errors import CaseError\n"
        "os.getuid() or os.setuid(65534)\n"
        "try: Case(Path(sys.argv[1]), create=True)\n"
        "except CaseError as error: print(error); sys.exit(error.exit_code)"
    )
    with tempfile.TemporaryDirectory() as parent:
        os.chmod(parent, 0o755)
        folder = Path(parent) / "case"
        folder.mkdir(mode=0o555)
        for target in (folder, folder / "inner"):
            finished = subprocess.run([sys.executable, "-c", code, target], capture_output=True, text=True, check=False)
            assert finished.returncode == 9, finished.stderr
            assert "cannot be written" in finished.stdout
        assert list(folder.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="POSIX limits")
@pytest.mark.parametrize("stage", ["frames", "dense", "surface"])
def test_a_full_disk_costs_only_the_stage_that_ran(small_input, case, stage):
    """A limit on file sizes ends a write as a full disk does."""
    import resource

    forget_from(case, stage)
    before = sorted(read_case_file(case)["stages"])
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
    finished = run_cli(*small_arguments(small_input), "-o", case, preexec_fn=limit)
    assert_one_sentence(finished, 9, "is full")
    assert sorted(read_case_file(case)["stages"]) == before
    assert not list(case.glob("*.partial"))
    finished = run_cli(*small_arguments(small_input, stage), "-o", case)
    assert finished.returncode == 0, finished.stderr


# Killed and cancelled --------------------------------------------------------------------------------------------------


def forget_from(case, stage):
    """Bring a finished case to where `stage` is next."""
    document = json.loads((case / "case.json").read_text())
    for name in STAGES[STAGES.index(stage) :]:
        document["stages"].pop(name, None)
        shutil.rmtree(case / name, ignore_errors=True)
    (case / "case.json").write_text(json.dumps(document))


def start_until(arguments, stage, **options):
    """Start the command line and return it as soon as `stage` reports that it runs."""
    command = [sys.executable, "-m", "BreastReconstructionLib", *map(str, arguments), "--json-progress"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    for line in process.stdout:
        event = json.loads(line)
        if event.get("stage") == stage and event["outcome"] == "running":
            return process
    raise AssertionError(f"{stage} never ran: {process.stderr.read()}")


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_termination_request_while_colmap_runs_is_one_sentence(small_input, case):
    """COLMAP's logger takes over the signal and prints its own trace, unless it is kept from it."""
    forget_from(case, "cameras")
    process = start_until([*small_arguments(small_input), "-o", case], "cameras")
    time.sleep(2.0)  # its library is loaded
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert errors.strip().splitlines() == ["Error: Cancelled; run the same command again to go on where it stopped."]
    assert not (case / "case.lock").exists()
    assert not list(case.glob("*.partial"))


def test_colmap_writes_nothing_to_the_terminal(small_input, case):
    forget_from(case, "cameras")
    finished = run_cli(*small_arguments(small_input, "cameras"), "-o", case)
    assert finished.returncode == 0, finished.stderr
    assert all(line.split(":")[0] in STAGES for line in finished.stderr.strip().splitlines()), finished.stderr


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill"])
def test_stopped_in_any_stage_and_resumed(small_input, case, stage, how):
    forget_from(case, stage)
    earlier = {name: record["finished"] for name, record in read_case_file(case)["stages"].items()}
    process = start_until([*small_arguments(small_input), "-o", case], stage)
    time.sleep(0.3)
    process.send_signal(how)
    _, errors = process.communicate(timeout=120)
    if how == signal.SIGINT and process.returncode != 0:  # a short stage may have finished before it heard
        assert process.returncode == 130, errors
        assert "Traceback" not in errors
        assert not (case / "case.lock").exists()
        assert not list(case.glob("*.partial"))
    for name, finished in earlier.items():
        assert read_case_file(case)["stages"][name]["finished"] == finished
    resumed = run_cli(*small_arguments(small_input, stage), "-o", case)
    assert resumed.returncode == 0, resumed.stderr
    stages = read_case_file(case)["stages"]
    assert stage in stages
    assert {name: stages[name]["finished"] for name in earlier} == earlier


def test_cancel_file(small_input, case, tmp_path):
    forget_from(case, "cameras")
    process = start_until([*small_arguments(small_input), "-o", case, "--cancel-file", tmp_path / "stop"], "cameras")
    (tmp_path / "stop").touch()
    start = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert time.monotonic() - start < 60
    assert sorted(read_case_file(case)["stages"]) == ["frames", "markers"]


def test_two_jobs_do_not_share_a_case(small_input, case):
    forget_from(case, "dense")
    first = start_until([*small_arguments(small_input), "-o", case], "dense")
    second = run_cli(*small_arguments(small_input), "-o", case)
    first.kill()
    first.communicate()
    assert_one_sentence(second, 9, "Another job")
    assert (case / "case.lock").exists()  # left by the killed job, taken over by the next
    assert run_cli(*small_arguments(small_input, "landmarks"), "-o", case).returncode == 0
    assert not (case / "case.lock").exists()


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
