"""Shape models of organs: any number of landmarks, a model made from label volumes, and fits of parts of an organ."""

import json
import shutil

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from BreastReconstructionLib.core.errors import FitError, LandmarkError, ShapeModelError
from BreastReconstructionLib.core.resources import LUNG_MODEL, bundled_model_path
from BreastReconstructionLib.fields.evaluation import Shape, derivatives, distances_and_gradients, signed_distances
from BreastReconstructionLib.fields.network import VARIANTS, ShapeNetwork
from BreastReconstructionLib.geometry.segmentation import read_segmentation
from BreastReconstructionLib.geometry.transforms import RAS_TO_LPS, Frame
from BreastReconstructionLib.geometry.volume import Volume, read_volume, write_volume
from BreastReconstructionLib.landmarks.curves import CLOSED_CURVE, write_curve
from BreastReconstructionLib.landmarks.files import write_landmarks_mrk_json
from BreastReconstructionLib.mesh.boundary import boundary_loops
from BreastReconstructionLib.mesh.distance import closest_on_mesh
from BreastReconstructionLib.mesh.files import read_mesh, write_ply
from BreastReconstructionLib.mesh.mesh import TriangleMesh, sample_surface
from BreastReconstructionLib.mesh.patch import signed_volume
from BreastReconstructionLib.mesh.segments import joined
from BreastReconstructionLib.mesh.solids import intersection_over_union
from BreastReconstructionLib.optimise.trainer import Process
from BreastReconstructionLib.phantom.lungs import label_volume, lungs
from BreastReconstructionLib.shape_model.explore import Explorer
from BreastReconstructionLib.shape_model.model import ShapeModel
from BreastReconstructionLib.shape_model.model_file import load_model, save_model
from BreastReconstructionLib.shape_model.organ_data import OrganSource, organ_subject, prepare_organ
from BreastReconstructionLib.shape_model.organ_evaluation import (
    IOU_CELLS,
    PROTOCOLS,
    DistanceComponents,
    Organ,
    chamfer_floor,
    scores,
)
from BreastReconstructionLib.shape_model.organ_fit import Observation, find_pose, fit_organ, settings_for
from BreastReconstructionLib.shape_model.sampling import codes_along, codes_between, mesh_of_code, random_codes
from BreastReconstructionLib.shape_model.training import ShapeModelTraining
from BreastReconstructionLib.shape_model.training_data import TrainingSet, mirrored_field, places, read_subjects
from BreastReconstructionLib.shape_model.training_settings import TrainingSettings
from Testing.cases import made_once
from Testing.conftest import assert_one_sentence, run_cli

# Never trained on: the bundled model's seeds end at 1299.
UNSEEN = (8200, 8201, 8202)
SPACING = (2.0, 2.0, 3.0)
COUNT, STEPS = 10, 300


@pytest.fixture(scope="module")
def model():
    """The bundled lungs."""
    return load_model(bundled_model_path(LUNG_MODEL))


@pytest.fixture(scope="module")
def organ():
    """Lungs that no training saw."""
    return Organ.of("lungs", lungs(UNSEEN[0]))


@pytest.fixture(scope="module")
def trained(shared):
    """A small model, made by the command line from label volumes: files in a folder."""

    def make(folder):
        labels = ["--seed", 8300, "--count", COUNT, "--spacing", *SPACING]
        for command in (
            ["phantom", "lungs", *labels, "-o", folder / "labels"],
            ["organ", "prepare", folder / "labels", "--organ", "lungs", "--npz", folder / "npz", "-o", folder / "data.h5"],
            ["organ", "train", folder / "data.h5", "--name", "tiny", "--steps", STEPS, "--work", folder / "work", "-o", folder],
        ):
            finished = run_cli(*command)
            assert finished.returncode == 0, finished.stderr
        (folder / "said.txt").write_text(finished.stdout)

    return made_once(shared, "organ", [str(COUNT), str(STEPS)], make)


# Networks -----------------------------------------------------------------------------------------------------------------


def untrained(size, anchors):
    torch.manual_seed(3)
    network = ShapeNetwork(size, torch.rand(anchors, 3) - 0.5).requires_grad_(False)
    basis = torch.linalg.qr(torch.randn(size.latent, 8))[0] * 0.3
    names = [f"point-{k}" for k in range(anchors)]
    card = {"name": "untrained", "organ": "kidney", "landmarks": names, "components": 1}
    return ShapeModel(network, torch.randn(size.latent) * 0.1, basis, 100.0, 5.0, card)


