from dataclasses import replace

import numpy as np
import pytest

from BreastReconstructionLib.core.errors import LandmarkError
from BreastReconstructionLib.geometry.cameras import Camera
from BreastReconstructionLib.geometry.transforms import Similarity
from BreastReconstructionLib.landmarks.files import LandmarkInput, Pick
from BreastReconstructionLib.landmarks.locate import check_order, locate_landmarks, most_frontal
from BreastReconstructionLib.landmarks.names import LANDMARK_NAMES
from BreastReconstructionLib.phantom.torso import sample_torso
from BreastReconstructionLib.phantom.video import PhantomVideoSettings, phone_path

pytestmark = pytest.mark.fast

SEED = 41


@pytest.fixture(scope="module")
def scene():
    torso, _ = sample_torso(SEED)
    path = phone_path(
        PhantomVideoSettings(frames=9, sweep_degrees=120), torso.landmarks_ras[:2].mean(axis=0), np.random.default_rng(0)
    )
    return torso, {f"{i:03d}.png": camera for i, camera in enumerate(path)}


def picks(scene, frames, change=lambda name: name):
    torso, cameras = scene
    rows = []
    for frame in frames:
        pixels, _ = cameras[f"{frame:03d}.png"].project(torso.landmarks_ras)
        rows += [Pick(change(n), frame, None, *map(float, p)) for n, p in zip(LANDMARK_NAMES, pixels, strict=True)]
    return LandmarkInput(tuple(rows), {})


def locate(scene, given):
    torso, cameras = scene
    frames = {i: f"{i:03d}.png" for i in range(len(cameras))}
    return locate_landmarks(given, cameras, frames, torso.vertices_ras[: torso.skin_vertex_count])


def test_several_frames_are_triangulated_with_their_error(scene):
    found = locate(scene, picks(scene, [2, 4, 6]))
    np.testing.assert_allclose(found.points_world, scene[0].landmarks_ras, atol=1e-3)
    assert (found.views == 3).all()
    assert found.reprojection_px.max() < 0.01


def test_one_frame_takes_the_nearest_surface_on_the_ray(scene):
    found = locate(scene, picks(scene, [4]))
    assert np.linalg.norm(found.points_world - scene[0].landmarks_ras, axis=1).max() < 8.0
    assert np.isnan(found.reprojection_px).all()


def test_disagreeing_picks_are_said(scene):
    given = picks(scene, [2, 4])
    first = given.picks[0]
    moved = Pick(first.landmark, first.video_frame, None, first.x_px, first.y_px + 80)
    found = locate(scene, LandmarkInput((moved, *given.picks[1:]), {}))
    assert any("sternal-notch" in warning for warning in found.warnings)


EXCHANGES = {
    "nipples": {"left-nipple": "right-nipple", "right-nipple": "left-nipple"},
    "coracoids": {"left-coracoid": "right-coracoid", "right-coracoid": "left-coracoid"},
}


@pytest.mark.parametrize("what", EXCHANGES)
def test_left_and_right_exchanged(scene, what):
    with pytest.raises(LandmarkError, match=f"Left and right of the {what} are exchanged"):
        locate(scene, picks(scene, [2, 4], lambda name: EXCHANGES[what].get(name, name)))


def test_notch_below_navel(scene):
    names = {"sternal-notch": "navel", "navel": "sternal-notch"}
    with pytest.raises(LandmarkError, match="below the navel"):
        locate(scene, picks(scene, [2, 4], lambda name: names.get(name, name)))


def turned(cameras, quarter_turns):
    """The same cameras held sideways or upside down."""
    angle = np.radians(90 * quarter_turns)
    roll = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])
    return {n: replace(c, rotation=roll @ c.rotation, translation=roll @ c.translation) for n, c in cameras.items()}


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_a_phone_held_in_any_way(scene, quarter_turns):
    torso, cameras = scene
    cameras = list(turned(cameras, quarter_turns).values())
    check_order(torso.landmarks_ras, cameras)
    with pytest.raises(LandmarkError, match="Left and right of the nipples"):
        check_order(torso.landmarks_ras[[0, 1, 3, 2, 4, 5]], cameras)
    with pytest.raises(LandmarkError, match="below the navel"):
        check_order(torso.landmarks_ras[[1, 0, 2, 3, 4, 5]], cameras)


def test_a_phone_carried_all_around(scene):
    torso, _ = scene
    settings = PhantomVideoSettings(frames=24, sweep_degrees=345)
    cameras = phone_path(settings, torso.landmarks_ras[:2].mean(axis=0), np.random.default_rng(2))
    check_order(torso.landmarks_ras, cameras)
    with pytest.raises(LandmarkError, match="Left and right of the coracoids"):
        check_order(torso.landmarks_ras[[0, 1, 2, 3, 5, 4]], cameras)
    assert most_frontal({camera.name: camera for camera in cameras}) in {camera.name for camera in cameras}


def test_exchanged_sides_ask_about_a_mirror(scene):
    with pytest.raises(LandmarkError, match="--mirrored"):
        locate(scene, picks(scene, [2, 4], lambda name: EXCHANGES["nipples"].get(name, name)))


def test_points_of_another_frame_are_refused(scene):
    torso, _ = scene
    moved = dict(zip(LANDMARK_NAMES, torso.landmarks_ras * 0.2 + [4000, 0, 0], strict=True))
    with pytest.raises(LandmarkError, match="not in the coordinates of this case"):
        locate(scene, LandmarkInput((), moved))


def test_a_results_points_are_brought_back(scene):
    torso, _ = scene
    to_patient = Similarity(0.5, np.eye(3), np.array([10.0, 20, 30]))
    points = dict(zip(LANDMARK_NAMES, to_patient.apply(torso.landmarks_ras), strict=True))
    found = locate(scene, LandmarkInput((), points, to_patient.inverse()))
    np.testing.assert_allclose(found.points_world, torso.landmarks_ras, atol=1e-6)


def test_outside_the_image(scene):
    given = picks(scene, [4])
    outside = Pick("navel", 4, None, 5000.0, 10.0)
    with pytest.raises(LandmarkError, match="outside the image"):
        locate(scene, LandmarkInput((*given.picks, outside), {}))


def test_only_in_an_unregistered_frame(scene):
    torso, cameras = scene
    left = {name: camera for name, camera in cameras.items() if name != "004.png"}
    with pytest.raises(LandmarkError, match="could not be placed in space"):
        locate((torso, left), picks((torso, cameras), [4]))


def test_points_in_3d_are_taken_as_they_are(scene):
    given = LandmarkInput((), dict(zip(LANDMARK_NAMES, scene[0].landmarks_ras, strict=True)))
    np.testing.assert_array_equal(locate(scene, given).points_world, scene[0].landmarks_ras)


def test_cameras_are_found_by_name_not_position(scene):
    torso, cameras = scene
    assert all(isinstance(camera, Camera) for camera in cameras.values())
    shuffled = dict(reversed(list(cameras.items())))
    found = locate((torso, shuffled), picks(scene, [2, 4, 6]))
    np.testing.assert_allclose(found.points_world, torso.landmarks_ras, atol=1e-3)
