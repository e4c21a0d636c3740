"""The atlas on bodies that it was not made from: where the breasts end, where the folds are, and what lies behind."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from BreastReconstructionLib.capabilities.clinic.boundaries import dense_curve, drawn_values
from BreastReconstructionLib.capabilities.clinic.chest import chest_of
from BreastReconstructionLib.capabilities.clinic.measure import boundaries_of, breasts_of
from BreastReconstructionLib.core.errors import MeasurementError, RegistrationError
from BreastReconstructionLib.geometry.transforms import MODEL_AXES_TO_RAS, Frame
from BreastReconstructionLib.measurement.change import volume_between_ml
from BreastReconstructionLib.measurement.rows import Row, differences
from BreastReconstructionLib.measurement.symmetry import find_mirror_plane, landmark_asymmetry_mm, mirrored_distance_mm
from BreastReconstructionLib.measurement.volumes import difference_ml
from BreastReconstructionLib.mesh.mesh import TriangleMesh, vertex_normals
from BreastReconstructionLib.phantom.deformation import breast_truth
from BreastReconstructionLib.phantom.posture import at_visit, body_of, lying, twin_volume_ml
from BreastReconstructionLib.phantom.torso import sample_clinic_torso, sample_torso
from BreastReconstructionLib.shape_model.atlas import SIDES, Atlas, fit_atlas, load_atlas

pytestmark = pytest.mark.fast


def surface_of(torso):
    count, faces = torso.skin_vertex_count, torso.faces[: torso.skin_face_count]
    vertices = torso.vertices_ras[:count]
    scalars = {"uncertainty_mm": np.full(count, 0.5)}
    return TriangleMesh(vertices, faces, Frame.PATIENT, vertex_normals(vertices, faces), scalars=scalars)


@pytest.fixture(scope="module")
def bodies():
    found = []
    for seed in range(730_000, 730_008):
        sampled = sample_clinic_torso(seed)
        if max(sampled[2].left.flattened, sampled[2].right.flattened) == 0:
            torso = sampled[0]
            found.append((body_of(sampled), torso, chest_of(surface_of(torso), torso.landmarks_ras, 0.005)))
    return found


def test_it_lies_on_the_skin(bodies):
    assert np.mean([chest.fit.residual_mm for *_, chest in bodies]) < 0.5
    assert min(chest.fit.share for *_, chest in bodies) > 0.8


def test_boundaries_and_volumes_are_near_the_truth(bodies):
    boundary, volume = [], []
    for body, torso, chest in bodies:
        truth, exact = breast_truth(torso.body_ras), twin_volume_ml(torso, body.twin())
        breasts, _ = breasts_of(chest, boundaries_of(chest, [])[0])
        for breast in breasts:
            curve = dense_curve(truth[f"{breast.side}_breast_boundary_ras"])
            boundary.append(cKDTree(curve).query(breast.boundary_ras)[0].mean())
            volume.append(breast.volumes_ml["population"] - exact[breast.side])
            assert breast.volumes_ml["membrane"] == pytest.approx(float(truth[f"{breast.side}_breast_volume_ml"]), rel=0.15)
            assert abs(volume[-1]) < 3.5 * breast.uncertainty_ml["population"]
    assert np.mean(boundary) < 4.0
    assert np.abs(volume).mean() < 30.0


def test_a_difference_between_sides_is_surer_than_each_side(bodies):
    for body, torso, chest in bodies[:4]:
        left, right = breasts_of(chest, boundaries_of(chest, [])[0])[0]
        exact = twin_volume_ml(torso, body.twin())
        value, sure = difference_ml(left, right, "population", True, 0.005)
        assert value == pytest.approx(left.volumes_ml["population"] - right.volumes_ml["population"])
        assert sure < np.hypot(left.uncertainty_ml["population"], right.uncertainty_ml["population"])
        assert abs(value - (exact["left"] - exact["right"])) < 3 * sure


def test_walls_are_told_apart_and_the_uncertainty_grows_with_the_scale(bodies):
    _, torso, chest = bodies[0]
    sure, _ = breasts_of(chest, boundaries_of(chest, [])[0])
    unsure, _ = breasts_of(chest_of(surface_of(torso), torso.landmarks_ras, 0.1), boundaries_of(chest, [])[0])
    for first, second in zip(sure, unsure, strict=True):
        assert first.volumes_ml["membrane"] > first.volumes_ml["population"]
        assert second.uncertainty_ml["membrane"] > 2 * first.uncertainty_ml["membrane"]


def test_a_drawn_boundary_gives_the_same_breast(bodies):
    _, _, chest = bodies[0]
    proposed, _ = breasts_of(chest, boundaries_of(chest, [])[0])
    curves = [breast.boundary_ras[::8] for breast in proposed]
    values, sources = boundaries_of(chest, curves)
    assert sources == {"left": "boundary drawn", "right": "boundary drawn"}
    drawn, _ = breasts_of(chest, values)
    for first, second in zip(proposed, drawn, strict=True):
        assert second.volumes_ml["membrane"] == pytest.approx(first.volumes_ml["membrane"], rel=0.12)


def test_impossible_boundaries_are_said(bodies):
    _, _, chest = bodies[0]
    proposed, _ = breasts_of(chest, boundaries_of(chest, [])[0])
    left, right = (breast.boundary_ras for breast in proposed)
    with pytest.raises(MeasurementError, match="mm off this surface"):
        drawn_values(chest.mesh, left + np.array([0.0, 60.0, 0.0]))
    both = np.concatenate([left, right])
    centre = both.mean(axis=0)
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    wide = np.ptp(both[:, 0]) / 2 + 5
    ring = centre + np.column_stack([wide * np.cos(angles), angles * 0, 110 * np.sin(angles)])
    ring = chest.mesh.vertices[cKDTree(chest.mesh.vertices[:, [0, 2]]).query(ring[:, [0, 2]])[1]]
    with pytest.raises(MeasurementError, match=r"around (both breasts|no nipple)"):
        boundaries_of(chest, [ring])


def test_an_arm_alone_is_no_chest():
    torso = sample_torso(731_000)[0]
    surface = surface_of(torso)
    far = surface.vertices[:, 0] > torso.landmarks_ras[5, 0] + 40  # beyond the right coracoid
    from BreastReconstructionLib.mesh.mesh import keep_vertices

    kept, faces = keep_vertices(surface.vertices, surface.faces, far)
    arm = TriangleMesh(surface.vertices[kept], faces, Frame.PATIENT)
    with pytest.raises(RegistrationError, match="chest"):
        fit_atlas(arm, torso.landmarks_ras)


@pytest.mark.parametrize("added", [0, 50, 100, 200])
def test_a_known_change_is_found_without_a_wall(bodies, added):
    _, torso, _ = bodies[1]
    later = at_visit(torso, 0, added)
    chest, before = (chest_of(surface_of(t), t.landmarks_ras, 0.0) for t in (later, torso))
    values, _ = boundaries_of(chest, [])
    grown = {
        side: volume_between_ml(chest.mesh, before.mesh, values[side], later.landmarks_ras[2 + k], side)[0]
        for k, side in enumerate(SIDES)
    }
    assert grown["left"] == pytest.approx(added, abs=3 + 0.04 * added)
    assert grown["right"] == pytest.approx(0, abs=3)


def test_the_mirror_plane_of_a_turned_body_is_found(bodies):
    _, torso, chest = bodies[2]
    plane = find_mirror_plane(chest.mesh, chest.places.stable, chest.landmarks_ras)
    assert abs(plane.normal_ras[0]) > 0.98
    away = plane.distance(torso.landmarks_ras)
    assert away[2] > 60
    assert away[3] < -60
    assert abs(away[0]) < 12
    np.testing.assert_allclose(plane.mirrored(plane.mirrored(torso.landmarks_ras)), torso.landmarks_ras, atol=1e-9)
    assert np.isfinite(mirrored_distance_mm(chest.mesh, plane)).all()


def test_asymmetry_is_none_for_symmetric_landmarks():
    marks = np.array([[0, 0, 300], [0, 20, 0], [-100, 60, 100], [100, 60, 100], [-150, 0, 290], [150, 0, 290]], float)
    assert landmark_asymmetry_mm(marks) < 1e-9
    marks[2, 2] += 20
    assert landmark_asymmetry_mm(marks) > 3


def test_differences_are_left_minus_right_with_both_uncertainties():
    rows = tuple(Row("volume", side, value, "ml", sure, "wall") for side, value, sure in (("left", 300, 30), ("right", 250, 40)))
    (row,) = differences(rows)
    assert (row.value, row.uncertainty, row.side) == (50, 50, "")


def test_lying_moves_breasts_and_leaves_the_ribs(bodies):
    _, torso, chest = bodies[3]
    body = torso.body_ras @ MODEL_AXES_TO_RAS
    moved = np.linalg.norm(lying(body) - body, axis=1)
    tree = cKDTree(torso.body_ras)
    stable = tree.query(chest.mesh.vertices[chest.places.stable])[1]
    nipples = tree.query(torso.landmarks_ras[2:4])[1]
    assert np.percentile(moved[stable], 90) < 2.0
    assert moved[nipples].min() > 8.0


def test_an_atlas_is_kept_as_it_is(tmp_path, monkeypatch):
    atlas = load_atlas()
    atlas.save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        again = Atlas(**{k: file[k] for k in file.files})
    np.testing.assert_allclose(again.components.astype(float), atlas.components, atol=1e-6)
    np.testing.assert_array_equal(again.faces, atlas.faces)