@pytest.mark.fast
@pytest.mark.parametrize("anchors", [0, 1, 4])
@pytest.mark.parametrize("variant", ["small", "large", "local"])
def test_a_network_takes_any_number_of_landmarks(variant, anchors, tmp_path):
    model = untrained(VARIANTS[variant].with_anchors(anchors), anchors)
    points = np.random.default_rng(0).uniform(-0.8, 0.8, (40, 3))
    shape = Shape.of(model, model.latent_mean)
    folded = signed_distances(shape, points)
    with torch.no_grad():
        direct = model.network(torch.as_tensor(points, dtype=torch.float32)[None], model.latent_mean[None])[0][0].numpy()
    np.testing.assert_allclose(folded, direct, atol=2e-5)
    _, gradient = distances_and_gradients(shape, points)
    step = 1e-3
    for axis in range(3):
        ahead, behind = (signed_distances(shape, points + sign * step * np.eye(3)[axis]) for sign in (1, -1))
        np.testing.assert_allclose(gradient[:, axis], (ahead - behind) / (2 * step), atol=0.02)
    by_code = derivatives(shape, torch.as_tensor(points, dtype=torch.float32)).by_code.numpy()
    for k in (0, 5):
        u = torch.zeros(8)
        u[k] = 1e-2
        moved = [signed_distances(Shape.of(model, model.code(sign * u)), points) for sign in (1, -1)]
        np.testing.assert_allclose(by_code[:, k], (moved[0] - moved[1]) / 2e-2, atol=5e-3)
    again = load_model(save_model(tmp_path, model))
    assert again.landmark_names == model.landmark_names
    np.testing.assert_array_equal(signed_distances(Shape.of(again, again.latent_mean), points), folded)


@pytest.mark.fast
def test_old_models_are_of_the_torso_and_have_six_landmarks(model):
    torso = load_model()
    assert (torso.organ, torso.parts, len(torso.landmark_names)) == ("torso", 1, 6)
    assert (model.organ, model.parts, model.landmark_names) == ("lungs", 2, ())
    with pytest.raises(ShapeModelError, match="is a model of the lungs, not of the torso"):
        model.required("torso")


# Training -----------------------------------------------------------------------------------------------------------------


def test_what_is_prepared_is_read_again_with_its_truth(trained):
    subjects = read_subjects(trained / "data.h5")
    assert len(subjects) == COUNT
    one = subjects[3]
    assert (one.organ, one.parts, one.landmark_names, one.landmarks.shape) == ("lungs", 2, (), (0, 3))
    truth = lungs(8303)
    exact = signed_volume(truth.vertices, truth.faces) / 1000.0
    assert float(one.truth["volume_ml"]) == pytest.approx(exact, rel=0.01)
    assert one.mm_per_unit == pytest.approx(1.0 / Organ.of("", truth).to_model.scale, rel=0.01)
    with np.load(trained / "npz" / f"{one.name}.npz") as file:
        assert (file["pos"][:, 3] >= 0).all()
        assert (file["neg"][:, 3] < 0).all()
        assert len(file["pos"]) + len(file["neg"]) == len(one.points)


@pytest.mark.fast
def test_a_mirrored_field_is_that_of_the_mirrored_organ(organ):
    source = OrganSource("lungs", parts=2)
    mesh = organ.mesh
    mirrored = TriangleMesh(mesh.vertices * [-1.0, 1.0, 1.0], mesh.faces[:, ::-1], Frame.PATIENT)
    (one, other) = (organ_subject(trained_path, m, source) for trained_path, m in ((PathOf("a"), mesh), (PathOf("b"), mirrored)))
    np.testing.assert_allclose(mirrored_field(one.field), other.field, atol=1e-4)
    assert len(places()) == len(one.field)


class PathOf:
    """A path without landmarks beside it."""

    def __init__(self, name):
        self.name = f"{name}.ply"

    def with_name(self, name):
        from pathlib import Path

        return Path("/nowhere") / name


@pytest.mark.parametrize(
    "weights",
    [{}, {"surface_weight": 1.0}, {"surface_weight": 1.0, "eikonal_weight": 0.1}, {"normal_weight": 0.1}],
    ids=["distances", "surface", "eikonal", "normals"],
)
def test_each_loss_changes_what_is_learned(trained, weights):
    subjects = read_subjects(trained / "data.h5")
    process = Process(0, 1, "cpu")
    settings = TrainingSettings(variant="small", batch_subjects=4, batch_points=32)
    plain = ShapeModelTraining(TrainingSet.of(subjects[:4]), subjects[4:5], settings, process)
    other = ShapeModelTraining(
        TrainingSet.of(subjects[:4]), subjects[4:5], TrainingSettings(**{**settings.__dict__, **weights}), process
    )
    gradients = []
    for training in (plain, other):
        _, parts = training.batch(3, process)
        loss = training.module(parts)[0]
        assert torch.isfinite(loss)
        loss.backward()
        gradients.append(training.module.codes.grad.clone())
    assert torch.allclose(*gradients) == (not weights)


