"""What the pictures say of the surface: measured, drawn or contradicted; and the uncertainty that follows."""

from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from BreastReconstructionLib.capabilities.torso.appearance import Appearance, see_vertices
from BreastReconstructionLib.capabilities.torso.evidence import contradicted_where, judge, shares, unusual
from BreastReconstructionLib.capabilities.torso.uncertainty import GUESS, local_offsets, uncertainty_model
from BreastReconstructionLib.core.progress import Progress
from BreastReconstructionLib.geometry.cameras import Camera
from BreastReconstructionLib.geometry.transforms import Frame
from BreastReconstructionLib.measurement.regions import REGIONS, Evidence, regions
from BreastReconstructionLib.measurement.skin import SkinTone
from BreastReconstructionLib.mesh.mesh import TriangleMesh
from BreastReconstructionLib.phantom.torso import sample_torso
from BreastReconstructionLib.shape_model.fit import fit_shape
from BreastReconstructionLib.shape_model.model_file import load_model
from BreastReconstructionLib.shape_model.tracks import TrackFit

pytestmark = pytest.mark.fast
SKIN, WALL = (205, 152, 122), (120, 160, 200)
TONE = SkinTone(np.log([205 / 152, 122 / 152]), np.array([np.log(np.mean(SKIN)), *[0.0] * 8]), np.diag([400.0, 400.0, 12.0]))
FAR = 0.1


def judged(color=SKIN, views=10, skin_share=1.0, to_skin=FAR, at=(0.0, 0.3, 0.2)):
    seen = Appearance(np.array([views]), np.array([views]), np.array([skin_share]), np.array([color], np.uint8))
    nipples = np.array([[0.38, -0.08, 0.24], [-0.37, -0.07, 0.24]])
    result = judge(np.array([at]), np.array([[0.0, 0.0, 1.0]]), seen, np.array([to_skin]), nipples, TONE)
    return result.evidence[0], result.agreement[0]


def sphere():
    found = trimesh.creation.icosphere(4)
    return TriangleMesh(np.array(found.vertices), np.array(found.faces), Frame.PATIENT, np.array(found.vertices))


def camera_at(degrees):
    turn = Rotation.from_euler("y", degrees, degrees=True).as_matrix() @ np.diag([1.0, -1.0, -1.0])
    intrinsics = np.array([[200.0, 0.0, 100.0], [0.0, 200.0, 100.0], [0.0, 0.0, 1.0]])
    return Camera("", 200, 200, intrinsics, np.zeros(5), turn, np.array([0.0, 0.0, 5.0]))


CAMERAS = {name: camera_at(degrees) for name, degrees in zip("abcdef", (-10, -6, -2, 2, 6, 10), strict=True)}


def filmed(name, sleeve):
    """A frame full of skin, with something else in the middle."""
    picture = np.tile(np.array(SKIN[::-1], np.uint8), (200, 200, 1))
    return cv2.circle(picture, (100, 100), 25, WALL[::-1], -1) if sleeve else picture


def test_skin_that_was_measured_is_measured():
    assert judged(to_skin=0.01) == (Evidence.MEASURED, pytest.approx(1.0, abs=0.01))


def test_skin_without_points_is_drawn():
    assert judged()[0] == Evidence.DRAWN


def test_what_no_frame_sees_is_drawn_and_not_contradicted():
    assert judged(color=WALL, views=0) == (Evidence.DRAWN, 1.0)


def test_a_wall_where_an_arm_should_be_contradicts_it():
    evidence, agreement = judged(color=WALL)
    assert evidence == Evidence.CONTRADICTED
    assert agreement < 0.1


def test_a_place_that_few_frames_show_as_skin_is_contradicted():
    """A wall of skin's colour in some of them does not help."""
    assert judged(skin_share=0.2)[0] == Evidence.CONTRADICTED


def test_a_sleeve_that_passes_before_a_flank_in_some_frames_contradicts_nothing():
    """Two of six frames show something else there; the colour is the others'."""
    mesh = sphere()
    seen = see_vertices(mesh.vertices, mesh.normals, CAMERAS, lambda name: filmed(name, sleeve=name in "ab"), TONE, Progress())
    middle = np.linalg.norm(mesh.vertices[:, :2], axis=1) < 0.2
    facing = middle & (mesh.normals[:, 2] > 0.9)
    assert np.allclose(seen.skin_share[facing], 4 / 6, atol=0.1)
    assert np.abs(seen.colors[facing].astype(int) - SKIN).max() < 12
    seen = see_vertices(mesh.vertices, mesh.normals, CAMERAS, lambda name: filmed(name, sleeve=True), TONE, Progress())
    assert seen.skin_share[facing].max() < 0.1
    assert np.abs(seen.colors[facing].astype(int) - WALL).max() < 12


