"""The evaluation on held-out bodies: its measures, its clouds, and its command."""

import json

import numpy as np
import pytest

from BreastReconstructionLib.core.resources import bundled_model_path
from BreastReconstructionLib.mesh.distance import closest_on_mesh
from BreastReconstructionLib.phantom.torso import population_torso, sample_torso
from BreastReconstructionLib.shape_model.held_out import (
    PROTOCOLS,
    SAMPLED_POINTS,
    PrincipalComponents,
    Reconstructed,
    by_model,
    cloud_of,
    compactness,
    score_mesh,
    specificity,
    specificity_of_population,
    video_trials,
)
from BreastReconstructionLib.shape_model.model_file import load_model
from BreastReconstructionLib.shape_model.phantom_training import FIRST_EVALUATION_SEED
from Testing.conftest import run_cli


@pytest.fixture(scope="module")
def torso():
    return sample_torso(7301)[0]


@pytest.fixture(scope="module")
def exact(torso):
    skin = torso.to_model.apply(torso.vertices_ras)
    return Reconstructed(skin, torso.faces, torso.to_model.apply(torso.landmarks_ras))


def test_the_truth_itself_has_no_error(torso, exact):
    scores = score_mesh(exact, torso)
    assert scores["mean_mm"] < 1e-3
    assert scores["p95_mm"] < 1e-2
    assert scores["f_score_1_mm"] == pytest.approx(1.0)
    assert scores["landmarks_mm"] == pytest.approx(0.0, abs=1e-9)
    assert scores["normal_consistency"] > 0.99


def test_a_known_offset_is_measured_in_mm(torso, exact):
    """Blown up by 2 mm along the normals, both directions say 2 mm; half of the F-score's limits fail."""
    from BreastReconstructionLib.mesh.mesh import vertex_normals

    normals = vertex_normals(exact.vertices, exact.faces)
    blown = Reconstructed(exact.vertices + 2.0 * torso.to_model.scale * normals, exact.faces, None)
    scores = score_mesh(blown, torso)
    assert scores["mean_mm"] == pytest.approx(2.0, abs=0.1)
    assert scores["f_score_1_mm"] < 0.05
    assert "landmarks_mm" not in scores


def test_clouds_are_what_their_names_say(torso):
    mm = torso.to_model.scale
    sizes = {protocol: len(cloud_of(torso, protocol, 0)) for protocol in SAMPLED_POINTS}
    assert sizes == {"frontal": 20_000, "points_5000": 5000, "noisy_1000": 1000}
    noisy = cloud_of(torso, "noisy_1000", 0)
    assert not np.array_equal(noisy, cloud_of(torso, "noisy_1000", 1))
    skin = torso.to_model.apply(torso.vertices_ras)
    distance = closest_on_mesh(noisy[200:], skin, torso.faces)[0] / mm
    assert 1.0 < distance.mean() < 2.0  # |N(0, 2)| along the normal


def test_video_clouds_lie_on_their_torsos():
    """Made by the pipeline from phantom videos: within the dense cloud's known error of the true skin."""
    trials = video_trials()
    assert len(trials) >= 3
    for trial in trials:
        skin = trial.torso.to_model.apply(trial.torso.vertices_ras)
        mm = trial.torso.to_model.scale
        distance = closest_on_mesh(trial.points_model[::40], skin, trial.torso.faces)[0] / mm
        assert np.median(distance) < 2.5
        exact = trial.torso.to_model.apply(trial.torso.landmarks_ras)
        assert np.linalg.norm(trial.landmarks_model - exact, axis=1).max() / mm < 15


def test_model_beats_its_own_mean_on_all_clouds(torso):
    model = load_model()
    method, landmarks = by_model(model), torso.to_model.apply(torso.landmarks_ras)
    for protocol, limit in (("frontal", 0.6), ("points_5000", 0.6), ("noisy_1000", 1.1)):
        assert score_mesh(method(cloud_of(torso, protocol, 0), landmarks), torso)["mean_mm"] < limit


def test_outliers_do_not_lead_a_fit_astray():
    """A torso of the clinic's population whose fit ended 4 mm off while points were believed exact from the first step."""
    torso = population_torso(FIRST_EVALUATION_SEED + 13, "clinic")
    landmarks = torso.to_model.apply(torso.landmarks_ras)
    assert score_mesh(by_model(load_model())(cloud_of(torso, "noisy_1000", 13), landmarks), torso)["mean_mm"] < 1.1


def test_principal_components_explain_their_own_training_torsos():
    torsos = [sample_torso(seed)[0] for seed in range(7310, 7322)]
    skins = np.stack([t.to_model.apply(t.vertices_ras[: t.skin_vertex_count]) for t in torsos])
    method = PrincipalComponents.of(skins)
    torso = torsos[4]
    scores = score_mesh(method(cloud_of(torso, "frontal", 0), torso.to_model.apply(torso.landmarks_ras)), torso)
    assert scores["mean_mm"] < 1.0


def test_compactness_grows_with_the_share():
    counts = compactness(load_model())
    assert 1 <= counts["90_percent"] < counts["95_percent"] < counts["99_percent"]


def test_a_training_torso_is_its_own_nearest():
    torsos = [population_torso(FIRST_EVALUATION_SEED + i, "plain") for i in range(3)]
    skins = np.stack([t.to_model.apply(t.vertices_ras[: t.skin_vertex_count]) for t in torsos])
    assert specificity_of_population(skins, "plain", 3)["mean_mm"] < 1e-3
    others = specificity_of_population(skins[1:], "plain", 1)["mean_mm"]
    assert others > 1.0
    assert 1.0 < specificity(load_model(), skins, 2)["mean_mm"] < 40


def test_evaluate_command_writes_its_table(tmp_path):
    table = tmp_path / "table.json"
    # The one global function takes ten times as long; here the bundled blend stands in its place.
    other = ["--global-model", bundled_model_path()]
    words = ["--subjects", 1, "--training-subjects", 12, "--random-shapes", 2, "--population", "plain", *other]
    words += ["--json", table, "--work", tmp_path]
    finished = run_cli("evaluate", *words)
    assert finished.returncode == 0, finished.stderr
    values = json.loads(table.read_text())
    assert {"local", "global", "pca"} <= set(values)
    for method in ("local", "global", "pca"):
        for protocol in PROTOCOLS:
            assert 0 < values[method][protocol]["mean_mm"] < 20
            assert values[method][protocol]["mean_mm_interval"] is None  # of one subject
    for name in ("local", "global", "population"):
        assert 0.5 < values[name]["specificity"]["mean_mm"] < 30
    assert values["local"]["frontal"]["mean_mm"] < values["pca"]["frontal"]["mean_mm"]  # of twelve torsos
    assert "never trained on" in finished.stdout