def test_the_command_makes_a_model_with_an_honest_card(trained):
    card = json.loads((trained / "tiny.json").read_text())
    assert (card["organ"], card["components"], card["landmarks"], card["subjects"]) == ("lungs", 2, [], 8)
    metrics = card["metrics"]
    assert 0.2 < metrics["mean_mm"] < 6
    assert metrics["unseen_mean_mm"] > metrics["mean_mm"]
    assert metrics["posterior_factor"] >= 1
    assert "On organs that it never saw" in (trained / "said.txt").read_text()
    # The same command goes on from its checkpoint: nothing is left to do.
    command = ["organ", "train", trained / "data.h5", "--name", "tiny", "--steps", STEPS]
    again = run_cli(*command, "--work", trained / "work", "-o", trained / "again")
    assert again.returncode == 0, again.stderr
    assert json.loads((trained / "again" / "tiny.json").read_text())["metrics"] == metrics


def test_the_evaluation_scores_the_quarter_that_was_held_out(trained, tmp_path):
    table = tmp_path / "table.json"
    finished = run_cli(
        "organ",
        "evaluate",
        trained / "labels",
        "--model",
        trained / "tiny.safetensors",
        "--held-out",
        "--most",
        1,
        "--json",
        table,
    )
    assert finished.returncode == 0, finished.stderr
    found = json.loads(table.read_text())
    assert set(found["means"]) == {"points_5000", "half", "noisy_1000"}
    for methods in found["means"].values():
        assert set(methods) == {"model", "mean", "components"}
    full = found["means"]["points_5000"]
    assert 0 < found["chamfer_floor"] < full["model"]["chamfer"]
    assert "LPM" in finished.stdout
    refused = run_cli("organ", "evaluate", trained / "npz", "--model", trained / "tiny.safetensors")
    assert_one_sentence(refused, 7, "holds 0 segmentations or meshes")


@pytest.mark.fast
def test_landmarks_bring_organs_together_and_are_named_in_the_data(tmp_path):
    """Three points on each of three boxes of one form, turned and scaled: in the data they lie as one."""
    import trimesh

    for number, turn in enumerate((0.0, 0.3, -0.5)):
        box = trimesh.creation.box((60.0, 40.0, 90.0)).subdivide().subdivide().subdivide()
        rotation = Rotation.from_rotvec([0.1, turn, 0.2]).as_matrix() * (1 + 0.1 * number)
        vertices = np.asarray(box.vertices) @ rotation.T + 50.0 * number
        write_ply(tmp_path / f"box{number}.ply", TriangleMesh(vertices, np.asarray(box.faces), Frame.PATIENT))
        marks = np.array([[30.0, 20, 45], [-30, 20, 45], [30, -20, -45]]) @ rotation.T + 50.0 * number
        names = ("top", "side", "bottom")
        write_landmarks_mrk_json(tmp_path / f"box{number}.mrk.json", dict(zip(names, marks, strict=True)))
    prepare_organ(tmp_path, tmp_path / "boxes.h5", OrganSource("box"))
    subjects = read_subjects(tmp_path / "boxes.h5")
    assert subjects[0].landmark_names == ("bottom", "side", "top")
    for other in subjects[1:]:
        np.testing.assert_allclose(other.landmarks, subjects[0].landmarks, atol=1e-3)
    sizes = [subject.mm_per_unit for subject in subjects]
    assert sizes[1] / sizes[0] == pytest.approx(1.1, rel=1e-3)
    write_landmarks_mrk_json(tmp_path / "box1.mrk.json", {"top": np.zeros(3)})
    with pytest.raises(LandmarkError, match="do not have the same landmarks"):
        prepare_organ(tmp_path, tmp_path / "boxes.h5", OrganSource("box"))


