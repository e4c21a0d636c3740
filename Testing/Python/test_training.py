"""Training data and training, through the command line and torchrun: what is refused, repaired, resumed and stopped."""

import json
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
import trimesh
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from vtkmodules.vtkIOXML import vtkXMLPolyDataWriter

from BreastReconstructionLib.core.errors import ShapeModelError
from BreastReconstructionLib.landmarks.files import write_landmarks_mrk_json, write_landmarks_pp
from BreastReconstructionLib.landmarks.mean_anchors import OFFICIAL_MEAN_ANCHORS_MODEL
from BreastReconstructionLib.landmarks.names import LANDMARK_NAMES
from BreastReconstructionLib.mesh.boundary import boundary_loops
from BreastReconstructionLib.mesh.polydata import triangles
from BreastReconstructionLib.mesh.signed_distance import signed_distance
from BreastReconstructionLib.optimise import trainer
from BreastReconstructionLib.phantom.torso import sample_clinic_torso, sample_torso
from BreastReconstructionLib.shape_model import phantom_training, scans, training
from BreastReconstructionLib.shape_model.model_file import load_model
from BreastReconstructionLib.shape_model.phantom_training import phantom_subject
from BreastReconstructionLib.shape_model.scans import prepare_scan
from BreastReconstructionLib.shape_model.training import train
from BreastReconstructionLib.shape_model.training_data import TrainingSet, read_subjects, write_subjects
from BreastReconstructionLib.shape_model.training_settings import TrainingSettings, read_config
from Testing.conftest import ROOT, assert_one_sentence, run_cli


@pytest.fixture(scope="module")
def torso():
    return sample_torso(7401)[0]


def skin_of(torso):
    """The open frontal skin, as a scanner gives it."""
    return torso.vertices_ras[: torso.skin_vertex_count].copy(), torso.faces[: torso.skin_face_count].copy()


def write_scan(folder, name, vertices, faces, landmarks, ending=".ply"):
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    mesh.export(folder / f"{name}{ending}")
    write_landmarks_pp(folder / f"{name}.pp", dict(zip(LANDMARK_NAMES, landmarks, strict=True)))
    return folder / f"{name}{ending}", folder / f"{name}.pp"


# Scans --------------------------------------------------------------------------------------------------------------


def test_an_open_scan_is_closed_and_its_distances_are_those_of_the_body(from_ply, torso):
    subject, notes = from_ply
    assert any("closed by a flat back" in words for words in notes)
    assert subject.mm_per_unit == pytest.approx(1 / torso.to_model.scale, rel=1e-5)
    np.testing.assert_allclose(subject.landmarks, torso.to_model.apply(torso.landmarks_ras), atol=1e-5)
    exact = signed_distance(subject.points, torso.to_model.apply(torso.vertices_ras), torso.faces)
    front = (np.abs(exact) < 0.05) & (subject.points[:, 2] > 0) & (np.abs(subject.points[:, :2]) < [0.4, 0.5]).all(axis=1)
    assert front.sum() > 500
    np.testing.assert_allclose(subject.distances[front], exact[front], atol=1e-3)
    # Normals point outwards: a step along them leaves the body.
    front = (subject.surface_points[:, 2] > 0) & (np.abs(subject.surface_points[:, :2]) < [0.4, 0.5]).all(axis=1)
    out = subject.surface_points[front] + 0.003 * subject.surface_normals[front]
    assert (signed_distance(out, torso.to_model.apply(torso.vertices_ras), torso.faces) > 0).mean() > 0.99


@pytest.mark.parametrize("seed", [7402, 7403, 7404])
def test_a_closed_scan_is_a_solid(tmp_path, seed):
    torso = sample_clinic_torso(seed)[0]
    vertices, faces = skin_of(torso)
    scan = scans._closed(scans.Scan(torso.to_model.apply(vertices), faces, torso.landmarks_ras), "scan")
    mesh = trimesh.Trimesh(scan.vertices, scan.faces, process=False)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    truth = trimesh.Trimesh(torso.to_model.apply(torso.vertices_ras), torso.faces, process=False)
    assert mesh.volume == pytest.approx(truth.volume, rel=0.05)


