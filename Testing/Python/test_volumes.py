"""Volumes on disk, and the skin in them."""

import locale

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


@pytest.fixture
def same_locale():
    """Writing DICOM leaves the process in the C locale, in which later tests could not read UTF-8."""
    before = locale.setlocale(locale.LC_ALL)
    yield
    locale.setlocale(locale.LC_ALL, before)


def test_dicom_is_read_and_two_series_are_not_mixed(tmp_path, same_locale):
    import SimpleITK as sitk

    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for series in (1, 2):
        for k in range(9):
            image = sitk.GetImageFromArray(np.full((1, 16, 16), 100 * series + k, np.int16))
            image.SetSpacing((2.0, 2.0, 3.0))
            for tag, value in (
                ("0008|0060", "CT"),
                ("0020|000e", f"1.2.3.{series}"),
                ("0020|000d", "1.2.3"),
                ("0008|0018", f"1.2.3.{series}.{k}"),
                ("0020|0032", f"0\\0\\{3 * k}"),
                ("0020|0037", "1\\0\\0\\0\\1\\0"),
                ("0020|0013", str(k)),
            ):
                image.SetMetaData(tag, value)
            (tmp_path / str(series)).mkdir(exist_ok=True)
            for folder in (tmp_path / str(series), tmp_path / "both"):
                folder.mkdir(exist_ok=True)
                writer.SetFileName(str(folder / f"{series}-{k}.dcm"))
                writer.Execute(image)
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
