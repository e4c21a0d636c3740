"""Shapes without measured points: random ones, ones between two, along directions, and the missing side of one."""

import json

import numpy as np
import pytest
import torch
import trimesh

from BreastReconstructionLib.fields.evaluation import Shape, distances_to_surface
from BreastReconstructionLib.mesh.distance import closest_on_mesh
from BreastReconstructionLib.mesh.files import read_mesh
from BreastReconstructionLib.phantom.torso import sample_torso
from BreastReconstructionLib.shape_model.fit import fit_shape
from BreastReconstructionLib.shape_model.model_file import load_model
from BreastReconstructionLib.shape_model.sampling import codes_along, codes_between, complete_side, mesh_of_code, random_codes
from Testing.conftest import assert_one_sentence, run_cli


@pytest.fixture(scope="module")
def model():
    return load_model()


def test_random_shapes_are_bodies_and_repeatable(model):
    codes = random_codes(model, 4, seed=3)
    assert torch.equal(codes, random_codes(model, 4, seed=3))
    for code in codes[:2]:
        shape = mesh_of_code(model, code, 6.0 / model.mm_per_unit).in_patient(model)
        mesh = trimesh.Trimesh(shape.mesh.vertices, shape.mesh.faces, process=False)
        assert mesh.is_watertight
        assert 6e6 < mesh.volume < 45e6
        notch, navel = shape.landmarks[:2]
        assert notch[2] - navel[2] > 200
        assert closest_on_mesh(shape.landmarks, shape.mesh.vertices, shape.mesh.faces)[0].max() < 25


def test_whitened_random_codes_are_standard_normal(model):
    u = torch.stack([model.whitened(code) for code in random_codes(model, 200, seed=0)])
    assert float(u.mean().abs()) < 0.02
    assert float(u.std()) == pytest.approx(1.0, abs=0.03)


def test_codes_between_and_along_have_the_right_ends(model):
    first, second = random_codes(model, 2, seed=1)
    between = codes_between(first, second, 5)
    assert torch.allclose(between[0], first)
    assert torch.allclose(between[-1], second)
    along = codes_along(model, 2, np.array([-1.0, 0.0, 1.5]))
    assert torch.allclose(along[1], model.latent_mean)
    u = model.whitened(along[2])
    assert float(u[2]) == pytest.approx(1.5, abs=1e-3)
    assert float(u.abs().sum()) == pytest.approx(1.5, abs=1e-2)


@pytest.mark.parametrize("side", ["left", "right"])
def test_missing_side_is_predicted_better_than_by_the_mean(model, side):
    """On phantoms, whose sides are alike but not equal, the unseen side comes out near the truth, the seen side exact."""
    sign = 1.0 if side == "left" else -1.0
    unseen, by_mean, seen = [], [], []
    for seed in (7101, 7102, 7103):
        torso, _ = sample_torso(seed)
        vertices = torso.to_model.apply(torso.vertices_ras[: torso.skin_vertex_count])
        marks = torso.to_model.apply(torso.landmarks_ras)
        fit = complete_side(vertices, marks, model, side)

        def errors(of, torso=torso, vertices=vertices):
            shape = Shape.of(model, torch.from_numpy(of.code))
            return distances_to_surface(shape, of.refinement.apply(vertices)) / torso.to_model.scale

        hidden = sign * vertices[:, 0] > 0.1
        shown = sign * vertices[:, 0] < -0.1
        unseen.append(errors(fit)[hidden].mean())
        seen.append(errors(fit)[shown].mean())
        few = np.random.default_rng(0).choice(np.flatnonzero(vertices[:, 1] < -0.6), 300)  # a strip at the waist says little
        by_mean.append(errors(fit_shape(vertices[few], marks, model))[hidden].mean())
    print(
        f"{side}: unseen side {np.mean(unseen):.2f} mm, seen {np.mean(seen):.2f} mm, by the waist alone {np.mean(by_mean):.2f} mm"
    )
    assert np.mean(seen) < 0.4
    # The sides of the model's population differ as sides of bodies do (nipples, muscle, shoulders), so one says little of the
    # other: 2.8 and 2.6 mm over seven bodies, where the waist with all six landmarks leaves 3.2 and 3.5.
    assert np.mean(unseen) < np.mean(by_mean)
    assert np.mean(unseen) < 3.5


def test_commands_write_meshes_with_landmarks(tmp_path, small_case):
    for arguments, names in (
        (["sample", 2, "--seed", 5], ["sample000", "sample001"]),
        (["directions", 1], ["direction1_-2", "direction1_+0", "direction1_+2"]),
        (["interpolate", small_case, small_case, "--count", 2], ["between000", "between001"]),
        (["complete", small_case, "--side", "left"], ["predicted-left"]),
    ):
        folder = tmp_path / arguments[0]
        finished = run_cli(*arguments, "--detail", 8, "-o", folder)
        assert finished.returncode == 0, finished.stderr
        assert sorted(path.stem for path in folder.glob("*.ply")) == sorted(names)
        for name in names:
            points = json.loads((folder / f"{name}.mrk.json").read_text())["markups"][0]["controlPoints"]
            assert len(points) == 6
    predicted, surface = read_mesh(tmp_path / "complete" / "predicted-left.ply"), read_mesh(small_case / "surface.ply")
    measured = surface.scalars["uncertainty_mm"] < 2  # back and flank, which no picture shows, are guessed by both
    right = surface.vertices[(surface.vertices[:, 0] > 40) & measured]  # the seen side lies in place on the case's surface
    distance = closest_on_mesh(right[::50], predicted.vertices, predicted.faces)[0]
    assert np.median(distance) < 4


def test_bad_input_is_one_sentence(tmp_path, small_case):
    assert_one_sentence(run_cli("complete", tmp_path / "nowhere", "--side", "left", "-o", tmp_path / "o"), 9, "does not exist")
    (tmp_path / "empty").mkdir()
    finished = run_cli("interpolate", small_case, tmp_path / "empty", "-o", tmp_path / "o")
    assert_one_sentence(finished, 9, "has no fit yet")
    assert run_cli("sample", 0, "-o", tmp_path / "o").returncode == 2


def test_default_model_is_chosen_and_given_back(tmp_path, monkeypatch):
    import os
    import shutil

    from BreastReconstructionLib.core.resources import bundled_model_path

    environment = {**os.environ, "HOME": str(tmp_path)}
    folder = tmp_path / "BreastReconstruction" / "ShapeModels"
    folder.mkdir(parents=True)
    for path in (bundled_model_path(), bundled_model_path().with_suffix(".json")):
        shutil.copy(path, folder / f"mine{path.suffix}")
    listed = run_cli("model", "list", env=environment).stdout
    assert "mine" in listed
    assert listed.splitlines()[0].startswith("* phantom")
    assert run_cli("model", "default", folder / "mine.safetensors", env=environment).returncode == 0
    assert "* mine" in run_cli("model", "list", env=environment).stdout
    (tmp_path / "damaged.safetensors").write_bytes(b"x")
    finished = run_cli("model", "default", tmp_path / "damaged.safetensors", env=environment)
    assert_one_sentence(finished, 7, "damaged")
    assert "mine" in run_cli("model", "default", env=environment).stdout
    assert "phantom" in run_cli("model", "default", "--bundled", env=environment).stdout