@pytest.mark.parametrize(("unit", "factor"), [("metres", 0.001), ("inches", 1 / 25.4), ("centimetres", 0.1)])
def test_other_units_are_found_and_said(tmp_path, torso, unit, factor):
    vertices, faces = skin_of(torso)
    subject, notes = prepare_scan(*write_scan(tmp_path, "scan", vertices * factor, faces, torso.landmarks_ras * factor))
    assert any(unit in words for words in notes)
    assert subject.mm_per_unit == pytest.approx(1 / torso.to_model.scale, rel=1e-4)


def test_faces_inside_out_are_turned_and_said(tmp_path, torso):
    vertices, faces = skin_of(torso)
    subject, notes = prepare_scan(*write_scan(tmp_path, "scan", vertices, faces[:, ::-1], torso.landmarks_ras))
    assert any("inside out" in words for words in notes)
    assert subject.surface_normals[subject.surface_points[:, 2] > 0.1, 2].mean() > 0.3


@pytest.fixture(scope="module")
def from_ply(torso, tmp_path_factory):
    """The torso's scan as a PLY, prepared."""
    return prepare_scan(*write_scan(tmp_path_factory.mktemp("ply"), "scan", *skin_of(torso), torso.landmarks_ras))


@pytest.mark.parametrize("ending", [".stl", ".obj", ".vtp"])
def test_every_kind_of_mesh_gives_the_same_scan(tmp_path, torso, from_ply, ending):
    vertices, faces = skin_of(torso)
    paths = write_scan(tmp_path, "scan", vertices, faces, torso.landmarks_ras)
    if ending == ".vtp":
        writer = vtkXMLPolyDataWriter()
        writer.SetFileName(str(tmp_path / "scan.vtp"))
        writer.SetInputData(triangles(vertices, faces))
        writer.Write()
    else:
        trimesh.Trimesh(vertices, faces, process=False).export(tmp_path / f"scan{ending}")
    one, _ = from_ply
    other, _ = prepare_scan(tmp_path / f"scan{ending}", paths[1])
    assert other.mm_per_unit == pytest.approx(one.mm_per_unit, rel=1e-5)
    exact = signed_distance(other.points, torso.to_model.apply(torso.vertices_ras), torso.faces)
    front = (np.abs(exact) < 0.05) & (other.points[:, 2] > 0) & (np.abs(other.points[:, :2]) < [0.4, 0.5]).all(axis=1)
    np.testing.assert_allclose(other.distances[front], exact[front], atol=1e-3)


def test_markups_of_slicer_lie_on_meshes_of_slicer(tmp_path, torso):
    """Slicer saves markups as LPS that read as RAS, and meshes as LPS."""
    vertices, faces = skin_of(torso)
    mesh, _ = write_scan(tmp_path, "scan", vertices * [-1, -1, 1], faces, torso.landmarks_ras)
    write_landmarks_mrk_json(tmp_path / "scan.mrk.json", dict(zip(LANDMARK_NAMES, torso.landmarks_ras, strict=True)))
    subject, _ = prepare_scan(mesh, tmp_path / "scan.mrk.json")
    assert subject.mm_per_unit == pytest.approx(1 / torso.to_model.scale, rel=1e-5)


def _holed(vertices, faces, landmarks):
    middle = vertices[faces].mean(axis=1)
    return vertices, faces[np.linalg.norm(middle - landmarks[1] - [0, 0, 60.0], axis=1) > 25], landmarks


def _doubled(vertices, faces, landmarks):
    return (
        np.concatenate([vertices, vertices + np.array([900.0, 0, 0])]),
        np.concatenate([faces, faces + len(vertices)]),
        landmarks,
    )


def _moved(name, by):
    def change(vertices, faces, landmarks):
        landmarks = landmarks.copy()
        landmarks[LANDMARK_NAMES.index(name)] += by
        return vertices, faces, landmarks

    return change


def _ordered(*order):
    return lambda vertices, faces, landmarks: (vertices, faces, landmarks[list(order)])