def test_two_frames_are_too_few_to_contradict():
    assert judged(color=WALL, views=2)[0] == Evidence.DRAWN


def test_areolae_are_of_another_colour_and_skin():
    assert judged(color=(120, 60, 60), at=(0.38, -0.05, 0.24))[0] == Evidence.DRAWN


def test_shares_are_of_the_torso_alone_and_the_place_is_named():
    # Six triangles of one size, each with its own corners.
    evidence = np.repeat([1.0, 1.0, 0.0, 2.0, 2.0, 2.0], 3)
    torso = np.repeat([1.0, 1.0, 1.0, 1.0, 0.0, 0.0], 3)
    corners = np.tile(np.eye(3), (6, 1))
    landmarks = sample_torso(1)[0].landmarks_ras
    vertices = landmarks[4] + [-20.0, 0.0, 0.0] + corners
    faces = np.arange(18).reshape(6, 3)
    mesh = TriangleMesh(vertices, faces, Frame.PATIENT, scalars={"evidence": evidence, "torso": torso})
    assert shares(mesh) == pytest.approx({"contradicted": 0.25, "measured": 0.5, "drawn": 0.25})
    assert contradicted_where(mesh, landmarks) == "at the left shoulder"
    half_way = (landmarks[2:4, 2].mean() + landmarks[1, 2]) / 2
    flank = replace(mesh, vertices=np.array([landmarks[5, 0] - 10.0, landmarks[5, 1] - 20.0, half_way]) + corners)
    assert contradicted_where(flank, landmarks) == "at the right flank"


def test_unusual_bodies_are_said_from_all_evidence():
    model = SimpleNamespace(mm_per_unit=290.0)
    usual = SimpleNamespace(prior_distance=0.9, residual_p95=0.012)
    assert unusual(usual, model, np.ones(6)) == []
    assert len(unusual(SimpleNamespace(prior_distance=2.0, residual_p95=0.03), model, np.array([1, 1, 9.0, 1, 1, 1]))) == 3


def test_every_part_of_a_torso_has_a_region():
    torso = sample_torso(1)[0]
    skin = torso.vertices_ras[: torso.skin_vertex_count]
    from BreastReconstructionLib.mesh.mesh import vertex_normals

    normals = vertex_normals(torso.vertices_ras, torso.faces)[: torso.skin_vertex_count]
    found = regions(skin, normals, torso.landmarks_ras)
    share = np.bincount(found, minlength=len(REGIONS)) / len(found)
    assert (share > 0.01).all(), dict(zip(REGIONS, share, strict=True))
    assert found[np.linalg.norm(skin - torso.landmarks_ras[2], axis=1).argmin()] == REGIONS.index("nipples")
    assert found[np.linalg.norm(skin - torso.landmarks_ras[4], axis=1).argmin()] == REGIONS.index("shoulders")


@pytest.fixture(scope="module")
def fitted():
    model, torso = load_model(), sample_torso(7601)[0]
    points = torso.to_model.apply(torso.vertices_ras[: torso.skin_vertex_count])
    return model, fit_shape(points, torso.to_model.apply(torso.landmarks_ras), model), points


def test_tracks_that_agree_on_an_offset_raise_the_uncertainty_there(fitted):
    model, fit, points = fitted
    on_surface = fit.refinement.apply(points)
    left = on_surface[:, 0] > 0.0
    rng = np.random.default_rng(0)
    offsets = np.where(left, 0.01, 0.0) + rng.normal(0, 0.003, len(points))
    found = TrackFit(fit, np.zeros((3, 4)), len(points), on_surface, offsets)
    agreed = local_offsets(found, on_surface)
    middle = np.abs(on_surface[:, 0]) > 0.1
    assert np.median(agreed[left & middle]) == pytest.approx(0.01, rel=0.1)
    assert np.median(agreed[~left & middle]) < 0.002
    every, few = np.ones(len(points)), np.full(len(points), 0.3)
    near = uncertainty_model(found, model, on_surface, np.zeros(len(points)), every)
    assert np.median(near[left & middle]) > 1.5 * np.median(near[~left & middle])
    far = uncertainty_model(found, model, on_surface, np.full(len(points), 1.0), every)
    assert (far > near).all()
    assert np.median(far) > 0.9 * GUESS
    alone = TrackFit.without_tracks(fit, 3)
    ratio = [uncertainty_model(alone, model, on_surface, np.zeros(len(points)), share) for share in (few, every, 0.0 * every)]
    assert np.allclose(ratio[0] / ratio[1], (0.9 / 0.3) ** 1.35)  # what a third of the frames sees
    assert np.allclose(ratio[2] / ratio[1], 5.0)
    assert (local_offsets(alone, on_surface) == 0).all()