# The bundled model --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", UNSEEN)
def test_lungs_are_completed_from_points_and_from_one_half(model, seed):
    truth = Organ.of("lungs", lungs(seed))
    rng = np.random.default_rng(seed)
    whole = fit_organ(Observation(PROTOCOLS["points_5000"](truth, rng), {}), model)
    row = scores(joined(whole.bodies), truth, rng)
    assert row["surface_mm"] < 0.8
    assert row["f_002"] > 0.97
    assert row["bodies"] == 2
    assert row["iou"] > 0.95
    assert chamfer_floor(truth, rng) < row["chamfer"] < 0.0002
    exact = signed_volume(truth.mesh.vertices, truth.mesh.faces) / 1000.0
    assert abs(whole.volume_ml - exact) < 0.01 * exact
    assert whole.warnings == ()
    half = fit_organ(Observation(PROTOCOLS["half"](truth, rng), {}), model)
    assert scores(joined(half.bodies), truth, rng)["f_002"] > 0.85
    assert abs(half.volume_ml - exact) < 3 * half.volume_uncertainty_ml
    stated = joined(half.bodies).scalars
    assert stated["uncertainty_mm"][stated["seen"] == 0].mean() > 1.3 * stated["uncertainty_mm"][stated["seen"] == 1].mean()
    assert 0.4 < half.seen_share < 0.75


def test_noise_does_not_part_or_join_bodies(model, organ):
    rng = np.random.default_rng(2)
    found = fit_organ(Observation(PROTOCOLS["noisy_1000"](organ, rng), {}), model)
    assert len(found.bodies) == 2
    assert all(boundary_loops(body.faces) == [] for body in found.bodies)
    assert scores(joined(found.bodies), organ, rng)["f_002"] > 0.95


def test_an_unknown_orientation_is_found(model, organ):
    points = PROTOCOLS["points_5000"](organ, np.random.default_rng(1))
    turned = points @ Rotation.from_euler("zx", [170, 30], degrees=True).as_matrix().T + np.array([300.0, -200, 900])
    mean, settings = Shape.of(model, model.latent_mean), settings_for(model, False)
    straight, found = (
        np.median(np.abs(signed_distances(mean, find_pose(cloud, model, settings).apply(cloud)))) for cloud in (points, turned)
    )
    assert found < 1.3 * straight  # a wrong pose lies twice as far from the mean shape


@pytest.mark.fast
def test_what_is_no_lung_is_refused_or_doubted(model):
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(3000, 3))
    ball = 60.0 * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    with pytest.raises(FitError, match=r"is not the lungs: it lies \d+ mm from the model's mean"):
        fit_organ(Observation(ball, {}), model)
    with pytest.raises(LandmarkError, match="has no landmarks"):
        fit_organ(Observation(ball, {"apex": np.zeros(3)}), model)
    with pytest.raises(FitError, match="Only 50 points"):
        fit_organ(Observation(ball[:50], {}), model)


@pytest.mark.fast
def test_sampling_interpolation_and_directions_work_as_on_the_torso(model):
    explorer = Explorer(model)
    assert len(explorer.shape(np.zeros(6)).mesh.vertices) > 1000
    assert explorer.shape(np.full(6, 0.2)).landmarks.shape == (0, 3)
    codes = [*random_codes(model, 2, 0), *codes_along(model, 0, np.array([-2.0, 2.0]))]
    codes += [*codes_between(codes[0], codes[1], 3)[1:2]]
    for code in codes:
        mesh = mesh_of_code(model, code, 6.0 / model.mm_per_unit).mesh
        assert boundary_loops(mesh.faces) == []
        assert signed_volume(mesh.vertices, mesh.faces) > 0.05


@pytest.mark.fast
def test_scores_of_the_truth_are_perfect_and_components_reproduce_what_they_were_made_of(organ):
    rng = np.random.default_rng(0)
    row = scores(organ.mesh, organ, rng)
    assert row["surface_mm"] < 1e-6
    assert row["f_001"] == row["f_002"] == row["iou"] == 1.0
    assert row["chamfer"] == pytest.approx(chamfer_floor(organ, rng), rel=0.1)
    moved = TriangleMesh(organ.mesh.vertices + np.array([0.0, 0, 20]), organ.mesh.faces, Frame.PATIENT)
    assert 0.4 < intersection_over_union(moved, organ.mesh, (IOU_CELLS,) * 3) < 0.95
    others = [organ, *(Organ.of(str(seed), lungs(seed)) for seed in (8210, 8211, 8212))]
    points = organ.to_model.apply(PROTOCOLS["points_5000"](organ, rng))
    found = DistanceComponents.of(others).fitted(points).moved(organ.to_model.inverse(), Frame.PATIENT)
    assert scores(found, organ, rng)["surface_mm"] < 1.5  # of a grid of 9 mm


