"""Volumes on disk, and the skin in them."""

import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from BreastReconstructionLib.core.errors import VolumeError
from BreastReconstructionLib.geometry.volume import Volume, read_volume, write_volume
from BreastReconstructionLib.measurement.volume_skin import find_volume_skin
from BreastReconstructionLib.mesh.distance import closest_on_mesh
from BreastReconstructionLib.phantom.scan import PhantomScanSettings, make_scan
from Testing.dicom import write_series

pytestmark = pytest.mark.fast
COARSE = (2.0, 3.0)


def placed(turn, spacing, origin, mirrored=False):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(turn).as_matrix() @ np.diag(spacing) @ np.diag([-1.0 if mirrored else 1.0, 1.0, 1.0])
    matrix[:3, 3] = origin
    return matrix


three = lambda low, high: st.tuples(*[st.floats(low, high)] * 3)


@limits(max_examples=25, deadline=None)
@given(three(-1.5, 1.5), three(0.3, 5.0), three(-300, 300), st.booleans(), st.sampled_from([".nrrd", ".nii.gz", ".mha"]))
def test_a_volume_comes_back_in_its_place(tmp_path_factory, turn, spacing, origin, mirrored, suffix):
    path = tmp_path_factory.mktemp("volume") / f"v{suffix}"
    volume = Volume(
        np.random.default_rng(0).integers(-1000, 1000, (9, 10, 11)).astype(np.int16), placed(turn, spacing, origin, mirrored)
    )
    write_volume(path, volume)
    again = read_volume(path)
    np.testing.assert_array_equal(again.values, volume.values)
    np.testing.assert_allclose(again.ijk_to_ras, volume.ijk_to_ras, atol=2e-4)
    places = np.random.default_rng(1).uniform(0, 8, (20, 3))
    np.testing.assert_allclose(volume.to_ijk(volume.to_ras(places)), places, atol=1e-9)


def test_dicom_is_read_and_two_series_are_not_mixed(tmp_path):
    (tmp_path / "both").mkdir()
    for series in (1, 2):
        folder = tmp_path / str(series)
        folder.mkdir()
        values = np.broadcast_to(100 * series + np.arange(9)[:, None, None], (9, 16, 16))
        write_series(folder, values, (2.0, 2.0, 3.0), tags={"0020|000e": f"1.2.3.{series}"})
        for path in folder.iterdir():
            shutil.copyfile(path, tmp_path / "both" / f"{series}-{path.name}")
    volume = read_volume(tmp_path / "1")
    assert volume.values.shape == (9, 16, 16)
    assert volume.values[:, 0, 0].tolist() == list(range(100, 109))
    np.testing.assert_allclose(volume.spacing_mm, (2, 2, 3))
    with pytest.raises(VolumeError, match="2 DICOM series"):
        read_volume(tmp_path / "both")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m @ np.array([[1, 0.3, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "right angles"),
        (lambda m: m * np.array([1, 1, 0, 1]), "direction is missing"),
        (lambda m: m * np.array([0.001, 0.001, 0.001, 1]), "not in millimetres"),
    ],
)
def test_an_impossible_place_is_said(change, words):
    volume = Volume(np.zeros((9, 9, 9)), change(placed((0, 0, 0), (1, 1, 2), (0, 0, 0))))
    with pytest.raises(VolumeError, match=words):
        volume.checked("the volume")


def test_what_is_no_volume_is_said(tmp_path):
    (tmp_path / "letter.nrrd").write_text("no volume")
    (tmp_path / "empty").mkdir()
    for name, words in (("letter.nrrd", "cannot be read"), ("empty", "holds no DICOM"), ("nowhere.nrrd", "does not exist")):
        with pytest.raises(VolumeError, match=words):
            read_volume(tmp_path / name)


# Skin ------------------------------------------------------------------------------------------------------------------


def test_a_series_that_lacks_a_slice_is_not_squeezed(tmp_path):
    values = np.random.default_rng(0).integers(-1000, 500, (12, 16, 16)).astype(np.int16)
    write_series(tmp_path, values, (1.0, 1.0, 2.5), (3.0, -4.0, 5.0))
    assert read_volume(tmp_path).values.shape == (12, 16, 16)
    content = (tmp_path / "5.dcm").read_bytes()
    for left in (0, len(content) // 4):
        (tmp_path / "5.dcm").write_bytes(content[:left])
        with pytest.raises(VolumeError, match="do not follow each other evenly"):
            read_volume(tmp_path)
    (tmp_path / "5.dcm").write_bytes(content)
    write_series(tmp_path, values, (1.0, 1.0, 2.5), (3.0, -4.0, 5.0), shift_mm=(0.0, 0.4))
    with pytest.raises(VolumeError, match="tilted"):
        read_volume(tmp_path)


@pytest.fixture(scope="module")
def lying_ct():
    return make_scan(PhantomScanSettings(seed=8101, posture="lying", spacing_mm=COARSE))


def error_mm(mesh, scan):
    return closest_on_mesh(mesh.vertices[::5], scan.skin.vertices, scan.skin.faces)[0]


def test_skin_of_a_ct_without_its_table(lying_ct):
    found = find_volume_skin(lying_ct.volume)
    assert found.modality == "ct"
    error = error_mm(found.mesh, lying_ct)
    assert error.mean() < 0.3
    assert error.max() < 4.0, "the table is no skin"
    assert (found.mesh.normals[:, 1] > 0).mean() > 0.99
    assert np.ptp(found.mesh.vertices[:, 2]) > 250


@pytest.mark.parametrize("bias", [0.0, 0.8])
def test_skin_of_an_mri_under_a_bias_field(bias):
    scan = make_scan(PhantomScanSettings(seed=8102, modality="mri", spacing_mm=COARSE, oblique_degrees=7, bias=bias))
    found = find_volume_skin(scan.volume)
    assert found.modality == "mri"
    assert error_mm(found.mesh, scan).mean() < 0.8


def test_a_mirrored_grid_gives_the_same_skin(lying_ct):
    volume = lying_ct.volume
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    flip[0, 3] = volume.values.shape[2] - 1
    found = find_volume_skin(Volume(volume.values[:, :, ::-1], volume.ijk_to_ras @ flip)).mesh
    again = find_volume_skin(volume).mesh
    assert closest_on_mesh(found.vertices[::7], again.vertices, again.faces)[0].mean() < 0.02


def test_the_edge_of_the_field_of_view_is_no_skin(lying_ct):
    volume = lying_ct.volume
    values = volume.values.copy()
    values[:, :, :70] = -3024  # what scanners write outside their circle
    found = find_volume_skin(Volume(values, volume.ijk_to_ras))
    assert error_mm(found.mesh, lying_ct).max() < 4.0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda v: np.full_like(v, -1000), "air only"),
        (lambda v: np.full_like(v, 40), "no air|No air|no CT"),
        (lambda v: (v + 1024).clip(0), "no CT in Hounsfield"),
        (lambda v: np.where(np.arange(v.shape[2]) < v.shape[2] * 0.75, -1000, v), "no whole chest"),
    ],
    ids=["air", "no air", "no rescale", "a part"],
)
def test_what_shows_no_chest_is_said(lying_ct, make, words):
    values = make(lying_ct.volume.values.astype(np.int32)).astype(np.int16)
    with pytest.raises(VolumeError, match=words):
        find_volume_skin(Volume(values, lying_ct.volume.ijk_to_ras), "ct")
