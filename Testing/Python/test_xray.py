"""Bone from a radiograph: projection, phantoms, network, fit, template, and the command line at its door."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from BreastReconstructionLib.core.errors import FitError, RegistrationError, ShapeModelError, VolumeError
from BreastReconstructionLib.core.resources import FEMUR_MODEL, FEMUR_NETWORK, FEMUR_TEMPLATE, bundled_model_path, resource_path
from BreastReconstructionLib.fields.projection import Box, line_integrals
from BreastReconstructionLib.geometry.radiograph import Radiograph
from BreastReconstructionLib.geometry.radiograph_file import BeamGeometry, read_radiograph
from BreastReconstructionLib.geometry.transforms import Frame
from BreastReconstructionLib.mesh.boundary import boundary_loops
from BreastReconstructionLib.mesh.coherent_drift import DriftSettings, drift
from BreastReconstructionLib.mesh.files import read_mesh
from BreastReconstructionLib.mesh.geodesics import geodesic_distances
from BreastReconstructionLib.mesh.mesh import TriangleMesh, connected_parts
from BreastReconstructionLib.mesh.patch import signed_volume
from BreastReconstructionLib.phantom.bones import BONES, FEMUR_PARTS, bone
from BreastReconstructionLib.phantom.radiograph import PhantomRadiographSettings, phantom_radiograph
from BreastReconstructionLib.radiograph.evaluation import common_share
from BreastReconstructionLib.radiograph.model_file import load_radiograph_model
from BreastReconstructionLib.radiograph.network import numbers_of, pose_of
from BreastReconstructionLib.radiograph.reconstruct import TO_PATIENT, reconstruct
from BreastReconstructionLib.radiograph.template import register_template
from BreastReconstructionLib.radiograph.training import RadiographSettings, train_radiographs
from BreastReconstructionLib.shape_model.model_file import load_model
from Testing.conftest import assert_one_sentence, run_cli

# Radiographs that no training and no tuning saw.
SEED = 8101


def ball(radius, cell, center=(0.0, 0.0, 0.0)):
    """A ball of density 1 on a grid."""
    box = Box.around(np.full(3, -radius - 4.0), np.full(3, radius + 4.0), cell)
    away = np.linalg.norm(box.points() - np.asarray(center), axis=1)
    return torch.as_tensor(np.clip(0.5 - (away - radius) / cell, 0, 1), dtype=torch.float32).reshape(1, *box.shape), box


@pytest.fixture(scope="module")
def bundled():
    return load_radiograph_model(bundled_model_path(FEMUR_NETWORK)), load_model(bundled_model_path(FEMUR_MODEL))


@pytest.fixture(scope="module")
def made():
    return phantom_radiograph(PhantomRadiographSettings(seed=SEED))


def truth(made):
    return TriangleMesh(TO_PATIENT.apply(made.bone.vertices), made.bone.faces, Frame.PATIENT)


@pytest.mark.fast
@pytest.mark.parametrize("direction", [(0, 0, 1), (1, 0, 0), (0.3, 0.2, 1), (0.9, -0.4, 0.5)])
def test_line_integrals_are_the_chords_of_a_ball(direction):
    values, box = ball(20.0, 0.5)
    turn = Rotation.align_vectors([direction], [(0, 0, 1)])[0].as_matrix()
    across = np.stack(np.meshgrid(np.linspace(-24, 24, 33), np.linspace(-24, 24, 33)), axis=-1).reshape(-1, 2)
    source = turn @ [0, 0, 900.0]
    ends = np.column_stack([across, np.full(len(across), -150.0)]) @ turn.T
    found = line_integrals(values, box, torch.tensor(source).float(), torch.tensor(ends).float())[0].numpy()
    along = (ends - source) / np.linalg.norm(ends - source, axis=1, keepdims=True)
    middle = -(along @ source)
    exact = 2 * np.sqrt(np.clip(20.0**2 - (source @ source - middle**2), 0, None))
    assert abs(found.sum() / exact.sum() - 1) < 0.005
    inner = exact > 15
    assert np.abs(found[inner] / exact[inner] - 1).max() < 0.02


@pytest.mark.fast
def test_line_integrals_are_those_of_diffdrr():
    renderers = pytest.importorskip("diffdrr.renderers", reason="pip install --no-deps diffdrr")
    values, box = ball(15.0, 1.0, (2.0, -1.0, 3.0))
    source = torch.tensor([60.0, -40.0, 900.0])
    across = torch.cartesian_prod(torch.linspace(-25, 25, 21), torch.linspace(-25, 25, 21))
    ends = torch.cat([across, torch.full((len(across), 1), -150.0)], dim=1)
    ours = line_integrals(values, box, source, ends)[0].double()
    inside = lambda points: (points - torch.tensor(box.low).float()).double() / box.cell
    length = (ends - source).norm(dim=1).double()
    sources = inside(source)[None, None].expand(1, len(ends), 3)
    theirs = renderers.Trilinear()(values[0].double(), sources, inside(ends)[None], length[None, None], n_points=1000).reshape(-1)
    assert float((ours - theirs).abs().max() / theirs.max()) < 0.01


@pytest.mark.fast
def test_line_integrals_are_differentiable():
    box = Box.around(np.full(3, -14.0), np.full(3, 14.0), 1.0)
    away = np.linalg.norm(box.points(), axis=1)
    values = torch.as_tensor(1 / (1 + np.exp((away - 7.0) / 1.5)), dtype=torch.float32).reshape(1, *box.shape)
    source = torch.tensor([0.0, 0.0, 500.0])
    ends = torch.tensor([[3.0, 1.0, -100.0], [-7.0, 4.0, -100.0]], dtype=torch.float32)
    shift = torch.zeros(3, requires_grad=True)
    line_integrals(values, box, source + shift, ends + shift).sum().backward()
    small = 0.25
    for axis in range(3):
        step = torch.zeros(3)
        step[axis] = small
        ahead, behind = (line_integrals(values, box, source + s * step, ends + s * step).sum() for s in (1, -1))
        assert float(shift.grad[axis]) == pytest.approx(float(ahead - behind) / (2 * small), abs=0.1)


@pytest.mark.fast
@given(st.tuples(*[st.floats(-80, 80)] * 3), st.floats(700, 1400), st.floats(1.05, 1.4))
@settings(max_examples=30, deadline=None)
def test_a_point_lies_on_the_ray_of_its_pixel(point, near, factor):
    picture = Radiograph(np.zeros((90, 70), np.float32), 0.7, near * factor, near, np.array([31.0, 47.5]))
    pixel = picture.project(np.array([point]))
    end = picture.on_detector(pixel)[0]
    share = (picture.source_mm[2] - point[2]) / (picture.source_mm[2] - end[2])
    assert np.allclose(picture.source_mm + share * (end - picture.source_mm), point, atol=1e-6)


@pytest.mark.fast
def test_resampling_keeps_places():
    picture = Radiograph(np.zeros((200, 160), np.float32), 0.5, 1150.0, 1000.0, np.array([70.0, 90.0]))
    small = picture.in_bone_plane(2.0)
    points = np.array([[0.0, 0, 0], [20, -30, 5], [-25, 10, -15]])
    assert small.magnification == pytest.approx(picture.magnification)
    assert np.allclose(small.on_detector(small.project(points)), picture.on_detector(picture.project(points)), atol=1e-6)


@pytest.mark.fast
@pytest.mark.parametrize("kind", BONES)
def test_bones_are_closed_differ_and_are_the_same_again(kind):
    cell = {"femur": 4.0, "vertebra": 2.0, "rib-cage": 4.0}[kind]
    one, again, other = bone(kind, 1, cell), bone(kind, 1, cell), bone(kind, 2, cell)
    assert not boundary_loops(one.faces)
    assert connected_parts(one.faces, len(one.vertices)).max() == 0
    assert signed_volume(one.vertices, one.faces) > 0
    assert np.array_equal(one.vertices, again.vertices)
    assert abs(signed_volume(other.vertices, other.faces) / signed_volume(one.vertices, one.faces) - 1) > 0.005
    if kind == "femur":
        assert set(one.scalars["part"].astype(int)) == set(range(len(FEMUR_PARTS)))
        assert 380 < np.ptp(one.vertices[:, 2]) < 560
    if kind == "rib-cage":
        assert set(range(1, 25)) <= set(one.scalars["part"].astype(int))


@pytest.mark.fast
def test_pose_and_numbers_are_each_others_inverse(bundled):
    frame = bundled[0].network.frame
    picture = Radiograph(np.zeros((frame.rows, frame.columns)), 4.4, 1100.0, 1000.0, np.array([30.0, 70.0]))
    numbers = np.array([0.3, -0.5, 0.2, 0.7, -0.1, 0.4])
    assert np.allclose(numbers_of(pose_of(numbers, picture, frame), picture, frame), numbers)


def test_drift_finds_a_known_motion_and_moves_other_points():
    template = bone("vertebra", 1, 2.0)
    bent = template.vertices * [1.06, 0.95, 1.0]
    bent[:, 2] += 0.002 * template.vertices[:, 0] ** 2
    target = bent[np.random.default_rng(0).permutation(len(bent))[:1500]]
    outliers = np.random.default_rng(1).uniform(-50, 50, (60, 3))
    for kernel in ("euclidean", "geodesic"):
        found = drift(template.vertices, template.faces, np.concatenate([target, outliers]), DriftSettings(kernel=kernel))
        assert np.linalg.norm(found.moved - bent, axis=1).mean() < 1.5, kernel
        others = template.vertices[::50] + 0.1
        assert np.linalg.norm(found.apply(others) - bent[::50], axis=1).mean() < 1.7, kernel


@pytest.mark.fast
def test_drift_says_what_is_wrong():
    one = bone("vertebra", 1, 3.0)
    with pytest.raises(RegistrationError, match="Only 3 points"):
        drift(one.vertices, one.faces, one.vertices[:3], DriftSettings())
    two = np.concatenate([one.faces, one.faces + len(one.vertices)])
    with pytest.raises(RegistrationError, match="several pieces"):
        geodesic_distances(np.concatenate([one.vertices, one.vertices + 200.0]), two, np.array([0]))


def test_a_femur_from_its_radiograph(bundled, made):
    found = reconstruct(made.radiograph, None, *bundled, detail_mm=3.0)
    true = truth(made)
    assert common_share(found.bone, true, 3.0) > 0.7
    assert found.explained > 0.9
    assert not boundary_loops(found.bone.faces)
    assert found.bone.scalars["uncertainty_mm"].min() > 0
    # Across the beam it is right; along the beam only the stated uncertainty is known.
    assert (
        np.linalg.norm(made.radiograph.project(found.in_picture).mean(0) - made.radiograph.project(made.bone.vertices).mean(0))
        < 6
    )
    template = read_mesh(resource_path("ShapeModels", FEMUR_TEMPLATE))
    registered = register_template(template, found.bone, DriftSettings())
    assert np.array_equal(registered.faces, template.faces)
    assert np.array_equal(registered.scalars["part"], template.scalars["part"])
    assert common_share(registered, found.bone, 3.0) > 0.93


def test_inverted_grey_values_are_found(bundled, made):
    negative = replace(made.radiograph, attenuation=-made.radiograph.attenuation)
    found = reconstruct(negative, None, *bundled, detail_mm=6.0)
    assert any("inverted" in warning for warning in found.warnings)
    assert found.explained > 0.9


def test_the_network_alone_gives_a_closed_bone(bundled, made):
    found = reconstruct(made.radiograph, None, *bundled, by_network=True, detail_mm=5.0)
    assert not boundary_loops(found.bone.faces)
    assert common_share(found.bone, truth(made), 3.0) > 0.3
    assert found.fit is None


def test_a_cut_bone_is_said(bundled, made):
    rows = made.radiograph.attenuation.shape[0]
    cut = replace(made.radiograph, attenuation=made.radiograph.attenuation[: int(0.8 * rows)])
    found = reconstruct(cut, None, *bundled, detail_mm=6.0)
    assert any("outside of the picture" in warning for warning in found.warnings)


@pytest.mark.parametrize("what", ["noise", "vertebra"])
def test_another_picture_is_refused(bundled, what):
    if what == "noise":
        values = np.random.default_rng(0).normal(size=(900, 400)).astype(np.float32)
        picture = Radiograph(values, 0.6, 1150.0, 1000.0, np.array([199.5, 449.5]))
    else:
        picture = phantom_radiograph(PhantomRadiographSettings("vertebra", SEED)).radiograph
    with pytest.raises(FitError, match=r"femur|not in the radiograph"):
        reconstruct(picture, None, *bundled, detail_mm=6.0)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("radiograph")
    done = run_cli("phantom", "radiograph", "--seed", SEED, "-o", folder)
    assert done.returncode == 0, done.stderr
    return folder


def geometry_of(folder):
    return json.loads((folder / "truth.json").read_text())


def test_the_command_line_makes_the_bone(written, tmp_path):
    geometry = geometry_of(written)
    arguments = ["--pixel-size", geometry["pixel_mm"], "--source-to-detector", geometry["source_to_detector_mm"]]
    arguments += ["--source-to-bone", geometry["source_to_bone_mm"], "-o", tmp_path / "case"]
    done = run_cli("xray", "reconstruct", "--picture", written / "radiograph.png", *arguments)
    assert done.returncode == 0, done.stderr
    assert "Research use only" in done.stdout
    case = tmp_path / "case"
    numbers = json.loads((case / "xray.json").read_text())
    true = read_mesh(written / "bone.ply")
    assert common_share(read_mesh(case / "bone.ply"), true, 3.0) > 0.7
    assert numbers["length_mm"] == pytest.approx(np.ptp(true.vertices[:, 2]), rel=0.06)
    assert numbers["parts"] == list(FEMUR_PARTS)
    assert numbers["depth_uncertainty_mm"] > 0
    overlay = cv2.imread(str(case / "overlay.png"))
    assert overlay.shape[:2] == cv2.imread(str(written / "radiograph.png"), cv2.IMREAD_UNCHANGED).shape
    assert (overlay[..., 1].astype(int) - overlay[..., 0] > 60).sum() > 500
    assert str(written) not in (case / "xray.json").read_text()
    # The other side is the mirror image, in a mirrored picture.
    flipped = tmp_path / "flipped.png"
    cv2.imwrite(str(flipped), cv2.imread(str(written / "radiograph.png"), cv2.IMREAD_UNCHANGED)[:, ::-1])
    arguments[-1] = tmp_path / "left"
    done = run_cli("xray", "reconstruct", "--picture", flipped, "--side", "left", "--quality", "draft", *arguments)
    assert done.returncode == 0, done.stderr
    left = read_mesh(tmp_path / "left" / "bone.ply")
    assert signed_volume(left.vertices, left.faces) > 0
    assert common_share(replace(left, vertices=left.vertices * [-1, 1, 1], faces=left.faces[:, ::-1]), true, 3.0) > 0.7


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "how large its pixels are"),
        ({"--pixel-size": 0.6}, "how far source, bone and detector"),
        ({"--pixel-size": 0.6, "--source-to-detector": 1000, "--source-to-bone": 1200}, "Check the distances"),
        ({"--pixel-size": 0.001, "--source-to-detector": 1150, "--source-to-bone": 1000}, "no detector's"),
    ],
)
def test_missing_geometry_is_said(written, tmp_path, options, words):
    given_options = [str(part) for pair in options.items() for part in pair]
    done = run_cli("xray", "reconstruct", "--picture", written / "radiograph.png", *given_options, "-o", tmp_path / "case")
    assert_one_sentence(done, 11, words)


@pytest.mark.fast
def test_bad_pictures_are_said(tmp_path):
    whole = BeamGeometry(0.6, 1150.0, 1000.0)
    rng = np.random.default_rng(0)
    colored = tmp_path / "photo.png"
    cv2.imwrite(str(colored), rng.integers(0, 255, (200, 200, 3), np.uint8))
    with pytest.raises(VolumeError, match="coloured picture"):
        read_radiograph(colored, whole)
    small = tmp_path / "small.png"
    cv2.imwrite(str(small), rng.integers(0, 255, (20, 200), np.uint8))
    with pytest.raises(VolumeError, match="too few pixels"):
        read_radiograph(small, whole)
    text = tmp_path / "text.dcm"
    text.write_text("no picture")
    with pytest.raises(VolumeError, match="cannot be read"):
        read_radiograph(text, whole)
    with pytest.raises(VolumeError, match="does not exist"):
        read_radiograph(tmp_path / "none.png", whole)
    with pytest.raises(ShapeModelError, match="both its"):
        load_radiograph_model(tmp_path / "none.safetensors")


def dicom(path, values, **tags):
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = DigitalXRayImageStorageForPresentation, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.Modality, data.PhotometricInterpretation, data.SamplesPerPixel = "DX", "MONOCHROME2", 1
    data.Rows, data.Columns = values.shape
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    for name, value in tags.items():
        setattr(data, name, value)
    data.PixelData = values.astype(np.uint16).tobytes()
    data.save_as(str(path), enforce_file_format=True)


@pytest.mark.fast
def test_dicom_says_its_geometry_and_grey_values(tmp_path):
    values = np.random.default_rng(0).integers(100, 4000, (128, 96)).astype(np.uint16)
    path = tmp_path / "one.dcm"
    distances = {"ImagerPixelSpacing": [0.2, 0.2], "DistanceSourceToDetector": 1150, "DistanceSourceToPatient": 1000}
    dicom(path, values, **distances)
    read = read_radiograph(path, BeamGeometry())
    assert (read.pixel_mm, read.source_to_detector_mm, read.source_to_bone_mm) == (0.2, 1150.0, 1000.0)
    assert np.array_equal(read.attenuation, values)
    dicom(path, values, PhotometricInterpretation="MONOCHROME1", **distances)
    dark = read_radiograph(path, BeamGeometry()).attenuation
    assert np.array_equal(dark - dark.min(), (values.max() - values).astype(float))
    mirrored = read_radiograph(path, BeamGeometry(mirrored=True)).attenuation
    assert np.array_equal(mirrored, dark[:, ::-1])
    for kind in ("MONOCHROME1", "MONOCHROME2"):  # what came through, linear: its logarithm is the attenuation
        dicom(path, values, PhotometricInterpretation=kind, PixelIntensityRelationship="LIN", **distances)
        linear = read_radiograph(path, BeamGeometry()).attenuation
        assert np.corrcoef(linear.ravel(), -np.log(values.ravel()))[0, 1] > 0.9
    dicom(path, values, Modality="MR", **distances)
    with pytest.raises(VolumeError, match="no plain radiograph"):
        read_radiograph(path, BeamGeometry())


def test_a_network_is_trained_and_resumes(tmp_path, bundled):
    from BreastReconstructionLib.mesh.files import write_ply

    folder = tmp_path / "bones"
    folder.mkdir()
    for seed in range(10):
        write_ply(folder / f"femur-{seed}.ply", bone("femur", 8200 + seed, 4.0))
    few = RadiographSettings(name="few", steps=3, batch=2, places=64)
    path = train_radiographs(folder, bundled[1], few, tmp_path / "work", tmp_path / "out")
    model = load_radiograph_model(path)
    assert model.card["shape_model"] == FEMUR_MODEL
    assert 0 <= model.card["metrics"]["occupancy_iou"] <= 1
    again = train_radiographs(folder, bundled[1], few, tmp_path / "work", tmp_path / "again")  # the checkpoint is at its end
    first, second = (load_radiograph_model(p).network.state_dict() for p in (path, again))
    assert all(torch.equal(first[key], second[key]) for key in first)
    with pytest.raises(ShapeModelError, match="another"):
        train_radiographs(folder, bundled[1], replace(few, places=65), tmp_path / "work", tmp_path / "out")


@pytest.mark.fast
def test_the_bundle_is_small_and_says_what_it_is():
    sizes = [bundled_model_path(name).stat().st_size for name in (FEMUR_MODEL, FEMUR_NETWORK)]
    assert sum(sizes) + resource_path("ShapeModels", FEMUR_TEMPLATE).stat().st_size < 8e6
    card = json.loads(bundled_model_path(FEMUR_NETWORK).with_suffix(".json").read_text())
    assert "not for diagnosis" in card["use"]


# In the panel -------------------------------------------------------------------------------------------------------------


def test_the_panel_makes_a_bone_of_a_radiograph(panel, written, tmp_path):
    from BreastReconstructionLib.scene import nodes, patient
    from Testing.workflow import wait, wait_for_run

    panel.choose_case(str(tmp_path / "case"))
    panel.xray.button.click()
    assert "Choose a radiograph" in panel.ui.statusLabel.text
    parameters, geometry = panel.parameters, geometry_of(written)
    parameters.xray_picture = str(written / "radiograph.png")
    panel.xray.button.click()
    wait(lambda: not panel.running, 60)
    assert "how large its pixels are" in panel.ui.statusLabel.text
    parameters.xray_pixel_mm = geometry["pixel_mm"]
    parameters.xray_source_to_detector_mm = geometry["source_to_detector_mm"]
    parameters.xray_source_to_bone_mm = geometry["source_to_bone_mm"]
    parameters.xray_detail_mm = 4.0
    panel.xray.button.click()
    assert "Error" not in wait_for_run(panel)
    case = tmp_path / "case"
    wait(lambda: patient.find_node(case, "bone template") is not None, 20)
    bone_shown = nodes.mesh_of(patient.find_node(case, "bone"))
    assert common_share(bone_shown, read_mesh(written / "bone.ply"), 3.0) > 0.7
    assert "Research use only" in panel.xray.text.text
    assert panel.xray.state.text == "Done."
    panel.choose_case("")