def test_a_model_with_landmarks_is_posed_by_them(tmp_path):
    """Apexes and bases placed on each pair; a model learns where they are, and a fit puts the organ where they say."""
    folder = tmp_path / "lungs"
    folder.mkdir()
    for seed in range(8320, 8326):
        mesh = lungs(seed)
        write_ply(folder / f"l{seed}.ply", mesh)
        write_landmarks_mrk_json(folder / f"l{seed}.mrk.json", apexes_and_bases(mesh))
    prepare = run_cli("organ", "prepare", folder, "--organ", "lungs", "-o", tmp_path / "l.h5")
    assert prepare.returncode == 0, prepare.stderr
    train = ["organ", "train", tmp_path / "l.h5", "--name", "marked", "--steps", 300, "--variant", "local"]
    trained = run_cli(*train, "--work", tmp_path / "work", "-o", tmp_path)
    assert trained.returncode == 0, trained.stderr
    model = load_model(tmp_path / "marked.safetensors")
    assert model.landmark_names == ("left-apex", "left-base", "right-apex", "right-base")
    assert model.network.size.local_members == 4
    mesh = lungs(8330)
    turn = Rotation.from_rotvec([0.2, 2.5, -0.4]).as_matrix()
    points, _ = sample_surface(mesh.vertices, mesh.faces, 3000, np.random.default_rng(0))
    marks = {name: turn @ point for name, point in apexes_and_bases(mesh).items()}
    found = fit_organ(Observation(points @ turn.T, marks), model, 6.0)
    placed = found.model_to_patient.apply(found.fit.anchors_model)
    off = [np.linalg.norm(point - marks[name]) for name, point in zip(model.landmark_names, placed, strict=True)]
    assert np.mean(off) < 25  # of four organs that it learned from
    assert found.residual_mm < 5


def apexes_and_bases(mesh):
    """The highest and the lowest place of each lung, mm RAS."""
    found = {}
    for name, side in (("left", 1), ("right", 2)):
        own = mesh.vertices[mesh.scalars["side"] == side]
        found |= {f"{name}-apex": own[own[:, 2].argmax()], f"{name}-base": own[own[:, 2].argmin()]}
    return found


# The command line ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def labels(organ, tmp_path_factory):
    """Label volumes of one pair of lungs: whole, and what becomes of them."""
    folder = tmp_path_factory.mktemp("labels")
    volume = label_volume(organ.mesh, SPACING)
    values, filled = volume.values, np.flatnonzero((volume.values > 0).any(axis=(1, 2)))
    low, high = filled[0], filled[-1]

    def write(name, changed, matrix=volume.ijk_to_ras):
        write_volume(folder / f"{name}.nii.gz", Volume(np.ascontiguousarray(changed), matrix))

    write("whole", values)
    third = values.copy()
    third[: low + (high - low) // 3] = 0
    write("third", third)
    write("left", np.where(values == 1, values, 0))
    write("mirrored", values[:, :, ::-1])
    slices = np.zeros_like(values)
    slices[low + 3 :: 9] = values[low + 3 :: 9]
    write("slices", slices)
    write("empty", np.zeros_like(values))
    write("two", np.concatenate([values, np.zeros_like(values)[:3], values]))
    write("grey", np.random.default_rng(0).integers(-900, 900, values.shape).astype(np.int16))
    return folder


def fitted(labels, name, tmp_path, *options):
    return run_cli("organ", "fit", "--input", labels / f"{name}.nii.gz", *options, "-o", tmp_path / "case")


def test_a_lung_without_its_lower_third_is_completed(labels, organ, tmp_path):
    finished = fitted(labels, "third", tmp_path)
    assert finished.returncode == 0, finished.stderr
    case, exact = tmp_path / "case", signed_volume(organ.mesh.vertices, organ.mesh.faces) / 1000.0
    numbers = json.loads((case / "organ.json").read_text())
    assert abs(numbers["volume_ml"] - exact) < 3 * numbers["volume_uncertainty_ml"]
    assert 0.03 < numbers["volume_uncertainty_ml"] / exact < 0.2  # how deep the missing bases reach, nobody can know
    assert 40 < numbers["seen_percent"] < 75
    assert any("flat cut" in warning for warning in numbers["warnings"])
    assert "± " in finished.stdout
    assert "not for diagnosis" in finished.stdout
    mesh = read_mesh(case / "organ.ply")
    assert boundary_loops(mesh.faces) == []
    row = scores(mesh, organ, np.random.default_rng(0))
    assert row["surface_mm"] < 8
    kept = organ.mesh.vertices[organ.mesh.vertices[:, 2] > np.quantile(organ.mesh.vertices[:, 2], 0.6)]
    assert closest_on_mesh(kept, mesh.vertices, mesh.faces)[0].mean() < 1.0
    # What was seen is followed closely, and what was not says so.
    seen, stated = mesh.scalars["seen"] > 0.5, mesh.scalars["uncertainty_mm"]
    assert stated[~seen].mean() > 2 * stated[seen].mean()
    written, given = read_segmentation(case / "organ.nii.gz"), read_volume(labels / "third.nii.gz")
    np.testing.assert_allclose(written.grid.ijk_to_ras[:3, :3], given.ijk_to_ras[:3, :3], atol=1e-4)
    voxels = written.mask((), "organ").sum() * np.prod(SPACING) / 1000.0
    assert voxels == pytest.approx(numbers["volume_ml"], rel=0.01)
    again = fitted(labels, "third", tmp_path)
    assert "skipped" in again.stderr + again.stdout or again.returncode == 0
    kept = json.loads((case / "case.json").read_text())["stages"]["organ"]
    fitted(labels, "third", tmp_path)
    assert json.loads((case / "case.json").read_text())["stages"]["organ"] == kept


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("left", (), "Of body 2 of 2, from the patient's left, 0 % is given"),
        ("mirrored", (), "Left and right may be exchanged"),
        ("slices", (), "slices: their contours were used"),
        ("whole", ("--segments", "1"), "Of body 2 of 2"),
    ],
)
def test_what_is_unusual_is_said_and_fitted(labels, name, options, words, tmp_path):
    finished = fitted(labels, name, tmp_path, *options)
    assert finished.returncode == 0, finished.stderr
    assert words in finished.stdout