BAD_SCANS = [
    (_holed, 7, ("1 holes", "fill")),
    (_doubled, 7, ("2 separate parts",)),
    (_moved("left-nipple", [0, 35.0, 0]), 5, ("left-nipple", "mm off the surface")),
    (_ordered(0, 1, 3, 2, 5, 4), 5, ("Left and right", "patient's")),
    (_ordered(0, 1, 3, 2, 4, 5), 5, ("left-nipple and right-nipple", "swapped")),
    (_ordered(1, 0, 2, 3, 4, 5), 5, ("sternal-notch and navel", "swapped")),
    (lambda v, f, m: (v * 3.7, f, m * 3.7), 7, ("export it in millimetres",)),
]


@pytest.mark.parametrize(("change", "code", "words"), BAD_SCANS)
def test_bad_scans_are_named_with_what_to_do(tmp_path, torso, change, code, words):
    folder = tmp_path / "scans"
    folder.mkdir()
    write_scan(folder, "b", *change(*skin_of(torso), torso.landmarks_ras))
    write_scan(folder, "c", *skin_of(torso), torso.landmarks_ras)  # prepared in the order of names: no need to wait for it
    finished = run_cli("train", "prepare", folder, "-o", tmp_path / "data.h5")
    assert_one_sentence(finished, code, "b.ply", *words)
    assert not list(tmp_path.glob("data*"))


def test_folders_that_are_not_enough(tmp_path, torso):
    assert_one_sentence(run_cli("train", "prepare", tmp_path / "none", "-o", tmp_path / "d.h5"), 7, "does not exist")
    mesh, landmarks = write_scan(tmp_path, "a", *skin_of(torso), torso.landmarks_ras)
    assert_one_sentence(run_cli("train", "prepare", tmp_path, "-o", tmp_path / "d.h5"), 7, "1 scans", "two at least")
    write_scan(tmp_path, "b", *skin_of(torso), torso.landmarks_ras)
    landmarks.unlink()
    assert_one_sentence(run_cli("train", "prepare", tmp_path, "-o", tmp_path / "d.h5"), 5, "no landmark file for a.ply")
    write_landmarks_pp(landmarks, dict(zip(LANDMARK_NAMES, torso.landmarks_ras, strict=True)))
    mesh.write_bytes(b"ply\nnothing")
    assert_one_sentence(run_cli("train", "prepare", tmp_path, "-o", tmp_path / "d.h5"), 7, "a.ply", "export it again")


def test_boundary_loops_of_a_square_with_a_hole():
    grid = np.arange(36).reshape(6, 6)
    a, b, c, d = grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]
    faces = np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)]).reshape(-1, 3)
    assert [len(loop) for loop in boundary_loops(faces)] == [20]
    middle = (faces == 14).any(axis=1)
    loops = boundary_loops(faces[~middle])
    assert [len(loop) for loop in loops] == [20, 6]
    edges = {(int(x), int(y)) for face in faces[~middle] for x, y in zip(face, np.roll(face, -1), strict=True)}
    for loop in loops:
        assert all((int(x), int(y)) in edges for x, y in zip(loop, np.roll(loop, -1), strict=True))


# Data ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Five phantoms as training data."""
    path = tmp_path_factory.mktemp("data") / "phantoms.h5"
    assert write_subjects(path, (phantom_subject(seed, 1500, "clinic") for seed in range(7410, 7415))) == 5
    return path


def test_data_have_the_published_layout_and_the_truth(data):
    with h5py.File(data) as file:
        assert sorted(file) == [f"phantom-{seed}" for seed in range(7410, 7415)]
        group = file["phantom-7410"]
        for name, columns in (("surf_points", 3), ("surf_normals", 3), ("landmarks", 3), ("points", 3), ("skin", 3)):
            assert group[name].shape[1] == columns
            assert np.abs(group[name][()]).max() <= (0.5 if name != "surf_normals" else 1.0001)
        assert group["landmarks"].shape == (6, 3)
        torso = sample_clinic_torso(7410)[0]
        np.testing.assert_allclose(group["truth/landmarks_ras"][()], torso.landmarks_ras)
        assert 20 < group["truth/left_breast_volume_ml"][()] < 3000
        assert group["truth/right_breast_boundary_ras"].shape[1] == 3


