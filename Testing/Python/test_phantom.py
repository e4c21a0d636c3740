import json

import cv2
import numpy as np
import pytest
import trimesh

from BreastReconstructionLib.core.errors import LandmarkError
from BreastReconstructionLib.geometry.transforms import fit_similarity
from BreastReconstructionLib.landmarks.files import read_landmarks
from BreastReconstructionLib.landmarks.mean_anchors import OFFICIAL_MEAN_ANCHORS_MODEL
from BreastReconstructionLib.landmarks.names import LANDMARK_NAMES
from BreastReconstructionLib.measurement.accuracy import read_truth
from BreastReconstructionLib.mesh.files import read_mesh
from BreastReconstructionLib.mesh.signed_distance import signed_distance
from BreastReconstructionLib.phantom import landmark_pictures as landmark_pictures_module
from BreastReconstructionLib.phantom.landmark_pictures import SIDE_PX, LandmarkPictures, landmark_pictures
from BreastReconstructionLib.phantom.torso import is_proper_solid, sample_torso, self_intersections
from BreastReconstructionLib.phantom.video import PhantomVideoSettings, write_phantom_video
from Testing.conftest import run_cli


@pytest.fixture(scope="module")
def torsos():
    return [sample_torso(seed)[0] for seed in range(900, 912)]


def test_every_torso_is_a_solid_with_the_same_faces(torsos):
    for torso in torsos:
        mesh = trimesh.Trimesh(torso.vertices_ras, torso.faces, process=False)
        assert mesh.is_watertight
        assert mesh.is_winding_consistent
        assert 8e6 < mesh.volume < 40e6  # mm^3
        assert is_proper_solid(torso)
        np.testing.assert_array_equal(torso.faces, torsos[0].faces)


def test_same_seed_same_torso():
    first, second, other = sample_torso(3)[0], sample_torso(3)[0], sample_torso(4)[0]
    np.testing.assert_array_equal(first.vertices_ras, second.vertices_ras)
    assert np.abs(first.vertices_ras - other.vertices_ras).max() > 5


def test_crop_and_landmarks_are_the_official_models(torsos):
    anchors = np.array([torso.to_model.apply(torso.landmarks_ras) for torso in torsos])
    vertices = np.array([torso.to_model.apply(torso.vertices_ras) for torso in torsos])
    assert np.linalg.norm(anchors.mean(axis=0) - OFFICIAL_MEAN_ANCHORS_MODEL, axis=1).max() * 291.8 < 18
    np.testing.assert_allclose(vertices.min(axis=1).mean(axis=0), [-0.91, -0.75, -0.29], atol=0.08)
    np.testing.assert_allclose(vertices.max(axis=1).mean(axis=0), [0.90, 0.74, 0.29], atol=0.08)
    assert np.mean([1 / torso.to_model.scale for torso in torsos]) == pytest.approx(291.8, rel=0.08)


def test_landmarks_lie_where_they_should(torsos):
    for torso in torsos:
        notch, navel, left_nipple, right_nipple, left_coracoid, right_coracoid = torso.landmarks_ras
        assert notch[2] > left_nipple[2] > navel[2]
        assert left_nipple[0] < notch[0] < right_nipple[0]  # R axis: the patient's left is negative
        assert left_coracoid[0] < left_nipple[0] + 30
        assert right_coracoid[0] > right_nipple[0] - 30
        assert left_nipple[1] > notch[1]  # A axis


def test_signed_distances_are_exact_and_negative_inside(torsos):
    torso = torsos[0]
    mesh = trimesh.Trimesh(torso.vertices_ras, torso.faces, process=False)
    rng = np.random.default_rng(0)
    points = rng.uniform(mesh.bounds[0] - 20, mesh.bounds[1] + 20, (400, 3))
    found = signed_distance(points, torso.vertices_ras, torso.faces)
    corners = torso.vertices_ras[torso.faces]
    for point, value in list(zip(points, found, strict=True))[:60]:
        exact = np.linalg.norm(trimesh.triangles.closest_point(corners, np.tile(point, (len(corners), 1))) - point, axis=1).min()
        assert abs(value) == pytest.approx(exact, abs=1e-6)
    # Solid angle (Van Oosterom and Strackee 1983) decides inside and outside independently.
    a, b, c = (corners[:, i][None] - points[:60, None] for i in range(3))
    la, lb, lc = (np.linalg.norm(v, axis=2) for v in (a, b, c))
    numerator = np.einsum("nfk,nfk->nf", a, np.cross(b, c))
    denominator = la * lb * lc + (a * b).sum(2) * lc + (b * c).sum(2) * la + (a * c).sum(2) * lb
    winding = np.arctan2(numerator, denominator).sum(axis=1) / (2 * np.pi)
    np.testing.assert_array_equal(found[:60] < 0, winding > 0.5)


def test_self_intersections_are_found():
    sphere = trimesh.creation.icosphere(3)
    faces = np.asarray(sphere.faces)
    assert len(self_intersections(np.asarray(sphere.vertices), faces)) == 0
    both = np.concatenate([sphere.vertices, sphere.vertices * [1, 1, 1] + [1.7, 0, 0]])
    crossing = self_intersections(both, np.concatenate([faces, faces + len(sphere.vertices)]))
    assert len(crossing) > 0
    assert ((crossing < len(faces)).sum(axis=1) == 1).all()


