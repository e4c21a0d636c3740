"""Bodies of a clinic: each deformation does what it says, and every torso is a proper solid."""

import numpy as np
import pytest
import trimesh

from BreastReconstructionLib.phantom.basis import load_torso_basis
from BreastReconstructionLib.phantom.deformation import Breast, Deformation, breast_region, breast_truth, chest_wall
from BreastReconstructionLib.phantom.torso import (
    is_proper_solid,
    make_torso,
    sample_clinic_torso,
    sample_torso,
)


def moved(parameters, plain, **what):
    """Displacement of every skin vertex, RAS mm."""
    torso = make_torso(parameters, deformation=Deformation(**what))
    assert is_proper_solid(torso)
    return torso.vertices_ras[: torso.skin_vertex_count] - plain.vertices_ras[: torso.skin_vertex_count], torso


def test_clinic_torsos_are_watertight_solids_and_repeatable():
    for seed in range(7200, 7210):
        torso, _, what = sample_clinic_torso(seed)
        mesh = trimesh.Trimesh(torso.vertices_ras, torso.faces, process=False)
        assert mesh.is_watertight
        assert mesh.is_winding_consistent
        assert mesh.volume > 6e6
        assert is_proper_solid(torso)
        again, _, same = sample_clinic_torso(seed)
        np.testing.assert_array_equal(torso.vertices_ras, again.vertices_ras)
        assert what == same


def test_population_holds_what_a_clinic_sees():
    drawn = [sample_clinic_torso(seed)[2] for seed in range(7200, 7260)]
    breasts = [breast for what in drawn for breast in (what.left, what.right)]
    for name in ("ptosis_mm", "implant_mm", "flattened"):
        assert any(getattr(breast, name) > 0 for breast in breasts), name
    assert any(what.left != what.right for what in drawn)
    assert any(what.left == what.right == Breast() for what in drawn)
    assert max(what.arms_degrees for what in drawn) > 8
    assert any(what.fold_mm > 0 for what in drawn)


def test_phantoms_of_the_sample_and_the_figures_are_unchanged():
    """Seeds of `sample_torso` mean the same bodies as before the clinic's population came."""
    torso, _ = sample_torso(1)
    assert np.linalg.norm(torso.landmarks_ras[2] - torso.landmarks_ras[3]) == pytest.approx(217.951, abs=0.01)
    np.testing.assert_allclose(torso.vertices_ras.mean(axis=0), [1.927, 112.401, 644.996], atol=0.01)


def test_a_removed_breast_lies_on_the_chest_wall_and_the_other_side_stays(parameters, plain):
    change, torso = moved(parameters, plain, left=Breast(flattened=1.0))
    right = plain.vertices_ras[: plain.skin_vertex_count, 0] > 15
    assert np.abs(change[right]).max() < 1e-6
    assert change[:, 1].min() < -20  # the breast went back towards the chest
    # Between the two skins, with one and the same back: the breast's volume is gone.
    skin = plain.skin_vertex_count
    without = np.concatenate([torso.vertices_ras[:skin], plain.vertices_ras[skin:]])
    volume = [trimesh.Trimesh(vertices, plain.faces, process=False).volume for vertices in (plain.vertices_ras, without)]
    assert volume[0] - volume[1] > 5e4  # 50 ml


def test_chest_wall_continues_the_skin_around_a_breast(parameters):
    basis = load_torso_basis()
    body = basis.subdivision @ basis.template_mm.astype(float)
    inside, wall = chest_wall(body, True, basis)
    np.testing.assert_array_equal(inside, breast_region(basis, True))
    assert 500 < len(inside) < len(body)
    assert (body[inside, 2] - wall[:, 2]).mean() > 5  # the breast stands before its wall
    flat = body.copy()
    flat[:, 2] = 0.1 * body[:, 0] + 0.2 * body[:, 1]  # a plane is continued as it is, up to the mesh's irregularity
    assert np.abs(chest_wall(flat, True, basis)[1][:, 2] - flat[inside, 2]).max() < 8