def test_reading_gives_back_what_was_written(data):
    written, read = phantom_subject(7411, 1500, "clinic"), read_subjects(data)[1]
    assert read.name == written.name
    for key in ("landmarks", "surface_points", "surface_normals", "points", "distances", "skin"):
        np.testing.assert_allclose(getattr(read, key), getattr(written, key), atol=2e-6)
    assert read.mm_per_unit == pytest.approx(written.mm_per_unit)


def test_data_of_other_tools_come_into_the_same_frame(data, tmp_path):
    """Only the published datasets, each scan in its own box: the landmarks' similarity brings it to the anchors."""
    subject = read_subjects(data)[0]
    with h5py.File(tmp_path / "other.h5", "w") as file:
        group = file.create_group("scan")
        group["surf_points"] = 0.4 * subject.surface_points + [0.05, -0.02, 0.1]
        group["surf_normals"] = subject.surface_normals
        group["landmarks"] = 0.4 * subject.landmarks + [0.05, -0.02, 0.1]
    found = read_subjects(tmp_path / "other.h5")[0]
    np.testing.assert_allclose(found.surface_points, subject.surface_points, atol=1e-5)
    assert np.linalg.norm(found.landmarks - OFFICIAL_MEAN_ANCHORS_MODEL, axis=1).mean() < 0.15
    assert found.points is None
    assert np.isnan(found.mm_per_unit)


def test_damaged_data_are_refused_in_one_sentence(data, tmp_path):
    (tmp_path / "text.h5").write_text("not HDF5")
    with h5py.File(tmp_path / "lacking.h5", "w") as file:
        file.create_group("scan")["surf_points"] = np.zeros((5, 3))
    with h5py.File(tmp_path / "nan.h5", "w") as file, h5py.File(data) as source:
        source.copy("phantom-7410", file)
        file["phantom-7410"]["surf_points"][3] = np.nan
    with h5py.File(tmp_path / "flat.h5", "w") as file, h5py.File(data) as source:
        source.copy("phantom-7410", file)
        del file["phantom-7410"]["surf_points"]
        file["phantom-7410"]["surf_points"] = np.zeros((5, 2))
    for name, words in (
        ("missing.h5", "does not exist"),
        ("text.h5", "not an HDF5 file"),
        ("lacking.h5", "scan in lacking.h5 lacks"),
        ("nan.h5", "surf_points of phantom-7410 in nan.h5 is empty, not finite or huge"),
        ("flat.h5", "surf_points of phantom-7410 in flat.h5 is no list of numbers or places"),
    ):
        config = write_config(tmp_path, tmp_path / name)
        assert_one_sentence(run_cli("train", "run", config), 7, words)


# Training -----------------------------------------------------------------------------------------------------------


def write_config(folder, data, name="config.json", **changes):
    values = {"data": [str(data)], "work": "work", "output": "model", "name": "tiny", "steps": 6, "batch_subjects": 4}
    values |= {"batch_points": 32, "validate_every": 3} | changes
    (folder / name).write_text(json.dumps(values))
    return folder / name


def weights_of(path):
    return {key: value.numpy() for key, value in load_model(path).network.state_dict().items()}


def assert_same_weights(a, b):
    for key, value in weights_of(a).items():
        np.testing.assert_allclose(weights_of(b)[key], value, atol=1e-6)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """One run of six steps through the command line."""
    folder = tmp_path_factory.mktemp("trained")
    finished = run_cli("train", "run", write_config(folder, data), "--json-progress")
    assert finished.returncode == 0, finished.stderr
    return folder


def test_run_writes_model_card_and_records(trained):
    model = load_model(trained / "model" / "tiny.safetensors")
    assert model.card["training"]["steps"] == 6
    assert model.card["subjects"] == model.card["exact_subjects"] == 4  # the fifth validates
    assert model.card["metrics"]["validation_mm"] > 0
    assert model.mm_per_unit == pytest.approx(290, rel=0.2)
    records = EventAccumulator(str(trained / "work" / "tensorboard")).Reload()
    assert {"loss", "distance", "anchor", "code", "validation_mm"} <= set(records.Tags()["scalars"])
    assert records.Scalars("loss")[-1].step == 6


