"""Bodies whose landmarks wander: the skin slides, the body's shape stays, and every torso is a proper solid."""

import numpy as np
import pytest
import trimesh

from BreastReconstructionLib.mesh.distance import closest_on_mesh
from BreastReconstructionLib.phantom import POPULATION_NAMES
from BreastReconstructionLib.phantom.torso import (
    POPULATIONS,
    is_proper_solid,
    make_torso,
    sample_foreign_torso,
    sample_wide_torso,
)
from BreastReconstructionLib.phantom.variation import FARTHEST_SLIDE_MM, Variation, sample_variation

pytestmark = pytest.mark.fast
NONE = ((0.0, 0.0),) * 6


def sliding(number, slide):
    return Variation(slides_mm=(*NONE[:number], slide, *NONE[number + 1 :]))


def test_wide_torsos_are_watertight_solids_and_repeatable():
    for seed in range(7500, 7505):
        torso, _, _, what = sample_wide_torso(seed)
        mesh = trimesh.Trimesh(torso.vertices_ras, torso.faces, process=False)
        assert mesh.is_watertight
        assert mesh.is_winding_consistent
        assert is_proper_solid(torso)
        again = sample_wide_torso(seed)
        np.testing.assert_array_equal(torso.vertices_ras, again[0].vertices_ras)
        assert what == again[3]


def test_slides_reach_as_far_as_on_scanned_bodies_and_no_farther():
    rng = np.random.default_rng(0)
    lengths = np.array([np.linalg.norm(sample_variation(rng).slides_mm, axis=1) for _ in range(300)])
    assert (lengths.max(axis=0) <= np.array(FARTHEST_SLIDE_MM) + 1e-9).all()
    assert (np.percentile(lengths[:, 2:4], 95, axis=0) > 17).all()
    sides = np.array([np.array(sample_variation(rng).slides_mm)[2:4] for _ in range(300)])
    assert np.linalg.norm(sides[:, 0] * [-1, 1] - sides[:, 1], axis=1).mean() > 5  # both sides apart


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("slide", [(9.0, 0.0), (0.0, -8.0)])
def test_a_landmark_slides_along_the_skin_and_the_body_stays(parameters, plain, number, slide):
    torso = make_torso(parameters, variation=sliding(number, slide))
    moved = torso.landmarks_ras - plain.landmarks_ras
    # Model axes to RAS: +x is the patient's left, R is the right; up is S.
    length = np.hypot(*slide)
    assert 0.8 * length < np.linalg.norm(moved[number]) < 1.1 * length
    assert moved[number] @ np.array([-slide[0], 0.0, slide[1]]) > 0.5 * length**2
    others = [k for k in range(6) if k != number]
    assert np.abs(moved[others]).max() < 6.0
    skin = torso.vertices_ras[: torso.skin_vertex_count]
    far = np.linalg.norm(skin - plain.landmarks_ras[number], axis=1) > 35  # what stands out at the landmark went along
    inside = far & (np.linalg.norm(skin - torso.landmarks_ras[number], axis=1) > 35)
    # The truth is the whole upper body's skin: the torso's cut slides, too.
    body = plain.body_ras
    from BreastReconstructionLib.phantom.basis import load_torso_basis

    off = closest_on_mesh(skin[inside], body, load_torso_basis().body_faces)[0]
    assert np.percentile(off, 99) < 0.7
    assert off.max() < 3.0


def test_a_nipple_keeps_what_stands_out(parameters, plain):
    """Its height over the skin around it is the same, wherever it has slid to."""

    def height(torso):
        from_nipple = np.linalg.norm(torso.vertices_ras - torso.landmarks_ras[2], axis=1)
        ring = torso.vertices_ras[(from_nipple > 18) & (from_nipple < 26)]
        normal = np.linalg.svd(ring - ring.mean(axis=0))[2][2]
        return abs((torso.landmarks_ras[2] - ring.mean(axis=0)) @ normal)

    moved = make_torso(parameters, variation=sliding(2, (10.0, 10.0)))
    assert height(moved) == pytest.approx(height(plain), abs=2.0)


def test_populations_are_those_that_the_commands_name():
    assert tuple(POPULATIONS) == POPULATION_NAMES


def test_bumps_are_as_high_as_asked_and_smooth(parameters, plain):
    torso = make_torso(parameters, variation=Variation(bumps_mm=3.0, bumps_seed=5))
    change = np.linalg.norm(torso.body_ras - plain.body_ras, axis=1)
    assert 1.0 < np.sqrt((change**2).mean()) < 9.0
    assert sample_foreign_torso(7500)[3].bumps_mm > 0


def test_posture_differs_between_the_sides(parameters, plain):
    torso = make_torso(parameters, variation=Variation(shoulder_height_mm=12.0))
    rise = (torso.landmarks_ras - plain.landmarks_ras)[4:, 2]
    assert 3 < rise[0] < 7
    assert -7 < rise[1] < -3
    leaning = make_torso(parameters, variation=Variation(lean_degrees=3.0))
    assert (leaning.landmarks_ras - plain.landmarks_ras)[0, 0] < -10  # to the patient's left