def test_ptosis_sinks_and_implants_fill_the_upper_pole(parameters, plain):
    sunk, _ = moved(parameters, plain, left=Breast(ptosis_mm=30.0))
    assert sunk[:, 2].min() < -20
    assert np.abs(sunk[:, 2].max()) < 8
    filled, _ = moved(parameters, plain, left=Breast(implant_mm=20.0))
    highest = plain.vertices_ras[: plain.skin_vertex_count][filled[:, 1].argmax()]
    assert filled[:, 1].max() > 10
    assert highest[2] > plain.landmarks_ras[2, 2] + 15  # above the nipple


def test_posture_moves_what_it_should(parameters, plain):
    skin = plain.vertices_ras[: plain.skin_vertex_count]
    raised, _ = moved(parameters, plain, arms_degrees=30.0)
    arms = np.abs(skin[:, 0]) > np.abs(skin[:, 0]).max() - 30
    trunk = (np.abs(skin[:, 0]) < 60) & (skin[:, 2] < plain.landmarks_ras[2, 2])
    assert raised[arms, 2].min() > 10  # both arms go up
    assert np.abs(raised[trunk]).max() < 3
    forward, _ = moved(parameters, plain, shoulders_forward_degrees=12.0)
    assert forward[arms, 1].mean() > 10  # and shoulders to the front


def test_clavicles_and_ribs_are_small_and_local(parameters, plain):
    for what, limit in (({"clavicle_mm": 4.0}, 4.5), ({"rib_mm": 2.0}, 2.1)):
        change, _ = moved(parameters, plain, **what)
        assert 0.5 * limit < np.linalg.norm(change, axis=1).max() < limit
        assert (np.linalg.norm(change, axis=1) > 0.2).mean() < 0.45


def test_arms_hang_and_rise_to_the_level(parameters, plain):
    """From 0 to 90 degrees of abduction: the torso stays a solid, and the arms' ends go where the angle says."""
    across = np.abs(plain.vertices_ras[: plain.skin_vertex_count, 0])
    end, heights = across > across.max() - 15, []
    for degrees in (-45.0, -20.0, 0.0, 20.0, 45.0):
        torso = make_torso(parameters, deformation=Deformation(arms_degrees=degrees))
        assert is_proper_solid(torso)
        skin = torso.vertices_ras[: torso.skin_vertex_count]
        heights.append(skin[end, 2].mean() - torso.landmarks_ras[4:, 2].mean())
    assert (np.diff(heights) > 10).all()
    assert abs(heights[-1]) < 60  # level with the shoulders


def test_breast_volume_and_boundary_of_every_subject_are_exact(parameters, plain):
    truth = breast_truth(plain.body_ras)
    without = breast_truth(make_torso(parameters, deformation=Deformation(left=Breast(flattened=1.0))).body_ras)
    assert 150 < truth["left_breast_volume_ml"] < 2000
    assert without["left_breast_volume_ml"] < 0.25 * truth["left_breast_volume_ml"]
    assert without["right_breast_volume_ml"] == pytest.approx(truth["right_breast_volume_ml"], rel=0.02)
    loop = truth["left_breast_boundary_ras"]
    nipple = plain.landmarks_ras[2]
    assert np.linalg.norm(np.diff(np.append(loop, loop[:1], axis=0), axis=0), axis=1).max() < 15  # closed, without jumps
    assert (loop[:, 0] < 0).all()  # the patient's left is -R
    assert loop[:, 2].min() < nipple[2] < loop[:, 2].max()
    # The same by a mesh library: skin of the region and its wall, joined, are a solid of that volume.
    basis = load_torso_basis()
    inside, wall = chest_wall(plain.body_ras, True, basis)
    faces = basis.body_faces[np.isin(basis.body_faces, inside).any(axis=1)]
    behind = plain.body_ras.copy()
    behind[inside] = wall
    count = len(behind)
    both = trimesh.Trimesh(np.concatenate([plain.body_ras, behind]), np.concatenate([faces, faces[:, ::-1] + count]))
    both.merge_vertices()
    assert both.volume / 1000 == pytest.approx(float(truth["left_breast_volume_ml"]), rel=1e-6)