@pytest.mark.parametrize(
    ("name", "options", "code", "words"),
    [
        ("empty", (), 11, "holds no segment"),
        ("two", (), 11, "two patients"),
        ("grey", (), 11, "grey values"),
        ("none", (), 11, "does not exist"),
        ("whole", ("--segments", "heart"), 11, "no segment called heart; it has 1, 2"),
        ("whole", ("--organ-model", "TORSO"), 7, "is a model of the torso"),
        ("whole", ("--organ-model", "missing.safetensors"), 7, "missing"),
        ("whole", ("--organ-landmarks", "missing.mrk.json"), 11, "does not exist"),
    ],
)
def test_what_cannot_be_fitted_is_one_sentence(labels, name, options, code, words, tmp_path):
    given = [str(bundled_model_path()) if option == "TORSO" else option for option in options]
    assert_one_sentence(fitted(labels, name, tmp_path, *given), code, words)


def test_outlines_drawn_as_curves_are_enough(model, organ, tmp_path):
    import trimesh

    mesh = organ.mesh.as_trimesh()
    markups = []
    for height in np.linspace(*np.percentile(organ.mesh.vertices[:, 2], [8, 92]), 7):
        section = mesh.section(plane_origin=[0, 0, height], plane_normal=[0, 0, 1])
        for number, outline in enumerate(section.discrete):
            path = tmp_path / f"{height:.0f}-{number}.mrk.json"
            write_curve(path, outline[:-1:3], CLOSED_CURVE)
            markups += json.loads(path.read_text())["markups"]
    curves = tmp_path / "curves.mrk.json"
    curves.write_text(json.dumps({"markups": markups}))
    finished = run_cli("organ", "fit", "--input", curves, "-o", tmp_path / "case")
    assert finished.returncode == 0, finished.stderr
    found = read_mesh(tmp_path / "case" / "organ.ply")
    assert scores(found, organ, np.random.default_rng(0))["surface_mm"] < 1.5
    assert isinstance(trimesh.Trimesh, type)


def test_a_mesh_and_a_cloud_are_fitted_too(organ, tmp_path):
    points, _ = sample_surface(organ.mesh.vertices, organ.mesh.faces, 3000, np.random.default_rng(4))
    write_ply(tmp_path / "cloud.ply", TriangleMesh(points, np.empty((0, 3), int), Frame.PATIENT))
    write_ply(tmp_path / "mesh.ply", organ.mesh)
    for name in ("cloud", "mesh"):
        case = tmp_path / name
        finished = run_cli("organ", "fit", "--input", tmp_path / f"{name}.ply", "--organ-detail", "4", "-o", case)
        assert finished.returncode == 0, finished.stderr
        assert scores(read_mesh(case / "organ.ply"), organ, np.random.default_rng(0))["surface_mm"] < 0.8