def test_pictures_of_the_training_show_a_body():
    picture = training.picture_of_mean(load_model())
    assert picture.dtype == np.uint8
    covered = (picture < 250).any(axis=2)
    assert 0.2 < covered.mean() < 0.8
    assert covered[covered.shape[0] // 2, covered.shape[1] // 2]


def test_half_precision_of_the_hidden_layers_hardly_moves_the_distances():
    """Coordinates stay in float32: in bfloat16 they alone would err by 0.6 mm."""
    model = load_model()
    points = torch.rand(1, 20_000, 3, generator=torch.Generator().manual_seed(3)) * 2 - 1
    with torch.no_grad():
        shape = model.network.fold(model.latent_mean[None])
        exact = model.network.distances(points, shape)
        with torch.autocast("cpu", torch.bfloat16):
            half = model.network.distances(points, shape)
    near = exact.abs() < 0.1
    assert half.dtype == torch.float32
    assert 0 < (half - exact)[near].abs().mean() * model.mm_per_unit < 0.1


def test_mixed_precision_trains_to_nearly_the_same(trained, data, tmp_path):
    finished = run_cli("train", "run", write_config(tmp_path, data, mixed_precision=True))
    assert finished.returncode == 0, finished.stderr
    half, full = (weights_of(folder / "model" / "tiny.safetensors") for folder in (tmp_path, trained))
    assert any(not np.array_equal(half[key], full[key]) for key in full)
    for key, value in full.items():
        np.testing.assert_allclose(half[key], value, atol=5e-3)


def test_two_processes_do_what_one_does(trained, data, tmp_path):
    config = write_config(tmp_path, data)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    finished = subprocess.run(
        [*command, "-m", "BreastReconstructionLib", "train", "run", str(config)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert finished.returncode == 0, finished.stderr
    assert_same_weights(trained / "model" / "tiny.safetensors", tmp_path / "model" / "tiny.safetensors")


class Killed(Exception):
    pass


@pytest.fixture
def interrupted(data, tmp_path, monkeypatch):
    """The configuration of a run that died in its fifth step, after the checkpoint of the fourth."""
    monkeypatch.setattr(trainer, "CHECKPOINT_EVERY", 2)
    monkeypatch.setattr(trainer, "REPORT_EVERY", 5)

    def kill(fraction, words):
        raise Killed

    config = write_config(tmp_path, data)
    with pytest.raises(Killed):
        training.run_training(read_config(config), kill)
    assert torch.load(tmp_path / "work" / "checkpoint.pt", weights_only=True)["step"] == 4
    return config


def test_a_resumed_run_ends_as_an_uninterrupted_one(trained, interrupted):
    finished = run_cli("train", "run", interrupted)
    assert finished.returncode == 0, finished.stderr
    assert_same_weights(trained / "model" / "tiny.safetensors", interrupted.parent / "model" / "tiny.safetensors")


def test_a_full_disk_keeps_the_last_checkpoint(interrupted):
    checkpoint = interrupted.parent / "work" / "checkpoint.pt"
    good = checkpoint.read_bytes()
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
    assert_one_sentence(run_cli("train", "run", interrupted, preexec_fn=limit), 9, "is full")
    assert checkpoint.read_bytes() == good
    assert not list(checkpoint.parent.glob("*.partial"))


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_loss_that_is_no_number_names_its_batch_and_keeps_the_last_checkpoint(data, tmp_path, monkeypatch, where):
    monkeypatch.setattr(trainer, "CHECKPOINT_EVERY", 2)
    draw = training.ShapeModelTraining.batch

    def poisoned(self, step, process):
        names, parts = draw(self, step, process)
        if step == 4:
            parts[0].rows[0, 0, 3 if where == "loss" else 0] = float("nan")
        return names, parts

    monkeypatch.setattr(training.ShapeModelTraining, "batch", poisoned)
    with pytest.raises(ShapeModelError, match=r"step 4: .*not a number in the batch of .*phantom-74.*checkpoint.pt"):
        training.run_training(read_config(write_config(tmp_path, data)))
    state = torch.load(tmp_path / "work" / "checkpoint.pt", weights_only=True)
    assert state["step"] == 4
    assert all(torch.isfinite(value).all() for value in state["losses"].values())


@pytest.mark.parametrize("beside_a_phantom", [False, True])
def test_published_losses_train_scans_without_distances(data, tmp_path, monkeypatch, beside_a_phantom):
    monkeypatch.setattr(trainer, "REPORT_EVERY", 20)
    subjects = read_subjects(data)
    bare = [replace(s, points=None, distances=None, skin=None) for s in subjects[:3]]
    settings = TrainingSettings(steps=160, batch_subjects=4, batch_points=64, validate_every=160, learning_rate=2e-3)
    parts = [*bare, subjects[3]] if beside_a_phantom else bare
    model = train(TrainingSet.of(parts), subjects[4:], settings, tmp_path)
    losses = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("loss")
    assert losses[-1].value < 0.5 * losses[0].value
    assert model.card["exact_subjects"] == int(beside_a_phantom)


def test_training_ends_when_validation_no_longer_improves(data, tmp_path):
    config = write_config(tmp_path, data, steps=40, validate_every=2, patience=2, learning_rate=1e-12, code_learning_rate=1e-12)
    finished = run_cli("train", "run", config)
    assert finished.returncode == 0, finished.stderr
    records = EventAccumulator(str(tmp_path / "work" / "tensorboard")).Reload()
    assert [scalar.step for scalar in records.Scalars("validation_mm")] == [2, 4, 6]


def test_a_checkpoint_of_other_settings_is_refused(trained, data, tmp_path):
    shutil.copytree(trained / "work", tmp_path / "work")
    assert_one_sentence(run_cli("train", "run", write_config(tmp_path, data, steps=8)), 7, "another steps", "work folder")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stepz": 3}, "stepz"),
        ({"steps": "many"}, "steps in config.json must be a whole number"),
        ({"steps": 0}, "steps"),
        ({"learning_rate": -1}, "learning_rate"),
        ({"variant": "both"}, "variant"),
        ({"mixed_precision": 1}, "mixed_precision"),
    ],
)
def test_configurations_that_make_no_sense(data, tmp_path, change, words):
    assert_one_sentence(run_cli("train", "run", write_config(tmp_path, data, **change)), 7, words)


def test_configuration_that_is_no_json_and_one_subject(data, tmp_path):
    (tmp_path / "bad.json").write_text("{,}")
    assert_one_sentence(run_cli("train", "run", tmp_path / "bad.json"), 7, "JSON")
    write_subjects(tmp_path / "one.h5", read_subjects(data)[:1])
    assert_one_sentence(run_cli("train", "run", write_config(tmp_path, tmp_path / "one.h5")), 7, "at least two")


def test_train_on_phantoms_samples_trains_and_measures(tmp_path, monkeypatch):
    monkeypatch.setattr(phantom_training, "POINTS", 500)
    monkeypatch.setattr(phantom_training, "EVALUATED", 1)
    settings = TrainingSettings(name="tiny", variant="global", steps=4, batch_subjects=4, batch_points=32)
    path = phantom_training.train_on_phantoms("plain", 3, settings, tmp_path / "work", tmp_path / "model")
    model = load_model(path)
    assert model.network.size.members == 1
    assert model.card["phantom_seeds"] == [1_000_000, 1_000_002]
    assert model.card["metrics"]["subjects"] == 1
    assert model.card["metrics"]["validation_mm"] > 0
    assert sorted(path.name for path in (tmp_path / "work").glob("*.h5")) == ["training-plain-3.h5", "validation-plain-1.h5"]


def test_training_stops_while_it_samples(tmp_path):
    cancel = tmp_path / "cancel"
    cancel.touch()
    finished = run_cli(
        "train", "phantoms", "--subjects", 40, "--work", tmp_path / "work", "-o", tmp_path / "model", "--cancel-file", cancel
    )
    assert_one_sentence(finished, 130, "Cancelled")
    assert not (tmp_path / "model").exists()
    assert not list((tmp_path / "work").glob("*.h5*"))
