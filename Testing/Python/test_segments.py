"""Segmentations as files, and their closed surfaces: volumes, places, holes, islands, bodies that touch, cuts."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from BreastReconstructionLib.core.errors import ShapeModelError, VolumeError
from BreastReconstructionLib.geometry.segmentation import read_segmentation
from BreastReconstructionLib.geometry.transforms import RAS_TO_LPS, Frame
from BreastReconstructionLib.geometry.volume import Volume, image_of, write_volume
from BreastReconstructionLib.mesh.boundary import boundary_loops
from BreastReconstructionLib.mesh.distance import closest_on_mesh
from BreastReconstructionLib.mesh.mesh import TriangleMesh, connected_parts, sample_surface
from BreastReconstructionLib.mesh.own_frame import own_frame
from BreastReconstructionLib.mesh.patch import signed_volume
from BreastReconstructionLib.mesh.segments import joined, smoothed, surface_of_segment
from BreastReconstructionLib.mesh.signed_distance import signed_distance
from BreastReconstructionLib.mesh.solids import coverage
from BreastReconstructionLib.phantom.lungs import label_volume, lungs
from BreastReconstructionLib.shape_model.organ_data import bodies_of_mesh

pytestmark = pytest.mark.fast
SEED = 8100
OBLIQUE = Rotation.from_euler("xyz", [20, 10, -15], degrees=True).as_matrix()


@pytest.fixture(scope="module")
def pair():
    """A pair of lungs."""
    return lungs(SEED)


@pytest.fixture(scope="module")
def coarse(pair):
    """Their label volume."""
    return label_volume(pair, (3.0, 3.0, 3.0))


def ball(radius=12.0, center=(20, 20, 20), shape=(40, 40, 40)):
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return ((places - np.array(center)) ** 2).sum(axis=-1) < radius**2


GRID = Volume(np.zeros((40, 40, 40), np.uint8), np.diag([1.0, 1.0, 1.0, 1.0]))


# The synthetic lungs ------------------------------------------------------------------------------------------------------


def test_lungs_are_two_closed_bodies_turned_outward_left_one_to_the_left(pair):
    left, right = (pair.part(pair.scalars["side"] == side) for side in (1, 2))
    for lung in (left, right):
        assert boundary_loops(lung.faces) == []
        assert 500e3 < signed_volume(lung.vertices, lung.faces) < 4000e3
    assert left.vertices[:, 0].mean() < right.vertices[:, 0].mean()  # RAS: the patient's left is negative
    again = lungs(SEED)
    np.testing.assert_array_equal(again.vertices, pair.vertices)


# From voxels to surfaces --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spacing", "directions"),
    [((2.0, 2.0, 2.0), None), ((1.2, 1.2, 5.0), None), ((1.5, 1.5, 3.0), OBLIQUE), ((2.0, 2.0, 2.0), np.diag([-1.0, -1.0, 1.0]))],
    ids=["isotropic", "thick slices", "oblique", "as DICOM"],
)
def test_the_surface_keeps_volume_and_place(pair, spacing, directions):
    labels = label_volume(pair, spacing, directions)
    found = surface_of_segment(labels.values > 0, labels, "lungs", 2)
    exact = signed_volume(pair.vertices, pair.faces) / 1000.0
    assert found.volume_ml == pytest.approx(exact, rel=0.01)
    assert [boundary_loops(body.faces) for body in found.bodies] == [[], []]
    assert not any(part.any() for part in found.cut)
    points, _ = sample_surface(found.mesh.vertices, found.mesh.faces, 1500, np.random.default_rng(0))
    assert closest_on_mesh(points, pair.vertices, pair.faces)[0].mean() < 0.1 * max(spacing)


def test_the_filter_keeps_the_volume_of_a_small_body_and_a_mean_of_neighbours_does_not():
    import trimesh

    labels = Volume(ball(6.0).astype(np.uint8), GRID.ijk_to_ras)
    found = surface_of_segment(labels.values > 0, labels, "ball")
    assert found.volume_ml == pytest.approx(labels.values.sum() / 1000.0, rel=0.02)
    mesh = found.bodies[0]
    shrunk = trimesh.smoothing.filter_laplacian(mesh.as_trimesh(), iterations=40, volume_constraint=False).volume
    kept = signed_volume(smoothed(mesh).vertices, mesh.faces)
    whole = signed_volume(mesh.vertices, mesh.faces)
    assert abs(kept / whole - 1) < 0.01 < abs(shrunk / whole - 1)


def test_holes_are_filled_and_islands_left_out():
    mask = ball()
    mask[18:22, 18:22, 18:22] = False
    mask[2:4, 2:4, 2:5] = True
    found = surface_of_segment(mask, GRID, "ball")
    assert len(found.bodies) == 1
    assert found.volume_ml == pytest.approx(ball().sum() / 1000.0, rel=0.01)
    assert len(found.notes) == 2
    assert "holes of 0.1 ml" in found.notes[0]
    assert "1 islands" in found.notes[1]


def test_bodies_that_touch_are_parted_where_two_should_be():
    mask = ball(9.0, (20, 20, 11)) | ball(9.0, (20, 20, 28))
    assert len(surface_of_segment(mask, GRID, "two").bodies) == 1
    found = surface_of_segment(mask, GRID, "two", 2)
    assert len(found.bodies) == 2
    assert any("parted" in note for note in found.notes)
    volumes = [signed_volume(body.vertices, body.faces) for body in found.bodies]
    assert volumes == pytest.approx([ball(9.0).sum()] * 2, rel=0.05)


def test_more_bodies_than_the_organ_has_are_refused():
    mask = ball(6.0, (10, 10, 10)) | ball(6.0, (30, 30, 30)) | ball(6.0, (10, 30, 10))
    with pytest.raises(VolumeError, match="holds 3 bodies where 2 should be"):
        surface_of_segment(mask, GRID, "three", 2)


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_cut_is_told_from_a_surface(axis, side):
    mask = np.moveaxis(ball(), axis, 0).copy()
    if side:
        mask[24:] = False
    else:
        mask[:16] = False
    mask = np.moveaxis(mask, 0, axis)
    found = surface_of_segment(mask, GRID, "cut ball")
    (cut,), (body,) = found.cut, found.bodies
    along = body.vertices[:, 2 - axis]
    flat = along > 22.5 if side else along < 16.5
    assert cut[flat].mean() > 0.95
    assert cut[~flat].mean() < 0.12
    assert not surface_of_segment(ball(), GRID, "ball").cut[0].any()


@settings(max_examples=15, deadline=None)
@given(st.lists(st.booleans(), min_size=2, max_size=2), st.booleans())
def test_every_body_of_a_mesh_is_turned_outward_by_itself(flipped, shuffled):
    from skimage.measure import marching_cubes

    bodies = []
    for center, flip in zip(((12, 12, 12), (28, 28, 28)), flipped, strict=True):
        vertices, faces, _, _ = marching_cubes(ball(8.0, center).astype(np.float32), 0.5)
        if (signed_volume(vertices, faces) < 0) != flip:
            faces = faces[:, ::-1]
        bodies.append(TriangleMesh(vertices.astype(float), faces.astype(np.int64), Frame.PATIENT))
    mesh = joined(bodies[::-1] if shuffled else bodies)
    assert mesh.as_trimesh().is_watertight  # which says nothing of the winding
    found = bodies_of_mesh(mesh, "balls")
    assert len(found.bodies) == 2
    assert all(signed_volume(body.vertices, body.faces) > 0 for body in found.bodies)
    assert len(found.notes) == sum(flipped)
    inside = signed_distance(np.array([[12.0, 12, 12], [28, 28, 28], [2, 2, 2]]), found.mesh.vertices, found.mesh.faces)
    assert (inside < 0).tolist() == [True, True, False]


def test_a_mesh_with_a_hole_or_too_many_bodies_is_refused(pair):
    open_mesh = TriangleMesh(pair.vertices, pair.faces[5:], Frame.PATIENT)
    with pytest.raises(ShapeModelError, match=r"lungs\.ply has a hole"):
        bodies_of_mesh(open_mesh, "lungs.ply")
    with pytest.raises(ShapeModelError, match="holds 2 bodies where 1 should be"):
        bodies_of_mesh(pair, "lungs.ply", 1)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.3, 3.0), st.tuples(*[st.floats(-500, 500)] * 3))
def test_the_own_frame_forgets_place_and_size(scale, shift):
    mesh = lungs(SEED)
    move = own_frame(mesh.vertices * scale + np.array(shift), mesh.faces)
    own, other = own_frame(mesh.vertices, mesh.faces).apply(mesh.vertices), move.apply(mesh.vertices * scale + np.array(shift))
    np.testing.assert_allclose(own, other, atol=1e-6)
    assert np.abs(own).max() < 1
    left = own[mesh.scalars["side"] == 1]
    assert left[:, 0].mean() > 0  # +x is the patient's left


def test_signs_of_distances_are_right_where_thin_triangles_meet():
    """Pseudonormals get some of these wrong."""
    mesh = lungs(1130)
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    points = np.random.default_rng(0).uniform(low - 20, high + 20, (200, 3))
    inside = []
    for point in points:
        matrix = np.eye(4)
        matrix[:3, 3] = point
        grid = Volume(np.zeros((1, 1, 1), np.uint8), matrix)
        inside.append(coverage(mesh.vertices, mesh.faces, grid)[0, 0, 0] > 0.5)
    assert ((signed_distance(points, mesh.vertices, mesh.faces) < 0) == np.array(inside)).mean() > 0.99


# Files --------------------------------------------------------------------------------------------------------------------


def with_names(path, volume, names):
    """A segmentation as Slicer writes it."""
    image = image_of(volume)
    for number, (name, label) in enumerate(names.items()):
        image.SetMetaData(f"Segment{number}_Name", name)
        image.SetMetaData(f"Segment{number}_LabelValue", str(label))
        image.SetMetaData(f"Segment{number}_Layer", "0")
    sitk.WriteImage(image, str(path))


def test_segments_are_found_by_name_and_by_label(coarse, tmp_path):
    with_names(tmp_path / "a.seg.nrrd", coarse, {"Left lung": 1, "Right lung": 2})
    write_volume(tmp_path / "a.nii.gz", coarse)
    named, plain = read_segmentation(tmp_path / "a.seg.nrrd"), read_segmentation(tmp_path / "a.nii.gz")
    assert list(named.names) == ["Left lung", "Right lung"]
    np.testing.assert_allclose(plain.grid.ijk_to_ras, coarse.ijk_to_ras, atol=1e-4)
    for found in (named.mask(("left lung",), "a"), named.mask(("1",), "a"), plain.mask(("1",), "a")):
        np.testing.assert_array_equal(found, coarse.values == 1)
    np.testing.assert_array_equal(named.mask((), "a"), coarse.values > 0)
    np.testing.assert_array_equal(plain.mask(("1", "2"), "a"), coarse.values > 0)
    with pytest.raises(VolumeError, match="no segment called heart; it has Left lung, Right lung"):
        named.mask(("heart",), "a.seg.nrrd")
    with pytest.raises(VolumeError, match="The segment 7 of a is empty"):
        plain.mask(("7",), "a")


def test_segments_that_overlap_lie_in_layers(tmp_path):
    first, second = ball(8.0, (15, 20, 20)), ball(8.0, (20, 20, 20))
    layers = np.stack([first, second], axis=-1).astype(np.uint8)
    image = sitk.GetImageFromArray(layers, isVector=True)
    for number, name in enumerate(("one", "other")):
        image.SetMetaData(f"Segment{number}_Name", name)
        image.SetMetaData(f"Segment{number}_LabelValue", "1")
        image.SetMetaData(f"Segment{number}_Layer", str(number))
    sitk.WriteImage(image, str(tmp_path / "two.seg.nrrd"))
    found = read_segmentation(tmp_path / "two.seg.nrrd")
    np.testing.assert_array_equal(found.mask(("one",), "two"), first)
    np.testing.assert_array_equal(found.mask((), "two"), first | second)


def dicom_segmentation(path, masks, names, spacing, origin_lps):
    """Write (S, K, J, I) masks as a DICOM SEG on a made CT."""
    import highdicom
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.sr.codedict import codes
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    study, series, frame, images = generate_uid(), generate_uid(), generate_uid(), []
    count, rows, columns = masks.shape[1:]
    empty = ("PatientBirthDate", "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator")
    for number in range(count):
        one = Dataset()
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.SOPClassUID, one.SOPInstanceUID = CTImageStorage, generate_uid()
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = study, series, frame
        one.PatientID, one.PatientName, one.PatientSex, one.StudyID = "1", "A^B", "F", "1"
        one.StudyDate, one.StudyTime, one.Modality, one.Manufacturer = "20200101", "000000", "CT", "test"
        for name in empty:
            setattr(one, name, "")
        one.SeriesNumber, one.InstanceNumber, one.Rows, one.Columns = 1, number + 1, rows, columns
        one.PixelSpacing, one.SliceThickness = [spacing[1], spacing[0]], spacing[2]
        one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        one.ImagePositionPatient = [origin_lps[0], origin_lps[1], origin_lps[2] + number * spacing[2]]
        one.SamplesPerPixel, one.PhotometricInterpretation, one.PixelRepresentation = 1, "MONOCHROME2", 0
        one.BitsAllocated, one.BitsStored, one.HighBit = 16, 16, 15
        one.PixelData = np.zeros((rows, columns), np.uint16).tobytes()
        images.append(one)
    kind = highdicom.seg.SegmentAlgorithmTypeValues.MANUAL
    described = [
        highdicom.seg.SegmentDescription(n + 1, name, codes.SCT.Organ, codes.SCT.Lung, kind) for n, name in enumerate(names)
    ]
    values = np.moveaxis(masks, 0, -1).astype(np.uint8)
    binary = highdicom.seg.SegmentationTypeValues.BINARY
    made = highdicom.seg.Segmentation(
        images, values, binary, described, generate_uid(), 1, generate_uid(), 1, "test", "test", "1", "1"
    )
    made.save_as(path)


def test_dicom_segmentations_are_read_in_place(tmp_path):
    masks = np.zeros((2, 12, 20, 30), bool)
    masks[0, 2:8, 3:9, 4:12], masks[1, 3:10, 5:15, 14:25] = True, True
    spacing, origin = np.array([1.5, 2.0, 3.0]), np.array([10.0, 20.0, -40.0])
    dicom_segmentation(tmp_path / "s.dcm", masks, ["left lung", "right lung"], spacing, origin)
    found = read_segmentation(tmp_path / "s.dcm")
    for number, name in enumerate(("left lung", "Right Lung")):
        mask = found.mask((name,), "s")
        assert mask.sum() == masks[number].sum()
        middle = found.grid.to_ras(np.argwhere(mask)[:, ::-1].astype(float)).mean(axis=0)
        expected = RAS_TO_LPS @ (np.argwhere(masks[number])[:, ::-1].mean(axis=0) * spacing + origin)
        np.testing.assert_allclose(middle, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda p: sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 9, 9, 9), np.uint8), isVector=False), str(p)),
            "at several times (4D)",
        ),
        (lambda p: sitk.WriteImage(sitk.GetImageFromArray(np.zeros((9, 9, 9, 3), np.uint8), isVector=True), str(p)), "colours"),
        (
            lambda p: sitk.WriteImage(sitk.GetImageFromArray(np.arange(-364, 365).reshape(9, 9, 9).astype(np.int16)), str(p)),
            "grey values from -364 to 364",
        ),
        (lambda p: sitk.WriteImage(sitk.GetImageFromArray(np.full((9, 9, 9), 0.5, np.float32)), str(p)), "no labels"),
        (lambda p: p.write_bytes(b"no volume"), "cannot be read as a segmentation"),
        (lambda p: p.write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 40), "is no DICOM SEG"),
        (lambda p: None, "does not exist"),
    ],
    ids=["4D", "colours", "grey values", "fractions", "noise", "damaged DICOM", "missing"],
)
def test_what_is_no_segmentation_is_said(make, words, tmp_path):
    path = tmp_path / "what.nrrd"
    make(path)
    with pytest.raises(VolumeError) as told:
        read_segmentation(path)
    assert words in str(told.value)
    assert "\n" not in str(told.value)


def test_parts_of_a_joined_mesh_keep_their_scalars(pair):
    bodies = [pair.part(pair.scalars["side"] == side) for side in (1, 2)]
    whole = joined(bodies)
    assert connected_parts(whole.faces, len(whole.vertices)).max() == 1
    assert sorted(set(whole.scalars["side"])) == [1.0, 2.0]