def test_a_folder_that_cannot_be_learned_from_is_one_sentence(labels, trained, tmp_path):
    one = tmp_path / "one"
    one.mkdir()
    prepare = lambda folder, *options: run_cli("organ", "prepare", folder, "--organ", "lungs", *options, "-o", tmp_path / "x.h5")
    assert_one_sentence(prepare(tmp_path / "no"), 7, "does not exist")
    shutil.copy(labels / "whole.nii.gz", one)
    assert_one_sentence(prepare(one), 7, "holds 1 segmentations or meshes")
    shutil.copy(labels / "left.nii.gz", one / "z-left.nii.gz")
    assert_one_sentence(prepare(one), 7, "z-left.nii.gz holds 1 bodies where 2 should be")
    assert_one_sentence(prepare(one, "--parts", 2), 7, "z-left.nii.gz holds 1 bodies")
    (one / "z-left.nii.gz").unlink()
    shutil.copy(labels / "third.nii.gz", one / "z-third.nii.gz")
    assert_one_sentence(prepare(one), 7, "z-third.nii.gz is cut off")
    assert not (tmp_path / "x.h5").exists()
    few = ["organ", "train", trained / "data.h5", trained / "missing.h5"]
    assert_one_sentence(run_cli(*few, "--name", "x", "--work", tmp_path / "w", "-o", tmp_path), 7, "missing.h5 does not exist")


def test_a_mirrored_volume_among_others_is_named(trained, tmp_path):
    folder = tmp_path / "labels"
    shutil.copytree(trained / "labels", folder)
    path = folder / "lungs-8307.nii.gz"
    volume = read_volume(path)
    write_volume(path, Volume(np.ascontiguousarray(volume.values[:, :, ::-1]), volume.ijk_to_ras))
    finished = run_cli("organ", "prepare", folder, "--organ", "lungs", "-o", tmp_path / "x.h5")
    assert_one_sentence(finished, 7, "lungs-8307 looks mirrored")


def test_the_torso_refuses_a_model_of_lungs(small_input, tmp_path):
    model, (pictures, picks) = bundled_model_path(LUNG_MODEL), small_input
    given = ["--landmarks", picks, "--approximate-scale", "--model", model]
    finished = run_cli("reconstruct", pictures, *given, "-o", tmp_path / "case")
    assert_one_sentence(finished, 7, "is a model of the lungs, not of the torso")
    assert_one_sentence(run_cli("model", "default", model), 7, "is a model of the lungs")


def test_sample_and_directions_write_lungs(tmp_path):
    model = bundled_model_path(LUNG_MODEL)
    for command in (["sample", 2], ["directions", 1]):
        finished = run_cli(*command, "--model", model, "--detail", 6, "-o", tmp_path)
        assert finished.returncode == 0, finished.stderr
    mesh = read_mesh(tmp_path / "sample000.ply")
    assert boundary_loops(mesh.faces) == []
    assert not list(tmp_path.glob("*.mrk.json"))
    assert np.linalg.det(RAS_TO_LPS) == pytest.approx(1.0)


def test_between_two_completed_organs_there_are_others(labels, tmp_path):
    for name in ("whole", "left"):
        finished = run_cli("organ", "fit", "--input", labels / f"{name}.nii.gz", "--organ-detail", 5, "-o", tmp_path / name)
        assert finished.returncode == 0, finished.stderr
    model = ["--model", bundled_model_path(LUNG_MODEL), "--detail", 6]
    finished = run_cli("interpolate", tmp_path / "whole", tmp_path / "left", "--count", 3, *model, "-o", tmp_path / "between")
    assert finished.returncode == 0, finished.stderr
    assert boundary_loops(read_mesh(tmp_path / "between" / "between001.ply").faces) == []
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "case.json").write_text((tmp_path / "whole" / "case.json").read_text().replace('"organ"', '"other"'))
    refused = run_cli("interpolate", tmp_path / "empty", tmp_path / "left", *model, "-o", tmp_path / "between")
    assert refused.returncode != 0


# In the panel -------------------------------------------------------------------------------------------------------------


def segmentation_node(path, names):
    """A segmentation in the scene, its segments named."""
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Lungs of a CT")
    storage = node.CreateDefaultStorageNode()
    storage.SetFileName(str(path))
    assert storage.ReadData(node)
    for number, name in enumerate(names):
        node.GetSegmentation().GetNthSegment(number).SetName(name)
    return node


