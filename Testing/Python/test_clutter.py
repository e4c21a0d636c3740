"""Phantom videos with clutter: what is drawn, and what the truth and the accuracy say of it."""

import json

import av
import numpy as np
import pytest

from BreastReconstructionLib.geometry.transforms import Frame
from BreastReconstructionLib.measurement.accuracy import read_truth, score
from BreastReconstructionLib.mesh.mesh import TriangleMesh, vertex_normals
from BreastReconstructionLib.phantom.clutter import ON_BODY, is_absent, is_under_hair, things_on
from BreastReconstructionLib.phantom.exposure import drift, sharpened
from BreastReconstructionLib.phantom.studio import CLUTTER
from BreastReconstructionLib.phantom.torso import sample_torso
from BreastReconstructionLib.phantom.video import PhantomVideoSettings, write_phantom_video
from Testing.conftest import assert_one_sentence, run_cli

SMALL = {"seed": 1, "frames": 12, "width": 216, "height": 384, "focal_px": 296.0, "skin_texels": 512}


@pytest.fixture(scope="module")
def torso():
    return sample_torso(1)[0]


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    folder = tmp_path_factory.mktemp("film")
    write_phantom_video(folder, PhantomVideoSettings(**SMALL, clutter=CLUTTER))
    return folder


def pictures(folder):
    with av.open(str(folder / "video.mp4")) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_things_lie_on_the_skin_and_stand_out_of_it(torso):
    from scipy.spatial import cKDTree

    from BreastReconstructionLib.phantom.basis import load_torso_basis

    things = things_on(torso.body_ras, load_torso_basis().body_faces, torso.landmarks_ras, ON_BODY, 1)
    assert len(things) == 6  # hair, chain and pendant, straps, waistband, plaster
    tree = cKDTree(torso.body_ras)
    for thing in things:
        assert len(thing.points) > 100
        assert thing.faces.max() < len(thing.points) == len(thing.uv)
        assert tree.query(thing.points)[0].max() < 35
    again = things_on(torso.body_ras, load_torso_basis().body_faces, torso.landmarks_ras, ON_BODY, 1)
    np.testing.assert_array_equal(things[0].points, again[0].points)


def test_clutter_is_seen_and_the_truth_says_where(film, tmp_path):
    write_phantom_video(tmp_path, PhantomVideoSettings(**SMALL))
    with_it, without = pictures(film), pictures(tmp_path)
    assert len(with_it) == 12
    assert np.abs(with_it[6].astype(int) - without[6]).mean() > 5
    truth = read_truth(film)
    assert 0.02 < truth.covered[truth.skin].mean() < 0.3
    assert 0.01 < truth.absent[truth.skin].mean() < 0.3
    plain = read_truth(tmp_path)
    assert not plain.covered.any()
    assert not plain.absent.any()
    assert json.loads((film / "truth.json").read_text())["settings"]["clutter"] == list(CLUTTER)


def test_the_absent_arm_is_the_left_one_and_hair_covers_no_nipple(torso):
    skin = torso.vertices_ras[: torso.skin_vertex_count]
    absent = is_absent(skin, torso.landmarks_ras)
    assert absent.any()
    assert skin[absent, 0].max() < torso.landmarks_ras[4, 0]
    assert not is_absent(torso.landmarks_ras, torso.landmarks_ras).any()
    assert not is_under_hair(torso.landmarks_ras[:4], torso.landmarks_ras).any()


def test_accuracy_tells_covered_and_absent_apart_from_what_is_scored(film):
    truth = read_truth(film)
    normals = vertex_normals(truth.vertices_ras, truth.faces)
    evidence = np.where(truth.absent, 2.0, 1.0)
    scalars = {"views": np.full(len(normals), 9.0), "uncertainty_mm": np.full(len(normals), 0.5), "evidence": evidence}
    wrong = truth.vertices_ras + truth.covered[:, None] * 4.0 * normals  # hair taken for skin
    surface = TriangleMesh(wrong, truth.faces, Frame.PATIENT, normals, scalars=scalars)
    result = score(surface, truth.landmarks_ras, truth, tuple(range(12)))
    assert result["as_delivered"]["mean_mm"] < 0.3
    assert result["covered"]["error_mm"] > 2.0
    assert result["covered"]["within_two"] < 0.3
    assert result["absent"]["contradicted"] > 0.9
    everywhere = result["calibration"]["all"]
    assert everywhere["within_one"] > 0.9
    assert everywhere["stated_mm"] == pytest.approx(0.5)
    assert {"nipples", "folds", "shoulders", "sides"} <= set(result["calibration"])


def test_exposure_drifts_smoothly_and_sharpening_overshoots():
    factors = drift(60, np.random.default_rng(0))
    assert factors.shape == (60, 3)
    assert np.abs(np.diff(np.log(factors), axis=0)).max() < 0.1
    assert np.ptp(np.log(factors[:, 1])) > 0.05
    edge = np.full((40, 40, 3), 80, np.uint8)
    edge[:, 20:] = 160
    assert sharpened(edge).max() > 165
    assert sharpened(edge).min() < 75


def test_unknown_clutter_is_one_sentence(tmp_path):
    finished = run_cli("phantom", "video", "--clutter", "hat", "-o", tmp_path / "o")
    assert_one_sentence(finished, 2, "no clutter called hat", "hair")