def test_torso_command(tmp_path):
    finished = run_cli("phantom", "torso", "--seed", 5, "-o", tmp_path)
    assert finished.returncode == 0, finished.stderr
    mesh, torso = read_mesh(tmp_path / "torso.ply"), sample_torso(5)[0]
    np.testing.assert_allclose(mesh.vertices, torso.vertices_ras, atol=1e-3)
    assert b"SPACE=LPS" in (tmp_path / "torso.ply").read_bytes()[:300]
    points = read_landmarks(tmp_path / "landmarks.mrk.json").points
    np.testing.assert_allclose([points[name] for name in LANDMARK_NAMES], torso.landmarks_ras, atol=1e-6)


@pytest.fixture(scope="module", params=[(0.0, 0.0), (-0.12, 0.04)], ids=["pinhole", "distorted"])
def video(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("video")
    settings = PhantomVideoSettings(
        seed=12, frames=5, width=540, height=960, focal_px=740, distortion=request.param, sweep_degrees=60, skin_texels=1024
    )
    write_phantom_video(folder, settings)
    return folder


def test_rendered_pictures_follow_the_exact_cameras(video):
    """The printed card is found where the cameras say: its corners are one rigid square of the stated size."""
    truth = read_truth(video)
    name, side = json.loads((video / "truth.json").read_text())["marker"].split(":")
    parameters = cv2.aruco.DetectorParameters()
    parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_APRILTAG
    detector = cv2.aruco.ArucoDetector(cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, name)), parameters)
    capture = cv2.VideoCapture(str(video / "video.mp4"))
    cameras, quads = [], []
    for frame in range(5):
        corners, _, _ = detector.detectMarkers(cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2GRAY))
        if corners:
            cameras.append(truth.cameras[frame])
            quads.append(corners[0].reshape(4, 2) + 0.5)
    assert len(cameras) >= 3
    from BreastReconstructionLib.geometry.cameras import triangulate

    found = np.array([triangulate(cameras, np.array([quad[k] for quad in quads])) for k in range(4)])
    errors = [np.linalg.norm(c.project(found)[0] - quad, axis=1).mean() for c, quad in zip(cameras, quads, strict=True)]
    assert np.mean(errors) < 0.6
    sides = np.linalg.norm(found - np.roll(found, 1, axis=0), axis=1)
    np.testing.assert_allclose(sides, float(side), rtol=0.01)


def test_truth_beside_the_video(video):
    truth = read_truth(video)
    torso, _ = sample_torso(12)
    np.testing.assert_allclose(truth.landmarks_ras, torso.landmarks_ras, atol=1e-6)
    rows = [line.split(",") for line in (video / "landmarks_in_frames.csv").read_text().splitlines()[1:]]
    assert len(rows) == 5 * 6
    for number, name, x, y, _ in rows:
        pixel = truth.cameras[int(number)].project(torso.landmarks_ras[[LANDMARK_NAMES.index(name)]])[0][0]
        np.testing.assert_allclose([float(x), float(y)], pixel, atol=1e-2)
    picks = read_landmarks(video / "picks.csv").picks
    assert {pick.landmark for pick in picks} == set(LANDMARK_NAMES)


def test_the_sample_is_no_training_torso(sample):
    seed = json.loads((sample / "truth.json").read_text())["settings"]["seed"]
    assert seed < 1_000_000
    truth = read_truth(sample)
    exact = fit_similarity(truth.landmarks_ras, sample_torso(seed)[0].landmarks_ras, with_scale=True)
    assert exact.scale == pytest.approx(1.0, abs=1e-6)


def test_pictures_of_landmarks_are_kept_and_say_what_is_seen(tmp_path):
    command = ("phantom", "landmark-pictures", "--seed", 3, "--views", 3, "-o", tmp_path)
    assert run_cli(*command).returncode == 0
    path = tmp_path / "landmarks-000003.npz"
    found, written = LandmarkPictures.load([path]), path.stat().st_mtime_ns
    assert found.pictures.shape == (3, SIDE_PX, SIDE_PX, 3)
    assert found.pixels.shape == (3, 6, 2)
    inside = ((found.pixels > 0) & (found.pixels < SIDE_PX)).all(axis=2)
    assert not (found.visible & ~inside).any()
    assert found.visible.any()
    assert run_cli(*command).returncode == 0
    assert path.stat().st_mtime_ns == written  # drawn once


def test_under_a_plaster_no_nipple_is_seen_and_a_file_of_another_kind_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(landmark_pictures_module, "CLUTTER_SHARES", {"plaster": 1.1})
    found = landmark_pictures(4, 3)
    assert not found.visible[:, 2].any()
    (tmp_path / "other.npz").write_bytes(b"nothing")
    with pytest.raises(LandmarkError):
        LandmarkPictures.load([tmp_path / "other.npz"])