def test_the_panel_completes_a_segment_of_the_scene(panel, labels, organ, tmp_path):
    import slicer

    from BreastReconstructionLib.scene import nodes, organs, patient
    from Testing.workflow import choose, wait, wait_for_run

    write_volume(tmp_path / "third.nrrd", read_volume(labels / "third.nii.gz"))
    node = segmentation_node(tmp_path / "third.nrrd", ["left lung", "right lung"])
    assert node in organs.sources_in_scene()
    case = tmp_path / "case"
    panel.choose_case(str(case))
    panel.refresh()
    choose(panel.organ.source, node.GetID())
    assert [panel.organ.segments.item(i).text() for i in range(2)] == ["left lung", "right lung"]
    for number in range(2):
        panel.organ.segments.item(number).setSelected(True)
    panel.organ.button.click()
    assert "Error" not in wait_for_run(panel)
    wait(lambda: patient.find_node(case, organs.WHOLE) is not None, 20)
    assert panel.parameters.organ_segments == "left lung,right lung"
    bodies = [nodes.mesh_of(patient.find_node(case, f"{organs.ORGAN} {number}")) for number in (1, 2)]
    assert scores(joined(bodies), organ, np.random.default_rng(0))["surface_mm"] < 8
    whole = patient.find_node(case, organs.WHOLE)
    assert organs.segments_of(whole) == ["organ 1", "organ 2"]
    assert whole not in organs.sources_in_scene()
    assert "flat cut" in panel.organ.text.text
    assert " ± " in panel.organ.text.text
    assert panel.organ.state.text == "Done."
    panel.choose_case("")
    slicer.mrmlScene.RemoveNode(node)


def test_the_panel_says_what_is_missing_for_an_organ(panel, tmp_path):
    panel.choose_case(str(tmp_path / "case"))
    panel.parameters.organ_input = ""
    panel.organ.button.click()
    assert "Choose a segmentation" in panel.ui.statusLabel.text
    panel.organ.make_button.click()
    assert "Say what the organ is" in panel.ui.statusLabel.text
    panel.organ.organ.text = "kidney"
    panel.organ.folder.currentPath = str(tmp_path / "none")
    panel.organ.make_button.click()
    from Testing.workflow import wait

    wait(lambda: not panel.organ.process.running, 60)
    assert "The folder none does not exist" in panel.ui.statusLabel.text
    panel.choose_case("")


def test_the_panel_makes_a_model_of_the_segmentations_in_the_scene(panel, trained, tmp_path, monkeypatch):
    import slicer
    from BreastReconstructionPanels import organ_section

    from Testing.workflow import choose, wait

    monkeypatch.setattr(organ_section, "STEPS", 50)
    monkeypatch.setattr(organ_section, "user_models_folder", lambda: tmp_path / "models")
    loaded = []
    for number in range(3):
        write_volume(tmp_path / f"{number}.nrrd", read_volume(trained / "labels" / f"lungs-830{number}.nii.gz"))
        loaded.append(segmentation_node(tmp_path / f"{number}.nrrd", ["left lung", "right lung"]))
    panel.refresh()
    choose(panel.organ.source, loaded[0].GetID())
    panel.organ.segments.item(0).setSelected(True)
    panel.organ.organ.text = "Left lungs"
    panel.organ.folder.currentPath = ""
    panel.organ.make_button.click()
    folder = panel.organ._folder
    assert folder.is_dir()
    wait(lambda: not panel.organ.process.running, 300)
    assert (tmp_path / "models" / "left-lungs.safetensors").is_file(), panel.ui.statusLabel.text
    assert "On organs that it never saw" in panel.organ.make_text.text
    assert json.loads((tmp_path / "models" / "left-lungs.json").read_text())["components"] == 1
    assert not folder.exists()
    for node in loaded:
        slicer.mrmlScene.RemoveNode(node)


def test_the_sliders_explore_the_lungs(panel):
    from BreastReconstructionPanels.explore_section import EXPLORED

    from BreastReconstructionLib.mesh.mesh import connected_parts
    from BreastReconstructionLib.scene import nodes, patient
    from Testing.workflow import choose, wait

    choose(panel.explore.which, "organ_model")
    panel.ui.exploreButton.checked = True
    wait(lambda: patient.find_node(EXPLORED, "explored") is not None, 60)
    wait(lambda: not panel.explore.busy, 20)
    mean = nodes.mesh_of(patient.find_node(EXPLORED, "explored"))
    assert connected_parts(mean.faces, len(mean.vertices)).max() == 1  # two lungs
    before = mean.vertices.copy()
    panel.ui.direction1Slider.value = 0.4
    wait(lambda: not panel.explore.busy, 20)
    moved = nodes.mesh_of(patient.find_node(EXPLORED, "explored")).vertices
    assert len(moved) != len(before) or np.abs(moved - before).max() > 1.0
    choose(panel.explore.which, "model")
    wait(lambda: not panel.explore.process.running, 20)
    assert not panel.ui.exploreButton.checked
